"""For how long a listing is answered, and how much may be missing from the next one. Values only."""

from __future__ import annotations

from dataclasses import dataclass, field

from bridge.removals.model import RemovalPolicy


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """The rules for the snapshots of one directory."""

    ttl_s: float = 300.0
    """How long a listing is fresh."""
    stale_if_error_s: float = 86_400.0
    """How old a listing may be that is answered while no newer one can be had."""
    patience_s: float = 60.0
    """How long a caller waits for a new listing where an older one may be answered: MailStore gives up after 100 s."""
    removals: RemovalPolicy = field(default_factory=RemovalPolicy)

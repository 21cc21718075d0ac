"""What is kept of each directory: the last accepted listing and what the guard remembers; and the port that keeps it.

Knows neither files nor databases: `bridge.state` keeps snapshots on disk, `MemorySnapshotStore` as long as the process
runs; one contract suite holds for both.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bridge.removals.model import GuardState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.model import Report
    from bridge.roster.roster import Roster

REPORTS_MAX_COUNT = 20
"""So many refreshes of each directory are remembered."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The last accepted listing of a directory; unchanging."""

    directory: str
    roster: Roster
    """What is answered: with those whose removal is withheld."""
    taken_at_s: float
    """When the directory was listed, in seconds since 1970."""
    report: Report
    guard: GuardState = field(default_factory=GuardState)


class SnapshotStore(Protocol):
    """Keeps the last accepted snapshot of each directory, by name, whatever becomes of the configuration.

    Every method raises `StateUnavailable` where the state can't be read or written; nothing has changed then. Calls may
    overlap; they take effect one after the other.
    """

    async def load(self, directory: str) -> Snapshot | None:
        """The snapshot that was saved last, or None where none ever was, or it was forgotten.

        Raises `StateLost` where one may have been kept and can't be read any more.
        """

    async def save(self, snapshot: Snapshot) -> None:
        """The snapshot takes the place of the one before, as a whole, and outlives a power cut once this returns.

        Its report joins the last ones unless it is there already. Raises `StateLost` like `load`.
        """

    async def forget(self, directory: str) -> None:
        """Nothing is known of the directory any more, and nothing is missed either: the operator has said so."""

    async def directories(self) -> tuple[str, ...]:
        """The names of all directories of which a snapshot is kept, sorted."""

    async def reports(self, directory: str) -> tuple[Report, ...]:
        """The reports of the last snapshots, the newest first, `REPORTS_MAX_COUNT` at most."""

    async def load_holders(self, endpoint: str) -> Mapping[str, str]:
        """Which directory holds each folded user name that several directories of an endpoint claim."""

    async def save_holders(self, endpoint: str, holders: Mapping[str, str]) -> None:
        """The holders take the place of those before."""

    async def aclose(self) -> None:
        """What was saved stays; nothing else is called any more."""

"""What `check` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried. `result` is `ok`, `warning` or `failed`."""

    name: str
    directory: str
    server: str
    result: str
    message: str
    remedy: str = ""

"""How much of a listing is done at once: much while nobody waits for a login, little while somebody does.

One login meets some eight turns of the event loop, and each of them may hold a read and a portion of a listing;
docs/performance.md has what other sizes gave.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.ldap.gate import Gate


class Pace:
    """Watches the gates through which logins go."""

    __slots__ = ("_gates",)

    _ALONE = (64 * 1024, 250)
    """Octets and entries: a millisecond each."""
    _SHARED = (16 * 1024, 60)
    """A quarter of that."""

    def __init__(self, *gates: Gate) -> None:
        self._gates = gates

    @property
    def read_bytes(self) -> int:
        """How much is taken from the socket at once."""
        return self._sizes[0]

    @property
    def portion_count(self) -> int:
        """How many entries are handed on at once."""
        return self._sizes[1]

    @property
    def _sizes(self) -> tuple[int, int]:
        return self._SHARED if any(gate.is_in_use for gate in self._gates) else self._ALONE

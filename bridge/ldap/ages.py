"""How old connections may become: none outlives a move in the DNS for long, or the ticket of its bind."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.clock import Clock
    from bridge.ldap.connection import Connection
    from bridge.ldap.settings import LdapSettings

_JITTER = 0.2
"""The part by which ends differ, so that connections that began together don't end together."""


class Ages:
    """Gives each new connection its end."""

    def __init__(self, settings: LdapSettings, clock: Clock) -> None:
        self._max_age_s = settings.max_age_s
        self._clock = clock
        self._random = Random()  # noqa: S311 - it spreads ends, and keeps no secret

    def begin(self, connection: Connection) -> None:
        """Set when the connection is too old: after `max_age_s`, or with the ticket that it was bound by."""
        age_s = self._max_age_s * self._random.uniform(1 - _JITTER, 1 + _JITTER)
        if connection.bound_for_s is not None:
            age_s = min(age_s, connection.bound_for_s)
        connection.ends_at_s = self._clock.monotonic_s() + age_s

"""How old connections become."""

from __future__ import annotations

from bridge.ldap.ages import Ages
from bridge.ldap.connection import Connection, Peer
from bridge.ldap.settings import LdapSettings, Limits
from tests.support.manual_clock import ManualClock

MAX_AGE_S = 900.0


def ages_of(count: int, *, bound_for_s: float | None = None) -> list[float]:
    """How old so many connections become."""
    clock = ManualClock()
    ages, found = Ages(LdapSettings("company", (), max_age_s=MAX_AGE_S), clock), []
    for _ in range(count):
        connection = Connection(Peer("company", "ldap://one"), Limits())
        connection.bound_for_s = bound_for_s
        ages.begin(connection)
        found.append(connection.ends_at_s - clock.monotonic_s())
    return found


def test_connections_that_begin_together_do_not_end_together() -> None:
    """Their ends are spread over a fifth before and after `max_age`."""
    found = ages_of(200)
    assert all(0.8 * MAX_AGE_S <= age_s <= 1.2 * MAX_AGE_S for age_s in found)
    assert max(found) - min(found) > 0.2 * MAX_AGE_S


def test_ticket_that_ends_sooner_ends_its_connection() -> None:
    """And one that lasts longer ends none."""
    assert set(ages_of(5, bound_for_s=60.0)) == {60.0}
    assert max(ages_of(5, bound_for_s=86_400.0)) <= 1.2 * MAX_AGE_S

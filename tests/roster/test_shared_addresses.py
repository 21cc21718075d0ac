"""Addresses that more than one user lists."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bridge.model import User
from bridge.roster.builder import RosterBuilder
from bridge.roster.shared_addresses import find_shared_addresses

ADDRESSES = st.lists(st.sampled_from(["a@e", "A@E", "b@e", "c@e", "ä@e"]), unique_by=str.lower, max_size=3)


@given(st.lists(ADDRESSES, max_size=6))
def test_shared_addresses_are_those_that_two_users_list(lists: list[list[str]]) -> None:
    """Whatever their case; an address that one user alone lists is not shared."""
    builder = RosterBuilder()
    builder.add(User(f"id{at}", f"u{at}", "cn=x", None, tuple(found)) for at, found in enumerate(lists))
    counts = Counter(address.lower() for found in lists for address in found)
    expected = tuple(sorted(address for address, count in counts.items() if count > 1))
    assert find_shared_addresses(builder.build().roster) == expected

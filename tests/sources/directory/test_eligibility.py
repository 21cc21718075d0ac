"""Who is a user: listings, confirmations and logins say the same of every entry."""

from __future__ import annotations

import pytest

from bridge.authentication.candidates import judge_entry
from bridge.directory import Entry
from bridge.mapping import AccountState
from bridge.model import Rejection, User
from bridge.removals.model import Finding, RemovalReason
from bridge.sources.directory.confirmation import confirm
from bridge.sources.directory.eligibility import Excluded
from bridge.sources.directory.listing import take_listing
from tests.support.memory_directory import MemoryDirectory, make, person

STATES = (
    AccountState(Rejection.ACCOUNT_DISABLED, "off", equals="TRUE"),
    AccountState(Rejection.ACCOUNT_LOCKED, "locked", equals="TRUE"),
)
DISABLED = Excluded(RemovalReason.DISABLED, "account_disabled")
NAMELESS = Excluded(RemovalReason.UNUSABLE, "no_user_name", "userName is empty")


@pytest.mark.parametrize(
    ("attributes", "list_disabled", "excluded", "rejection"),
    [
        ({}, False, None, None),
        ({"locked": [b"TRUE"]}, False, None, Rejection.ACCOUNT_LOCKED),
        ({"off": [b"TRUE"]}, True, None, Rejection.ACCOUNT_DISABLED),
        ({"off": [b"TRUE"]}, False, DISABLED, Rejection.ACCOUNT_DISABLED),
        ({"uid": []}, False, NAMELESS, Rejection.NOT_LISTED),
        ({"uid": [], "off": [b"TRUE"]}, False, DISABLED, Rejection.ACCOUNT_DISABLED),
    ],
)
async def test_all_three_say_the_same_of_an_entry(
    attributes: dict[str, list[bytes]], list_disabled: bool, excluded: Excluded | None, rejection: Rejection | None
) -> None:
    """Listed, confirmed, and found at a login as a listed user; or none of them, for the same reason."""
    plain = person("eva")
    entry = Entry(plain.dn, {key: values for key, values in {**plain.attributes, **attributes}.items() if values})
    directory = MemoryDirectory(person("bert"), entry)
    source = make(directory, account_states=STATES, list_disabled=list_disabled)[0].source
    listing = await take_listing(source, None, source.clock)
    assert [user.id for user in listing.roster] == (["id-bert"] if excluded else ["id-bert", "id-eva"])
    assert [each.reason for each in listing.report.skipped] == ([excluded.reason] if excluded else [])
    expected = Finding(excluded.removal, excluded.words) if excluded else Finding(None)
    assert await confirm(source, [User("id-eva", "eva", entry.dn)], ()) == {"id-eva": expected}
    candidate = judge_entry(source, entry)
    assert (candidate.user_id, candidate.is_listed, candidate.rejection) == ("id-eva", excluded is None, rejection)

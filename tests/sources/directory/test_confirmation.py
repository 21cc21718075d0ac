"""What a directory says of users who are missing: each reason, beside somebody of whom it is not true."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import pytest

from bridge.directory import Entry, LookUp, RootDSE, Scope, SearchRequest
from bridge.errors import DirectoryRefused, DirectoryUnavailable, SearchIncomplete
from bridge.mapping import AccountState, IdForm
from bridge.model import Rejection, User
from bridge.removals.model import Finding, RemovalReason
from bridge.sources.directory.confirmation import confirm
from bridge.sources.directory.source import DirectorySource
from tests.support.memory_directory import MemoryDirectory, broken, make, person

LOCKED = AccountState(Rejection.ACCOUNT_DISABLED, "locked", equals="TRUE")
STAYS = Finding(None)
STAFF = "cn=staff,dc=e"


def source_of(directory: MemoryDirectory, **options: object) -> DirectorySource:
    return make(directory, **options)[0].source


def somebody(name: str, **attributes: str) -> Entry:
    """A person whose id is `id-NAME`, with more attributes."""
    entry = person(name)
    return entry._replace(
        attributes={**entry.attributes, **{key: [value.encode()] for key, value in attributes.items()}}
    )


def users_of(*names: str, base: str = "dc=e") -> list[User]:
    return [User(f"id-{name}", name, f"uid={name},{base}") for name in names]


async def reasons(
    source: DirectorySource, *names: str, contested: Sequence[str] = ()
) -> dict[str, RemovalReason | None]:
    """Why each of them is missing, by name."""
    found = await confirm(source, users_of(*names), contested)
    assert found.keys() == {f"id-{name}" for name in names}
    return {name: found[f"id-{name}"].reason for name in names}


async def test_deleted_moved_and_there() -> None:
    """Nobody has the id; somebody outside of the bases has it; the entry is there and matches."""
    directory = MemoryDirectory(person("there"), person("moved", base="ou=former,dc=f"))
    source = source_of(directory)
    assert await reasons(source, "gone", "there") == {"gone": RemovalReason.DELETED, "there": None}
    source = source_of(directory, bases=("dc=e", "dc=f"))
    assert await reasons(source, "gone", "moved") == {"gone": RemovalReason.DELETED, "moved": None}
    source = source_of(MemoryDirectory(person("moved", base="ou=former,dc=e")), bases=("ou=people,dc=e",))
    (finding,) = (await confirm(source, users_of("moved"), ())).values()
    assert finding == Finding(RemovalReason.MOVED, "it is at uid=moved,ou=former,dc=e")


async def test_entry_below_the_base_is_moved_where_only_its_children_count() -> None:
    """With scope one, one level deeper is elsewhere; with the whole subtree it is not."""
    directory = MemoryDirectory(person("deep", base="ou=sub,dc=e"), person("child"))
    one = await reasons(source_of(directory, scope=Scope.ONE), "deep", "child")
    assert one == {"deep": RemovalReason.MOVED, "child": None}
    assert await reasons(source_of(directory), "deep", "child") == {"deep": None, "child": None}


async def test_clause_that_does_not_match_any_more_is_named() -> None:
    """The one at fault of several, in its own words; the others match still."""
    directory = MemoryDirectory(
        somebody("temp", kind="staff", site="north"),
        somebody("south", kind="staff", site="south"),
        somebody("fine", kind="staff", site="north", temp="no"),
    )
    source = source_of(directory, users_filter="(&(kind=staff)(&(!(uid=temp))(site=north)))")
    found = await confirm(source, users_of("temp", "south", "fine"), ())
    assert found == {
        "id-temp": Finding(RemovalReason.FILTER, "(!(uid=temp)) does not match any more"),
        "id-south": Finding(RemovalReason.FILTER, "(site=north) does not match any more"),
        "id-fine": STAYS,
    }


@pytest.mark.parametrize("form", ["(memberOf=%s)", "(|(memberOf=%s)(memberOf=cn=other,dc=e))"])
async def test_clause_about_groups_alone_speaks_of_the_group(form: str) -> None:
    """Whoever left the group left it; whoever is in it still is there."""
    directory = MemoryDirectory(somebody("left", kind="staff"), somebody("member", kind="staff", memberof=STAFF))
    source = source_of(directory, users_filter=f"(&(kind=staff){form % STAFF})")
    assert await reasons(source, "left", "member") == {"left": RemovalReason.GROUP, "member": None}


async def test_clause_about_a_group_or_something_else_is_one_of_the_filter() -> None:
    """It is not said that somebody left a group where another attribute may be why."""
    directory = MemoryDirectory(somebody("left", kind="guest"))
    source = source_of(directory, users_filter=f"(|(kind=staff)(memberOf={STAFF}))")
    assert await reasons(source, "left") == {"left": RemovalReason.FILTER}


async def test_disabled_and_unusable() -> None:
    """A locked account, unless those are listed, and an entry that has lost its name."""
    nameless = Entry("uid=nameless,dc=e", {"entryuuid": [b"id-nameless"]})
    directory = MemoryDirectory(somebody("locked", locked="TRUE"), nameless, somebody("open", locked="FALSE"))
    expected = {"locked": RemovalReason.DISABLED, "nameless": RemovalReason.UNUSABLE, "open": None}
    assert await reasons(source_of(directory, account_states=(LOCKED,)), *expected) == expected
    listing = source_of(directory, account_states=(LOCKED,), list_disabled=True)
    assert await reasons(listing, *expected) == {**expected, "locked": None}


async def test_name_that_several_claim_is_taken() -> None:
    """The entry is there under a name that is another's, too; compared without regard to case."""
    source = source_of(MemoryDirectory(person("Max"), person("anna")))
    found = await reasons(source, "Max", "anna", contested=("max",))
    assert found == {"Max": RemovalReason.NAME_TAKEN, "anna": None}


@pytest.mark.parametrize(
    "failure",
    [
        DirectoryUnavailable("down", directory="memory"),
        DirectoryRefused("no rights", directory="memory"),
        SearchIncomplete("a referral", directory="memory"),
    ],
)
@pytest.mark.parametrize("id_attribute", ["entryUUID", None])
async def test_what_can_not_be_asked_is_unconfirmed(failure: DirectoryUnavailable, id_attribute: str | None) -> None:
    """Whatever kind of failure it is; with no failure the same users are deleted."""
    directory = MemoryDirectory()
    source = source_of(directory, id_attribute=id_attribute)
    directory.look_up_failures = [failure]
    assert await reasons(source, "gone") == {"gone": RemovalReason.UNCONFIRMED}
    assert await reasons(source, "gone") == {"gone": RemovalReason.DELETED}


async def test_failure_leaves_only_those_unconfirmed_who_were_asked_for_with_it() -> None:
    """Fifty are asked for at once; what was found out of others stands."""
    directory = MemoryDirectory()
    names = [f"u{number:02}" for number in range(70)]
    directory.look_up_failures = [broken()]
    found = await reasons(source_of(directory), *names)
    assert {found[name] for name in names[:50]} == {RemovalReason.UNCONFIRMED}
    assert {found[name] for name in names[50:]} == {RemovalReason.DELETED}


async def test_entry_without_a_readable_id_confirms_nothing() -> None:
    """An entry comes whose id may not be read: it may be any of those who are missing."""

    class Nameless(MemoryDirectory):
        async def look_up(self, search: SearchRequest, server: str | None = None, *, must_find: bool = False) -> LookUp:
            return LookUp((Entry("uid=a,dc=e", {"uid": [b"a"]}),), "memory:")

    assert await reasons(source_of(Nameless()), "a", "b") == {
        "a": RemovalReason.UNCONFIRMED,
        "b": RemovalReason.UNCONFIRMED,
    }


async def test_dn_as_id() -> None:
    """Asked for at the DN itself: gone, no user any more, or there."""
    directory = MemoryDirectory(somebody("there", kind="staff"), somebody("guest", kind="guest"))
    source = source_of(directory, id_attribute=None, users_filter="(kind=staff)")
    users = [user._replace(id=user.distinguished_name) for user in users_of("there", "guest", "gone")]
    found = await confirm(source, users, ())
    assert {user.user_name: found[user.id].reason for user in users} == {
        "there": None,
        "guest": RemovalReason.FILTER,
        "gone": RemovalReason.DELETED,
    }


async def test_dn_as_id_in_another_spelling_is_another_id() -> None:
    """The entry is listed under the DN as it is spelled now, so nobody is missing but by the old id."""
    source = source_of(MemoryDirectory(person("a")), id_attribute=None)
    for user_id, expected in (("UID=A,dc=e", RemovalReason.CHANGED), ("uid=a,dc=e", None)):
        found = await confirm(source, [User(user_id, "a", user_id)], ())
        assert found[user_id].reason is expected


async def test_guids_are_asked_for_as_octets() -> None:
    """The text of a GUID stands for octets in another order; a text that is none can't be asked for."""
    guid = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
    directory = MemoryDirectory(Entry("cn=a,dc=e", {"uid": [b"a"], "objectguid": [guid.bytes_le]}))
    source = source_of(directory, id_attribute="objectGUID", id_form=IdForm.GUID)
    ids = (str(guid), str(uuid.UUID(int=1)), "id-from-before")
    found = await confirm(source, [User(user_id, "a", "cn=a,dc=e") for user_id in ids], ())
    assert [found[user_id].reason for user_id in ids] == [None, RemovalReason.DELETED, RemovalReason.UNCONFIRMED]


async def test_directory_that_does_not_tell_its_contexts_has_no_elsewhere() -> None:
    """The account may search its bases and no more: what isn't there is as good as deleted; an outage is no answer."""

    class Closed(MemoryDirectory):
        failure: DirectoryRefused | DirectoryUnavailable = DirectoryRefused("no rights", directory="memory")

        async def probe(self) -> RootDSE:
            raise self.failure

    directory = Closed(person("there"), person("moved", base="ou=former,dc=f"))
    source = source_of(directory)
    assert await reasons(source, "moved", "there") == {"moved": RemovalReason.DELETED, "there": None}
    directory.failure = broken()
    assert await reasons(source, "moved", "there") == {
        "moved": RemovalReason.UNCONFIRMED,
        "there": RemovalReason.UNCONFIRMED,
    }


async def test_nobody_is_asked_for_where_nobody_is_missing() -> None:
    """No question goes out."""
    directory = MemoryDirectory(person("a"))
    assert await confirm(source_of(directory), [], ()) == {}
    assert directory.look_up_count == 0

"""Groups: the clauses that a server compares, who is in the groups that are read, and what is an error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence

import pytest

from bridge.directory import Entry, LookUp, Scope, SearchRequest
from bridge.errors import DirectoryUnavailable, SearchIncomplete, SearchInvalid
from bridge.model import User
from bridge.removals.model import RemovalReason
from bridge.sources.directory.admission import admit
from bridge.sources.directory.confirmation import confirm
from bridge.sources.directory.group_clauses import ClauseMaker
from bridge.sources.directory.group_entries import Place
from bridge.sources.directory.group_walking import GROUPS_MAX_COUNT, Walker
from bridge.sources.directory.groups import GroupRules, GroupWay, ResolvedGroups, primary_group_sid
from bridge.sources.directory.source import DirectorySource
from bridge.syntax.filters import render_filter
from tests.support.manual_clock import ManualClock
from tests.support.memory_directory import MemoryDirectory, broken, make, person

STAFF, SALES, LEAVERS = (f"cn={name},ou=groups,dc=e" for name in ("staff", "sales", "leavers"))
DOMAIN = bytes.fromhex("010500000000000515000000") + b"A" * 12
OTHER_DOMAIN = DOMAIN[:-12] + b"B" * 12


def sid(rid: int, domain: bytes = DOMAIN) -> bytes:
    """An objectSid: the domain's, and the last part in four bytes, the lowest first (MS-DTYP §2.4.2.2)."""
    return domain + rid.to_bytes(4, "little")


def group(dn: str, *members: str, **attributes: list[bytes]) -> Entry:
    found = {"objectclass": [b"groupOfNames"], "cn": [b"x"], **attributes}
    return Entry(dn, {**found, "member": [member.encode() for member in members]} if members else found)


def ad_group(dn: str, rid: int) -> Entry:
    return Entry(dn, {"objectclass": [b"group"], "objectsid": [sid(rid)]})


class Stream:
    """An entry stream that answers each search from a table of its base and filter."""

    server = "memory:"
    page_count = 0
    entry_count = 0
    ignored_reference_count = 0

    def __init__(self, answers: Mapping[tuple[str, str], Iterable[Entry]]) -> None:
        self.answers = answers
        self.gate: asyncio.Event | None = None

    async def read(self, searches: Sequence[SearchRequest]) -> AsyncIterator[Sequence[Entry]]:
        if self.gate is not None:
            await self.gate.wait()
        for search in searches:
            yield list(self.answers.get((search.base, render_filter(search.filter)), ()))


def here(*entries: Entry) -> dict[tuple[str, str], list[Entry]]:
    return {(entry.dn, "(objectClass=*)"): [entry] for entry in entries}


HERE = Place("company", ("dc=e",), ("dc=e",))


async def read(
    rules: GroupRules, answers: Mapping[tuple[str, str], Iterable[Entry]], place: Place = HERE
) -> ResolvedGroups:
    async def look_up(search: SearchRequest) -> tuple[Entry, ...]:
        return tuple(answers.get((search.base, render_filter(search.filter)), ()))

    reader = Walker if rules.is_walked else ClauseMaker
    return await reader(rules, Stream(answers), place, look_up).read()


async def filter_of(
    rules: GroupRules, answers: Mapping[tuple[str, str], Iterable[Entry]], bases: tuple[str, ...] = ("dc=e",)
) -> list[str]:
    scope = await read(rules, answers, Place("company", ("dc=e",), bases))
    assert not scope.is_walked
    return [render_filter(clause.filter) for clause in scope.clauses]


async def test_member_of_is_one_clause_to_include_and_one_for_each_to_exclude() -> None:
    """In one of the included groups, and in none of the excluded ones; DNs are written as the server does."""
    rules = GroupRules((STAFF.upper(), SALES), (LEAVERS, STAFF), GroupWay.MEMBER_OF, nested=False)
    answers = here(group(STAFF), group(SALES), group(LEAVERS))
    answers[STAFF.upper(), "(objectClass=*)"] = [group(STAFF)]
    assert await filter_of(rules, answers) == [
        f"(|(memberOf={STAFF})(memberOf={SALES}))",
        f"(!(memberOf={LEAVERS}))",
        f"(!(memberOf={STAFF}))",
    ]


async def test_in_chain_has_the_primary_groups_too_those_inside_of_the_group_as_well() -> None:
    """Whoever has the group, or one inside of it, as the primary group is in no memberOf (MS-ADA3 §2.120)."""
    rules = GroupRules((STAFF,), (LEAVERS,), GroupWay.IN_CHAIN, classes=("group",), has_primary_group=True)
    in_staff, in_leavers = (f"(memberOf:1.2.840.113556.1.4.1941:={dn})" for dn in (STAFF, LEAVERS))
    answers = {
        **here(ad_group(STAFF, 1105), ad_group(LEAVERS, 1107)),
        ("dc=e", f"(&(objectClass=group){in_staff})"): [ad_group(SALES, 513)],
    }
    assert await filter_of(rules, answers) == [
        f"(|{in_staff}(primaryGroupID=513)(primaryGroupID=1105))",
        f"(!(|{in_leavers}(primaryGroupID=1107)))",
    ]


@pytest.mark.parametrize(
    ("base", "is_asked"),
    [("ou=people,dc=e", True), ("dc=e", True), ("dc=sub,dc=e", True), ("ou=people,dc=f", False), ("dc=f", False)],
)
async def test_primary_group_counts_in_its_own_domain(base: str, is_asked: bool) -> None:
    """The same number means another group elsewhere."""
    rules = GroupRules((STAFF,), (), GroupWay.MEMBER_OF, nested=False, has_primary_group=True)
    (clause,) = await filter_of(rules, here(ad_group(STAFF, 1105)), (base,))
    assert ("(primaryGroupID=1105)" in clause) is is_asked


@pytest.mark.parametrize("way", [GroupWay.MEMBER_OF, GroupWay.IN_CHAIN, GroupWay.MEMBERS])
async def test_group_without_its_sid_is_an_error_where_primary_groups_count(way: GroupWay) -> None:
    """Its primary members can't be told, so the listing would lack them, or have those who are excluded."""
    rules = GroupRules((), (STAFF,), way, has_primary_group=True)
    with pytest.raises(SearchIncomplete, match="objectSid"):
        await read(rules, here(group(STAFF, "uid=a,dc=e")))


@pytest.mark.parametrize("dn", ["cn=\udcff,dc=e", "no name"])
async def test_group_whose_dn_cannot_be_read_is_an_error_where_its_domain_counts(dn: str) -> None:
    """Nobody can tell whether its members are among the users; the name itself is for whoever may see names."""
    rules = GroupRules((STAFF,), (), GroupWay.IN_CHAIN, classes=("group",), has_primary_group=True)
    in_staff = f"(memberOf:1.2.840.113556.1.4.1941:={STAFF})"
    answers = {**here(ad_group(STAFF, 1105)), ("dc=e", f"(&(objectClass=group){in_staff})"): [ad_group(dn, 513)]}
    with pytest.raises(SearchIncomplete, match="can't be read") as caught:
        await read(rules, answers)
    assert (caught.value.subject, dn in caught.value.message) == (dn, False)


@pytest.mark.parametrize("way", list(GroupWay))
@pytest.mark.parametrize("rules", [((STAFF, SALES), ()), ((STAFF,), (SALES,))])
async def test_group_that_is_not_there_is_an_error(
    way: GroupWay, rules: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    """To include or to exclude, in each way; the error names it and says what to do."""
    with pytest.raises(SearchInvalid, match=SALES) as caught:
        await read(GroupRules(*rules, way), here(group(STAFF)))
    assert "users.groups" in caught.value.remedy


async def scope_of(rules: GroupRules, *entries: Entry) -> ResolvedGroups:
    """The scope of groups that all are found by their class."""
    answers: dict[tuple[str, str], list[Entry]] = here(*entries)
    classes = "".join(f"(objectClass={name})" for name in rules.classes)
    answers["dc=e", f"(|{classes})"] = list(entries)
    return await read(rules, answers)


@pytest.mark.parametrize(
    ("dn", "is_in"),
    [
        ("uid=anna,dc=e", True),
        ("UID=Anna, DC=E", True),
        ("uid=bert,dc=e", True),
        ("cn=M\u00fcller\\, C.,dc=e", True),
        ("uid=dora,dc=e", True),
        ("uid=emil,dc=e", False),
        ("uid=anna,ou=x,dc=e", False),
    ],
)
async def test_members_are_known_in_every_spelling(dn: str, is_in: bool) -> None:
    """Names in groups are spelt by whoever wrote them; a uniqueMember may have a UID behind it (RFC 4517 §3.3.21)."""
    names = [b"UID=bert , DC=e#'0101'B", b"uid=dora,dc=e"]
    staff = group(STAFF, "uid=anna,dc=e", "CN=m\u00dcller\\2c c.,DC=e", uniquemember=names)
    scope = await scope_of(GroupRules((STAFF,)), staff)
    assert (scope.absence(Entry(dn, {})) is None) is is_in
    scope = await scope_of(GroupRules((), (STAFF,)), staff)
    assert (scope.absence(Entry(dn, {})) is not None) is is_in


async def test_member_uid_is_compared_exactly_with_every_uid() -> None:
    """RFC 2307 compares memberUid with case, as Unix does with the names of its users."""
    scope = await scope_of(GroupRules((STAFF,)), group(STAFF, memberuid=[b"anna"]))
    assert scope.absence(Entry("uid=x,dc=e", {"uid": [b"x", b"anna"]})) is None
    assert scope.absence(Entry("uid=x,dc=e", {"uid": [b"Anna"]})) == f"it is not in the group {STAFF}"
    assert scope.absence(Entry("uid=x,dc=e", {})) is not None


async def test_gid_number_is_a_primary_group() -> None:
    """Who has a posixGroup as the primary one is in it without being named (RFC 2307)."""
    staff = Entry(STAFF, {"objectclass": [b"posixGroup"], "gidnumber": [b"5000"]})
    scope = await scope_of(GroupRules((STAFF,)), staff)
    assert scope.absence(Entry("uid=x,dc=e", {"gidnumber": [b"5000"]})) is None
    assert scope.absence(Entry("uid=x,dc=e", {"gidnumber": [b"100"]})) is not None
    scope = await scope_of(GroupRules((STAFF,), gid_attribute=None), staff)
    assert scope.absence(Entry("uid=x,dc=e", {"gidnumber": [b"5000"]})) is not None


async def test_walked_groups_hold_those_whose_primary_group_they_are() -> None:
    """The group inside counts as well; a user of another domain with the same number is somebody else's member."""
    rules = GroupRules((STAFF,), has_primary_group=True)
    staff = group(STAFF, SALES, objectsid=[sid(1105)])
    scope = await scope_of(rules, staff, group(SALES, objectsid=[sid(513)]))

    def is_in(**attributes: bytes) -> bool:
        return scope.absence(Entry("cn=x,dc=e", {name: [value] for name, value in attributes.items()})) is None

    assert is_in(primarygroupid=b"1105", objectsid=sid(2000))
    assert is_in(primarygroupid=b"513", objectsid=sid(2000))
    assert not is_in(primarygroupid=b"514", objectsid=sid(2000))
    assert not is_in(primarygroupid=b"513", objectsid=sid(2000, OTHER_DOMAIN))
    assert not is_in(primarygroupid=b"-513", objectsid=sid(2000))
    assert not is_in(primarygroupid=b"99999999999", objectsid=sid(2000))
    assert not is_in(objectsid=sid(2000))
    assert rules.user_attributes == ("uid", "gidNumber", "primaryGroupID", "objectSid")


async def test_long_chain_of_groups_is_followed_to_its_end() -> None:
    """Thousands deep, and in a circle: no recursion ends it."""
    dns = [f"cn=g{number},dc=e" for number in range(3000)]
    entries = [group(dn, following, f"uid=u{dn}") for dn, following in zip(dns, (*dns[1:], dns[0]), strict=True)]
    scope = await scope_of(GroupRules((dns[0],)), *entries)
    assert scope.group_count == 3000
    assert scope.absence(Entry(f"uid=u{dns[-1]}", {})) is None


async def test_groups_without_end_are_an_error() -> None:
    """A server that invents groups is not followed for ever."""
    dns = [f"cn=g{number},dc=e" for number in range(GROUPS_MAX_COUNT + 1)]
    entries = [group(dn, following) for dn, following in zip(dns, (*dns[1:], dns[0]), strict=True)]
    with pytest.raises(SearchIncomplete, match=f"more than {GROUPS_MAX_COUNT} groups"):
        await scope_of(GroupRules((dns[0],)), *entries)


async def test_group_that_has_members_by_its_schema_is_never_empty() -> None:
    """RFC 4519 §3.5: a groupOfNames without a member hides them; one of another class may be empty."""
    rules = GroupRules((), (STAFF,), never_empty=("groupOfNames",))
    with pytest.raises(SearchIncomplete, match="shows no member"):
        await scope_of(rules, group(STAFF))
    scope = await scope_of(rules, Entry(STAFF, {"objectclass": [b"posixGroup"]}))
    assert scope.absence(person("anna")) is None


@pytest.mark.parametrize("classes", [[b"groupOfNames"], []])
async def test_group_that_a_search_for_groups_does_not_show_is_an_error(classes: list[bytes]) -> None:
    """Others would be hidden, too; one of a class that isn't looked for is none of the search's business."""
    staff = group(STAFF, "uid=anna,dc=e", objectclass=classes)
    with pytest.raises(SearchIncomplete, match="doesn't show"):
        await read(GroupRules((STAFF,)), here(staff))
    scope = await read(GroupRules((STAFF,)), here(group(STAFF, "uid=anna,dc=e", objectclass=[b"groupOfURLs"])))
    assert scope.absence(person("anna")) is None
    assert (await read(GroupRules((STAFF,), nested=False), here(staff))).absence(person("anna")) is None


async def test_inner_group_that_is_gone_is_an_error() -> None:
    """It was found a moment ago, and its members are unknown."""
    classes = "".join(f"(objectClass={name})" for name in GroupRules().classes)
    answers = {**here(group(STAFF, SALES)), ("dc=e", f"(|{classes})"): [group(STAFF), group(SALES)]}
    with pytest.raises(SearchIncomplete, match="is gone"):
        await read(GroupRules((STAFF,)), answers)


# ── a source with groups ──


def users_of(*names: str) -> list[User]:
    return [User(f"id-{name}", name, f"uid={name},dc=e") for name in names]


async def test_user_who_is_renamed_between_group_and_users_stays() -> None:
    """The group knew one DN and the listing another; asked once more, the group has the new one."""
    anna, renamed = person("anna"), person("anna", base="ou=new,dc=e")
    directory = MemoryDirectory(anna, person("bert"), group(STAFF, anna.dn, "uid=bert,dc=e"))
    snapshots, clock, _ = make(directory, users_filter="(uid=*)", groups=GroupRules((STAFF,)), max_percent=100.0)
    assert len((await snapshots.refresh()).roster) == 2
    after = [renamed, person("bert"), group(STAFF, renamed.dn, "uid=bert,dc=e")]
    # The listing below sees the group as it was, and the confirmation everything as it is.
    directory.entries = [renamed, person("bert"), group(STAFF, anna.dn, "uid=bert,dc=e")]
    read, seen = directory.open_listing, []

    def open_listing(began_s: float | None = None, avoid: Sequence[str] = ()) -> object:
        assert not avoid
        if seen:
            directory.entries = after
        seen.append(began_s)
        return read(began_s)

    directory.open_listing = open_listing  # type: ignore[method-assign,assignment]
    clock.advance(1000)
    snapshot = await snapshots.refresh()
    assert len(seen) == 2
    assert [user.user_name for user in snapshot.roster] == ["anna", "bert"]
    assert snapshot.report.inconsistent == ("anna",)


async def test_removals_are_unconfirmed_while_groups_cannot_be_read() -> None:
    """The user stays until the group can be asked."""
    directory = MemoryDirectory(person("anna"), group(STAFF, "uid=bert,dc=e"))
    source = make(directory, groups=GroupRules((STAFF,)))[0].source
    assert (await confirm(source, users_of("anna"), ()))["id-anna"].reason is RemovalReason.GROUP
    directory.failures = [broken()]
    assert (await confirm(source, users_of("anna"), ()))["id-anna"].reason is RemovalReason.UNCONFIRMED


@pytest.mark.parametrize("id_attribute", ["entryUUID", None])
async def test_reasons_tell_the_group_from_other_clauses(id_attribute: str | None) -> None:
    """By id and by DN: who left the group, who came into the excluded one, whom the filter doesn't take."""

    def somebody(name: str, kind: bytes, *groups: str) -> Entry:
        member_of = {"memberof": [dn.encode() for dn in groups]} if groups else {"memberof": [b"cn=none"]}
        return Entry(f"uid={name},dc=e", {**person(name).attributes, "kind": [kind], **member_of})

    directory = MemoryDirectory(
        group(STAFF),
        group(LEAVERS),
        somebody("fine", b"staff", STAFF),
        somebody("left", b"staff"),
        somebody("out", b"staff", STAFF, LEAVERS),
        somebody("guest", b"guest", STAFF),
    )
    rules = GroupRules((STAFF,), (LEAVERS,), GroupWay.MEMBER_OF, nested=False)
    source = make(directory, users_filter="(kind=staff)", groups=rules, id_attribute=id_attribute)[0].source
    await source.current_groups()
    names = ("fine", "left", "out", "guest")
    users = users_of(*names) if id_attribute else [User(f"uid={n},dc=e", n, f"uid={n},dc=e") for n in names]
    found = [(finding.reason, finding.detail) for finding in (await confirm(source, users, ())).values()]
    assert found == [
        (None, ""),
        (RemovalReason.GROUP, f"it is not in the group {STAFF}"),
        (RemovalReason.GROUP, f"it is in the excluded group {LEAVERS}"),
        (RemovalReason.FILTER, "(kind=staff) does not match any more"),
    ]


async def test_groups_are_read_once_within_the_ttl_however_many_log_in() -> None:
    """The members of large groups are not read at each login."""
    clock = ManualClock()
    directory = MemoryDirectory(group(STAFF, "uid=anna,dc=e"))
    rules = GroupRules((STAFF,), nested=False)
    source = make(directory, groups=rules, groups_ttl_s=100.0, clock=clock)[0].source
    first = await source.current_groups()
    clock.advance(99.0)
    assert await source.current_groups() is first
    assert directory.listing_count == 1
    clock.advance(1.0)
    assert await source.current_groups() is not first
    assert directory.listing_count == 2


async def test_groups_inside_of_others_are_looked_for_where_the_directory_says_it_has_entries() -> None:
    """A root DSE that hides its naming contexts hides such groups: who is in them would be missing, or not barred."""
    directory = MemoryDirectory(group(STAFF, SALES), group(SALES, "uid=anna,dc=e"))
    source = make(directory, groups=GroupRules((STAFF,)))[0].source
    for contexts in ((), ("dc=f",), ("ou=people,dc=e",)):
        directory.naming_contexts = contexts
        with pytest.raises(SearchIncomplete, match="no naming context"):
            await source.read_groups_anew()
    for contexts in (("dc=e",), ("ou=groups,dc=e", "ou=people,dc=e")):
        directory.naming_contexts = contexts
        assert (await source.read_groups_anew()).absence(person("anna")) is None
    source.bases = ("",)  # all of them, as at a global catalogue
    assert (await source.read_groups_anew()).absence(person("anna")) is None


@pytest.mark.parametrize("way", [GroupWay.MEMBERS, GroupWay.IN_CHAIN])
async def test_place_without_a_naming_context_is_an_error_where_groups_may_be_inside_of_others(way: GroupWay) -> None:
    """And none where nobody looks inside."""
    place = Place("company", (STAFF,), ("dc=e",), unnamed=(STAFF,))
    answers = here(Entry(STAFF, {"objectclass": [b"group"], "objectsid": [sid(1)], "member": [b"uid=anna,dc=e"]}))
    rules = GroupRules((STAFF,), (), way, classes=("group",), has_primary_group=True)
    with pytest.raises(SearchIncomplete, match="no naming context"):
        await read(rules, answers, place)
    await read(GroupRules((STAFF,), (), GroupWay.MEMBERS, nested=False), answers, place)


async def test_groups_that_were_read_later_stay_however_long_an_earlier_reading_takes() -> None:
    """A slow server's answer of a while ago lets nobody in who was taken out meanwhile."""
    clock = ManualClock()
    directory = MemoryDirectory(group(STAFF, "uid=anna,dc=e"))
    rules = GroupRules((STAFF,), nested=False)
    source = make(directory, groups=rules, clock=clock)[0].source
    slow, fast = Stream(here(group(STAFF, "uid=anna,dc=e"))), Stream(here(group(STAFF, "uid=bert,dc=e")))
    await source.resolve_contexts()
    gate = asyncio.Event()
    slow.gate = gate
    reading = asyncio.create_task(source.read_groups(slow))
    await asyncio.sleep(0)
    clock.advance(1.0)
    await source.read_groups(fast)
    gate.set()
    assert (await reading).absence(person("anna")) is None
    assert source.resolved_groups.absence(person("anna")) is not None
    assert source.resolved_groups.absence(person("bert")) is None


async def test_report_counts_users_and_not_groups() -> None:
    """Entries are those that may make users."""
    directory = MemoryDirectory(person("anna"), person("bert"), group(STAFF, "uid=anna,dc=e"))
    snapshots, _, _ = make(directory, users_filter="(uid=*)", groups=GroupRules((STAFF,)))
    report = (await snapshots.refresh()).report
    assert (report.entry_count, report.user_count) == (2, 1)


async def admitted(source: DirectorySource, *names: str) -> list[str]:
    found = await admit(source, LookUp(tuple(map(person, names)), "memory:"))
    return [entry.dn for entry in found.entries]


async def test_admission_asks_the_group_as_it_is_now() -> None:
    """Who was taken out a moment ago is not let in, and who was put in is."""
    directory = MemoryDirectory(group(STAFF, "uid=anna,dc=e"))
    source = make(directory, groups=GroupRules((STAFF,), nested=False))[0].source
    await source.current_groups()
    assert await admitted(source, "anna", "bert") == ["uid=anna,dc=e"]
    directory.entries = [group(STAFF, "uid=bert,dc=e")]
    assert await admitted(source, "anna", "bert") == ["uid=bert,dc=e"]
    assert await admitted(source) == []


class NotFinding(MemoryDirectory):
    """Shows members that no filter finds."""

    async def look_up(self, search: SearchRequest, server: str | None = None, *, must_find: bool = False) -> LookUp:
        found = await super().look_up(search)
        return found._replace(entries=()) if "(member=uid" in render_filter(search.filter) else found


async def test_who_is_listed_can_log_in_where_the_server_does_not_compare_members() -> None:
    """What is read decides, as for a listing; that it is so is found out once."""
    directory = NotFinding(group(STAFF, "uid=anna,dc=e"))
    source = make(directory, groups=GroupRules((STAFF,), nested=False))[0].source
    await source.current_groups()
    assert await admitted(source, "bert", "anna", "anna") == ["uid=anna,dc=e"] * 2
    assert directory.listing_count == 2
    directory.look_up_count = 0
    assert await admitted(source, "anna", "bert") == ["uid=anna,dc=e"]
    assert (directory.listing_count, directory.look_up_count) == (2, 0)


@pytest.mark.parametrize("rules", [GroupRules((STAFF,)), GroupRules((), (STAFF,))])
async def test_admission_is_an_error_while_the_group_cannot_be_asked(rules: GroupRules) -> None:
    """Neither let in nor refused: an outage is an outage, and a missing group is named."""
    directory = MemoryDirectory(group(STAFF, "uid=anna,dc=e"))
    source = make(directory, groups=rules)[0].source
    await source.current_groups()
    directory.look_up_failures = [broken()]
    with pytest.raises(DirectoryUnavailable):
        await admitted(source, "anna")
    directory.entries = []
    with pytest.raises(SearchInvalid, match=STAFF):
        await admitted(source, "anna")


async def test_login_search_leaves_room_for_those_who_are_in_no_group() -> None:
    """Where groups are walked, the server can't leave them out; else two are enough to see that it isn't one."""
    directory = MemoryDirectory(group(STAFF, "uid=anna,dc=e"))
    walked = make(directory, groups=GroupRules((STAFF,)))[0].source
    await walked.current_groups()
    plain = make(directory)[0].source
    limits = [source.login_search("dc=e", source.users_filter).size_limit_count for source in (walked, plain)]
    assert limits == [20, 2]
    assert walked.entry_search("uid=anna,dc=e").scope is Scope.BASE


@pytest.mark.parametrize("rid", [b"9" * 5000, b"4294967296", b"-1", b"", b"x", b"\xb2"])
def test_primary_group_that_is_no_number_is_none(rid: bytes) -> None:
    """Python itself refuses to read some of them."""
    assert primary_group_sid(Entry("uid=a", {"primarygroupid": [rid], "objectsid": [b"\1" * 28]})) is None
    found = primary_group_sid(Entry("uid=a", {"primarygroupid": [b"513"], "objectsid": [b"\1" * 28]}))
    assert found == b"\1" * 24 + b"\x01\x02\0\0"

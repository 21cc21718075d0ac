"""What every store of snapshots does, in memory or on disk."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.model import Report, Skipped, User
from bridge.removals.model import GuardState, HeldBy, Removal, RemovalKind, RemovalReason, Withheld
from bridge.roster.roster import Roster
from bridge.snapshots.memory_store import MemorySnapshotStore
from bridge.snapshots.store import REPORTS_MAX_COUNT, Snapshot, SnapshotStore
from bridge.state import SqliteSnapshotStore
from tests.support.kept import content_of, people, report_of, roster_of, snapshot_of

FULL_GUARD = GuardState(
    withheld=(
        Withheld(Removal("id\0Ä", "anna", RemovalKind.ADDRESSES, lost=("a@e", "b@e")), HeldBy.CONFIRMATION, 0.1),
        Withheld(
            Removal("id\0Ä", "anna", RemovalKind.RENAMED, RemovalReason.NAME_TAKEN, "by x", (), "änne"), HeldBy.NAME, 2
        ),
        Withheld(Removal("z", "zoë", RemovalKind.MISSING, RemovalReason.FILTER, "(a=1)"), HeldBy.LIMIT, 1e9),
    ),
    last_seen_s={"id\0Ä": 12.25, "": 0.0},
    recent={"left": 1e10},
    former_names={"left": "Before\ud800", "ünother": "x"},
    decided_names=frozenset(("anna", "straße")),
    approved="3f9a",
    last_seen_at={"z": "ldap://ü.example.com"},
)
FULL_REPORT = replace(
    report_of(),
    skipped=(Skipped("no_mail", 3, ("cn=a", "cn=ö")), Skipped("x", 1)),
    collisions=("max", "ä"),
    inconsistent=("carl",),
    server_before="ldaps://other.example.com",
    lagging_count=1,
    lagging=("dora",),
    approved_digest="3f9a",
    shared_address_count=2,
    shared_addresses=("a@example.com",),
    is_first=True,
    withheld_count=7,
)


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SnapshotStore]:
    """A store in which nothing is kept yet."""
    made: SnapshotStore = MemorySnapshotStore() if request.param == "memory" else SqliteSnapshotStore.open(tmp_path)
    yield made
    await made.aclose()


async def test_store_knows_nothing_before_anything_was_saved(store: SnapshotStore) -> None:
    """Whatever is asked for, the answer is empty, and no error."""
    assert await store.load("company") is None
    assert await store.directories() == ()
    assert await store.reports("company") == ()
    assert dict(await store.load_holders("/mailstore")) == {}
    await store.forget("company")


async def test_load_gives_everything_that_was_saved(store: SnapshotStore) -> None:
    """Users, ids, time, report and all that the guard remembers come back as they were."""
    users = [User("id\0Ä", "Änna", "uid=änna", "Änna Ö", ("a@e", "b@e")), User("2", "bert", "uid=bert")]
    kept = Snapshot("Größe/1", roster_of(users), 1_700_000_000.123456, FULL_REPORT, FULL_GUARD)
    await store.save(kept)
    loaded = await store.load("Größe/1")
    assert content_of(loaded) == content_of(kept)
    assert loaded is not None
    assert list(loaded.roster) == sorted(users, key=lambda user: user.user_name.casefold())
    assert loaded.guard.digest == FULL_GUARD.digest


async def test_save_takes_the_place_of_what_was_there_as_a_whole(store: SnapshotStore) -> None:
    """Nothing of the snapshot before is left: no user, and nothing that the guard remembered."""
    await store.save(Snapshot("company", people(30), 1.0, FULL_REPORT, FULL_GUARD))
    later = snapshot_of(people(20, "x", every=7), number=2.0)
    await store.save(later)
    assert content_of(await store.load("company")) == content_of(later)


async def test_save_keeps_users_who_changed_names_and_ids_among_themselves(store: SnapshotStore) -> None:
    """Names that are exchanged, taken over or given away end where the later snapshot has them."""
    before = roster_of([User("1", "a", "cn=1"), User("2", "b", "cn=2"), User("3", "c", "cn=3")])
    after = roster_of([User("2", "a", "cn=2"), User("1", "B", "cn=1"), User("4", "d", "cn=4")])
    await store.save(snapshot_of(before))
    await store.save(snapshot_of(after))
    loaded = await store.load("company")
    assert loaded is not None
    assert [(user.id, user.user_name) for user in loaded.roster] == [("2", "a"), ("1", "B"), ("4", "d")]


async def test_save_keeps_an_empty_listing_apart_from_none(store: SnapshotStore) -> None:
    """A directory in which nobody is listed is known."""
    await store.save(snapshot_of(Roster()))
    loaded = await store.load("company")
    assert loaded is not None
    assert len(loaded.roster) == 0
    assert await store.directories() == ("company",)


async def test_directories_are_kept_apart(store: SnapshotStore) -> None:
    """What is saved or forgotten of one directory is nothing to another one, even where their names are alike."""
    kept = {name: snapshot_of(people(5, name), name) for name in ("b", "a", "A", "")}
    for snapshot in kept.values():
        await store.save(snapshot)
    assert await store.directories() == ("", "A", "a", "b")
    await store.forget("a")
    assert await store.directories() == ("", "A", "b")
    assert await store.load("a") is None
    for name in ("", "A", "b"):
        assert content_of(await store.load(name)) == content_of(kept[name])


async def test_forgotten_directory_begins_anew(store: SnapshotStore) -> None:
    """Neither users nor reports of what was forgotten come back with the next snapshot."""
    await store.save(Snapshot("company", people(30), 1.0, FULL_REPORT, FULL_GUARD))
    await store.forget("company")
    assert await store.reports("company") == ()
    later = snapshot_of(people(3), number=5.0)
    await store.save(later)
    assert content_of(await store.load("company")) == content_of(later)
    assert await store.reports("company") == (later.report,)


async def test_reports_are_the_last_ones_the_newest_first(store: SnapshotStore) -> None:
    """More than the limit are not kept, and a report that is saved again stands there once."""
    roster = people(3)
    for number in range(REPORTS_MAX_COUNT + 5):
        for _ in range(2):
            await store.save(snapshot_of(roster, number=float(number)))
    finished = [report.finished_at_s for report in await store.reports("company")]
    assert finished == [float(number) for number in reversed(range(5, REPORTS_MAX_COUNT + 5))]
    assert await store.reports("other") == ()


async def test_reports_come_back_as_they_were(store: SnapshotStore) -> None:
    """Each field of a report is kept."""
    await store.save(Snapshot("company", people(1), 1.0, FULL_REPORT))
    assert await store.reports("company") == (FULL_REPORT,)


async def test_holders_take_the_place_of_those_before(store: SnapshotStore) -> None:
    """Holders are kept by endpoint, and outlive what becomes of the directories."""
    await store.save_holders("/mailstore", {"max": "a", "ümit": "b"})
    await store.save_holders("/other", {"max": "b"})
    await store.save_holders("/mailstore", {"ümit": "c"})
    await store.forget("c")
    assert dict(await store.load_holders("/mailstore")) == {"ümit": "c"}
    assert dict(await store.load_holders("/other")) == {"max": "b"}


async def test_calls_that_overlap_take_effect_one_after_the_other(store: SnapshotStore) -> None:
    """The last save is what is loaded, and each of them left its report."""
    rosters = [people(20, str(number), every=3) for number in range(8)]
    saves = (store.save(snapshot_of(roster, number=float(number))) for number, roster in enumerate(rosters))
    *_, loaded = await asyncio.gather(*saves, store.load("company"))
    assert content_of(loaded) == content_of(snapshot_of(rosters[7], number=7.0))
    assert [report.finished_at_s for report in await store.reports("company")] == [7, 6, 5, 4, 3, 2, 1, 0]


texts = st.text("aä\0\ud800z", max_size=3)
times = st.floats(allow_nan=False, allow_infinity=False)
removals = st.builds(
    Removal,
    texts,
    texts,
    st.sampled_from(RemovalKind),
    st.sampled_from(RemovalReason),
    texts,
    st.lists(texts, max_size=2).map(tuple),
    st.none() | texts,
)
withheld = st.lists(
    st.builds(Withheld, removals, st.sampled_from(HeldBy), times), max_size=3, unique_by=lambda held: held.removal.key
).map(lambda found: tuple(sorted(found, key=lambda held: (held.removal.user_id, held.removal.kind.value))))
guards = st.builds(
    GuardState,
    withheld,
    st.dictionaries(texts, times, max_size=3),
    st.dictionaries(texts, times, max_size=3),
    st.dictionaries(texts, texts, max_size=3),
    st.frozensets(texts, max_size=3),
    st.none() | texts,
)
rosters = st.lists(
    st.builds(
        User,
        st.sampled_from("123456") | st.text("ab\0", min_size=1, max_size=2),  # two names may share an id
        st.text("abcÄß", min_size=1, max_size=2),
        st.just("cn=x"),
        st.none() | st.just("Name"),
    ),
    max_size=8,
).map(roster_of)
names = st.sampled_from(("one", "two"))
snapshots = st.builds(
    Snapshot, names, rosters, times, st.builds(report_of, names, st.sampled_from((1.0, 2.0, 3.0))), guards
)
steps = st.lists(
    st.tuples(st.just("save"), snapshots)
    | st.tuples(st.just("guard"), st.tuples(names, guards))
    | st.tuples(st.sampled_from(("load", "forget")), names)
    | st.tuples(st.just("holders"), st.dictionaries(st.text("abÄ", max_size=2), names, max_size=3))
    | st.tuples(st.just("reopen"), st.none()),
    max_size=12,
)


@settings(max_examples=50)
@example([("save", Snapshot("one", roster_of([]), -0.0, report_of("one", 1.0), GuardState()))])
@given(steps)
def test_both_stores_give_the_same_whatever_is_done(done: list[tuple[str, object]]) -> None:
    """Any sequence of calls gives the same in memory and on disk, where the disk's store is opened anew in between."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_do_on_both(Path(folder), done))


async def _do_on_both(folder: Path, done: list[tuple[str, object]]) -> None:
    memory, disk = MemorySnapshotStore(), SqliteSnapshotStore.open(folder)
    for what, value in done:
        if what == "reopen":
            await disk.aclose()
            disk = SqliteSnapshotStore.open(folder)
        for store in (memory, disk):
            await _do(store, what, value)
        await _compare(memory, disk)
    await disk.aclose()
    disk = SqliteSnapshotStore.open_read_only(folder)
    await _compare(memory, disk)
    await disk.aclose()


async def _do(store: SnapshotStore, what: str, value: object) -> None:
    if what == "save" and isinstance(value, Snapshot):
        await store.save(value)
    elif what == "guard" and isinstance(value, tuple):  # what the service does: the same roster, another guard
        loaded = await store.load(value[0])
        if loaded is not None:
            await store.save(replace(loaded, guard=value[1]))
    elif what == "load" and isinstance(value, str):
        await store.load(value)
    elif what == "forget" and isinstance(value, str):
        await store.forget(value)
    elif what == "holders" and isinstance(value, dict):
        await store.save_holders("/mailstore", value)


async def _compare(memory: SnapshotStore, disk: SnapshotStore) -> None:
    assert await memory.directories() == await disk.directories()
    assert dict(await memory.load_holders("/mailstore")) == dict(await disk.load_holders("/mailstore"))
    for name in ("one", "two"):
        assert content_of(await memory.load(name)) == content_of(await disk.load(name))
        assert await memory.reports(name) == await disk.reports(name)


def test_report_fields_are_all_tried() -> None:
    """The report of these tests differs from an empty one in each field that has a default, but for plain counts."""
    empty = Report("", "", 0, 0, 0, 0, 0)
    same = [
        name
        for name in Report.__dataclass_fields__
        if getattr(empty, name) == getattr(FULL_REPORT, name) and not name.endswith("_count")
    ]
    assert same == []

"""Which rows a save writes, and what it makes of rows that were written otherwise."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.model import User
from bridge.removals.model import GuardState, HeldBy, Removal, RemovalKind, Withheld
from bridge.roster.roster import Roster, render_user
from bridge.state import SqliteSnapshotStore, rows
from bridge.state.encoding import PARTS
from tests.support.kept import content_of, people, snapshot_of


async def test_save_writes_what_has_changed_and_little_else(tmp_path: Path) -> None:
    """As many rows as users have changed, and none of them where the roster is the same or has the same users."""
    counts: list[int] = []

    def count(connection: sqlite3.Connection) -> None:
        counts.append(connection.total_changes)

    store = SqliteSnapshotStore.open(tmp_path)
    before = snapshot_of(people(5000), guard=GuardState(last_seen_s={str(number): 1.0 for number in range(500)}))
    later = replace(before, roster=people(5000, "x", every=1000), taken_at_s=2.0)
    equal = replace(later, roster=people(5000, "x", every=1000), taken_at_s=3.0)
    seen = replace(equal, guard=GuardState(last_seen_s={str(number): 1.0 for number in range(1, 501)}))
    for snapshot in (before, before, later, equal, seen):
        await store.save(snapshot)
        await store._in_thread(store._transact, count)
    await store.aclose()
    written = [after - so_far for so_far, after in zip([0, *counts], counts, strict=False)]
    assert written == [5000 + 500 + 2, 1, 6, 1, 3]


async def test_first_save_after_a_load_writes_what_has_changed(tmp_path: Path) -> None:
    """A service that starts again knows what stands in the database from loading it."""
    store = SqliteSnapshotStore.open(tmp_path)
    await store.save(snapshot_of(people(5000)))
    await store.aclose()
    counts: list[int] = []
    store = SqliteSnapshotStore.open(tmp_path)
    await store.load("company")
    await store.save(snapshot_of(people(5000, "x", every=1000)))
    await store._in_thread(store._transact, lambda connection: counts.append(connection.total_changes))
    await store.aclose()
    assert counts == [6]


async def test_snapshot_in_the_words_of_another_version_is_loaded_and_rewritten(tmp_path: Path) -> None:
    """Rows that this program would write in another way are no damage, and neither is what it then writes beside them."""
    withheld = Withheld(Removal("1", "anna", RemovalKind.MISSING), HeldBy.LIMIT, 1.0)
    kept = snapshot_of(people(5), guard=GuardState((withheld,), {"1": 1.0}))

    def reword(connection: sqlite3.Connection) -> None:
        row = rows._find(connection, "company")
        assert row is not None
        connection.execute("UPDATE withheld SET value = CAST(replace(value, ',', ' , ') AS BLOB)")
        parts = [rows._read_part(connection, row.key, part) for part in PARTS]
        row = row._replace(checksum=rows._checksum(rows._checksum_of(kept.roster), parts))
        connection.execute("UPDATE directories SET checksum = ?, seal = ?", (row.checksum, rows._seal("company", row)))

    store = SqliteSnapshotStore.open(tmp_path)
    await store.save(kept)
    await store._in_thread(store._transact, reword, writes=True)
    loaded = await store.load("company")
    assert content_of(loaded) == content_of(kept)
    assert loaded is not None
    await store.save(replace(loaded, guard=replace(loaded.guard, last_seen_s={"2": 2.0})))
    later = await store.load("company")
    assert later is not None
    assert later.guard == GuardState((withheld,), {"2": 2.0})
    await store.aclose()


async def test_roster_that_cannot_be_kept_is_a_fault_of_the_program_and_changes_nothing(tmp_path: Path) -> None:
    """Two users of one name are no error of the disk, which an operator would look for in vain."""
    twins = Roster([([b"1", b"2"], [render_user(User("", "anna", "cn=x"))] * 2)])
    store = SqliteSnapshotStore.open(tmp_path)
    with pytest.raises(sqlite3.IntegrityError):
        await store.save(snapshot_of(twins))
    assert await store.load("company") is None
    await store.save(snapshot_of(people(3)))
    assert content_of(await store.load("company")) == content_of(snapshot_of(people(3)))
    await store.aclose()

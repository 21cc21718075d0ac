"""Damaged and foreign databases: never taken for "nothing was ever listed"."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import StateLost
from bridge.state import SqliteSnapshotStore
from tests.contract.test_snapshot_store import FULL_GUARD
from tests.state.folders import DATABASE, keep, load, loaded, names_in, result_of
from tests.support.kept import content_of, people, snapshot_of

KEPT = snapshot_of(people(400), guard=FULL_GUARD)


def truncated(size: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = file.read_bytes()
        file.write_bytes(content[: size if size >= 0 else len(content) + size])

    return damage


def without_page(number: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        start = number * 4096 % len(content)
        assert any(content[start : start + 4096])
        content[start : start + 4096] = bytes(4096)
        file.write_bytes(content)

    return damage


def noise(file: Path) -> None:
    file.write_bytes(random.Random(1).randbytes(file.stat().st_size))


def noise_behind_the_header(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[:100] + random.Random(1).randbytes(len(content) - 100))


def another_program(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE users (directory, name, id, json)")
        connection.commit()


def octet(position: int, value: int) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[position] = value
        file.write_bytes(content)

    return damage


def replaced(before: bytes, after: bytes) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        content = file.read_bytes()
        assert before in content
        file.write_bytes(content.replace(before, after))

    return damage


def without_rows(table: str) -> Callable[[Path], None]:
    """The table's page says that it has no rows: whoever believes it finds none, and no error."""

    def damage(file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection:
            (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        content = bytearray(file.read_bytes())
        count = (page - 1) * 4096 + 3
        assert content[count : count + 2] != bytes(2)
        content[count : count + 2] = bytes(2)
        file.write_bytes(content)
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute(f"SELECT * FROM {table}").fetchall() == []

    return damage


def another_program_that_was_killed(file: Path) -> None:
    """Its write-ahead log is whole, and would be played back into whatever stands beside it."""
    other = file.with_name("other")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE users (directory, name, id, json)")
        connection.commit()
        for ending in ("", "-wal"):
            shutil.copy(f"{other}{ending}", f"{file}{ending}")
    other.unlink()


def noise_beside_the_log_of_another_program(file: Path) -> None:
    another_program_that_was_killed(file)
    noise(file)


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()
    (file / "something").touch()


def changed(*statements: str) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        with closing(sqlite3.connect(file)) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return damage


DAMAGES = {
    **{f"truncated to {size}": truncated(size) for size in (0, 1, 16, 50, 99, 100, 512, 4095, 4096, 4097, 50_000)},
    **{f"truncated by {-size}": truncated(size) for size in (-1, -100, -4096, -5000)},
    **{f"without page {number}": without_page(number) for number in (0, 1, 2, 3, 4, 5, 9, 14, 15, 20, -1)},
    "with directories that seem to be none": without_rows("directories"),
    "with reports that seem to be none": without_rows("reports"),
    "noise": noise,
    "noise behind the header": noise_behind_the_header,
    "database of another program": another_program,
    "database of another program that was killed": another_program_that_was_killed,
    "noise beside the log of another program": noise_beside_the_log_of_another_program,
    "folder": a_folder,
    "in a format of the future": octet(47, 132),
    "with other letters": octet(59, 2),
    "with a schema that is no UTF-8": replaced(b"user_count", b"user_\xa0ount"),
    "with another beginning": octet(3, 0),
    "without a table": changed("DROP TABLE former_names"),
    "with another column": changed("ALTER TABLE users ADD COLUMN more"),
    "with another table": changed("CREATE TABLE more (x)"),
    "without a version": changed("PRAGMA user_version = 0"),
    "without a user": changed("DELETE FROM users WHERE name = CAST('user.name7' AS BLOB)"),
    "with an id changed": changed("UPDATE users SET id = CAST('x' AS BLOB) WHERE name = CAST('user.name7' AS BLOB)"),
    "with ids that are text": changed("UPDATE users SET id = 'x'"),
    "with a number for JSON": changed("UPDATE users SET json = 7"),
    "with a directory's name changed": changed("UPDATE directories SET name = 'other'"),
    "with a time changed": changed("UPDATE directories SET taken_at_s = 7"),
    "with a text for a time": changed("UPDATE directories SET taken_at_s = 'x'"),
    "with a broken report": changed("UPDATE directories SET report = '{'"),
    "with nothing withheld": changed("DELETE FROM withheld"),
    "with broken JSON withheld": changed("UPDATE withheld SET value = CAST('{}' AS BLOB)"),
    "with a text for when seen": changed("UPDATE last_seen SET value = 'x'"),
    "with a number for a name": changed("UPDATE former_names SET value = 1"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A state directory in which a listing is kept."""
    keep(tmp_path, KEPT)
    return tmp_path


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_damaged_database_is_set_aside_and_missed_until_the_operator_says_otherwise(
    damage: Callable[[Path], None], folder: Path
) -> None:
    """Whatever the damage, no load and no save goes through, across restarts, until the directory is forgotten."""
    damage(folder / DATABASE)
    for _ in range(2):
        store = SqliteSnapshotStore.open(folder)
        for directory in ("company", "another"):
            with pytest.raises(StateLost, match=r"state\.sqlite3\.damaged-20.*removals reset"):
                await store.load(directory)
            with pytest.raises(StateLost):
                await store.save(snapshot_of(people(3), directory))
        assert await store.directories() == ()
        await store.aclose()
        first, second, *others = names_in(folder)
        assert first == DATABASE
        assert others in ([], [f"{second}-shm", f"{second}-wal"], [f"{second}-wal"])
    store = SqliteSnapshotStore.open(folder)
    await store.forget("company")
    assert await store.load("company") is None
    await store.save(snapshot_of(people(3)))
    await store.aclose()
    store = SqliteSnapshotStore.open(folder)
    assert content_of(await store.load("company")) == content_of(snapshot_of(people(3)))
    with pytest.raises(StateLost):
        await store.load("another")
    await store.aclose()


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_damaged_database_is_left_alone_where_nothing_may_be_written(
    damage: Callable[[Path], None], folder: Path
) -> None:
    """Commands that only read say that the listing is lost, and rename nothing."""
    damage(folder / DATABASE)
    before = names_in(folder)
    store = SqliteSnapshotStore.open_read_only(folder)
    with pytest.raises(StateLost, match="removals reset"):
        await store.load("company")
    await store.aclose()
    assert names_in(folder) == before


async def test_second_damage_is_set_aside_beside_the_first(folder: Path) -> None:
    """Nothing that was set aside is overwritten, and what was forgotten before is missed again."""
    for _ in range(3):
        noise(folder / DATABASE)
        store = SqliteSnapshotStore.open(folder, clock=lambda: 1_700_000_000.0)
        with pytest.raises(StateLost):
            await store.load("company")
        await store.forget("company")
        await store.save(KEPT)
        await store.aclose()
    first = f"{DATABASE}.damaged-20231114T221320Z"
    assert names_in(folder) == [DATABASE, first, f"{first}+", f"{first}++"]


async def test_damage_while_the_service_runs_is_found_by_the_next_load(folder: Path) -> None:
    """A database that breaks behind an open connection is set aside at once, and saves don't go into it."""
    store = SqliteSnapshotStore.open(folder)
    await store.directories()
    changed("DELETE FROM users WHERE name = CAST('user.name7' AS BLOB)")(folder / DATABASE)
    for _ in range(2):
        with pytest.raises(StateLost):
            await store.load("company")
    with pytest.raises(StateLost):
        await store.save(KEPT)
    await store.aclose()
    assert await loaded(folder) == "state_lost"


async def test_damage_while_the_service_runs_is_found_by_the_next_save(folder: Path) -> None:
    """A save into pages that are none any more ends with the database set aside."""
    store = SqliteSnapshotStore.open(folder)
    assert await store.load("company") is not None
    with (folder / DATABASE).open("r+b") as file:
        size = file.seek(0, 2)
        file.seek(24)
        counter = int.from_bytes(file.read(4), "big") + 1  # what tells SQLite that its cache is out of date
        file.seek(24)
        file.write(counter.to_bytes(4, "big"))
        file.seek(4096)
        file.write(random.Random(2).randbytes(size - 4096))
    with pytest.raises(StateLost):
        await store.save(snapshot_of(people(400, "x")))
    await store.aclose()
    assert await loaded(folder) == "state_lost"


@settings(max_examples=150)
@given(st.integers(0), st.integers(1, 255), st.booleans())
def test_no_changed_octet_makes_another_listing(
    tmp_path_factory: pytest.TempPathFactory, position: int, change: int, read_only: bool
) -> None:
    """One octet that is changed anywhere makes the listing lost or unavailable, or changes nothing in it."""
    folder = tmp_path_factory.mktemp("state")
    small = snapshot_of(people(20), guard=FULL_GUARD)
    keep(folder, small)
    content = bytearray((folder / DATABASE).read_bytes())
    content[position % len(content)] ^= change
    (folder / DATABASE).write_bytes(content)
    found = load(folder, read_only=read_only)
    assert found in ("state_lost", "state_unavailable", content_of(small))


def test_loss_is_known_wherever_setting_aside_is_killed(tmp_path: Path) -> None:
    """A process that is killed at any step between finding the damage and the new database leaves the loss to be seen."""
    for count in range(100):
        folder = tmp_path / str(count)
        folder.mkdir()
        keep(folder, KEPT)
        noise(folder / DATABASE)
        (folder / f"{DATABASE}-journal").write_bytes(b"no journal")
        said, code = result_of("load", folder, count)
        assert (said, code) in (("", -9), ("state_lost", 0))
        assert load(folder, read_only=True) in ("state_lost", "state_unavailable")  # a journal is beyond its rights
        for _ in range(2):
            assert load(folder) == "state_lost"
            assert load(folder, read_only=True) == "state_lost"
        if code == 0:
            break
    assert 5 < count < 99


def test_first_database_comes_about_wherever_making_it_is_killed(tmp_path: Path) -> None:
    """A process that is killed while it makes the first database leaves nothing that a later one would miss."""
    for count in range(100):
        folder = tmp_path / str(count)
        folder.mkdir()
        said, code = result_of("load", folder, count)
        assert (said, code) in (("", -9), ("none", 0))
        assert load(folder, read_only=True) is None
        assert load(folder) is None
        assert names_in(folder) == [DATABASE]
        if code == 0:
            break
    assert 3 < count < 99


def test_journal_without_its_database_is_a_loss(tmp_path: Path) -> None:
    """Where somebody took the database away and left its journal, there was a listing; the journal is kept, and not used."""
    (tmp_path / f"{DATABASE}-journal").write_bytes(b"something")
    assert load(tmp_path, read_only=True) == "state_lost"
    assert load(tmp_path) == "state_lost"
    assert names_in(tmp_path) == [DATABASE, f"{DATABASE}.damaged-unknown-journal"]
    assert load(tmp_path) == "state_lost"


def test_journal_of_an_empty_file_is_kept_beside_it(tmp_path: Path) -> None:
    """SQLite would delete it, and with it the only pages of a listing that are left."""
    (tmp_path / DATABASE).touch()
    (tmp_path / f"{DATABASE}-journal").write_bytes(b"pages")
    assert load(tmp_path) == "state_lost"
    _, set_aside, journal = names_in(tmp_path)
    assert journal == f"{set_aside}-journal"
    assert (tmp_path / journal).read_bytes() == b"pages"

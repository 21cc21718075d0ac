"""Which files are there, whose they are, who may have them open, and which version they have."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.errors import ConfigurationError, StateUnavailable
from bridge.removals.model import GuardState, HeldBy, Removal, RemovalKind, Withheld
from bridge.state import SqliteSnapshotStore
from bridge.state.opening import StateFiles
from bridge.state.schema import APPLICATION_ID, SCHEMA, Schema
from tests.state.folders import DATABASE, child, keep, load, loaded, names_in, result_of
from tests.support.kept import content_of, people, snapshot_of


def pragma(folder: Path, name: str) -> object:
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]


async def test_first_opening_makes_the_folder_and_a_database_for_its_owner_alone(tmp_path: Path) -> None:
    """Nobody else can read who is listed, whatever the umask; and the file says whose it is."""
    folder = tmp_path / "state"
    store = SqliteSnapshotStore.open(folder)
    assert await store.load("company") is None
    await store.aclose()
    assert names_in(folder) == [DATABASE]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / DATABASE).stat().st_mode) == 0o600
    assert pragma(folder, "application_id") == APPLICATION_ID
    assert pragma(folder, "user_version") == SCHEMA.version


@pytest.mark.parametrize("place", ["missing/state", "file/state", "file"])
def test_folder_that_cannot_be_had_is_an_error_of_the_configuration(place: str, tmp_path: Path) -> None:
    """The message names the setting and the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=rf"state\.directory: .*{place}.*make the folder"):
        SqliteSnapshotStore.open(tmp_path / place)


async def test_commits_outlive_a_power_cut(tmp_path: Path) -> None:
    """The connection deletes its journal and has the folder synced after that, which is what commits for good."""
    connection = StateFiles(tmp_path, lambda: 0.0).open()
    with closing(connection):
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (3,)  # EXTRA


def test_second_process_is_refused_while_the_first_one_runs(tmp_path: Path) -> None:
    """Two services on one folder can't be; readers can, and once the first one is killed, so can another."""
    keep(tmp_path, snapshot_of(people(3)))
    with child("hold", tmp_path, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(ConfigurationError, match=r"state\.directory: .* is in use by another service"):
            SqliteSnapshotStore.open(tmp_path)
        assert load(tmp_path, read_only=True) == content_of(snapshot_of(people(3)))
        process.kill()
    assert load(tmp_path) == content_of(snapshot_of(people(3)))
    assert names_in(tmp_path) == [DATABASE]


async def test_closing_frees_the_folder(tmp_path: Path) -> None:
    """Within one process, too, a folder is had by one store at a time; closing twice is no error."""
    first = SqliteSnapshotStore.open(tmp_path)
    with pytest.raises(ConfigurationError):
        SqliteSnapshotStore.open(tmp_path)
    await first.aclose()
    await first.aclose()
    second = SqliteSnapshotStore.open(tmp_path)
    await second.aclose()


@pytest.mark.parametrize("exists", [True, False])
async def test_reading_where_nothing_was_kept_makes_nothing(exists: bool, tmp_path: Path) -> None:
    """Without a database, or even a folder, a reader finds nothing and leaves nothing, and can't write."""
    folder = tmp_path / "state"
    if exists:
        folder.mkdir()
    store = SqliteSnapshotStore.open_read_only(folder)
    assert await store.load("company") is None
    assert await store.directories() == ()
    for writing in (store.save(snapshot_of(people(1))), store.forget("company"), store.save_holders("/", {})):
        with pytest.raises(StateUnavailable, match="reading only"):
            await writing
    await store.aclose()
    assert names_in(tmp_path) == (["state"] if exists else [])
    assert not exists or names_in(folder) == []


async def test_reader_sees_what_is_saved_meanwhile(tmp_path: Path) -> None:
    """A store that is open for reading follows the service: from nothing at all to each later snapshot."""
    reader = SqliteSnapshotStore.open_read_only(tmp_path)
    assert await reader.load("company") is None
    writer = SqliteSnapshotStore.open(tmp_path)
    for number in range(3):
        await writer.save(snapshot_of(people(50, str(number)), number=float(number)))
        assert content_of(await reader.load("company")) == content_of(
            snapshot_of(people(50, str(number)), number=float(number))
        )
    await writer.aclose()
    await reader.aclose()


async def test_database_that_is_put_back_from_a_copy_is_written_whole(tmp_path: Path) -> None:
    """A file that takes the database's place while the service runs is used, and a save doesn't trust what it knew."""
    store = SqliteSnapshotStore.open(tmp_path)
    await store.save(snapshot_of(people(50)))
    copy = (tmp_path / DATABASE).read_bytes()
    await store.save(snapshot_of(people(50, "x", every=2), number=2.0))
    (tmp_path / "copy").write_bytes(copy)
    (tmp_path / "copy").rename(tmp_path / DATABASE)
    last = snapshot_of(people(50, "x", every=2), number=3.0)
    await store.save(last)
    await store.aclose()
    assert await loaded(tmp_path) == content_of(last)


async def test_database_that_is_taken_away_is_made_anew_by_the_next_save(tmp_path: Path) -> None:
    """What the service has in memory is written whole, rather than into a file that is gone."""
    store = SqliteSnapshotStore.open(tmp_path)
    await store.save(snapshot_of(people(50)))
    (tmp_path / DATABASE).unlink()
    await store.save(snapshot_of(people(50, "x", every=2), number=2.0))
    await store.aclose()
    assert await loaded(tmp_path) == content_of(snapshot_of(people(50, "x", every=2), number=2.0))


async def test_folder_that_is_taken_away_is_told_and_used_again_once_it_is_there(tmp_path: Path) -> None:
    """Without a restart, as the service alone knows what was in it; nobody is told that nothing was ever listed."""
    folder = tmp_path / "state"
    store = SqliteSnapshotStore.open(folder)
    await store.save(snapshot_of(people(50)))
    shutil.rmtree(folder)
    last = snapshot_of(people(50, "x", every=2), number=2.0)
    for ask in (lambda: store.load("company"), lambda: store.save(last)):
        with pytest.raises(StateUnavailable, match=r"Make this folder again.*Don't restart"):
            await ask()
    folder.mkdir()
    await store.save(last)
    await store.aclose()
    assert await loaded(folder) == content_of(last)


def test_database_whose_mode_was_changed_is_taken_back_by_the_service(tmp_path: Path) -> None:
    """A write-ahead log that somebody gave it is no damage; a reader leaves it alone, and the service ends it."""
    keep(tmp_path, snapshot_of(people(3)))
    assert pragma(tmp_path, "journal_mode = WAL") == "wal"
    assert load(tmp_path, read_only=True) == "state_unavailable"
    assert names_in(tmp_path) == [DATABASE]
    assert load(tmp_path) == content_of(snapshot_of(people(3)))
    assert load(tmp_path, read_only=True) == content_of(snapshot_of(people(3)))
    assert pragma(tmp_path, "journal_mode") == "delete"


@pytest.mark.parametrize("read_only", [True, False])
def test_newer_database_is_left_alone(read_only: bool, tmp_path: Path) -> None:
    """A program that was set back a version says so; the database waits for the newer one, octet by octet."""
    keep(tmp_path, snapshot_of(people(3)))
    with closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA.version + 1}")
        connection.execute("DROP TABLE former_names")
        connection.commit()
    before = (tmp_path / DATABASE).read_bytes()
    assert load(tmp_path, read_only=read_only) == "state_unavailable"
    assert names_in(tmp_path) == [DATABASE]
    assert (tmp_path / DATABASE).read_bytes() == before


NEWER = replace(
    SCHEMA,
    statements=(
        *SCHEMA.statements[:-1],
        "CREATE TABLE forgotten (directory TEXT NOT NULL PRIMARY KEY, at_s REAL) WITHOUT ROWID",
        "CREATE TABLE notes (note TEXT)",
    ),
    migrations=(
        *SCHEMA.migrations,
        ("ALTER TABLE forgotten ADD COLUMN at_s REAL",),
        ("CREATE TABLE notes (note TEXT)",),
    ),
)


def files_of(folder: Path, schema: Schema) -> StateFiles:
    return StateFiles(folder, lambda: 0.0, schema)


@pytest.mark.parametrize("version", [SCHEMA.version, SCHEMA.version + 1])
def test_older_database_is_brought_up_to_date(version: int, tmp_path: Path) -> None:
    """From each older version, opening leads to the newest one, with everything that was kept."""
    keep(tmp_path, snapshot_of(people(3)))
    if version == SCHEMA.version + 1:
        with closing(
            files_of(
                tmp_path, replace(NEWER, statements=(*NEWER.statements[:-1],), migrations=NEWER.migrations[:-1])
            ).open()
        ):
            pass
    assert pragma(tmp_path, "user_version") == version
    with closing(files_of(tmp_path, NEWER).open()) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (NEWER.version,)
        assert connection.execute("SELECT count(*) FROM users").fetchone() == (3,)
        connection.execute("INSERT INTO notes VALUES ('x')")
    assert names_in(tmp_path) == [DATABASE]


def test_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """The database keeps its version and its tables, and is not set aside: the program is at fault."""
    keep(tmp_path, snapshot_of(people(3)))
    broken = replace(NEWER, migrations=(*NEWER.migrations[:-1], ("CREATE TABLE nonsense",)))
    with pytest.raises(sqlite3.OperationalError):
        files_of(tmp_path, broken).open()
    assert names_in(tmp_path) == [DATABASE]
    assert load(tmp_path) == content_of(snapshot_of(people(3)))


def test_reader_migrates_nothing(tmp_path: Path) -> None:
    """A command that only reads leaves an older database to the service."""
    keep(tmp_path, snapshot_of(people(3)))
    with pytest.raises(StateUnavailable, match="Start the service"):
        files_of(tmp_path, NEWER).open_read_only()
    assert pragma(tmp_path, "user_version") == SCHEMA.version


def make_first_version(folder: Path) -> None:
    """The database is as the first version of the program has left it."""
    with closing(sqlite3.connect(folder / DATABASE)) as connection:
        connection.execute("DROP TABLE last_seen_at")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()


def test_first_version_keeps_its_listings_and_takes_witnesses(tmp_path: Path) -> None:
    """What the first version has kept is read as it was, and holds from then on who has shown whom."""
    withheld = Withheld(Removal("1", "anna", RemovalKind.MISSING), HeldBy.LIMIT, 1.0)
    guard = GuardState((withheld,), {"1": 1.0}, {"2": 2.0}, {"2": "bert"}, frozenset({"anna"}), "3f9a")
    kept = snapshot_of(people(30), guard=guard)
    keep(tmp_path, kept)
    make_first_version(tmp_path)
    assert load(tmp_path, read_only=True) == "state_unavailable"
    assert load(tmp_path) == content_of(kept)
    assert pragma(tmp_path, "user_version") == SCHEMA.version
    later = replace(kept, guard=replace(guard, last_seen_at={"1": "ldap://first.example.com"}))
    keep(tmp_path, later)
    assert load(tmp_path) == content_of(later)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
NOBODY = 65_534


@pytest.fixture
def folder_of_another() -> Iterator[Path]:
    """A state directory of another user, where that user can reach it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "state"
        folder.mkdir(mode=0o700)
        os.chown(folder, NOBODY, NOBODY)
        Path(name).chmod(0o711)
        yield folder


@needs_root
async def test_what_root_makes_belongs_to_the_owner_of_the_folder(folder_of_another: Path) -> None:
    """Database and journal of a command that root runs can be written by the service's user, also in mid-transaction."""
    store = SqliteSnapshotStore.open(folder_of_another)
    await store.save(snapshot_of(people(3)))
    during: list[tuple[str, int, int]] = []

    def look(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM users")
        files = sorted(folder_of_another.iterdir())
        during.extend((file.name, file.stat().st_uid, file.stat().st_gid) for file in files)
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")

    await store._in_thread(store._transact, look, writes=True)
    await store.aclose()
    assert during == [(DATABASE, NOBODY, NOBODY), (f"{DATABASE}-journal", NOBODY, NOBODY)]


@needs_root
def test_service_goes_on_where_root_has_written(folder_of_another: Path) -> None:
    """After a command of root, a process without its rights loads and saves, and sets a damaged database aside."""
    keep(folder_of_another, snapshot_of(people(3)))
    assert result_of("as", folder_of_another, 1, 5, NOBODY) == ("saved", 0)
    (folder_of_another / DATABASE).write_bytes(b"")
    assert load(folder_of_another) == "state_lost"  # as root, which sets it aside
    assert result_of("as", folder_of_another, 1, 5, NOBODY)[1] != 0  # still lost, for the user
    assert {file.stat().st_uid for file in folder_of_another.iterdir()} == {NOBODY}


@needs_root
def test_folder_that_the_user_may_not_write_to_is_unavailable_for_saving(folder_of_another: Path) -> None:
    """Loading works, a save says that it can't, and nothing has changed."""
    keep(folder_of_another, snapshot_of(people(3)))
    os.chown(folder_of_another, 0, 0)
    folder_of_another.chmod(0o755)
    assert result_of("as", folder_of_another, 2, 5, NOBODY) == ("state_unavailable same", 0)
    assert load(folder_of_another) == content_of(snapshot_of(people(3)))

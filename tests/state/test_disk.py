"""Disks that are full, read-only or in use: nothing has changed then, and all is well once they are not."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import ConfigurationError, StateLost, StateUnavailable
from bridge.state import SqliteSnapshotStore, opening
from tests.state.folders import DATABASE, keep, load, loaded, names_in, result_of
from tests.support.kept import content_of, people, snapshot_of

SMALL = snapshot_of(people(100))
LARGE = snapshot_of(people(6000, "x"), number=2.0)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    try:
        mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path))
    except (OSError, subprocess.CalledProcessError):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("a file system can't be mounted; root can")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


async def test_full_disk_keeps_what_was_saved_and_goes_on_when_there_is_room(disk: Path) -> None:
    """A save that finds no room is an error with a remedy, however often; the last one that fit is there, and then the next."""
    store = SqliteSnapshotStore.open(disk)
    await store.save(SMALL)
    for _ in range(3):
        with pytest.raises(StateUnavailable, match=r"full.*Make room"):
            await store.save(LARGE)
        assert content_of(await store.load("company")) == content_of(SMALL)
    assert await store.reports("company") == (SMALL.report,)
    mount("-o", "remount,size=16m", str(disk))
    await store.save(LARGE)
    await store.aclose()
    assert await loaded(disk) == content_of(LARGE)


async def test_disk_that_is_full_from_the_start_is_no_first_listing(disk: Path) -> None:
    """Where not even an empty database fits, a load says so, until there is room."""
    filler = disk / "filler"
    with pytest.raises(OSError, match="space"):
        filler.write_bytes(bytes(2 << 20))
    store = SqliteSnapshotStore.open(disk)
    for _ in range(2):
        with pytest.raises(StateUnavailable):
            await store.load("company")
    assert names_in(disk) == ["filler"]
    filler.unlink()
    assert await store.load("company") is None
    await store.save(SMALL)
    await store.aclose()
    assert await loaded(disk) == content_of(SMALL)


async def test_damage_on_a_full_disk_is_not_forgotten(disk: Path) -> None:
    """Where the new database doesn't fit, the loss is known all the same once it does."""
    store = SqliteSnapshotStore.open(disk)
    await store.save(SMALL)
    await store.aclose()
    (disk / DATABASE).write_bytes(b"x" * 4096)
    with pytest.raises(OSError, match="space"):
        (disk / "filler").write_bytes(bytes(2 << 20))
    store = SqliteSnapshotStore.open(disk)
    for _ in range(2):
        with pytest.raises(StateUnavailable):
            await store.load("company")
    (disk / "filler").unlink()
    with pytest.raises(StateLost):
        await store.load("company")
    await store.aclose()


async def test_damage_that_a_load_finds_on_a_full_disk_is_not_forgotten(disk: Path) -> None:
    """Setting it aside fails half-way, and is finished as soon as there is room."""
    store = SqliteSnapshotStore.open(disk)
    await store.save(SMALL)
    with closing(sqlite3.connect(disk / DATABASE)) as connection:
        connection.execute("DELETE FROM users WHERE name = CAST('user.name7' AS BLOB)")
        connection.commit()
    with pytest.raises(OSError, match="space"):
        (disk / "filler").write_bytes(bytes(2 << 20))
    for _ in range(2):
        with pytest.raises(StateUnavailable, match="Make room"):
            await store.load("company")
    (disk / "filler").unlink()
    with pytest.raises(StateLost):
        await store.load("company")
    await store.aclose()


async def test_read_only_disk_gives_what_was_saved_and_takes_nothing(disk: Path) -> None:
    """A service starts on it, answers from it, and says that it can't save; remounted, it saves without a restart."""
    keeper = SqliteSnapshotStore.open(disk)
    await keeper.save(SMALL)
    await keeper.aclose()
    mount("-o", "remount,ro", str(disk))
    store = SqliteSnapshotStore.open(disk)
    with pytest.raises(ConfigurationError):
        SqliteSnapshotStore.open(disk)
    assert content_of(await store.load("company")) == content_of(SMALL)
    for writing in (store.save(snapshot_of(people(5))), store.forget("company")):
        with pytest.raises(StateUnavailable, match="writable"):
            await writing
    assert content_of(await store.load("company")) == content_of(SMALL)
    mount("-o", "remount,rw", str(disk))
    await store.save(snapshot_of(people(5)))
    assert content_of(await store.load("company")) == content_of(snapshot_of(people(5)))
    await store.aclose()


async def test_read_only_disk_without_a_database_is_no_first_listing(disk: Path) -> None:
    """A service that could keep nothing has no listing that it may take for the first one; a command that reads has none."""
    mount("-o", "remount,ro", str(disk))
    store = SqliteSnapshotStore.open(disk)
    with pytest.raises(StateUnavailable, match="writable"):
        await store.load("company")
    await store.aclose()
    assert await loaded(disk, read_only=True) is None
    with pytest.raises(ConfigurationError, match="make the folder"):
        SqliteSnapshotStore.open(disk / "state")


async def test_damage_on_a_read_only_disk_is_a_loss(disk: Path) -> None:
    """A damaged database that can't be renamed is lost as long as it stands there."""
    (disk / DATABASE).touch()
    mount("-o", "remount,ro", str(disk))
    store = SqliteSnapshotStore.open(disk)
    for _ in range(2):
        with pytest.raises(StateLost, match="can't be renamed"):
            await store.load("company")
    await store.aclose()


@pytest.mark.parametrize("limit_kib", [128, 300, 1000])
def test_file_that_may_not_grow_keeps_what_was_saved(limit_kib: int, tmp_path: Path) -> None:
    """A process under a limit for the size of files fails to save, wherever in the transaction the limit strikes."""
    keep(tmp_path, SMALL)
    assert result_of("limited", tmp_path, 2, 6000, limit_kib * 1024) == ("state_unavailable same", 0)
    assert load(tmp_path) == content_of(SMALL)
    assert result_of("limited", tmp_path, 2, 6000, 64 << 20) == ("saved", 0)


async def test_database_in_use_is_unavailable_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that has the database locked keeps a save from going through, and no later one."""
    monkeypatch.setattr(opening, "_BUSY_TIMEOUT_S", 0.01)
    store = SqliteSnapshotStore.open(tmp_path)
    await store.save(SMALL)
    await store.aclose()
    store = SqliteSnapshotStore.open(tmp_path)
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateUnavailable, match="End the program"):
            await store.save(LARGE)
    assert content_of(await store.load("company")) == content_of(SMALL)
    await store.save(LARGE)
    await store.aclose()
    assert await loaded(tmp_path) == content_of(LARGE)

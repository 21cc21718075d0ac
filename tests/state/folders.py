"""State directories with something in them, and what is looked for there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from bridge.errors import StateLost, StateUnavailable
from bridge.snapshots.store import Snapshot
from bridge.state import SqliteSnapshotStore
from tests.support.kept import content_of

ROOT = Path(__file__).parents[2]
DATABASE = "state.sqlite3"


def child(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """A process of `tests.state.child`."""
    command = [sys.executable, "-m", "tests.state.child", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload, no-any-return]


def result_of(*arguments: object) -> tuple[str, int]:
    """What a process of `tests.state.child` says, and how it ends."""
    with child(*arguments) as process:
        said, _ = process.communicate()
    return said.strip(), process.returncode


def keep(folder: Path, *snapshots: Snapshot) -> None:
    """The snapshots are saved in the folder, which is free again."""

    async def save() -> None:
        store = SqliteSnapshotStore.open(folder)
        for snapshot in snapshots:
            await store.save(snapshot)
        await store.aclose()

    asyncio.run(save())


def load(folder: Path, directory: str = "company", *, read_only: bool = False) -> object:
    """What a new process would load: the content of a snapshot, or the code of the error."""
    return asyncio.run(loaded(folder, directory, read_only=read_only))


async def loaded(folder: Path, directory: str = "company", *, read_only: bool = False) -> object:
    """The same, inside of an event loop."""
    store = SqliteSnapshotStore.open_read_only(folder) if read_only else SqliteSnapshotStore.open(folder)
    try:
        return content_of(await store.load(directory))
    except (StateLost, StateUnavailable) as error:
        return error.code
    finally:
        await store.aclose()


def names_in(folder: Path) -> list[str]:
    """The names of the folder's files, sorted."""
    return sorted(file.name for file in folder.iterdir())

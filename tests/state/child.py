"""A process that keeps snapshots, to be killed, held short, or run as another user; it tells what it has done on stdout."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from pathlib import Path

from bridge.errors import BridgeError
from bridge.removals.model import GuardState
from bridge.snapshots.store import Snapshot
from bridge.state import SqliteSnapshotStore
from tests.support.kept import people, snapshot_of

EVERY = 7


def say(text: str) -> None:
    """A line has left the process."""
    os.write(1, f"{text}\n".encode())


def numbered(number: int, user_count: int) -> Snapshot:
    """The snapshot of that number: its roster, its time and what the guard remembers tell which one it is."""
    guard = GuardState(last_seen_s={"number": float(number)}, recent={str(number % 5): 1.0})
    return snapshot_of(people(user_count, str(number % 3), EVERY), number=float(number), guard=guard)


async def save_for_ever(folder: Path, first: int, user_count: int) -> None:
    """Saves one snapshot after the other, and says which ones are saved."""
    rosters = {number % 3: numbered(number, user_count).roster for number in range(3)}
    store = SqliteSnapshotStore.open(folder)
    await store.load("company")
    number = first
    while True:
        snapshot = numbered(number, 0)
        await store.save(snapshot_of(rosters[number % 3], number=float(number), guard=snapshot.guard))
        say(str(number))
        number += 1


async def save_once(folder: Path, number: int, user_count: int) -> None:
    """Saves one snapshot, or says why not, and then whether the one that was loaded first is still there."""
    store = SqliteSnapshotStore.open(folder)
    before = await store.load("company")
    try:
        await store.save(numbered(number, user_count))
        say("saved")
    except BridgeError as error:
        after = await store.load("company")
        same = after is not None and before is not None and after.roster.json == before.roster.json
        say(f"{error.code} {'same' if same else 'other'}")
    await store.aclose()


async def load_once(folder: Path, count: int) -> None:
    """Loads, after so many calls of the operating system that Python tells of; at the next one, the process is killed."""
    left = count

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in {"open", "os.rename", "os.remove", "os.chown", "sqlite3.connect", "os.listdir", "os.scandir"}:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    store = SqliteSnapshotStore.open(folder)
    sys.addaudithook(watch)
    try:
        await store.load("company")
        found = "none"
    except BridgeError as error:
        found = error.code
    left = sys.maxsize  # what the interpreter opens when it ends is no matter
    say(found)
    await store.aclose()


async def hold(folder: Path) -> None:
    """Has the folder open until stdin ends."""
    store = SqliteSnapshotStore.open(folder)
    await store.load("company")
    say("open")
    await asyncio.to_thread(sys.stdin.read)
    await store.aclose()


def main() -> None:
    """Does what the arguments say."""
    what, folder, *numbers = sys.argv[1:]
    first, second, *others = (*map(int, numbers), 0, 0)
    if what == "limited":
        resource.setrlimit(resource.RLIMIT_FSIZE, (others[0], others[0]))
    if what == "as":
        os.setgroups([])
        os.setresgid(others[0], others[0], others[0])
        os.setresuid(others[0], others[0], others[0])
    works = {
        "for_ever": lambda: save_for_ever(Path(folder), first, second),
        "limited": lambda: save_once(Path(folder), first, second),
        "as": lambda: save_once(Path(folder), first, second),
        "load": lambda: load_once(Path(folder), first),
        "hold": lambda: hold(Path(folder)),
    }
    asyncio.run(works[what]())


if __name__ == "__main__":
    main()

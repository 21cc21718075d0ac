"""kill -9 at any moment: the last snapshot that was saved, or the one that was being saved, and nothing else."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

import pytest

from bridge.snapshots.store import Snapshot
from bridge.state import SqliteSnapshotStore
from tests.state.child import numbered
from tests.state.folders import child
from tests.support.kept import content_of

KILLS = int(os.environ.get("BRIDGE_TEST_KILLS", "15"))


def kill_while_saving(folder: Path, first: int, user_count: int, delay_s: float) -> int:
    """The number of the last snapshot that a process had saved when it was killed."""
    with child("for_ever", folder, first, user_count) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        time.sleep(delay_s)  # the moment is what is tried; nothing is waited for
        process.kill()
        *numbers, unfinished = (said + process.stdout.read()).split("\n")
    assert unfinished == ""
    return int(numbers[-1])


async def load_both(folder: Path) -> tuple[Snapshot | None, Snapshot | None]:
    """What the next service loads, and then a command that reads."""
    loaded = []
    for opened in (SqliteSnapshotStore.open(folder), SqliteSnapshotStore.open_read_only(folder)):
        loaded.append(await opened.load("company"))
        assert await opened.directories() == ("company",)
        await opened.aclose()
    return loaded[0], loaded[1]


@pytest.mark.timeout(60 + 8 * KILLS)
@pytest.mark.parametrize("user_count", [300, 20_000])
def test_killed_process_leaves_a_snapshot_that_was_saved_as_a_whole(user_count: int, tmp_path: Path) -> None:
    """At random moments, round after round on one folder: never a mixture, never one older than the last that was told."""
    moments = random.Random(user_count)
    number = 1
    for _ in range(KILLS if user_count == 300 else -(-KILLS // 3)):
        last = kill_while_saving(tmp_path, number, user_count, moments.uniform(0, 0.15))
        assert last >= number
        loaded, read = asyncio.run(load_both(tmp_path))
        assert loaded is not None
        assert int(loaded.taken_at_s) in (last, last + 1)
        assert content_of(loaded) == content_of(numbered(int(loaded.taken_at_s), user_count))
        assert content_of(read) == content_of(loaded)
        number = int(loaded.taken_at_s) + 1


async def test_reader_sees_whole_snapshots_while_a_service_saves(tmp_path: Path) -> None:
    """A command beside a service that saves all the time gets one snapshot after the other, each of them whole."""
    with child("for_ever", tmp_path, 1, 300) as process:
        assert process.stdout is not None
        process.stdout.readline()
        numbers = []
        for _ in range(20):
            reader = SqliteSnapshotStore.open_read_only(tmp_path)
            for _ in range(2):
                read = await reader.load("company")
                assert read is not None
                assert content_of(read) == content_of(numbered(int(read.taken_at_s), 300))
                numbers.append(int(read.taken_at_s))
            await reader.aclose()
        assert process.poll() is None
        process.kill()
        said = process.stdout.read().split()
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[-1] <= int(said[-1]) + 1

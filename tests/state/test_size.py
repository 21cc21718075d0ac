"""What 100,000 people take, on disk and in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.state.folders import DATABASE, ROOT

MEASURE = """
import asyncio, resource, sys
from pathlib import Path
from bridge.state import SqliteSnapshotStore
from tests.support.kept import people, snapshot_of

def peak_kib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

async def main():
    folder, store = Path(sys.argv[1]), SqliteSnapshotStore.open(Path(sys.argv[1]))
    if sys.argv[2] == "save":
        roster = people(100_000)
        before = peak_kib()
        await store.save(snapshot_of(roster))
        json_bytes = len(roster.json)
    else:
        await store.directories()
        before = peak_kib()
        json_bytes = len((await store.load("company")).roster.json)
    await store.aclose()
    print(peak_kib() - before, json_bytes)

asyncio.run(main())
"""


def measure(folder: Path, what: str) -> tuple[int, int]:
    """By how much the peak of a process' memory grows, and how large the users' JSON is."""
    command = [sys.executable, "-c", MEASURE, str(folder), what]
    grown_kib, json_bytes = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    return int(grown_kib) * 1024, int(json_bytes)


def test_hundred_thousand_people_are_small_on_disk_and_in_memory(tmp_path: Path) -> None:
    """The database takes little more than the JSON; a save has no second copy in memory, and a load little more than one."""
    saved_bytes, json_bytes = measure(tmp_path, "save")
    size_bytes = (tmp_path / DATABASE).stat().st_size
    assert size_bytes < 50_000_000
    assert saved_bytes < json_bytes / 2
    loaded_bytes, json_bytes = measure(tmp_path, "load")
    assert loaded_bytes < 2.5 * json_bytes

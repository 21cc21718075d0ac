"""What a storm has measured: counts, latencies, memory, descriptors, tasks; and every rule that was broken."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.storm.client import fetch

_FAILURES_MAX_COUNT = 20


class Resources(NamedTuple):
    """What the process has when nobody asks anything."""

    at_s: float
    """Since the start of the storm."""
    resident_mib: float
    descriptors_count: int
    tasks_count: int


class Figures:
    """What a storm has measured."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        """The first of the rules that were broken, with what had happened."""
        self.at_rest: list[Resources] = []
        self.after_faults: list[tuple[float, str, float]] = []
        """Seconds since the start, a fault that has just ended, and the memory then in MiB."""
        self.resident_mib = array("f")
        """Once a second, under load."""
        self._latencies_ms: dict[str, array[float]] = defaultdict(lambda: array("f"))
        self._began_s = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began_s

    def fail(self, words: str) -> None:
        """A rule is broken."""
        self.counts["rules broken"] += 1
        if len(self.failures) < _FAILURES_MAX_COUNT:
            self.failures.append(f"{self.elapsed_s:.1f} s: {words}")

    def note(self, command: str, status: int, began_s: float, *, was_calm: bool) -> None:
        """One answer; `was_calm` from before the request until after the answer."""
        weather = "calm" if was_calm else "storm"
        self.counts[f"{command} {status} {weather}"] += 1
        self._latencies_ms[f"{command} {weather}"].append((time.monotonic() - began_s) * 1000)

    def note_resident(self, process_id: int) -> None:
        """The memory of the process under load."""
        self.resident_mib.append(read_resident_mib(process_id))

    def note_fault(self, name: str, process_id: int) -> None:
        """A fault has ended."""
        self.counts[f"fault: {name}"] += 1
        self.after_faults.append((round(self.elapsed_s, 1), name, round(read_resident_mib(process_id), 1)))

    async def note_at_rest(self, process_id: int, admin_port: int) -> Resources:
        """Measure the process while nobody asks anything."""
        found = Resources(
            round(self.elapsed_s, 1),
            round(read_resident_mib(process_id), 2),
            count_descriptors(process_id),
            await count_tasks(admin_port),
        )
        self.at_rest.append(found)
        return found

    def calm_share(self, command: str) -> float:
        """The part of what was asked while all was well that was answered with 200."""
        found = {key: count for key, count in self.counts.items() if key.startswith(command) and key.endswith("calm")}
        return found.get(f"{command} 200 calm", 0) / max(1, sum(found.values()))

    def render(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Everything as JSON has it."""
        first, last = (self.at_rest[0], self.at_rest[-1]) if self.at_rest else (None, None)
        return {
            **more,
            "length_s": round(self.elapsed_s, 1),
            "requests": sum(len(each) for each in self._latencies_ms.values()),
            "counts": dict(sorted(self.counts.items())),
            "latencies_ms": {name: describe_latencies(each) for name, each in sorted(self._latencies_ms.items())},
            "resident_mib": {
                "at_start": round(self.resident_mib[0], 1) if self.resident_mib else None,
                "after_warm_up": first and first.resident_mib,
                "at_end": last and last.resident_mib,
                "peak": round(max(self.resident_mib, default=0.0), 1),
            },
            "at_rest": [each._asdict() for each in self.at_rest],
            "after_faults": self.after_faults,
            "failures": self.failures,
        }

    def write(self, more: Mapping[str, Any]) -> None:
        """Print everything, and write it to the file that `BRIDGE_TEST_SOAK_FILE` names."""
        text = json.dumps(self.render(more), indent=2)
        print(text)  # noqa: T201 - pytest shows it where the test fails, and with -s
        if path := os.environ.get("BRIDGE_TEST_SOAK_FILE"):
            Path(path).write_text(text + "\n")


def describe_latencies(found_ms: array[float]) -> dict[str, float]:
    """Percentiles by nearest rank, and how many times the median the slow ones take."""
    ordered = sorted(found_ms)

    def at(part: float) -> float:
        return ordered[max(0, math.ceil(part * len(ordered)) - 1)]

    p50, p99 = statistics.median(ordered), at(0.99)
    return {
        "count": len(ordered),
        "p50": round(p50, 2),
        "p90": round(at(0.9), 2),
        "p99": round(p99, 2),
        "max": round(ordered[-1], 1),
        "p99_to_p50": round(p99 / p50, 1),
    }


def read_resident_mib(process_id: int) -> float:
    """The memory that a process has."""
    text = Path(f"/proc/{process_id}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


def count_descriptors(process_id: int) -> int:
    """The descriptors of a process; 0 for whoever is not root, and may not look at a process without core dumps."""
    return 0 if os.geteuid() else sum(1 for _ in Path(f"/proc/{process_id}/fd").iterdir())


async def count_tasks(admin_port: int) -> int:
    """The tasks of the bridge, by its metrics."""
    found = re.search(r"^mailstore_bridge_tasks (\S+)$", await fetch(admin_port, "/metrics"), re.MULTILINE)
    assert found is not None
    return int(float(found[1]))

"""Runs targets under atheris, as many at once as there are processors, and prints what came of it.

What is found on the way is kept in .fuzz, so that the next run goes on from there; `--keep` takes into the repository
what reaches more of the code than the corpus does.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.corpus import CORPUS, keep_new
from tests.fuzz.targets import TARGETS

_WORK = Path(".fuzz")
_STATUS = re.compile(r"^#(\d+)\s+\w+.* cov: (\d+) .*corp: (\d+)", re.MULTILINE)
_EXECUTED = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_NOISE = ("#", "stat::", "INFO:", "WARNING:", "NEW_FUNC")
_DEFAULT_S = 60
_LONGEST_INPUT_BYTES = 4096
_INPUT_TIMEOUT_S = 10
_MEMORY_MB = 2048
_LOOK_S = 0.5


@dataclass
class Run:
    """One target's process, and what its log tells."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    began_s: float = field(default_factory=time.monotonic)
    ended_s: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the process is over; notes when."""
        if self.ended_s is None and self.process.poll() is not None:
            self.ended_s = time.monotonic()
        return self.ended_s is not None

    @property
    def elapsed_s(self) -> float:
        """How long it has run."""
        return (self.ended_s or time.monotonic()) - self.began_s

    @property
    def states(self) -> list[tuple[int, int, int]]:
        """Inputs, coverage and size of the corpus as they have grown."""
        return [(int(a), int(b), int(c)) for a, b, c in _STATUS.findall(self.text)] or [(0, 0, 0)]

    @property
    def text(self) -> str:
        """The log so far."""
        return self.log.read_text("utf-8", "replace")

    @property
    def input_count(self) -> int:
        """How many inputs were run."""
        executed = _EXECUTED.search(self.text)
        return int(executed[1]) if executed else self.states[-1][0]

    @property
    def findings(self) -> list[Path]:
        """The inputs that were saved because of what they did."""
        began = self.log.with_suffix(".began").stat().st_mtime_ns
        saved = (_WORK / "findings").glob(f"{self.name}.*")
        return [file for file in saved if file.stat().st_mtime_ns >= began]


def main() -> int:
    """Return 1 where something was found."""
    parser = argparse.ArgumentParser(prog="script/fuzz", description="Fuzz the parsers.")
    parser.add_argument("words", nargs="*", metavar="SECONDS | TARGET", help=f"default: {_DEFAULT_S}, all targets")
    parser.add_argument("--keep", action="store_true", help="take what reaches more into the corpus, and end")
    options = parser.parse_args()
    numbers, names = [], []
    for word in options.words:
        (numbers if word.isdigit() else names).append(word)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    names = names or list(TARGETS)
    if options.keep:
        for name in names:
            print(f"{name}: {keep_new(name, _WORK / 'corpus' / name)} more")
        return 0
    return _show(_run_all(names, int(numbers[0]) if numbers else _DEFAULT_S))


def _run_all(names: list[str], total_s: int) -> list[Run]:
    at_once = min(os.cpu_count() or 1, len(names))
    each_s = max(1, total_s * at_once // len(names))
    (_WORK / "findings").mkdir(parents=True, exist_ok=True)
    waiting, runs = list(names), list[Run]()
    try:
        while waiting or not all(run.has_ended for run in runs):
            while waiting and sum(not run.has_ended for run in runs) < at_once:
                runs.append(_start(waiting.pop(0), each_s))
            _tell(runs, len(names))
            time.sleep(_LOOK_S)
    finally:
        for run in runs:
            if not run.has_ended:
                run.process.kill()
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
    return runs


def _start(name: str, seconds: int) -> Run:
    log, found = _WORK / f"{name}.log", _WORK / "corpus" / name
    found.mkdir(parents=True, exist_ok=True)
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    log.with_suffix(".began").touch()
    options = {
        "max_total_time": seconds,
        "max_len": _LONGEST_INPUT_BYTES,
        "timeout": _INPUT_TIMEOUT_S,
        "rss_limit_mb": _MEMORY_MB,
        "print_final_stats": 1,
        "artifact_prefix": _WORK / "findings" / f"{name}.",
    }
    command = [sys.executable, "-m", "tests.fuzz.child", name, *(f"-{key}={value}" for key, value in options.items())]
    with log.open("wb") as stream:
        process = subprocess.Popen([*command, found, CORPUS / name], stdout=stream, stderr=stream)
    return Run(name, log, process)


def _tell(runs: list[Run], count: int) -> None:
    """One line of a terminal, written anew each time."""
    if not sys.stderr.isatty():
        return
    under_way = [f"{run.name} {run.input_count:,}" for run in runs if not run.has_ended]
    line = f"{sum(run.has_ended for run in runs)} of {count} targets done; {', '.join(under_way)}"
    print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _show(runs: list[Run]) -> int:
    print(f"{'target':<18} {'inputs':>12} {'seconds':>8} {'inputs/s':>9} {'coverage':>15} {'corpus':>15} findings")
    failed = [run for run in runs if run.process.returncode != 0 or run.findings]
    for run in runs:
        first, last = run.states[0], run.states[-1]
        print(
            f"{run.name:<18} {run.input_count:>12,} {run.elapsed_s:>8.0f} {run.input_count / run.elapsed_s:>9,.0f}"
            f" {f'{first[1]} → {last[1]}':>15} {f'{first[2]} → {last[2]}':>15} {len(run.findings):>8}"
        )
    elapsed_s = sum(run.elapsed_s for run in runs)
    print(f"{'all':<18} {sum(run.input_count for run in runs):>12,} {elapsed_s:>8.0f}")
    for run in failed:
        print(f"\n{run.name} has ended with {run.process.returncode}; the whole of it is in {run.log}:")
        print("\n".join(line for line in run.text.splitlines()[-60:] if not line.startswith(_NOISE)))
        for file in run.findings:
            print(
                f"The input is {file}: put it into {os.path.relpath(CORPUS / run.name)}, where tests/fuzz/test_corpus.py replays it."
            )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""Groups of cases played at the same time in one process, with what the process itself must keep: memory, descriptors."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from bridge.run.process import tune_heap
from tests.faults.cases import Case, all_cases
from tests.faults.playing import Outcome, play
from tests.faults.tls_faults import Contexts
from tests.support.floods import forget_peak, open_count, resident_kib

GROUP_MAX_COUNT = 60
_AT_ONCE_COUNT = 16
_AT_ONCE_COUNTS = {"floods": 1, "connections": 40, "tls": 40}
"""What takes memory is played alone, and what is mostly waiting beside much else."""
_TRIES_COUNT = 2
_LEFT_MAX_KIB = 64 * 1024
"""How much a process may have grown by a group when it is over: what a flood leaves would show at once."""
_PEAK_MAX_KIB = 512 * 1024
"""How much more it may have meanwhile, with one flood at a time: the bridge takes 128 MiB of answers on a connection,
and the servers, which are in the same process, hold what they send."""
_SETTLE_ROUNDS = 40


@dataclass
class Told:
    """What is told of a case, from one process to another."""

    id: str
    kind: str
    lists: list[bool]
    verdicts: list[bool]
    problems: list[str]


def grouped(cases: Sequence[Case]) -> Iterator[list[Case]]:
    """The cases in groups, each of one kind."""
    kinds = dict.fromkeys(case.kind for case in cases)
    for kind in kinds:
        found = [case for case in cases if case.kind == kind]
        for start in range(0, len(found), GROUP_MAX_COUNT):
            yield found[start : start + GROUP_MAX_COUNT]


async def play_group(cases: Sequence[Case]) -> list[Outcome]:
    """The outcomes of cases of one kind. Those that were late are played again, alone, twice at most."""
    tune_heap()  # as the service does: a heap for each thread would keep what a flood has taken
    at_once = asyncio.Semaphore(_AT_ONCE_COUNTS.get(cases[0].kind, _AT_ONCE_COUNT))
    with TemporaryDirectory(prefix="faults-tls-") as folder:
        contexts = Contexts(Path(folder))
        async with _http() as http:

            async def one(case: Case) -> Outcome:
                async with at_once:
                    return await play(case, contexts, http)

            before_count, before_kib = open_count(), resident_kib(os.getpid())
            forget_peak()
            outcomes = list(await asyncio.gather(*map(one, cases)))
            for _ in range(_TRIES_COUNT):
                for position, outcome in enumerate(outcomes):
                    if outcome.late and not outcome.wrong:
                        outcomes[position] = await play(outcome.case, contexts, http)
            outcomes[-1].wrong += await _find_leaks(before_count, before_kib)
    return outcomes


def play_by_ids(ids: Sequence[str]) -> list[Told]:
    """Plays a group in a process of its own."""
    wanted = set(ids)
    outcomes = asyncio.run(play_group([case for case in all_cases() if case.id in wanted]))
    return [
        Told(each.case.id, each.case.kind, each.lists, each.verdicts, [*each.wrong, *each.late]) for each in outcomes
    ]


@contextlib.asynccontextmanager
async def _http() -> AsyncIterator[aiohttp.ClientSession]:
    """Each request has a connection of its own, so that none of them counts as a leak."""
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30)) as http:
        yield http


async def _find_leaks(before_count: int, before_kib: int) -> list[str]:
    for _ in range(_SETTLE_ROUNDS):
        if open_count() <= before_count:
            break
        await asyncio.sleep(0.05)
    peak_kib = resident_kib(os.getpid(), "VmHWM") - before_kib
    gc.collect()
    with contextlib.suppress(AttributeError):  # it is glibc's
        ctypes.CDLL(None).malloc_trim(0)  # what is free and lies between what isn't counts for nobody
    found = []
    if (count := open_count()) > before_count:
        found.append(f"the group of this case has left {count - before_count} descriptors open")
    if (left_kib := resident_kib(os.getpid()) - before_kib) > _LEFT_MAX_KIB:
        found.append(f"the process has {left_kib // 1024} MiB more after the group of this case")
    if peak_kib > _PEAK_MAX_KIB:
        found.append(f"the process had {peak_kib // 1024} MiB more during the group of this case")
    return found

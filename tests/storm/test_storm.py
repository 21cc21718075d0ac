"""A storm: 300 callers ask a whole bridge while its directory is slow, down, back, killed and restarted.

Each list is complete, each verdict right, or there is an error; no login is bound twice; nothing grows; and when the
bridge is told to end in the middle of it, nobody gets half an answer.

`BRIDGE_TEST_SOAK_S` is how many seconds it goes on, with longer faults and pauses from 300 on; `BRIDGE_TEST_SOAK_FILE`
is where the figures are written; `BRIDGE_TEST_SEED` repeats the choices of a run.
"""

from __future__ import annotations

import asyncio
import os
import platform
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartSlapd
from tests.storm.callers import CALLERS_COUNT
from tests.storm.events import break_things, change_people
from tests.storm.figures import Resources
from tests.storm.world import IDLE_S, World, stormy_world
from tests.support.ldap_messages import Kind
from tests.support.waiting import until

LENGTH_S = float(os.environ.get("BRIDGE_TEST_SOAK_S", "45"))
SEED = int(os.environ.get("BRIDGE_TEST_SEED") or random.SystemRandom().randrange(2**32))
IS_SOAK = LENGTH_S >= 300

pytestmark = [pytest.mark.slapd, pytest.mark.processes, pytest.mark.timeout(LENGTH_S * 1.5 + 240)]

REST_EVERY_S, LEAST_STORM_S = 600.0, 8.0
CALM_S = 30.0 if IS_SOAK else 5.0
"""At the beginning, and in a soak after each round of faults, so that something can be said of good days, too."""
PAUSE_S = 12.0 if IS_SOAK else 0.7
"""Between two faults."""
CHANGE_PAUSE_S = 1.5
MORE_MEMORY_MIB = 16.0
"""What a fault at a worse moment than those before it may take for a while; the heap keeps the holes."""
MORE_DESCRIPTORS_COUNT = 4
MORE_TASKS_COUNT = 4
"""A server that is set aside has a task."""
CALM_SHARE = 0.5
"""At least so much is answered with 200 while all is well: whoever finds `pool.queue` full on a slow machine is not."""
_SEARCHES: tuple[Kind, ...] = ("search",)
GRACE_S = 20.0
"""TimeoutStopSec of the systemd unit."""


def choose_fault_s(chance: random.Random) -> float:
    """How long a fault lasts."""
    return chance.uniform(3, 20) if IS_SOAK else chance.uniform(1, 2)


async def test_storm_gives_no_wrong_answer_and_leaves_nothing_behind(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Complete lists, right verdicts, one bind a login, flat memory, no traceback, and no half answer at the end."""
    async with stormy_world(start_slapd, tmp_path, random.Random(SEED)) as world:
        code: int | None = None
        try:
            world.crowd.start()
            async with asyncio.TaskGroup() as group:
                group.create_task(break_things(world, choose_fault_s, PAUSE_S, CALM_S, waits_for_calm=IS_SOAK))
                group.create_task(change_people(world, CHANGE_PAUSE_S))
                group.create_task(watch_memory(world))
                await live_through(world)
                world.is_over.set()
            code = await end_in_the_middle(world)
        finally:
            world.figures.write(about(world, code))
        judge(world, code)


async def watch_memory(world: World) -> None:
    """Note once a second what the bridge has."""
    while not await world.pause(1):
        world.figures.note_resident(world.process_id)


async def live_through(world: World) -> None:
    """Let it storm, and measure now and then while nobody asks anything; end early where a rule was broken."""
    figures = world.figures

    async def go_on(is_enough: Callable[[], bool]) -> None:
        await until(lambda: bool(figures.failures) or is_enough(), timeout_s=LENGTH_S + 120)

    await go_on(world.has_seen_everything.is_set)
    while not figures.failures:
        await rest(world)
        if figures.elapsed_s >= LENGTH_S and len(figures.at_rest) > 1:
            return
        next_rest_s = max(figures.elapsed_s + LEAST_STORM_S, min(figures.elapsed_s + REST_EVERY_S, LENGTH_S))
        await go_on(lambda: figures.elapsed_s >= next_rest_s)  # noqa: B023 - it is over before the next one


async def rest(world: World) -> None:
    """Measure the bridge when nobody asks anything, nothing is broken, and no connection is kept."""
    async with world.fault_turn:
        await world.crowd.wait_outside()
        await asyncio.sleep(2 * IDLE_S)  # it is looked after this long which connections were not needed
        await world.figures.note_at_rest(world.process_id, world.admin_port)
        world.crowd.door.set()


async def end_in_the_middle(world: World) -> int:
    """Tell the bridge to end while logins wait for a slow directory. Returns its exit code."""
    for proxy in world.proxies:
        proxy.heal(revive_black_holed=True)
        proxy.delay(0.4, only=_SEARCHES)
    await until(lambda: len(world.crowd.find_due()) >= CALLERS_COUNT / 10)
    world.crowd.begin_ending()
    world.process.send(signal.SIGTERM)
    began_s = time.monotonic()
    async with asyncio.timeout(3 * GRACE_S):
        code = await world.process.process.wait()
        world.figures.counts["ms from SIGTERM to the end"] = round((time.monotonic() - began_s) * 1000)
        await world.crowd.finish()
    return code


def about(world: World, code: int | None) -> dict[str, Any]:
    """What ran, and where."""
    return {
        "seed": SEED,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "callers": CALLERS_COUNT,
        "people": len(world.people.staying),
        "exit_code": code,
        "log_lines": dict(sorted(world.log.counts.items())),
        "log_surprises": world.log.surprises[:20],
        "log_end": list(world.log.last) if world.figures.failures else [],
    }


def judge(world: World, code: int | None) -> None:
    """What must hold of a storm as a whole."""
    figures, counts = world.figures, world.figures.counts
    assert not figures.failures
    assert not world.log.surprises
    assert code == 0
    assert counts["ms from SIGTERM to the end"] <= GRACE_S * 1000
    assert counts["answered whole after SIGTERM"] > 0
    judge_growth(figures.at_rest[0], figures.at_rest[-1])
    for command in ("list", "login"):
        assert figures.calm_share(command) >= CALM_SHARE
        assert counts[f"{command} 200 storm"] > 0
    for seen in ("accepted", "refused", "login 503 storm", "people added", "people removed", "callers who went away"):
        assert counts[seen] > 0, seen
    assert counts["lists of which only one was right"] > 0
    assert world.log.counts["refresh.finished"] > 5  # the TTL has run out


def judge_growth(warm: Resources, end: Resources) -> None:
    """Nothing has grown since the bridge was warm."""
    assert end.at_s > warm.at_s
    assert end.resident_mib <= warm.resident_mib + MORE_MEMORY_MIB, (warm, end)
    assert end.descriptors_count <= warm.descriptors_count + MORE_DESCRIPTORS_COUNT, (warm, end)
    assert end.tasks_count <= warm.tasks_count + MORE_TASKS_COUNT, (warm, end)

"""Deadlines end what takes too long, each at its own time, and nothing else."""

from __future__ import annotations

import asyncio
import time

import pytest

from bridge.deadlines import Deadlines


async def test_deadline_ends_what_takes_longer_and_nothing_else() -> None:
    """Of three that began one after the other, those that hang are ended in that order."""
    deadlines, ended = Deadlines(0.05), list[str]()

    async def take(name: str, time_s: float) -> None:
        try:
            with deadlines.begin():
                await asyncio.sleep(time_s)
        except TimeoutError:
            ended.append(name)
        else:
            ended.append(f"{name} in time")

    first = asyncio.create_task(take("first", 60))
    await asyncio.sleep(0.02)
    await asyncio.gather(first, take("second", 0), take("third", 60))
    assert ended == ["second in time", "first", "third"]


async def test_deadline_serves_whoever_comes_after_others_have_passed() -> None:
    """The timer begins anew once nobody is left."""
    deadlines = Deadlines(0.01)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            with deadlines.begin():
                await asyncio.sleep(60)


async def test_deadline_leaves_exceptions_as_they_are() -> None:
    """What fails inside fails outside, and the task goes on."""
    with pytest.raises(ValueError, match="inside"):
        with Deadlines(60).begin():
            raise ValueError("inside")
    await asyncio.sleep(0)


async def test_deadline_gives_way_to_who_cancels_the_task() -> None:
    """A task that is cancelled from outside while its deadline passes is cancelled, not late."""
    deadlines = Deadlines(0.01)

    async def hang() -> None:
        with deadlines.begin():
            await asyncio.sleep(60)

    task = asyncio.create_task(hang())
    await asyncio.sleep(0)
    time.sleep(0.02)  # noqa: ASYNC251 - so that both come in one turn of the event loop
    task.get_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.gather(task)


async def test_inner_deadline_is_told_from_the_outer_one() -> None:
    """Where deadlines are nested, only the one that has passed is raised."""
    outer, inner = Deadlines(60), Deadlines(0.01)
    with outer.begin():
        with pytest.raises(TimeoutError):
            with inner.begin():
                await asyncio.sleep(60)
        await asyncio.sleep(0)

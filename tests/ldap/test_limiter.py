"""How many do something at once: places are handed over in order, and none is lost whoever goes away when."""

from __future__ import annotations

import asyncio

import pytest

from bridge.ldap.limiter import Limiter


async def stay(limiter: Limiter, leave: asyncio.Event) -> None:
    async with limiter:
        await leave.wait()


async def test_waiter_that_is_cancelled_in_the_turn_in_which_a_place_gets_free_takes_none() -> None:
    """Whatever comes first in that turn: the one behind gets the place, and the cancelled one is cancelled."""
    for leaves_first in (True, False):
        limiter, leave, behind_leaves = Limiter("company", 1, 8), asyncio.Event(), asyncio.Event()
        holder = asyncio.create_task(stay(limiter, leave))
        await asyncio.sleep(0)
        waiter, behind = (asyncio.create_task(stay(limiter, behind_leaves)) for _ in range(2))
        await asyncio.sleep(0)
        assert limiter.waiting_count == 2
        if leaves_first:
            leave.set()
            waiter.cancel()
        else:
            waiter.cancel()
            leave.set()
        await holder
        with pytest.raises(asyncio.CancelledError):
            await waiter
        await asyncio.sleep(0)
        assert (limiter.waiting_count, limiter.entered_count) == (0, 2)
        behind_leaves.set()
        await behind
        assert not limiter.is_in_use
        async with limiter:
            assert limiter.is_in_use


async def test_all_waiters_that_are_cancelled_at_once_leave_every_place_free() -> None:
    """As when their common deadline ends while those inside are cancelled by the same one."""
    limiter, never = Limiter("company", 8, 200), asyncio.Event()
    tasks = [asyncio.create_task(stay(limiter, never)) for _ in range(113)]
    await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {asyncio.CancelledError}
    assert not limiter.is_in_use
    entered_count = limiter.entered_count
    leave = asyncio.Event()
    again = [asyncio.create_task(stay(limiter, leave)) for _ in range(9)]
    await asyncio.sleep(0)
    assert (limiter.entered_count - entered_count, limiter.waiting_count) == (8, 1)
    leave.set()
    await asyncio.gather(*again)

from __future__ import annotations

import asyncio

import pytest

from bridge.ldap.limiter import Limiter
from bridge.ldap.pace import Pace


async def test_listing_does_less_at_once_while_somebody_logs_in() -> None:
    """Whoever is inside one of the limiters, or was a moment ago, has an event loop that comes round soon."""
    lookups, binds, now_s = Limiter("company", 2, 5), Limiter("company", 1, 5), [10.0]
    pace = Pace(lookups, binds, clock=lambda: now_s[0])
    alone = (pace.read_bytes, pace.portion_count(300))
    async with binds:
        shared = (pace.read_bytes, pace.portion_count(300))
        assert shared[0] < alone[0]
        assert shared[1] < alone[1]
        now_s[0] += 60
        assert (pace.read_bytes, pace.portion_count(300)) == shared
    now_s[0] += 0.9
    assert (pace.read_bytes, pace.portion_count(300)) == shared
    now_s[0] += 0.2
    assert (pace.read_bytes, pace.portion_count(300)) == alone


async def test_listing_slows_down_for_a_login_that_came_and_went_between_two_looks() -> None:
    """A login takes less time than a portion of a listing, so being asked at the right moment is not enough."""
    limiter = Limiter("company", 2, 5)
    pace = Pace(limiter)
    assert not pace.is_shared
    async with limiter:
        pass
    assert pace.is_shared


def test_entries_that_are_large_are_handed_on_by_few() -> None:
    """What one of a mebibyte takes is not done two hundred times in one turn of the event loop."""
    pace = Pace(Limiter("company", 2, 5))
    usual = pace.portion_count(300)
    assert pace.portion_count(1024) == usual > 100
    assert 1 < pace.portion_count(10 * 1024) <= usual / 10
    assert pace.portion_count(1024 * 1024) == 1


async def test_listing_leaves_the_processor_to_others_only_while_somebody_logs_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Alone, it lets others have their turn, and goes on in the next one."""
    monkeypatch.setattr(Pace, "_PAUSE_S", 0.1)
    limiter, turns = Limiter("company", 2, 5), list[str]()
    loop, pace = asyncio.get_running_loop(), Pace(limiter)

    def turn(left_count: int) -> None:
        turns.append("turn")
        if left_count:
            loop.call_soon(turn, left_count - 1)

    loop.call_soon(turn, 9)
    await pace.breathe()
    assert len(turns) == 1
    async with limiter:
        await pace.breathe()
    assert len(turns) == 10


async def test_gate_is_free_again_after_whoever_was_turned_away_or_gave_up() -> None:
    """What is counted comes back to nothing, however it ended."""
    limiter = Limiter("company", 1, 1)

    async def pass_through() -> None:
        async with limiter:
            pass

    async with limiter:
        waiting = asyncio.create_task(pass_through())
        await asyncio.sleep(0)
        assert limiter.waiting_count == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert limiter.is_in_use
    assert not limiter.is_in_use
    await pass_through()
    assert not limiter.is_in_use


async def test_gate_lets_in_one_after_the_other_even_where_somebody_gives_up_at_the_door() -> None:
    """A place that was handed to somebody who was cancelled in the same moment goes to the next one."""
    limiter, order = Limiter("company", 1, 5), list[str]()

    async def pass_through(name: str) -> None:
        async with limiter:
            order.append(name)

    async with limiter:
        first, second = (asyncio.create_task(pass_through(name)) for name in ("first", "second"))
        await asyncio.sleep(0)
    first.cancel()
    assert isinstance((await asyncio.gather(first, second, return_exceptions=True))[0], asyncio.CancelledError)
    assert order == ["second"]
    assert not limiter.is_in_use

from __future__ import annotations

import asyncio

from bridge.ldap.gate import Gate
from bridge.ldap.pace import Pace


async def test_listing_does_less_at_once_while_somebody_logs_in() -> None:
    """Whoever is inside one of the gates, or was a moment ago, has an event loop that comes round soon."""
    lookups, binds, now_s = Gate("company", 2, 5), Gate("company", 1, 5), [10.0]
    pace = Pace(lookups, binds, clock=lambda: now_s[0])
    alone = (pace.read_bytes, pace.portion_count)
    async with binds:
        shared = (pace.read_bytes, pace.portion_count)
        assert shared[0] < alone[0]
        assert shared[1] < alone[1]
        now_s[0] += 60
        assert (pace.read_bytes, pace.portion_count) == shared
    now_s[0] += 0.9
    assert (pace.read_bytes, pace.portion_count) == shared
    now_s[0] += 0.2
    assert (pace.read_bytes, pace.portion_count) == alone


async def test_listing_slows_down_for_a_login_that_came_and_went_between_two_looks() -> None:
    """A login takes less time than a portion of a listing, so being asked at the right moment is not enough."""
    gate = Gate("company", 2, 5)
    pace = Pace(gate)
    assert not pace.is_shared
    async with gate:
        pass
    assert pace.is_shared


async def test_listing_leaves_the_processor_to_others_only_while_somebody_logs_in() -> None:
    """Alone, it goes on in the same turn of the event loop."""
    gate, turns = Gate("company", 2, 5), list[str]()
    pace = Pace(gate)
    asyncio.get_running_loop().call_soon(turns.append, "turn")
    await pace.breathe()
    assert turns == []
    async with gate:
        await pace.breathe()
    assert turns == ["turn"]


async def test_gate_is_free_again_after_whoever_was_turned_away_or_gave_up() -> None:
    """What is counted comes back to nothing, however it ended."""
    gate = Gate("company", 1, 1)

    async def pass_through() -> None:
        async with gate:
            pass

    async with gate:
        waiting = asyncio.create_task(pass_through())
        await asyncio.sleep(0)
        assert gate.waiting_count == 1
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert gate.is_in_use
    assert not gate.is_in_use
    await pass_through()
    assert not gate.is_in_use


async def test_gate_lets_in_one_after_the_other_even_where_somebody_gives_up_at_the_door() -> None:
    """A place that was handed to somebody who was cancelled in the same moment goes to the next one."""
    gate, order = Gate("company", 1, 5), list[str]()

    async def pass_through(name: str) -> None:
        async with gate:
            order.append(name)

    async with gate:
        first, second = (asyncio.create_task(pass_through(name)) for name in ("first", "second"))
        await asyncio.sleep(0)
    first.cancel()
    assert isinstance((await asyncio.gather(first, second, return_exceptions=True))[0], asyncio.CancelledError)
    assert order == ["second"]
    assert not gate.is_in_use

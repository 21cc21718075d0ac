from __future__ import annotations

import asyncio

from bridge.ldap.gate import Gate
from bridge.ldap.pace import Pace


async def test_listing_does_less_at_once_while_somebody_logs_in() -> None:
    """Whoever is inside one of the gates, or waits at it, has an event loop that comes round soon."""
    lookups, binds = Gate("company", 2, 5), Gate("company", 1, 5)
    pace = Pace(lookups, binds)
    alone = (pace.read_bytes, pace.portion_count)
    async with binds:
        shared = (pace.read_bytes, pace.portion_count)
        assert shared[0] < alone[0]
        assert shared[1] < alone[1]
    async with lookups:
        assert (pace.read_bytes, pace.portion_count) == shared
    assert (pace.read_bytes, pace.portion_count) == alone


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

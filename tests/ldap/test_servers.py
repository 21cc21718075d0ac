"""Which server is asked: set aside, tried in the background, asked again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.errors import DirectoryError, DirectoryRefused, DirectoryUnavailable
from bridge.events import Event, ServerRestored, ServerSetAside, ServersKnown
from bridge.ldap.servers import Servers
from bridge.ldap.settings import ServerAddress

ONE, TWO, THREE = (ServerAddress("ldap", "127.0.0.1", port) for port in (1, 2, 3))
ERROR = DirectoryUnavailable("x", directory="company")
REFUSED = DirectoryRefused("x", directory="company")


class Bench:
    """Servers with a clock that moves when it is told to, and a probe that answers what it is told to."""

    def __init__(self, *servers: ServerAddress) -> None:
        self.elapsed_s = 0.0
        self.events: list[Event] = []
        self.outcomes: list[DirectoryError | None] = []
        self.probed: list[ServerAddress] = []
        self._sleepers: list[tuple[float, asyncio.Event]] = []
        self.servers = Servers("company", servers, self, self.events.append, probe=self._probe, sleep=self._sleep)

    def now_s(self) -> float:
        raise AssertionError("what is set aside is a matter of durations")

    def monotonic_s(self) -> float:
        return self.elapsed_s

    async def _sleep(self, pause_s: float) -> None:
        woken = asyncio.Event()
        self._sleepers.append((self.elapsed_s + pause_s, woken))
        await woken.wait()

    async def _probe(self, server: ServerAddress) -> None:
        self.probed.append(server)
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome

    async def move(self, seconds: float) -> None:
        """Time passes, and whoever is due has done what it does then."""
        await settle()
        self.elapsed_s += seconds
        due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self.elapsed_s]
        for sleeper in due:
            self._sleepers.remove(sleeper)
            sleeper[1].set()
        await settle()

    def pauses(self) -> list[float]:
        return [event.pause_s for event in self.events if isinstance(event, ServerSetAside)]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def bench(*servers: ServerAddress) -> AsyncIterator[Bench]:
    found = Bench(*servers)
    try:
        yield found
    finally:
        await found.servers.aclose()


async def test_failed_server_is_not_asked_before_it_was_tried() -> None:
    """Its pause being over is not enough: a user's login is no probe."""
    async with bench(ONE, TWO) as found:
        found.outcomes = [ERROR, None]
        found.servers.set_aside(ONE, ERROR)
        assert found.servers.in_order() == [TWO]
        await found.move(4.9)
        assert found.probed == []
        await found.move(0.1)
        assert (found.probed, found.servers.in_order()) == ([ONE], [TWO])
        await found.move(10)
        assert (found.probed, found.servers.in_order()) == ([ONE, ONE], [ONE, TWO])
        assert found.events[-1] == ServerRestored("company", ONE.url)


async def test_pause_doubles_up_to_five_minutes() -> None:
    """5 s, 10 s, … 300 s, while each try fails; several failures at once are one."""
    async with bench(ONE, TWO) as found:
        found.outcomes = [ERROR] * 8
        for _ in range(3):
            found.servers.set_aside(ONE, ERROR)
        for pause_s in (5, 10, 20, 40, 80, 160, 300, 300):
            await found.move(pause_s)
        assert found.pauses() == [5, 10, 20, 40, 80, 160, 300, 300, 300]


async def test_server_that_fails_soon_after_it_has_come_back_is_away_for_longer() -> None:
    """It answers probes and nothing else: without this, each fifth second a login would wait for it."""
    async with bench(ONE, TWO) as found:
        for pause_s in (5, 10, 20):
            found.servers.set_aside(ONE, ERROR)
            await found.move(pause_s)
            assert found.servers.in_order() == [ONE, TWO]
        await found.move(20)
        found.servers.set_aside(ONE, ERROR)
        assert found.pauses() == [5, 10, 20, 5]


async def test_server_that_fails_at_user_binds_is_away_for_longer_until_one_is_accepted() -> None:
    """No probe shows that it checks passwords: however seldom logins come, not each of them may be its failure."""
    async with bench(ONE, TWO) as found:
        for pause_s in (5, 10, 20):
            found.servers.set_aside(ONE, ERROR, is_of_bind=True)
            await found.move(pause_s)
            assert found.servers.in_order() == [ONE, TWO]
            await found.move(600)
        found.servers.note_accepted(ONE)
        found.servers.set_aside(ONE, ERROR, is_of_bind=True)
        assert found.pauses() == [5, 10, 20, 5]


async def test_refused_service_account_is_tried_again_late() -> None:
    """Trying it each few seconds would lock it."""
    async with bench(ONE, TWO) as found:
        found.outcomes = [REFUSED]
        found.servers.set_aside(ONE, ERROR)
        await found.move(5)
        assert found.servers.in_order() == [TWO]
        await found.move(299)
        assert found.probed == [ONE]
        await found.move(1)
        assert found.servers.in_order() == [ONE, TWO]


async def test_servers_set_aside_are_asked_where_no_other_is_left() -> None:
    """The one that is due first comes first; who answers is welcome at once, and tried no more."""
    async with bench(ONE, TWO) as found:
        found.servers.set_aside(TWO, ERROR)
        await found.move(1)
        found.servers.set_aside(ONE, ERROR)
        assert found.servers.in_order() == [TWO, ONE]

        async def attempt(server: ServerAddress) -> str:
            if server == TWO:
                raise ERROR
            return "answer"

        assert await found.servers.first(attempt, 5) == "answer"
        assert found.servers.in_order() == [ONE]
        await found.move(4)
        assert found.probed == [TWO]
        await found.move(100)
        assert found.probed == [TWO]


async def test_connection_alone_does_not_prove_that_a_server_is_well() -> None:
    """A server that hangs still takes connections."""
    async with bench(ONE) as found:
        found.servers.set_aside(ONE, ERROR)

        async def attempt(_server: ServerAddress) -> str:
            return "connected"

        assert await found.servers.first(attempt, 5, proves=False) == "connected"
        assert not [event for event in found.events if isinstance(event, ServerRestored)]
        await found.servers.first(attempt, 5)
        assert found.events[-1] == ServerRestored("company", ONE.url)


async def test_other_servers_take_their_place_and_what_is_known_of_the_rest_is_kept() -> None:
    """Who has gone is tried no more, and what fails late of it concerns nobody."""
    async with bench(ONE, TWO) as found:
        found.servers.set_aside(ONE, ERROR)
        found.servers.set_aside(TWO, ERROR)
        found.servers.replace([THREE, TWO])
        assert found.servers.in_order() == [THREE]
        assert found.events[-1] == ServersKnown("company", (THREE.url, TWO.url), were_discovered=True)
        found.servers.set_aside(ONE, ERROR)
        await found.move(5)
        assert found.probed == [TWO]
        assert found.servers.in_order() == [THREE, TWO]


async def test_server_on_trial_is_asked_only_once_it_has_stood_it() -> None:
    """Not because it answers, not because the others are down: before that, it is asked where all are on trial."""
    bench = Bench(ONE, TWO)
    verdicts: list[DirectoryError | None] = [ERROR, None]

    async def trial() -> None:
        if (verdict := verdicts.pop(0)) is not None:
            raise verdict

    bench.servers.set_aside(ONE, ERROR, trial)
    assert bench.servers.in_order() == [TWO]
    bench.servers.welcome(ONE)
    assert bench.servers.urls == (TWO.url, ONE.url)
    bench.servers.set_aside(TWO, ERROR)
    assert bench.servers.in_order() == [TWO]
    assert bench.servers.urls == (TWO.url, ONE.url)
    bench.servers.welcome(TWO)
    await bench.move(5)
    assert (bench.probed, verdicts) == ([ONE], [None])
    assert bench.servers.in_order() == [TWO]
    await bench.move(10)
    assert (bench.servers.in_order(), verdicts) == ([ONE, TWO], [])
    await bench.servers.aclose()


async def test_server_that_was_set_aside_before_is_put_on_trial() -> None:
    """It is told once more, and the pause goes on; where all are on trial, the first of them is asked."""
    bench = Bench(ONE, TWO)

    async def trial() -> None:
        raise ERROR

    bench.servers.set_aside(ONE, ERROR)
    bench.servers.set_aside(ONE, REFUSED, trial)
    bench.servers.set_aside(ONE, REFUSED, trial)
    assert [event.error for event in bench.events if isinstance(event, ServerSetAside)] == [ERROR, REFUSED]
    bench.servers.set_aside(TWO, ERROR, trial)
    assert bench.servers.in_order() == [ONE, TWO]
    await bench.servers.aclose()


async def test_servers_to_be_avoided_are_not_asked_even_if_no_other_is_well() -> None:
    """Those that are set aside come then; where none is left, that is an error."""
    bench = Bench(ONE, TWO, THREE)
    bench.servers.set_aside(TWO, ERROR)

    async def attempt(server: ServerAddress) -> ServerAddress:
        return server

    assert await bench.servers.first(attempt, 1, avoid=[ONE.url]) == THREE
    assert await bench.servers.first(attempt, 1, avoid=[ONE.url, THREE.url]) == TWO
    with pytest.raises(DirectoryUnavailable, match="no other server is left"):
        await bench.servers.first(attempt, 1, avoid=[ONE.url, TWO.url, THREE.url])
    await bench.servers.aclose()


async def test_those_that_are_set_aside_are_asked_when_all_others_have_failed() -> None:
    """Once each; not where a trial or an answer to a bind is waited for, nor where one server alone was meant."""
    asked: list[ServerAddress] = []

    async def attempt(server: ServerAddress) -> ServerAddress:
        asked.append(server)
        if server == TWO:
            raise ERROR
        return server

    async def trial() -> None:
        raise ERROR

    async with bench(ONE, TWO, THREE) as found:
        found.servers.set_aside(ONE, ERROR, trial)
        found.servers.set_aside(THREE, ERROR)
        with pytest.raises(DirectoryUnavailable):
            await found.servers.first(attempt, 1, avoid=[THREE.url])
        with pytest.raises(DirectoryUnavailable):
            await found.servers.first(attempt, 1, TWO.url)
        assert asked == [TWO, TWO]
        found.servers.welcome(TWO)
        found.servers.welcome(THREE)
        found.servers.set_aside(THREE, ERROR)
        assert await found.servers.first(attempt, 1) == THREE
        assert asked == [TWO, TWO, TWO, THREE]
    async with bench(TWO, THREE) as found:
        found.servers.set_aside(THREE, ERROR, is_of_bind=True)
        with pytest.raises(DirectoryUnavailable):
            await found.servers.first(attempt, 1)
        assert asked[4:] == [TWO]

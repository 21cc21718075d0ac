"""Three hundred callers: who keeps a connection, who opens one each time, who goes away; each answer is judged."""

from __future__ import annotations

import asyncio
import json
import random
import time
from enum import Enum
from typing import NamedTuple

from bridge.deadlines import ANSWER_S, LIST_ANSWER_S
from tests.storm.client import Answer, Connection, NoAnswer, Truncated, write_request
from tests.storm.figures import Figures
from tests.storm.people import Asked, People, Person
from tests.storm.weather import Weather
from tests.support.waiting import until

CALLERS_COUNT = 300
TTL_S = 2.0
"""Of the cache."""
LISTING_S = 8.0
"""The longest listing, as it is configured."""
MEAN_PAUSE_S = 0.8
_LISTS_PART, _UNKNOWN_PART, _LEAVING_PART = 0.12, 0.03, 0.3
_TOLERANCE_S = 10.0
"""For a machine that has other things to do; whoever is not answered by then is not answered."""


class Manner(Enum):
    """What a caller does with its connection."""

    KEEPS = "keeps its connection"
    OPENS = "opens one for each request"
    ENDS = "opens one for each request, and ends its own side at once"
    LEAVES = "goes away in the middle now and then"


_MANNERS = (*[Manner.KEEPS] * 4, *[Manner.OPENS] * 3, Manner.ENDS, *[Manner.LEAVES] * 2)


class Login(NamedTuple):
    """A user and a password, and what is known of them."""

    who: Person
    user_name: str
    password: str
    asked: Asked = Asked()

    @property
    def is_right(self) -> bool:
        """Whether this is the password that the user has, if there is such a user."""
        return self.password == self.who.password and self.user_name == self.who.uid


class Crowd:
    """All callers, and the door through which they come."""

    def __init__(self, port: int, people: People, weather: Weather, figures: Figures, chance: random.Random) -> None:
        self.port, self.people, self.weather, self.figures, self.random = port, people, weather, figures, chance
        self.door = asyncio.Event()
        """Whoever is between two requests waits, without a connection, until it is open."""
        self.is_ending = False
        """Whether the bridge has been told to end: connections may be closed, and nobody comes twice then."""
        self.asking: dict[Caller, Login | None] = {}
        """Who waits for an answer, and to which login."""
        self.due: set[Caller] = set()
        """Whose login had reached the directory when the bridge was told to end: they must be answered."""
        self._tasks: list[asyncio.Task[None]] = []
        self.outside_count = 0
        """Callers that wait before the door."""

    def start(self) -> None:
        """Let everybody come."""
        self.door.set()
        callers = [Caller(self, _MANNERS[at % len(_MANNERS)]) for at in range(CALLERS_COUNT)]
        self._tasks = [asyncio.create_task(caller.run()) for caller in callers]

    async def wait_outside(self) -> None:
        """Let everybody be answered, leave and wait before the door."""
        self.door.clear()
        await until(lambda: self.outside_count == CALLERS_COUNT, timeout_s=LIST_ANSWER_S + 2 * _TOLERANCE_S)

    def find_due(self) -> set[Caller]:
        """Who waits for an answer, for certain with a login for which the directory has been asked."""
        logins = ((caller, login) for caller, login in self.asking.items() if login is not None)
        return {caller for caller, login in logins if login.who.was_looked_up and not login.asked.is_loose}

    def begin_ending(self) -> None:
        """The bridge is about to be told to end."""
        self.is_ending = True
        self.due = self.find_due()

    async def finish(self) -> None:
        """Wait until everybody has found that the bridge is gone."""
        await asyncio.gather(*self._tasks)

    async def aclose(self) -> None:
        """End all callers, wherever they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def choose_login(self) -> Login:
        """Whose login comes next, and with what password."""
        chance = self.random
        if chance.random() < _UNKNOWN_PART:
            nobody = self.people.nobody
            return Login(nobody, f"nobody{chance.getrandbits(24)}", "anything")
        who = self.people.choose()
        if not who.chooses_wrong():
            return Login(who, who.uid, who.password)
        password = f"old-{chance.randrange(3)}" if chance.random() < 0.5 else f"typo-{chance.getrandbits(40)}"
        return Login(who, who.uid, password)


class Caller:
    """One program that asks the bridge again and again."""

    def __init__(self, crowd: Crowd, manner: Manner) -> None:
        self._crowd, self._manner, self._random = crowd, manner, crowd.random
        self._figures = crowd.figures
        self._connection = Connection(crowd.port)

    async def run(self) -> None:
        """Ask until the bridge is gone."""
        try:
            while True:
                await asyncio.sleep(self._random.expovariate(1 / MEAN_PAUSE_S))
                if not self._crowd.door.is_set():
                    self._connection.close()
                    self._crowd.outside_count += 1
                    await self._crowd.door.wait()
                    self._crowd.outside_count -= 1
                if not await self._ask():
                    return
        finally:
            self._connection.close()

    async def _ask(self) -> bool:
        """One request. Returns whether another one makes sense."""
        if self._random.random() < _LISTS_PART:
            return await self._list()
        login = self._crowd.choose_login()
        with self._crowd.people.asking(login.who) as asked:
            return await self._log_in(login._replace(asked=asked))

    async def _list(self) -> bool:
        crowd, began_s, was_calm = self._crowd, time.monotonic(), self._crowd.weather.is_calm
        since_s = crowd.weather.listed_s  # while servers are away, a list is as old as that
        answer = await self._request("list", None, "cmd=list", LIST_ANSWER_S)
        if answer is not None and answer.status == 200:
            if was_calm and crowd.weather.is_calm:
                since_s = max(since_s, began_s - TTL_S - LISTING_S)
            self._judge_list(answer, began_s, since_s)
        return self._goes_on(answer)

    def _judge_list(self, answer: Answer, began_s: float, since_s: float) -> None:
        try:
            problem, is_exact = self._crowd.people.judge_list(answer, since_s, time.monotonic())
        except (AssertionError, KeyError, ValueError) as error:
            problem, is_exact = repr(error), False
        self._figures.counts["lists of which only one was right"] += is_exact
        if problem is not None:
            self._figures.fail(f"list, begun {time.monotonic() - began_s:.2f} s ago: {problem}")

    async def _log_in(self, login: Login) -> bool:
        began_s = time.monotonic()
        body = f"cmd=auth&user={login.user_name}&pass={login.password}"
        answer = await self._request("login", login, body, ANSWER_S)
        if answer is not None and answer.status == 200:
            self._judge(login, json.loads(answer.body), began_s)
        return self._goes_on(answer)

    def _judge(self, login: Login, verdict: object, began_s: float) -> None:
        who, now_s = login.who, time.monotonic()
        may_accept = login.is_right and who.may_have_been_there(began_s, now_s)
        may_refuse = not login.is_right or not who.was_there(began_s, now_s)
        told = f"{login.user_name} with {login.password}: {verdict}, came {who.came}, left {who.left}, now {now_s:.2f}"
        if verdict == {"succeeded": True}:
            self._figures.counts["accepted"] += 1
            who.owes_right_password = False
            if not may_accept:
                self._figures.fail(f"accepted wrongly: {told}")
        elif verdict == {"succeeded": False}:
            self._figures.counts["refused"] += 1
            if not may_refuse:
                self._figures.fail(f"refused wrongly: {told}")
        else:
            self._figures.fail(f"no verdict: {told}")

    def _goes_on(self, answer: Answer | None) -> bool:
        """Whether the bridge may still answer another request."""
        return not self._crowd.is_ending or answer is not None

    async def _request(self, command: str, login: Login | None, body: str, deadline_s: float) -> Answer | None:
        """The answer within its deadline; None where the caller has gone away, or the bridge has ended."""
        crowd, began_s, was_calm = self._crowd, time.monotonic(), self._crowd.weather.is_calm
        data = write_request(body, takes_gzip=self._random.random() < 0.5)
        crowd.asking[self] = login
        try:
            async with asyncio.timeout(deadline_s + _TOLERANCE_S):
                answer = await self._exchange(data, login)
        except TimeoutError:
            self._figures.fail(f"{command} was not answered within {deadline_s + _TOLERANCE_S:g} s")
            answer = None
        except Truncated as error:
            self._figures.fail(f"{command}: {error}")
            answer = None
        except NoAnswer as error:
            self._note_no_answer(command, error)
            answer = None
        finally:
            del crowd.asking[self]
            crowd.due.discard(self)
        if answer is None or self._manner is not Manner.KEEPS:
            self._connection.close()
        if answer is not None:
            self._figures.note(command, answer.status, began_s, was_calm=was_calm and crowd.weather.is_calm)
            self._figures.counts["answered whole after SIGTERM"] += crowd.is_ending
            if answer.status not in (200, 502, 503):
                self._figures.fail(f"{command}: {answer.status} {answer.body[:300]!r}")
        return answer

    def _note_no_answer(self, command: str, error: NoAnswer) -> None:
        if not self._crowd.is_ending:
            self._figures.fail(f"{command}: no answer, {error}")
        elif self in self._crowd.due:
            self._figures.fail(f"{command}: no answer at the end, although the directory had been asked, {error}")
        else:
            self._figures.counts["not answered after SIGTERM"] += 1

    async def _exchange(self, data: bytes, login: Login | None) -> Answer | None:
        leaves = self._manner is Manner.LEAVES and self._random.random() < _LEAVING_PART
        if not leaves or self._crowd.is_ending:
            await self._connection.send(data)
            if self._manner is Manner.ENDS:
                self._connection.end_requests()
            return await self._connection.answer()
        self._figures.counts["callers who went away"] += 1
        if login is not None:
            login.asked.is_loose = True
        await self._leave(data, is_list=login is None)
        return None

    async def _leave(self, data: bytes, *, is_list: bool) -> None:
        """Go away in the middle of the request, before the answer, or in the middle of it."""
        stage = self._random.randrange(3)
        await self._connection.send(data[: self._random.randrange(len(data))] if stage == 0 else data)
        if stage == 2 and is_list:
            await self._connection.read()
        elif stage > 0:
            await asyncio.sleep(self._random.uniform(0, 0.02))
        self._connection.close(rst=self._random.random() < 0.5)

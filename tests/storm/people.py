"""Who is in the directory when, what a list may say of it, and how often each may be bound."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import NamedTuple

from tests.storm.client import Answer
from tests.support.ldap_messages import Request
from tests.support.slapd import PEOPLE, READER

STAYING_COUNT = 400
"""More than a page of the listing has."""
_GUESTS = "guest"
_UID = re.compile(rb"(?:user|guest)\d\d+")
_LATE_S, _LATE_TURNS_COUNT = 0.3, 20
"""How late the proxy may read a bind whose login has been answered: seconds, and then turns of the event loop."""


_ENDED_S = 25.0
"""When every login has ended whose caller has gone away, and every other one that has begun before it ended."""
_MISTYPES_EVERY_S = 20.0
"""Longer than a login and `auth.window`."""
_GONE_S = 1200.0
"""Nobody is listed so long after both servers have forgotten them."""


class Habit(Enum):
    """What passwords come for a user."""

    RIGHT = "right"
    WRONG = "wrong"
    MIXED = "mixed"
    """A wrong one now and then, and the right one until it is accepted."""


class Change(NamedTuple):
    """When a server began to show something, and since when both show it, by the monotonic clock."""

    begun_s: float
    done_s: float


@dataclass(eq=False)
class Asked:
    """A login that is under way, or was a moment ago."""

    is_loose: bool = False
    """Whether it may be taken for another login of the same user: there is one, or its caller has gone away before."""
    has_ended: bool = False


class Person:
    """One entry, and what is under way for it."""

    def __init__(self, uid: str, habit: Habit, came: Change) -> None:
        self.uid, self.habit, self.came = uid, habit, came
        self.dn, self.password = f"uid={uid},{PEOPLE}", f"Pass-{uid}"
        self.left: Change | None = None
        self.open_count = 0
        """Logins that wait for their answer."""
        self.was_looked_up = False
        """Whether a server has been asked for the entry since the last login began."""
        self.owes_right_password = False
        self._mistypes_from_s = 0.0
        self._unbound: list[Asked] = []
        """Logins that were not bound, and may be yet."""
        self.history: deque[str] = deque(maxlen=20)
        """What has happened of late, which tells why a rule was broken."""

    def was_there(self, since_s: float, until_s: float) -> bool:
        """Whether both servers showed the entry all the time."""
        return self.came.done_s <= since_s and (self.left is None or self.left.begun_s > until_s)

    def may_have_been_there(self, since_s: float, until_s: float) -> bool:
        """Whether a server may have shown the entry at some moment."""
        return self.came.begun_s <= until_s and (self.left is None or self.left.done_s >= since_s)

    @contextmanager
    def asking(self, asked: Asked) -> Iterator[None]:
        """A login for this user, which may bind once."""
        if self.open_count:
            for each in (asked, *self._unbound):
                each.is_loose = True
        self._unbound.append(asked)
        self.was_looked_up = False
        self.open_count += 1
        self._note("asked")
        try:
            yield
        finally:
            self.open_count -= 1
            self._note("ended, loose" if asked.is_loose else "ended")
            asked.has_ended = True
            delay_s = _ENDED_S if asked.is_loose else _LATE_S
            asyncio.get_running_loop().call_later(delay_s, self._forget, asked, _LATE_TURNS_COUNT)

    def chooses_wrong(self) -> bool:
        """Whether a wrong password comes now.

        With a mixed habit never two that count together, or the user would be held back rightly: a success at one
        server forgets no failure at the other.
        """
        if self.habit is not Habit.MIXED:
            return self.habit is Habit.WRONG
        now_s = time.monotonic()
        if self.owes_right_password or now_s < self._mistypes_from_s:
            return False
        self.owes_right_password, self._mistypes_from_s = True, now_s + _MISTYPES_EVERY_S
        return True

    def note_bind(self) -> bool:
        """Note a bind. Returns whether a login that has not been bound yet may have asked for it."""
        self._note("bound")
        if not self._unbound:
            return False
        # Which login it belongs to is not known: take the one that is forgotten first.
        self._unbound.remove(min(self._unbound, key=lambda asked: (asked.is_loose, not asked.has_ended)))
        return True

    def _note(self, words: str) -> None:
        self.history.append(f"{time.monotonic():.3f} {words}")

    def _forget(self, asked: Asked, turns_count: int) -> None:
        """Forget a login that has ended; what had arrived before is read within some turns of the event loop."""
        if turns_count:
            asyncio.get_running_loop().call_soon(self._forget, asked, turns_count - 1)
        elif asked in self._unbound:
            self._unbound.remove(asked)


class People:
    """Everybody who was ever in the directory."""

    def __init__(self, chance: random.Random) -> None:
        self._random = chance
        always = Change(float("-inf"), float("-inf"))
        self.staying = [Person(f"user{at:04}", _habit_of(at), always) for at in range(STAYING_COUNT)]
        self.guests: list[Person] = []
        """The last ones at the end; those, too, who have left of late."""
        self._guests_count = 0
        self.nobody = Person("nobody", Habit.WRONG, Change(float("inf"), float("inf")))
        """Stands for names that are unknown: the bridge binds a random DN for them."""
        self._by_uid = {each.uid: each for each in self.staying}
        self._by_dn = {each.dn: each for each in self.staying}
        self._staying_uids = frozenset(self._by_uid)

    def add_guest(self) -> Person:
        """Somebody who is about to be added."""
        now_s = time.monotonic()
        self.guests = [each for each in self.guests if each.left is None or each.left.done_s > now_s - _GONE_S]
        who = Person(f"{_GUESTS}{self._guests_count:05}", Habit.RIGHT, Change(now_s, float("inf")))
        self._guests_count += 1
        self.guests.append(who)
        self._by_uid[who.uid] = self._by_dn[who.dn] = who
        return who

    def choose(self) -> Person:
        """Whose login comes next: mostly somebody of whom none is under way."""
        if self.guests and self._random.random() < 0.1:
            return self._random.choice(self.guests[-20:])
        if self._random.random() < 0.05:
            return self.staying[0]  # several of this one at once
        for _ in range(10):
            who = self._random.choice(self.staying)
            if who.open_count == 0:
                break
        return who

    @contextmanager
    def asking(self, who: Person) -> Iterator[Asked]:
        """A login for a user; for one who comes or goes meanwhile, it may be nobody who is bound."""
        asked = Asked()
        with who.asking(asked), self.nobody.asking(asked) if who in self.guests else nullcontext():
            yield asked

    def note(self, request: Request) -> str | None:
        """Note what a server is asked. Returns what is wrong with it, if anything is."""
        if request.kind == "search":
            uid = _UID.search(request.filter)
            asked = self._by_uid.get(uid.group().decode()) if uid is not None else self._by_dn.get(request.base)
            if asked is not None:
                asked.was_looked_up = True
        elif request.kind == "bind" and request.dn != READER:
            who = self._by_dn.get(request.dn, self.nobody)
            if not who.note_bind():
                return f"{who.uid} is bound more often than asked for: {list(who.history)}"
        return None

    def judge_list(self, answer: Answer, since_s: float, until_s: float) -> tuple[str | None, bool]:
        """What is wrong with a list of some moment of these, if anything is, and whether only one list was right."""
        names = read_names(answer)
        lost = {each.uid for each in self.guests if each.was_there(since_s, until_s)} - names
        lost |= self._staying_uids - names
        allowed = {each.uid for each in self.guests if each.may_have_been_there(since_s, until_s)}
        strange = names - self._staying_uids - allowed
        problem = f"{sorted(lost)[:9]} are missing, {sorted(strange)[:9]} are too many" if lost or strange else None
        is_exact = all(self._by_uid[uid].was_there(since_s, until_s) for uid in allowed)
        return problem, is_exact


def _habit_of(number: int) -> Habit:
    return {5: Habit.MIXED, 9: Habit.WRONG}.get(number % 10, Habit.RIGHT)


@lru_cache(maxsize=64)
def read_names(answer: Answer) -> frozenset[str]:
    """The user names of a list, each with its full name and address."""
    users = json.loads(gzip.decompress(answer.body) if answer.is_compressed else answer.body)
    names: Collection[str] = [user["userName"] for user in users]
    for user in users:
        uid = user["userName"]
        assert user["emailAddresses"] == [f"{uid}@example.com"], user
        assert user["fullName"] == f"Name of {uid}", user
    assert len(set(names)) == len(names), "somebody is listed twice"
    return frozenset(names)

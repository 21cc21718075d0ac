"""What must hold of one account: by whom its logins are judged, what each server may hold of it, what was bound."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from tests.support.slapd import PEOPLE

THRESHOLD_COUNT, BUDGET_COUNT, WINDOW_S = 5, 4, 1800.0
PROVIDER, CONSUMER = 0, 1


class State(NamedTuple):
    """What a server holds of an account."""

    password: str
    is_locked: bool = False


class Bound(NamedTuple):
    """A bind that somebody may have counted."""

    at_s: float
    server: int
    is_counted: bool
    """Whether the server has compared the password for certain, if it was asked."""


class Person:
    """One account: what it was at the provider, and how much of that the consumer may show."""

    def __init__(self, uid: str, password: str, *, is_new: bool = False) -> None:
        self.uid, self.dn = uid, f"uid={uid},{PEOPLE}"
        self.states: list[State | None] = [None] * is_new + [State(password)]
        """What the provider has held, one after the other; None before the account was made."""
        self.first_shown = 0
        """The oldest of them that the consumer may show."""
        self.last_shown: int | None = None
        """The newest one, while nothing is replicated."""
        self.is_barred_there = False
        """Whether the account may be locked at the consumer alone."""
        self.is_uncleared = False
        """Whether the consumer may have counted what others have failed."""
        self.changed_s = 0.0
        self.bounds: list[Bound] = []
        """What the directory may count by now."""
        self.old_count = 0
        """How many of them, at the front, were made before the last success."""
        self.signs_count = 0
        """How often somebody has set a password or ended a lock since then: each leaves room for one bind."""
        self.may_be_unknown = False
        """Whether one of them may have had no outcome."""
        self.known_wrong: dict[tuple[int, str], float] = {}
        """Passwords that nobody may bind again at that server, and when they were bound."""
        self.refused: set[tuple[int, str]] = set()
        """Passwords that were ever refused, and where."""
        self.judges: list[int] = []
        """At which servers the login that is under way was bound."""
        self.asked: set[int] = set()
        """Which servers were asked for its entry."""
        self.turn = asyncio.Lock()

    @property
    def now(self) -> State:
        """What the provider holds."""
        state = self.states[-1]
        assert state is not None
        return state

    @property
    def old_passwords(self) -> list[str]:
        """Those that it had before, the last one at the end."""
        found = [state.password for state in self.states if state is not None]
        return [password for password in dict.fromkeys(found) if password != self.now.password]

    @property
    def late_passwords(self) -> list[str]:
        """Those that the consumer may have instead of the one of the provider."""
        found = {state.password for state in self.possible(CONSUMER) if state is not None}
        return sorted(found - {self.now.password})

    def possible(self, server: int) -> list[State | None]:
        """What the server may hold, or may have held a moment ago."""
        if server == PROVIDER:
            return self.states[-1:]
        return self.states[self.first_shown : None if self.last_shown is None else self.last_shown + 1]

    def may_be_barred(self, server: int) -> bool:
        """Whether the server may refuse every password."""
        if server == CONSUMER and self.is_barred_there:
            return True
        return any(state is None or state.is_locked for state in self.possible(server))

    @property
    def is_certain(self) -> bool:
        """Whether it is known what each server holds, and that none refuses every password."""
        servers = (PROVIDER, CONSUMER)
        return not any(self.may_be_barred(each) or len(self.possible(each)) > 1 for each in servers)

    def change(self, state: State) -> None:
        """Note what the provider is about to hold."""
        self.states.append(state)
        self.signs_count += 1
        self.known_wrong.clear()

    # One login

    def begin(self) -> None:
        """A login begins."""
        self.judges.clear()
        self.asked.clear()
        if not self.is_certain:
            self.known_wrong.clear()  # a lock that is seen at one server and not at the other ends refusals

    def note_bind(self, server: int, now_s: float) -> bool:
        """Note a bind. Returns whether there may be so many."""
        self.judges.append(server)
        self.bounds.append(Bound(now_s, server, is_counted=not self.may_be_barred(server)))
        counted = sum(each.is_counted for each in self.bounds[self.old_count :])
        return counted <= BUDGET_COUNT + self.signs_count

    def may_be_accepted(self, password: str) -> bool:
        """Whether the one server that was bound at may hold this password, and no lock."""
        if len(self.judges) != 1:
            return False
        return any(state == State(password) for state in self.possible(self.judges[0]))

    def may_be_refused(self, password: str, *, is_listed: bool) -> bool:
        """Whether `false` is right: the server that has judged may say so, or memory may.

        Who was listed is not unknown, whatever a server lacks.
        """
        for server in self.judges:
            return self.may_be_barred(server) or self._may_differ(server, password)
        if len(self.bounds) >= BUDGET_COUNT:
            return True
        for server in self.asked:
            is_unknown = None in self.possible(server)
            if self.may_be_barred(server) and not (is_unknown and is_listed):
                return True
            if self._may_differ(server, password) and (server == PROVIDER or (server, password) in self.refused):
                return True
        return False

    def _may_differ(self, server: int, password: str) -> bool:
        return any(state is None or state.password != password for state in self.possible(server))

    def note_accepted(self) -> None:
        """A success has the server forget its failures. Others don't hear of it."""
        self.bounds = [each for each in self.bounds if each.server not in self.judges]
        self.old_count, self.signs_count = len(self.bounds), 0
        self.may_be_unknown &= bool(self.bounds)
        self.known_wrong.clear()

    def note_refused(self, password: str, now_s: float, *, is_sure: bool) -> None:
        """Note who has refused a password, which nobody may bind there again before a window has passed."""
        for server in self.judges:
            key = (server, password)
            before_s = self.known_wrong.pop(key, None)
            assert before_s is None or now_s - before_s >= WINDOW_S, f"{password} is bound again: {vars(self)}"
            self.refused.add(key)
            if is_sure and self.is_certain:
                self.known_wrong[key] = now_s

    def forget_if_over(self, now_s: float) -> bool:
        """Whether a window has passed since the last bind."""
        if self.bounds and now_s - self.bounds[-1].at_s < WINDOW_S:
            return False
        self.bounds, self.old_count, self.signs_count = [], 0, 0
        self.may_be_unknown = False
        return True

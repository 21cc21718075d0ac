"""User binds, guarded: each attempt bound at most once, no more wrong ones than may be, refusals alike in time.

Sits between the logins of all endpoints and the directories, since an account that locks is one account whoever asks.
Knows neither HTTP nor sockets.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

from bridge.authentication.throttle import Outcome, Permission
from bridge.errors import BridgeError, OutcomeUnknown
from bridge.model import Rejection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.authentication.budgets import Budgets
    from bridge.authentication.evidence import Evidence
    from bridge.authentication.login_health import LoginHealth
    from bridge.authentication.throttle import Attempt, Throttle, UserKey
    from bridge.directory import BindResult, Directory
    from bridge.model import Secret

_RECENT_MAX_COUNT = 64
_LONGEST_S = 5.0
"""A refusal is never held up for longer, as MailStore must have its answer within 10 s."""
_OUTCOMES = {
    (True, False): Outcome.RIGHT,
    (False, False): Outcome.NOTHING,
    (False, True): Outcome.UNKNOWN,  # until it is proven that the password is wrong
}
"""What came of a bind, by whether the password was accepted, and whether the server may have counted a failure."""
_STRETCH = 0.1
"""The part of its time by which a refusal is drawn out at random at most, to drown what else may differ."""
_STRETCH_LEAST_S = 0.002


class UserBinds:
    """The user binds of every directory."""

    def __init__(
        self,
        throttle: Throttle,
        health: LoginHealth,
        budgets: Budgets,
        *,
        fast_refusals: bool = False,
        random: Random | None = None,
    ) -> None:
        self.throttle = throttle
        self.health = health
        self.budgets = budgets
        self._fast_refusals = fast_refusals
        self._random = random or Random()  # noqa: S311 - it blurs times, and keeps no secret
        self._recent_s: dict[str, deque[float]] = {}
        self._sharing: dict[bytes, list[asyncio.Future[BindResult | None]]] = {}
        self._waiting: dict[UserKey, list[asyncio.Future[None]]] = {}

    async def bind(
        self,
        directory: Directory,
        dn: str,
        password: Secret,
        attempt: Attempt,
        *,
        started_s: float,
        prove: Callable[[], Awaitable[Evidence]],
    ) -> BindResult | Permission:
        """What the directory says to the attempt, or what memory says instead.

        The login began at `started_s` by `time.monotonic`. `prove` finds out what a wrong password amounts to. Raises a
        `BridgeError` where the directory said nothing, so does every attempt that shared the bind.
        """
        has_waited = False
        while (permission := self.throttle.begin(attempt)) is not Permission.BIND:
            has_waited = True
            if permission is Permission.SHARE:
                shared = await self._join(attempt)
                if shared is not None:
                    return shared
            elif permission is Permission.WAIT:
                await self._wait_for_another(attempt)
            else:
                return permission
        result, failure, outcome, evidence = None, None, Outcome.UNKNOWN, None
        try:
            result = await directory.bind(dn, password, attempt.server)
            outcome = _OUTCOMES[result.rejection is None, result.may_have_counted]
            if result.rejection is Rejection.WRONG_PASSWORD:
                evidence = await prove()
                outcome = self._weigh(directory.name, attempt, evidence)
                result = replace(result, rejection=evidence.reason)
        except BridgeError as error:
            failure = error.kept()
            outcome = Outcome.UNKNOWN if isinstance(error, OutcomeUnknown) else Outcome.NOTHING
            raise
        finally:
            # Cancelled in between, the password may have been sent: it counts.
            self._settle(attempt, outcome, result, failure, evidence)
        if outcome is Outcome.RIGHT:
            self.health.note_accepted(directory.name)
        elif result.rejection is Rejection.WRONG_PASSWORD and not has_waited:
            self._note_duration(directory.name, time.monotonic() - started_s)
        return result

    def _weigh(self, directory: str, attempt: Attempt, evidence: Evidence) -> Outcome:
        """What a refusal counts for. While nearly everybody is refused, nobody's password is known to be wrong."""
        if evidence.outcome is not Outcome.WRONG:
            return evidence.outcome
        since_s = self.health.note_refused(directory, attempt.user[1])
        if since_s is not None:
            self.throttle.doubt(directory, since_s)
        return Outcome.UNKNOWN if self.health.is_outage(directory) else Outcome.WRONG

    def _settle(
        self,
        attempt: Attempt,
        outcome: Outcome,
        result: BindResult | None,
        failure: BridgeError | None,
        evidence: Evidence | None,
    ) -> None:
        """Note what came of the attempt, and let whoever waited for it go on."""
        is_lasting, shows_count = (evidence.is_lasting, evidence.shows_count) if evidence else (False, False)
        self.throttle.settle(attempt, outcome, is_lasting=is_lasting, shows_count=shows_count)
        if self._sharing:
            for sharer in self._sharing.pop(attempt.fingerprint, ()):
                if sharer.done():
                    continue
                if failure is not None:
                    sharer.set_exception(failure.kept())
                    sharer.exception()  # whoever waits may go away in this very moment, and nobody would fetch it
                else:
                    sharer.set_result(result)  # None where the one that was bound went away: they try for themselves
        if self._waiting:
            for waiter in self._waiting.pop(attempt.user, ()):
                if not waiter.done():
                    waiter.set_result(None)

    async def _join(self, attempt: Attempt) -> BindResult | None:
        """The result of the equal attempt that is on its way, or None where that was given up."""
        sharer: asyncio.Future[BindResult | None] = asyncio.get_running_loop().create_future()
        self._sharing.setdefault(attempt.fingerprint, []).append(sharer)
        return await sharer

    async def _wait_for_another(self, attempt: Attempt) -> None:
        """Some attempt for the same user has ended."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(attempt.user, []).append(waiter)
        await waiter

    def _note_duration(self, directory: str, duration_s: float) -> None:
        recent_s = self._recent_s.get(directory)
        if recent_s is None:
            recent_s = self._recent_s[directory] = deque(maxlen=_RECENT_MAX_COUNT)
        recent_s.append(min(duration_s, _LONGEST_S))

    async def pad_refusal(self, directory: str, started_s: float, *, was_bound: bool) -> None:
        """Sleep until this refusal has lasted as long as a recent bind with a wrong password.

        Security: a refusal from memory waits as long as some wrong password took of late, look-up and bind; and every
        refusal then waits for the time of another one, and for a little more at random. So what is remembered, what is
        bound, and what is bound in vain for a name that nobody has, all end by the same timer, at times from the same
        distribution.
        """
        recent_s = self._recent_s.get(directory)
        if self._fast_refusals or not recent_s:
            return
        draw = self._random.choice
        another_s = draw(recent_s)
        this_s = time.monotonic() - started_s if was_bound else draw(recent_s)
        target_s = max(this_s, another_s) + self._random.uniform(0.0, max(_STRETCH * another_s, _STRETCH_LEAST_S))
        await asyncio.sleep(started_s + target_s - time.monotonic())


def too_many_unknown(directory: str, server: str, wait_s: float) -> OutcomeUnknown:
    """The error for a user who has no bind left for `wait_s`, of whose binds nobody knows what came."""
    error = OutcomeUnknown(
        "too many binds of this user were not answered, or said nothing of the password; "
        f"there is none for {math.ceil(wait_s / 60)} min",
        directory=directory,
        server=server,
        remedy="Find out why the server does not answer; `mailstore-bridge throttle clear USER` ends the wait.",
    )
    error.retry_after_s = wait_s
    return error

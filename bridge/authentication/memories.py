"""What is remembered of one user's logins: wrong passwords, binds that count, a right password; and for how long.

Pure: rules and moments are handed in. All times are those of `Clock.monotonic_s`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.authentication.throttle import Attempt

_RENEWED_AT_MOST_S = 86_400.0
"""How long after its bind a wrong password that is repeated all the time is refused without another."""
_KEPT_COUNT = 16
"""Failures of one user beyond those that count."""


@dataclass(frozen=True, slots=True)
class ThrottleRules:
    """How much is remembered, for how long."""

    remember_failures_s: float = 1800.0
    """How long a wrong password is refused without a bind."""
    max_failure_count: int = 4
    """Failed binds of one user."""
    window_s: float = 1800.0
    """How long after the last failed bind they count."""
    remember_successes_s: float = 0.0
    """How long a right password is accepted without a bind; 0: it never is."""
    users_max_count: int = 50_000
    """Users of whom something is remembered: some 40 MB at the very most, and far more than have trouble at once."""


class Failure(NamedTuple):
    """Binds with a wrong password at one server."""

    bound_s: float
    """When the last one was made."""
    bind_count: int
    """How many of them count; 0 after a success at that server."""
    asked_s: float
    """When it was asked for last, with a bind or without."""
    password_mark: tuple[bytes, ...]
    is_lasting: bool
    is_over: bool = False
    """Whether a sign has ended the refusal; the bind counts all the same."""
    is_tried: bool = True
    """Whether nothing has ended it but a success with another password: in all likelihood, it is wrong still."""


class Unknown(NamedTuple):
    """A bind of unknown outcome."""

    server: str
    bound_s: float


@dataclass(slots=True)
class Memory:
    """What is remembered of one user."""

    user_name: str
    failures: dict[tuple[str, bytes], Failure] = field(default_factory=dict)
    """By server and password, the last one at the end."""
    unknown: list[Unknown] = field(default_factory=list)
    counted_from_s: float = 0.0
    last_failure_s: float = 0.0
    shows_count: bool = False
    """Whether the entry has shown that the directory counted a failure."""
    was_barred: bool = False
    """Whether the entry showed a bar when it was seen last."""
    success: bytes | None = None
    success_mark: tuple[bytes, ...] = ()
    success_until_s: float = 0.0

    def note_state(self, attempt: Attempt) -> None:
        """End refusals where the entry has lost its bar: somebody has unlocked the account, or the lock is over.

        A bar that appears ends nothing: a failed bind itself may make it.
        """
        is_barred = bool(attempt.state.bars)
        if self.was_barred and not is_barred:
            for key, failure in self.failures.items():
                self.failures[key] = failure._replace(is_over=True, is_tried=False)
        self.was_barred = is_barred

    def find_refusal(self, attempt: Attempt, remember_s: float, now_s: float) -> tuple[str, bytes] | None:
        """The remembered failure by which the attempt is refused without a bind, or None."""
        keys = self._keys_of(attempt)
        return next((key for key in keys if is_refused(self.failures[key], remember_s, now_s)), None)

    def find_trial(self, attempt: Attempt, now_s: float) -> tuple[str, bytes] | None:
        """The failure of the same password within the last day, if no sign has come since but a success."""
        for key in self._keys_of(attempt):
            failure = self.failures[key]
            if failure.is_tried and now_s - failure.bound_s < _RENEWED_AT_MOST_S:
                return key
        return None

    def has_sign(self, attempt: Attempt) -> bool:
        """Whether there is room for one more bind, though the budget is used up.

        A new password was set, or the account unlocked, since each of the failures that count; and the entry, which
        has shown them, shows none any more: the directory has forgotten them. The next failure uses up the room.
        """
        state, counted = attempt.state, [each for each in self.failures.values() if each.bound_s >= self.counted_from_s]
        is_newer = all(each.is_over or each.password_mark != state.password_mark for each in counted)
        is_reset = self.shows_count and state.is_reset
        return bool(state.password_mark) and is_newer and is_reset and not self.unknown

    def _keys_of(self, attempt: Attempt) -> Iterator[tuple[str, bytes]]:
        """The failures that speak of the attempt.

        What another server has said holds where both show the same time at which the password was set: one that lags
        behind knows an old password only.
        """
        mark = attempt.state.password_mark
        for key, failure in self.failures.items():
            server, fingerprint = key
            is_of_server = server == attempt.server or bool(mark)
            if fingerprint == attempt.fingerprint and failure.password_mark == mark and is_of_server:
                yield key

    def count(self, window_s: float, now_s: float) -> tuple[int, int]:
        """How many binds with wrong passwords, and how many of unknown outcome, count now.

        Directories forget failures when some time has passed since the last one, and so does this: a window that
        begins with the first would let one more through while the directory still counts all of them.
        """
        if now_s - self.last_failure_s >= window_s or not (self.failures or self.unknown):
            return 0, 0
        counted = (failure for failure in self.failures.values() if failure.bound_s >= self.counted_from_s)
        wrong_count = sum(failure.bind_count for failure in counted)
        return wrong_count, sum(each.bound_s >= self.counted_from_s for each in self.unknown)

    def note_bind(self, attempt: Attempt, window_s: float, now_s: float, *, is_wrong: bool, is_lasting: bool) -> None:
        """Note a bind that counts from now on; the first one after a whole window begins a new count."""
        if self.count(window_s, now_s) == (0, 0):
            self.counted_from_s = now_s
        self.user_name, self.success, self.last_failure_s = attempt.user_name, None, now_s
        if not is_wrong:
            self.unknown.append(Unknown(attempt.server, now_s))
            return
        key = (attempt.server, attempt.fingerprint)
        before = self.failures.pop(key, None)
        count = before.bind_count if before is not None and before.bound_s >= self.counted_from_s else 0
        self.failures[key] = Failure(now_s, count + 1, now_s, attempt.state.password_mark, is_lasting)

    def note_success(self, attempt: Attempt) -> None:
        """Note that the server has accepted the password, and counts anew; no refusal is believed any longer.

        The other servers don't hear of it, unless they share their counts: what was bound there counts on. That the
        other passwords were tried is kept, for the last bind of the budget.
        """
        kept: dict[tuple[str, bytes], Failure] = {}
        for key, failure in self.failures.items():
            server, fingerprint = key
            counts = failure.bound_s >= self.counted_from_s and server != attempt.server
            bind_count = failure.bind_count if counts else 0
            is_tried = failure.is_tried and fingerprint != attempt.fingerprint
            if bind_count or is_tried:
                kept[key] = failure._replace(bind_count=bind_count, is_over=True, is_tried=is_tried)
        self.failures = kept
        self.unknown = [each for each in self.unknown if each.server != attempt.server]
        left_s = [each.bound_s for each in kept.values() if each.bind_count] + [each.bound_s for each in self.unknown]
        self.last_failure_s = max(left_s, default=0.0)
        self.shows_count = False

    def doubt(self, from_s: float) -> None:
        """Take back that passwords that were bound since then are wrong: what came of these binds is unknown."""
        for key in [key for key, failure in self.failures.items() if failure.bound_s >= from_s]:
            failure = self.failures.pop(key)
            self.unknown += [Unknown(key[0], failure.bound_s)] * failure.bind_count

    @property
    def holds_anything(self) -> bool:
        """Whether there is more than what was tried before a success."""
        return bool(self.unknown) or any(each.bind_count or not each.is_over for each in self.failures.values())

    def drop_old(self, max_count: int, now_s: float) -> None:
        """Forget what neither counts nor refuses, and keep no more than a few."""
        kept = {
            key: failure
            for key, failure in self.failures.items()
            if failure.bound_s >= self.counted_from_s or now_s - failure.bound_s < _RENEWED_AT_MOST_S
        }
        for key in list(kept)[: -max(_KEPT_COUNT, max_count)]:
            del kept[key]
        self.failures = kept
        counted = [each for each in self.unknown if each.bound_s >= self.counted_from_s]
        self.unknown = counted[-max(_KEPT_COUNT, max_count) :]

    def is_over(self, window_s: float, now_s: float) -> bool:
        """Whether nothing of it matters any more."""
        return not (
            any(self.count(window_s, now_s))
            or (self.success is not None and now_s < self.success_until_s)
            or any(now_s - failure.bound_s < _RENEWED_AT_MOST_S for failure in self.failures.values())
        )


def is_refused(failure: Failure, remember_s: float, now_s: float) -> bool:
    """Whether the password is still known to be wrong.

    Where the entry shows when passwords are set, and none was, a wrong one that a program repeats for ever stays wrong
    for as long as it is repeated: a bind now and then would lock the account in the end.
    """
    if failure.is_over:
        return False
    if now_s - failure.bound_s < remember_s:
        return True
    is_renewed = failure.is_lasting and now_s - failure.bound_s < _RENEWED_AT_MOST_S
    return is_renewed and now_s - failure.asked_s < remember_s

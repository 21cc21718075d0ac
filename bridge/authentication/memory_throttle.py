"""Lock-out protection as long as the process runs: failures by user, in memory.

Pure: the clock and the key are handed in. Keeps no password: what it remembers is a keyed hash that is worth nothing
without a key which lives and dies with the process.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from bridge.authentication.throttle import Attempt, HeldBack, Outcome, PasswordMark, Permission, UserKey

if TYPE_CHECKING:
    from collections.abc import Collection

    from bridge.clock import Clock
    from bridge.model import Secret

_FINGERPRINT_BYTES = 16
_RENEWED_AT_MOST_S = 86_400.0
"""How long after its bind a wrong password that is repeated all the time is refused without another."""
_NAME_KEPT_CHARACTERS = 200
"""Of what was typed: directories pass over any number of blanks behind a name."""
_FAILURES_KEPT_COUNT = 16
"""Of one user, beyond those that count; only where failures are remembered for longer than the window."""


@dataclass(frozen=True, slots=True)
class ThrottleRules:
    """How much is remembered, for how long."""

    remember_failures_s: float = 1800.0
    """How long a wrong password is refused without a bind."""
    max_failure_count: int = 4
    """Different wrong passwords of one user."""
    window_s: float = 1800.0
    """How long after the last wrong password they count."""
    remember_successes_s: float = 0.0
    """How long a right password is accepted without a bind; 0: it never is."""
    users_max_count: int = 50_000
    """Users of whom something is remembered: some 40 MB at the very most, and far more than have trouble at once."""


@dataclass(slots=True)
class _Memory:
    """What is remembered of one user."""

    password_mark: PasswordMark
    user_name: str
    failures: dict[bytes, _Failure] = field(default_factory=dict)
    """The last one at the end."""
    counted_from_s: float = 0.0
    last_failure_s: float = 0.0
    success: bytes | None = None
    success_until_s: float = 0.0


class _Failure(NamedTuple):
    bound_s: float
    asked_s: float
    """When it was asked for last, with a bind or without."""


class MemoryThrottle:
    """The throttle of one process."""

    def __init__(self, rules: ThrottleRules, key: bytes, clock: Clock) -> None:
        self._rules = rules
        self._hash = hashlib.blake2b(key=key, digest_size=_FINGERPRINT_BYTES)
        self._hashes: dict[str, hashlib.blake2b] = {}
        """By directory, with its name taken in already; they are copied for each attempt."""
        self._clock = clock
        self._memories: OrderedDict[UserKey, _Memory] = OrderedDict()
        """Of whom nothing was heard for the longest first."""
        self._running: dict[UserKey, set[bytes]] = {}

    def identify(
        self, directory: str, user_id: str, user_name: str, password: Secret, password_mark: PasswordMark
    ) -> Attempt:
        """The attempt, which holds nothing of the password but a keyed hash."""
        known = self._hashes.get(directory)
        if known is None:
            known = self._hashes[directory] = self._hash.copy()
            known.update(b"%d %b" % (len(directory.encode()), directory.encode()))
        identity = user_id.encode("utf-8", "surrogateescape")
        found = known.copy()
        # The lengths keep one part from running into the next.
        found.update(b"%d %b%b" % (len(identity), identity, password.reveal()))
        return Attempt((directory, user_id), user_name[:_NAME_KEPT_CHARACTERS], found.digest(), password_mark)

    def begin(self, attempt: Attempt) -> Permission:
        """What the attempt may do; whoever may bind must settle."""
        user, _, fingerprint, _ = attempt
        failure_count = 0
        if user in self._memories:
            now_s = self._clock.monotonic_s()
            recalled = self._recall(attempt, now_s)
            if recalled is not None:
                return recalled
            if user in self._memories:
                failure_count = self._count(self._memories[user], now_s)
        running = self._running.get(user)
        if running is None:
            if failure_count >= self._rules.max_failure_count:
                return Permission.HELD_BACK
            self._running[user] = {fingerprint}
            return Permission.BIND
        if fingerprint in running:
            return Permission.SHARE
        if failure_count + len(running) >= self._rules.max_failure_count:
            return Permission.WAIT
        running.add(fingerprint)
        return Permission.BIND

    def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """The attempt that was permitted to bind has ended."""
        user, _, fingerprint, _ = attempt
        running = self._running[user]
        running.discard(fingerprint)
        if not running:
            del self._running[user]
        if outcome is Outcome.RIGHT:
            self._memories.pop(user, None)
            if self._rules.remember_successes_s > 0:
                self._remember_success(attempt)
        elif outcome is Outcome.WRONG:
            self._remember_failure(attempt)

    def held(self) -> tuple[HeldBack, ...]:
        """Who is held back, those who are free first at the front."""
        now_s, found = self._clock.monotonic_s(), []
        date_s = self._clock.now_s()
        for (directory, user_id), memory in self._memories.items():
            failure_count = self._count(memory, now_s)
            if failure_count >= self._rules.max_failure_count:
                until_s = date_s + memory.last_failure_s + self._rules.window_s - now_s
                found.append(HeldBack(directory, user_id, memory.user_name, until_s, failure_count))
        return tuple(sorted(found, key=lambda held: held.until_s))

    def release(self, user_name: str, users: Collection[UserKey] = ()) -> int:
        """How many users are free again of those who typed this name, have it as their id, or are among `users`."""
        wanted = _fold(user_name)
        chosen = [
            user
            for user, memory in self._memories.items()
            if memory.failures and (user in users or wanted in (_fold(memory.user_name), _fold(user[1])))
        ]
        for user in chosen:
            del self._memories[user]
        return len(chosen)

    def remembered_successes(self, directory: str) -> frozenset[str]:
        """The ids of those whose password is accepted without a bind."""
        if self._rules.remember_successes_s <= 0:
            return frozenset()
        return frozenset(
            user_id
            for (name, user_id), memory in self._memories.items()
            if name == directory and memory.success is not None
        )

    def forget_successes(self, directory: str, user_ids: Collection[str]) -> None:
        """The passwords of these users are accepted by the directory alone."""
        for user_id in user_ids:
            memory = self._memories.get((directory, user_id))
            if memory is not None:
                memory.success = None

    def _recall(self, attempt: Attempt, now_s: float) -> Permission | None:
        """What memory alone answers; a memory from before the password was set is gone."""
        memory = self._memories[attempt.user]
        if memory.password_mark != attempt.password_mark:
            del self._memories[attempt.user]
            return None
        if memory.success == attempt.fingerprint and now_s < memory.success_until_s:
            return Permission.REMEMBERED_SUCCESS
        failure = memory.failures.get(attempt.fingerprint)
        if failure is None or not self._is_remembered(memory, failure, now_s):
            return None
        memory.failures[attempt.fingerprint] = failure._replace(asked_s=now_s)
        memory.user_name = attempt.user_name
        self._memories.move_to_end(attempt.user)
        return Permission.REMEMBERED_FAILURE

    def _is_remembered(self, memory: _Memory, failure: _Failure, now_s: float) -> bool:
        """Whether the password is still known to be wrong.

        Where the directory tells when passwords are set, and none was, a wrong one that a program repeats for ever
        stays wrong for as long as it is repeated: a bind now and then would lock the account in the end.
        """
        if now_s - failure.bound_s < self._rules.remember_failures_s:
            return True
        is_known_unchanged = bool(memory.password_mark) and now_s - failure.bound_s < _RENEWED_AT_MOST_S
        return is_known_unchanged and now_s - failure.asked_s < self._rules.remember_failures_s

    def _count(self, memory: _Memory, now_s: float) -> int:
        """How many different wrong passwords count now.

        Directories forget failures when some time has passed since the last one, and so does this: a window that
        begins with the first would let one more through while the directory still counts all of them.
        """
        if not memory.failures or now_s - memory.last_failure_s >= self._rules.window_s:
            return 0
        return sum(failure.bound_s >= memory.counted_from_s for failure in memory.failures.values())

    def _remember_success(self, attempt: Attempt) -> None:
        now_s = self._clock.monotonic_s()
        memory = _Memory(attempt.password_mark, attempt.user_name)
        memory.success = attempt.fingerprint
        memory.success_until_s = now_s + self._rules.remember_successes_s
        self._memories[attempt.user] = memory
        self._make_room(now_s)

    def _remember_failure(self, attempt: Attempt) -> None:
        now_s = self._clock.monotonic_s()
        memory = self._memories.get(attempt.user)
        if memory is None or memory.password_mark != attempt.password_mark:
            memory = self._memories[attempt.user] = _Memory(attempt.password_mark, attempt.user_name)
        if self._count(memory, now_s) == 0:
            memory.counted_from_s = now_s
        memory.user_name = attempt.user_name
        memory.success = None
        memory.last_failure_s = now_s
        memory.failures.pop(attempt.fingerprint, None)
        memory.failures[attempt.fingerprint] = _Failure(now_s, now_s)
        if len(memory.failures) > 1:
            self._drop_old_failures(memory, now_s)
        self._memories.move_to_end(attempt.user)
        self._make_room(now_s)

    def _drop_old_failures(self, memory: _Memory, now_s: float) -> None:
        kept = {
            fingerprint: failure
            for fingerprint, failure in memory.failures.items()
            if failure.bound_s >= memory.counted_from_s or self._is_remembered(memory, failure, now_s)
        }
        for fingerprint in list(kept)[: -max(_FAILURES_KEPT_COUNT, self._rules.max_failure_count)]:
            del kept[fingerprint]
        memory.failures = kept

    def _make_room(self, now_s: float) -> None:
        """Forgets who was heard of longest ago, where that is over or room is needed; two at most each time."""
        for _ in range(2):
            user, memory = next(iter(self._memories.items()))
            if len(self._memories) <= self._rules.users_max_count and not self._is_over(memory, now_s):
                return
            del self._memories[user]
            if not self._memories:
                return

    def _is_over(self, memory: _Memory, now_s: float) -> bool:
        return not (
            self._count(memory, now_s)
            or (memory.success is not None and now_s < memory.success_until_s)
            or any(self._is_remembered(memory, failure, now_s) for failure in memory.failures.values())
        )


def _fold(name: str) -> str:
    return name.strip().casefold()

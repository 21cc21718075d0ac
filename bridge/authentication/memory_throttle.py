"""Lock-out protection as long as the process runs: failures by user, in memory.

Pure: the clock and the key are handed in. Keeps no password: what it remembers is a keyed hash that is worth nothing
without a key which lives and dies with the process.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

from bridge.authentication.memories import Memory, ThrottleRules, is_refused
from bridge.authentication.throttle import Attempt, Outcome, Permission, Remembered, UserKey
from bridge.model import Rejection

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from bridge.clock import Clock
    from bridge.model import Secret
    from bridge.sources.directory.login_state import LoginState

_FINGERPRINT_BYTES = 16
_NAME_KEPT_CHARACTERS = 200
"""Of what was typed: directories pass over any number of blanks behind a name."""


class MemoryThrottle:
    """The throttle of one process."""

    def __init__(self, rules: ThrottleRules, key: bytes, clock: Clock, realms: Mapping[str, str] | None = None) -> None:
        """`realms`: of directories that have the same accounts, the one under whose name they are counted."""
        self._rules = rules
        self._realms = realms or {}
        self._hash = hashlib.blake2b(key=key, digest_size=_FINGERPRINT_BYTES)
        self._hashes: dict[str, hashlib.blake2b] = {}
        """By realm, with its name taken in already; they are copied for each attempt."""
        self._clock = clock
        self._budgets: dict[str, dict[str, tuple[int, float]]] = {}
        """How many failed binds within how many seconds, by realm and directory."""
        self._memories: OrderedDict[UserKey, Memory] = OrderedDict()
        """Of whom nothing was heard for the longest first."""
        self._running: dict[UserKey, set[bytes]] = {}

    def identify(self, user: UserKey, user_name: str, password: Secret, server: str, state: LoginState) -> Attempt:
        """The attempt, which holds nothing of the password but a keyed hash."""
        realm, user_id = user = self._key_of(user)
        known = self._hashes.get(realm)
        if known is None:
            known = self._hashes[realm] = self._hash.copy()
            known.update(b"%d %b" % (len(realm.encode()), realm.encode()))
        identity = user_id.encode("utf-8", "surrogateescape")
        found = known.copy()
        # The lengths keep one part from running into the next.
        found.update(b"%d %b%b" % (len(identity), identity, password.reveal()))
        return Attempt(user, user_name[:_NAME_KEPT_CHARACTERS], found.digest(), server, state)

    def begin(self, attempt: Attempt) -> Permission:
        """What the attempt may do; whoever may bind must settle."""
        user, fingerprint = attempt.user, attempt.fingerprint
        wrong_count = unknown_count = 0
        memory = self._memories.get(user)
        max_count, window_s = self._budget_of(user)
        if memory is not None:
            now_s = self._clock.monotonic_s()
            recalled = self._recall(memory, attempt, now_s)
            if recalled is not None:
                return recalled
            wrong_count, unknown_count = memory.count(window_s, now_s)
        running = self._running.get(user)
        if running is not None and fingerprint in running:
            return Permission.SHARE
        count = wrong_count + unknown_count + len(running or ())
        if count >= max_count:
            if running is not None:
                return Permission.WAIT
            if memory is not None and memory.has_sign(attempt):
                self._running[user] = {fingerprint}
                return Permission.BIND
            return Permission.UNDECIDED if unknown_count else Permission.HELD_BACK
        if 0 < count == max_count - 1 and memory is not None and (key := memory.find_trial(attempt, now_s)) is not None:
            return self._refuse(memory, attempt, key, now_s)  # the last bind is kept for a password never tried
        self._running.setdefault(user, set()).add(fingerprint)
        return Permission.BIND

    def settle(
        self, attempt: Attempt, outcome: Outcome, *, is_lasting: bool = False, shows_count: bool = False
    ) -> None:
        """Note what came of the attempt that was permitted to bind."""
        running = self._running[attempt.user]
        running.discard(attempt.fingerprint)
        if not running:
            del self._running[attempt.user]
        if outcome is Outcome.RIGHT:
            self._note_success(attempt)
        elif outcome is not Outcome.NOTHING:
            self._count_bind(attempt, is_wrong=outcome is Outcome.WRONG, is_lasting=is_lasting)
            self._memories[attempt.user].shows_count |= shows_count

    def wait_s(self, user: UserKey) -> float:
        """How many seconds it takes until the binds that count are forgotten."""
        user = self._key_of(user)
        memory = self._memories.get(user)
        if memory is None:
            return 0.0
        return max(0.0, memory.last_failure_s + self._budget_of(user)[1] - self._clock.monotonic_s())

    def set_budget(self, directory: str, max_failure_count: int, window_s: float) -> None:
        """Let each user of the directory have so many failed binds within so many seconds."""
        told = self._budgets.setdefault(self._realms.get(directory, directory), {})
        told[directory] = max_failure_count, window_s

    def doubt(self, directory: str, since_s: float) -> None:
        """Take back that passwords refused in the last `since_s` seconds are wrong; their binds still count."""
        from_s = self._clock.monotonic_s() - since_s
        realm = self._realms.get(directory, directory)
        for (name, _), memory in self._memories.items():
            if name == realm:
                memory.doubt(from_s)

    def remembered(self) -> tuple[Remembered, ...]:
        """Of whom failures are remembered; those first whose binds are forgotten first."""
        now_s, date_s = self._clock.monotonic_s(), self._clock.now_s()
        found = []
        for user, memory in self._memories.items():
            max_count, window_s = self._budget_of(user)
            wrong_count, unknown_count = memory.count(window_s, now_s)
            remember_s = self._remember_s(user)
            refused_count = sum(is_refused(failure, remember_s, now_s) for failure in memory.failures.values())
            if not (wrong_count or unknown_count or refused_count):
                continue
            until_s = date_s + self.wait_s(user)
            counts = (wrong_count, unknown_count, refused_count)
            is_held = wrong_count + unknown_count >= max_count
            found.append(Remembered(*user, memory.user_name, until_s, *counts, is_held_back=is_held))
        return tuple(sorted(found, key=lambda each: each.until_s))

    def release(self, user_name: str, users: Collection[UserKey] = ()) -> int:
        """How many users are free again of those who typed this name, have it as their id, or are among `users`."""
        wanted, named = _fold(user_name), {self._key_of(user) for user in users}
        chosen = [
            user
            for user, memory in self._memories.items()
            if (memory.failures or memory.unknown)
            and (user in named or wanted in (_fold(memory.user_name), _fold(user[1])))
        ]
        return sum(self._memories.pop(user).holds_anything for user in chosen)

    def remembered_successes(self, directory: str) -> frozenset[str]:
        """The ids of those whose password is accepted without a bind."""
        if self._rules.remember_successes_s <= 0:
            return frozenset()
        return frozenset(
            user_id
            for (name, user_id), memory in self._memories.items()
            if name == self._realms.get(directory, directory) and memory.success is not None
        )

    def forget_successes(self, directory: str, user_ids: Collection[str]) -> None:
        """The passwords of these users are accepted by the directory alone."""
        for user_id in user_ids:
            memory = self._memories.get(self._key_of((directory, user_id)))
            if memory is not None:
                memory.success = None

    def _key_of(self, user: UserKey) -> UserKey:
        directory, user_id = user
        return self._realms.get(directory, directory), user_id

    def _budget_of(self, user: UserKey) -> tuple[int, float]:
        """The budget of a realm: the strictest one of its directories, and the longest window."""
        told = self._budgets.get(user[0])
        if told is None:
            return self._rules.max_failure_count, self._rules.window_s
        if len(told) == 1:
            return next(iter(told.values()))
        counts, windows_s = zip(*told.values(), strict=True)
        return min(counts), max(windows_s)

    def _remember_s(self, user: UserKey) -> float:
        """How long a wrong password is refused: no shorter than its bind counts in a directory with a longer window."""
        configured_s, window_s = self._rules.remember_failures_s, self._budget_of(user)[1]
        is_longer = configured_s > 0 and window_s > self._rules.window_s
        return max(configured_s, window_s) if is_longer else configured_s

    def _recall(self, memory: Memory, attempt: Attempt, now_s: float) -> Permission | None:
        """What memory alone answers."""
        memory.note_state(attempt)
        is_known = memory.success == attempt.fingerprint and now_s < memory.success_until_s
        if is_known and not _may_be_locked(attempt):
            if memory.success_mark == attempt.state.password_mark:
                return Permission.REMEMBERED_SUCCESS
            memory.success = None
        key = memory.find_refusal(attempt, self._remember_s(attempt.user), now_s)
        return self._refuse(memory, attempt, key, now_s) if key is not None else None

    def _refuse(self, memory: Memory, attempt: Attempt, key: tuple[str, bytes], now_s: float) -> Permission:
        """Refuse a password from memory, and note that it was asked for."""
        memory.failures[key] = memory.failures[key]._replace(asked_s=now_s)
        memory.user_name = attempt.user_name
        self._memories.move_to_end(attempt.user)
        return Permission.REMEMBERED_FAILURE

    def _note_success(self, attempt: Attempt) -> None:
        memory, now_s = self._memories.get(attempt.user), self._clock.monotonic_s()
        if memory is not None:
            memory.note_success(attempt)
            if memory.is_over(self._budget_of(attempt.user)[1], now_s):
                del self._memories[attempt.user]
        if self._rules.remember_successes_s > 0:
            self._remember_success(attempt, now_s)

    def _remember_success(self, attempt: Attempt, now_s: float) -> None:
        memory = self._memories.setdefault(attempt.user, Memory(attempt.user_name))
        memory.success, memory.success_mark = attempt.fingerprint, attempt.state.password_mark
        memory.success_until_s = now_s + self._rules.remember_successes_s
        self._make_room(now_s)

    def _count_bind(self, attempt: Attempt, *, is_wrong: bool, is_lasting: bool) -> None:
        now_s = self._clock.monotonic_s()
        memory = self._memories.setdefault(attempt.user, Memory(attempt.user_name))
        max_count, window_s = self._budget_of(attempt.user)
        memory.note_bind(attempt, window_s, now_s, is_wrong=is_wrong, is_lasting=is_lasting)
        if len(memory.failures) + len(memory.unknown) > 1:
            memory.drop_old(max_count, now_s)
        self._memories.move_to_end(attempt.user)
        self._make_room(now_s)

    def _make_room(self, now_s: float) -> None:
        """Forgets who was heard of longest ago, where that is over or room is needed; two at most each time."""
        for _ in range(2):
            user, memory = next(iter(self._memories.items()))
            is_over = memory.is_over(self._budget_of(user)[1], now_s)
            if len(self._memories) <= self._rules.users_max_count and not is_over:
                return
            del self._memories[user]
            if not self._memories:
                return


def _may_be_locked(attempt: Attempt) -> bool:
    """Whether the entry shows a lock, which may be over: the server alone knows."""
    return any(bar.rejection is Rejection.ACCOUNT_LOCKED for bar in attempt.state.bars)


def _fold(name: str) -> str:
    return name.strip().casefold()

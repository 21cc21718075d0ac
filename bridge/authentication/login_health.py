"""How the logins of each directory fare, apart from its listings: a directory can list well and check no password.

Tells failures that last, and an outage that looks like wrong passwords. Names no person.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from bridge.model import Problem, error_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.clock import Clock
    from bridge.errors import BridgeError

_TOLD_FOR_S = 900.0
"""How long after the last failure it is told of, where nobody has logged in since."""
_OUTAGE_WITHIN_S = 60.0
_OUTAGE_USERS_COUNT = 6
"""So many different users with wrong passwords within a minute, and nobody with a right one, are an outage."""


class _Failing:
    """Logins of one directory that could not be decided."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.last_s = 0.0
        """By the clock that is never set."""
        self.count = 0
        self.error: BridgeError | None = None


class LoginHealth:
    """What came of the logins of late, by directory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failing: dict[str, _Failing] = {}
        self._refused_s: defaultdict[str, dict[str, float]] = defaultdict(dict)
        """When each user was refused last, since somebody was accepted."""
        self._outages_s: dict[str, float] = {}
        """Since when nearly everybody is refused, in seconds since 1970."""

    def note_failure(self, directory: str, error: BridgeError) -> None:
        """Note that a login could not be decided."""
        failing = self._failing.setdefault(directory, _Failing(self._clock.now_s()))
        failing.last_s, failing.error = self._clock.monotonic_s(), error.kept()
        failing.count += 1

    def note_answer(self, directory: str) -> None:
        """Note that a login was decided, whatever the verdict."""
        if self._failing:
            self._failing.pop(directory, None)

    def note_accepted(self, directory: str) -> None:
        """Note that a password was right: the directory compares passwords."""
        if self._refused_s:
            self._refused_s.pop(directory, None)
            self._outages_s.pop(directory, None)

    def note_refused(self, directory: str, user_id: str) -> float | None:
        """Note that a password was wrong.

        Returns since how many seconds nearly everybody is refused, where this makes it an outage; None otherwise.
        """
        now_s, refused_s = self._clock.monotonic_s(), self._refused_s[directory]
        for user, at_s in list(refused_s.items()):
            if now_s - at_s > _OUTAGE_WITHIN_S:
                del refused_s[user]
        refused_s[user_id] = now_s
        if directory in self._outages_s or len(refused_s) < _OUTAGE_USERS_COUNT:
            return None
        self._outages_s[directory] = self._clock.now_s()
        return now_s - min(refused_s.values())

    def is_outage(self, directory: str) -> bool:
        """Whether wrong passwords are not believed now."""
        return directory in self._outages_s

    def problems(self, directory: str) -> Iterator[Problem]:
        """What an administrator should know of the logins of a directory."""
        failing = self._failing.get(directory)
        if failing is not None and failing.error is not None:
            if self._clock.monotonic_s() - failing.last_s < _TOLD_FOR_S:
                beginning = f"Logins can't be checked ({failing.count} since then): "
                yield error_problem(
                    failing.error, directory, failing.since_s, code="logins_failing", beginning=beginning
                )
            else:
                del self._failing[directory]
        since_s = self._outages_s.get(directory)
        if since_s is not None:
            message = "Every password is refused: more users than make mistakes at once, and nobody is accepted."
            remedy = (
                "Look at the server's own log: the place where it keeps passwords may be out of reach. "
                "None of these passwords is remembered as wrong."
            )
            yield Problem("logins_refused", directory, message, remedy, since_s)

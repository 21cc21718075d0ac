"""Lock-out protection, the port: which passwords are known to be wrong, and who has had enough binds for now.

A directory locks an account after some failed binds. So each wrong password is bound once, and an account only a few
times, over all servers together. Knows neither LDAP nor HTTP, and keeps no password: what it remembers is a keyed hash
that is worth nothing without a key which lives and dies with the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from bridge.model import Secret
    from bridge.sources.directory.login_state import LoginState


UserKey = tuple[str, str]
"""The directory's name and the user's id in it: one user however the name is spelt."""


class Permission(Enum):
    """What an attempt may do."""

    BIND = "bind"
    """Ask the directory, then `settle`."""
    SHARE = "share"
    """Wait for the equal attempt that is on its way: its outcome is this one's, too."""
    WAIT = "wait"
    """Wait until another attempt for this user is settled, then ask again: this one might be one too many."""
    REMEMBERED_SUCCESS = "remembered_success"
    REMEMBERED_FAILURE = "remembered_failure"
    HELD_BACK = "held_back"
    UNDECIDED = "undecided"
    """Held back, and some of the binds that count had no outcome: nobody knows whether any password was wrong."""


class Outcome(Enum):
    """What came of a bind."""

    RIGHT = "right"
    WRONG = "wrong"
    """The password is wrong: it is counted and remembered."""
    UNKNOWN = "unknown"
    """The directory may have counted a failure, and nobody knows whether the password is right: it is counted."""
    NOTHING = "nothing"
    """No password was compared: an outage before it was sent, an account that is locked."""


class Attempt(NamedTuple):  # made for each login
    """One user with one password, by what one server shows of the entry."""

    user: UserKey
    user_name: str
    """As it was typed, or the beginning of it."""
    fingerprint: bytes
    server: str
    state: LoginState


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is remembered of somebody's failed logins."""

    directory: str
    user_id: str
    user_name: str
    """As it was typed last."""
    until_s: float
    """When the binds that count are forgotten, in seconds since 1970."""
    failure_count: int
    """Wrong passwords that count."""
    unknown_count: int
    """Binds of unknown outcome that count."""
    refused_count: int
    """Passwords that are refused without a bind."""
    is_held_back: bool
    """Whether there are no binds until then."""


class Throttle(Protocol):
    """The port: who may bind with what. Each login asks it twice, so it answers from memory, without waiting."""

    def identify(self, user: UserKey, user_name: str, password: Secret, server: str, state: LoginState) -> Attempt:
        """The attempt, which holds nothing of the password but a keyed hash."""

    def begin(self, attempt: Attempt) -> Permission:
        """What the attempt may do; whoever may bind must settle."""

    def settle(
        self, attempt: Attempt, outcome: Outcome, *, is_lasting: bool = False, shows_count: bool = False
    ) -> None:
        """Note what came of the attempt that was permitted to bind.

        A wrong password `is_lasting` where the entry shows when passwords are set, and nothing that bars the account.
        `shows_count`: the entry shows that this failure was counted, and so will show when the directory forgets it.
        """

    def wait_s(self, user: UserKey) -> float:
        """How many seconds it takes until the binds that count are forgotten."""

    def set_budget(self, directory: str, max_failure_count: int, window_s: float) -> None:
        """Let each user of the directory have so many failed binds within so many seconds."""

    def doubt(self, directory: str, since_s: float) -> None:
        """Take back that passwords refused in the last `since_s` seconds are wrong; their binds still count."""

    def remembered(self) -> tuple[Remembered, ...]:
        """Of whom failures are remembered; those first whose binds are forgotten first."""

    def release(self, user_name: str, users: Collection[UserKey] = ()) -> int:
        """How many users are free again of those who typed this name, have it as their id, or are among `users`."""

    def remembered_successes(self, directory: str) -> frozenset[str]:
        """The ids of those whose password is accepted without a bind."""

    def forget_successes(self, directory: str, user_ids: Collection[str]) -> None:
        """The passwords of these users are accepted by the directory alone."""

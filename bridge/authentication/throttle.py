"""Lock-out protection: which passwords are known to be wrong, and who has had enough wrong ones for now.

Pure: the clock and the key are handed in. Knows neither LDAP nor HTTP, and keeps no password: what it remembers is a
keyed hash that is worth nothing without a key which lives and dies with the process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection

    from bridge.model import Secret


UserKey = tuple[str, str]
"""The directory's name and the user's id in it: one user however the name is spelt."""
PasswordMark = tuple[bytes, ...]
"""What the directory says of when the password was set; empty where it says nothing."""


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


class Outcome(Enum):
    """What a directory said of a password."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"
    """Nothing, or nothing of the password: an outage, an account that is locked."""


class Attempt(NamedTuple):  # made for each login
    """One user with one password."""

    user: UserKey
    user_name: str
    """As it was typed, or the beginning of it."""
    fingerprint: bytes
    password_mark: PasswordMark


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Somebody who is not bound any more for a while."""

    directory: str
    user_id: str
    user_name: str
    """As it was typed with the last wrong password."""
    until_s: float
    """Seconds since 1970."""
    failure_count: int


class Throttle(Protocol):
    """The port: who may bind with what. Each login asks it twice, so it answers from memory, without waiting."""

    def identify(
        self, directory: str, user_id: str, user_name: str, password: Secret, password_mark: PasswordMark
    ) -> Attempt:
        """The attempt, which holds nothing of the password but a keyed hash."""

    def begin(self, attempt: Attempt) -> Permission:
        """What the attempt may do; whoever may bind must settle."""

    def settle(self, attempt: Attempt, outcome: Outcome) -> None:
        """The attempt that was permitted to bind has ended."""

    def held(self) -> tuple[HeldBack, ...]:
        """Who is held back, those who are free first at the front."""

    def release(self, user_name: str, users: Collection[UserKey] = ()) -> int:
        """How many users are free again of those who typed this name, have it as their id, or are among `users`."""

    def remembered_successes(self, directory: str) -> frozenset[str]:
        """The ids of those whose password is accepted without a bind."""

    def forget_successes(self, directory: str, user_ids: Collection[str]) -> None:
        """The passwords of these users are accepted by the directory alone."""

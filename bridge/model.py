"""The words of the program: users, verdicts, reports, health, secrets.

Plain values without input or output. Nothing here knows LDAP, HTTP or the configuration file.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from bridge.errors import BridgeError
    from bridge.renewal import Renewed


class Secret:
    """Bytes that never show themselves: not in `repr`, `str`, a format, a pickle or a log."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes, for the one place that must send or compare them."""
        return self._value

    def forget(self) -> None:
        """The secret is empty from now on, for whoever still holds it: a frame, or the traceback of an error."""
        self._value = b""

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    __hash__ = None  # type: ignore[assignment]  # a secret in a dictionary key would be compared in variable time

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not written anywhere")


class User(NamedTuple):  # made for each user of each listing, in half the time of a frozen dataclass
    """A person as MailStore is told of them; `id` is what stays when everything else changes."""

    id: str
    user_name: str
    distinguished_name: str
    full_name: str | None = None
    email_addresses: tuple[str, ...] = ()
    """In mapped order, without duplicates; the first one is the primary address."""


class Rejection(Enum):
    """Why a password was not accepted. For the log and the metric only: the answer is the same for each."""

    EMPTY_PASSWORD = "empty_password"  # noqa: S105
    UNKNOWN_USER = "unknown_user"
    AMBIGUOUS_USER = "ambiguous_user"
    NOT_LISTED = "not_listed"
    NOT_IN_GROUP = "not_in_group"
    """The entry is there, and `users.groups` shuts it out."""
    IMPOSSIBLE = "impossible"
    """The name or the password holds what no directory can carry as it is, such as NUL; nobody was asked."""
    WRONG_PASSWORD = "wrong_password"  # noqa: S105
    NO_PASSWORD = "no_password"  # noqa: S105
    PASSWORD_EXPIRED = "password_expired"  # noqa: S105
    MUST_CHANGE_PASSWORD = "must_change_password"  # noqa: S105
    ACCOUNT_DISABLED = "account_disabled"
    ACCOUNT_EXPIRED = "account_expired"
    ACCOUNT_LOCKED = "account_locked"
    NOT_AT_THIS_TIME = "not_at_this_time"
    NOT_FROM_THIS_PLACE = "not_from_this_place"
    ENTRY_GONE = "entry_gone"
    TOO_MANY_GROUPS = "too_many_groups"
    LOGON_NOT_GRANTED = "logon_not_granted"
    REMEMBERED_FAILURE = "remembered_failure"
    """This password was wrong a while ago; the directory was not asked again."""
    HELD_BACK = "held_back"
    """Too many different passwords were wrong of late; the directory was not asked, as it might lock the account."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The password is right; `notice` tells what the directory added, such as grace logins that remain."""

    directory: str
    user_id: str
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The login is refused. `directory` is None where none knows the user."""

    reason: Rejection
    directory: str | None = None
    user_id: str | None = None


Verdict = Accepted | Rejected


@dataclass(frozen=True, slots=True)
class Skipped:
    """Entries that made no user, or values that were dropped, for one reason."""

    reason: str
    count: int
    examples: tuple[str, ...] = ()
    """Up to a few distinguished names."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one refresh of one directory did."""

    directory: str
    server: str
    finished_at_s: float
    """Seconds since 1970."""
    duration_s: float
    page_count: int
    entry_count: int
    user_count: int
    ignored_reference_count: int = 0
    skipped: tuple[Skipped, ...] = ()
    collisions: tuple[str, ...] = ()
    """User names that more than one entry claims."""
    added_count: int = 0
    removed_count: int = 0
    """Users who have left the answer."""
    changed_count: int = 0
    renamed_count: int = 0
    """Users who are listed under another name than before."""
    withheld_count: int = 0
    """Removals that were kept out of the answer."""
    in_grace_count: int = 0
    """Users who did not come and stay for a while."""
    inconsistent: tuple[str, ...] = ()
    """Names of users whom the listing left out though they are there: they stay; a few of them."""
    shared_address_count: int = 0
    """E-mail addresses that more than one user lists."""
    shared_addresses: tuple[str, ...] = ()
    """A few of them."""
    server_before: str | None = None
    """The server of the listing before, where it was another one."""
    lagging_count: int = 0
    """Users who stay as they were, since another server still shows them so."""
    lagging: tuple[str, ...] = ()
    """The names of a few of them."""
    witness_count: int = 0
    """Of the withheld removals, those that wait for the server that has last shown the user."""
    is_first: bool = False
    """Whether there was no earlier listing to compare with."""
    approved_digest: str | None = None
    """The withheld removals that went through with the operator's word."""


class Status(Enum):
    """How something fares; UNAVAILABLE can neither list nor authenticate."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that an administrator should know of, and what to do about it."""

    code: str
    directory: str
    """Empty where it is about no directory."""
    message: str
    remedy: str
    since_s: float
    """Seconds since 1970."""
    full_message: str = ""
    """The message with names of persons, for whoever has shown who they are; nothing where it is the same."""


def error_problem(
    error: BridgeError, directory: str, since_s: float, *, code: str | None = None, beginning: str = ""
) -> Problem:
    """The problem that an error is, or that `beginning` makes of it; without a name where it may be seen by all."""
    message, full_message = f"{beginning}{error.message}", f"{beginning}{error.full_message}"
    return Problem(code or error.code, directory, message, error.remedy, since_s, full_message)


def file_problem(source: Renewed[Any], directory: str = "") -> Problem | None:
    """That the files of a secret or a certificate can't be used now, or None where they can.

    `directory` is empty where they are no directory's.
    """
    if source.failure is None:
        return None
    files = " and ".join(source.files)
    message = f"What {source.place} names can't be used now ({files}): {source.why_failed}."
    remedy = "What was read before stays in use; put the file right, and it is taken by itself."
    return Problem("file_unusable", directory, message, remedy, source.failing_since_s)


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """How one endpoint fares."""

    path: str
    status: Status
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class Health:
    """How the whole program fares: as well as its worst endpoint."""

    endpoints: tuple[EndpointHealth, ...] = field(default=())

    @property
    def status(self) -> Status:
        """The worst status among the endpoints."""
        for status in (Status.UNAVAILABLE, Status.DEGRADED):
            if any(endpoint.status is status for endpoint in self.endpoints):
                return status
        return Status.OK

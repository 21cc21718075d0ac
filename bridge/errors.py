"""The exceptions of the program: what could not be done, where, and what to do about it.

A refusal (a wrong password) is a value, see `bridge.model`; an exception says that something could not be found out.
This module knows neither HTTP nor LDAP: the HTTP status of a code stands in `bridge.mailstore`.

What may name a person is kept apart: in `subject`, and in the words of a server, `diagnostic_message`. Neither
`detail`, `remedy` nor `message` holds any of it; `full_message` holds all, for whoever has shown who they are.

BridgeError
├─ ConfigurationError
├─ RequestError: Malformed, UnknownCommand, CallerRejected, CallerElsewhere, TooLarge, NoEndpoint, UnknownDirectory,
│                 TooBusy
├─ DirectoryError
│  ├─ DirectoryUnavailable
│  │  └─ OutcomeUnknown
│  ├─ DirectoryRefused
│  │  └─ SecretWithheld
│  ├─ SearchIncomplete
│  ├─ SearchInvalid
│  └─ NoReplica
├─ SnapshotMissing
├─ RemovalsRefused
├─ ApprovalOutdated
├─ StateUnavailable
├─ StateLost
├─ ServiceError
└─ EntryUnusable
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, ClassVar, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")


class BridgeError(Exception):
    """Something could not be done; `code` is for programs, `message` for the administrator."""

    code: ClassVar[str] = "internal"
    summary: ClassVar[str] = "Something went wrong"
    retry_after_s: float | None = None
    """When it makes sense to try again, where that is known."""

    def __init__(self, detail: str = "", *, remedy: str = "", subject: str = "") -> None:
        super().__init__(detail)
        self.detail = detail
        """What happened, without the name of a person."""
        self.remedy = remedy
        self.subject = subject
        """Whom or what it is about, where that may name a person: the DN of an entry, an id, a URI; or nothing."""

    @property
    def full_detail(self) -> str:
        """What happened, and to whom."""
        return f"{self.detail} ({self.subject!r})" if self.subject else self.detail

    @property
    def where(self) -> str:
        """What the error is about, as the beginning of a sentence, or nothing."""
        return ""

    @property
    def message(self) -> str:
        """What happened, where, and what to do, in sentences that hold neither a secret nor the name of a person."""
        return self._tell(self.detail)

    @property
    def full_message(self) -> str:
        """The same with the subject and the server's own words, which may name persons; no secret either."""
        return self._tell(self.full_detail)

    def _tell(self, detail: str) -> str:
        place = f" {self.where}" if self.where else ""
        happened = f"{self.summary}{place}: {detail}" if detail else f"{self.summary}{place}"
        sentences = (happened, self.remedy)
        return " ".join(text if text.endswith((".", "!", "?")) else f"{text}." for text in sentences if text)

    def __str__(self) -> str:
        return self.message

    def kept(self) -> Self:
        """The same error for whoever keeps it, without its traceback and cause.

        They hold the frames that it has passed through, and with them whatever was in flight: answers, passwords.
        """
        copy = type(self).__new__(type(self), *self.args)
        copy.__dict__.update(self.__dict__)
        return copy


class ConfigurationError(BridgeError):
    """The configuration can't be used; `problems` holds every fault that was found, one line each."""

    code = "configuration"
    summary = "The configuration can't be used"

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def _tell(self, detail: str) -> str:
        """Every fault on a line of its own."""
        return detail


class RequestError(BridgeError):
    """The caller asked in a way that can't be answered."""

    code = "bad_request"
    summary = "The request can't be understood"


class Malformed(RequestError):
    """The body is no form that means one thing only."""


class UnknownCommand(RequestError):
    """The form has no `cmd`, or one that doesn't exist."""


class CallerRejected(RequestError):
    """The caller did not show the right credentials."""

    code = "unauthorized"
    summary = "The caller's user name or password is missing or wrong"


class CallerElsewhere(RequestError):
    """The caller's address is none from which the endpoint may be asked."""

    code = "unauthorized"
    summary = "The endpoint may not be asked from this address"


class TooLarge(RequestError):
    """The request is larger than any that MailStore sends."""

    code = "too_large"
    summary = "The request is too large"


class NoEndpoint(RequestError):
    """Nothing is served at this path."""

    code = "not_found"
    summary = "There is no endpoint at this address"


class UnknownDirectory(RequestError):
    """Nothing is configured, and nothing is kept, of a directory of this name."""

    code = "unknown_directory"
    summary = "There is no such directory"

    def __init__(self, directory: object, known: Iterable[str]) -> None:
        super().__init__(f"{directory}", remedy=f"Known: {', '.join(known) or 'none'}.")


class TooBusy(RequestError):
    """The bridge itself can't answer now."""

    code = "too_busy"
    summary = "The bridge is busy"


class DirectoryError(BridgeError):
    """A directory did not give what was asked for."""

    code = "directory_error"
    summary = "The directory can't be used"

    def __init__(
        self,
        detail: str = "",
        *,
        directory: str,
        server: str | None = None,
        result_code: int | None = None,
        diagnostic_message: str = "",
        remedy: str = "",
        subject: str = "",
    ) -> None:
        super().__init__(detail, remedy=remedy, subject=subject)
        self.directory = directory
        self.server = server
        self.result_code = result_code
        self.diagnostic_message = diagnostic_message
        """The server's own words, which may hold the DN that it was asked about."""
        self.parts: tuple[DirectoryError, ...] = ()
        """What each server has said, where the error stands for several."""

    def kept(self) -> Self:
        """The same error, and what each server has said, without tracebacks and causes."""
        copy = super().kept()
        copy.parts = tuple(copy if part is self else part.kept() for part in self.parts)
        return copy

    @property
    def full_detail(self) -> str:
        """What happened, the server's own words, and to whom; where it stands for several servers, that of each."""
        if self.parts and not any(part is self for part in self.parts):
            return _list_servers((part, part.full_detail) for part in self.parts)
        said = f"{self.detail}, {self.diagnostic_message}" if self.diagnostic_message else self.detail
        return f"{said} ({self.subject!r})" if self.subject else said

    @property
    def where(self) -> str:
        """The directory's name and the server's address."""
        return f"(directory {self.directory}, {self.server})" if self.server else f"(directory {self.directory})"


class DirectoryUnavailable(DirectoryError):
    """No server answered in time: refused, TLS failed, timed out, busy, or our own queue is full."""

    code = "directory_unavailable"
    summary = "The directory can't be asked"


class OutcomeUnknown(DirectoryUnavailable):
    """A password was sent, and nobody knows what came of it: the server may have counted a failure."""

    code = "outcome_unknown"
    summary = "The directory did not say whether the password is right"


class DirectoryRefused(DirectoryError):
    """The directory refuses our own account or the way in which we connect."""

    code = "directory_refused"
    summary = "The directory refuses the bridge"


class SecretWithheld(DirectoryRefused):
    """The service account was refused before, and is not bound now, so that the directory does not lock it."""

    refused_at: tuple[str, ...] = ()
    """The servers that have refused it, by their URLs."""
    quoting: str = ""
    """What happened, with the words of each of them."""

    @property
    def full_detail(self) -> str:
        """What happened, and the servers' own words."""
        return self.quoting or super().full_detail


class SearchIncomplete(DirectoryError):
    """A search can't be proven complete, so its entries were thrown away."""

    code = "search_incomplete"
    summary = "The users could not be listed completely"


class SearchInvalid(DirectoryError):
    """The directory says that the search itself is wrong: base missing, filter refused."""

    code = "search_invalid"
    summary = "The configured search can't be carried out"


class NoReplica(DirectoryError):
    """A server does not know the users whom the other servers of the directory have."""

    code = "no_replica"
    summary = "A server is no replica of the directory"


class SnapshotMissing(BridgeError):
    """There is neither a fresh listing nor an older one that may still be answered."""

    code = "snapshot_missing"
    summary = "There is no listing yet"


class RemovalsRefused(DirectoryError):
    """A listing is complete, yet lacks so many users that it isn't believed."""

    code = "removals_refused"
    summary = "The listing lacks users that must not be lost"


class ApprovalOutdated(BridgeError):
    """The operator approved other removals than those that are withheld."""

    code = "approval_outdated"
    summary = "The approval does not fit"

    def __init__(self, detail: str) -> None:
        super().__init__(detail, remedy="Look at what is withheld now with `mailstore-bridge removals show`.")


class StateUnavailable(BridgeError):
    """What was last listed can't be read or kept: the disk is full, or read-only, or fails."""

    code = "state_unavailable"
    summary = "The state directory can't be used"


class StateLost(BridgeError):
    """The earlier listings were damaged: nobody knows any more who must not be lost."""

    code = "state_lost"
    summary = "The earlier listings are lost"


class ServiceError(BridgeError):
    """The running service answered the command line with an error, or not at all."""

    def __init__(self, service_code: str, detail: str, *, is_temporary: bool) -> None:
        super().__init__(detail)
        self.service_code = service_code
        self.is_temporary = is_temporary

    def _tell(self, detail: str) -> str:
        """What the service said."""
        return detail


class EntryUnusable(BridgeError):
    """An entry makes no user; collected in the report, unless it may be a listed user's all the same."""

    code = "entry_unusable"
    summary = "The entry makes no user"

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail)
        self.reason = reason


def summarize(failures: Iterable[DirectoryError]) -> DirectoryError:
    """One error for several servers: what all agree upon, or one that names each with what was wrong there.

    Its `parts` are what each has said. There must be one failure at least.
    """
    leaves = tuple(dict.fromkeys(leaf for failure in failures for leaf in (failure.parts or (failure,))))
    first = leaves[0]
    if len(leaves) == 1:
        return first
    if len({_kind_of(leaf) for leaf in leaves}) == 1 and not isinstance(first, DirectoryUnavailable):
        first.parts = leaves
        return first
    detail = _list_servers((leaf, leaf.detail) for leaf in leaves)
    error = DirectoryUnavailable(detail, directory=first.directory, remedy=first.remedy)
    error.parts = leaves
    error.__cause__ = first
    return error


async def share(task: asyncio.Task[T]) -> T:
    """Wait for a task for which others wait, too; whoever goes away meanwhile doesn't end it.

    Raises what the task has raised, to each of them anew: one error for all would hold the frames of all.
    """
    await asyncio.wait((task,))
    if not task.cancelled() and isinstance(error := task.exception(), BridgeError):
        raise error.kept()
    return task.result()


def _list_servers(details: Iterable[tuple[DirectoryError, str]]) -> str:
    return "no server answers: " + "; ".join(f"{failure.server}: {detail}" for failure, detail in details)


def _kind_of(error: DirectoryError) -> tuple[type[DirectoryError], int | None]:
    """What servers must have in common for it to be the configuration's fault."""
    kind = DirectoryRefused if isinstance(error, DirectoryRefused) else type(error)
    return kind, error.result_code


def system_words(error: OSError) -> str:
    """The system's own words for an error; Python and asyncio put sentences and addresses in their place."""
    return os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)

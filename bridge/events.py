"""What the program tells whoever watches it: one frozen value for each thing worth a log line or a metric.

`bridge.ops` turns events into log lines and metrics; what happens elsewhere only hands them to an `Observer`. No event
holds a password, a header or a body. They are named tuples, which are made in a third of a frozen dataclass's time:
each login makes four.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bridge.errors import BridgeError
    from bridge.model import Report, Verdict


class RequestAnswered(NamedTuple):
    """One HTTP request got its answer."""

    request_id: str
    endpoint: str
    """The path of the endpoint, or "" where the request met none."""
    command: str
    """`list`, `auth`, or "" where none was understood."""
    status: int
    duration_s: float
    remote: str
    caller: str | None = None
    challenge: bool = False
    """A first call without credentials, as .NET sends before each request: no failure, worth a debug line only."""
    error: BridgeError | None = None


class UserAuthenticated(NamedTuple):
    """One login was decided."""

    endpoint: str
    user_name: str
    verdict: Verdict
    duration_s: float
    server: str | None = None
    result_code: int | None = None
    diagnostic_message: str = ""
    detail: str = ""
    """For the administrator, such as the DNs between which a name is ambiguous."""


class Refreshed(NamedTuple):
    """A directory was listed completely."""

    report: Report


class RefreshFailed(NamedTuple):
    """A directory could not be listed; `stale_age_s` is the age of the listing that is answered instead, if any."""

    directory: str
    error: BridgeError
    duration_s: float
    stale_age_s: float | None = None


class RemovalsApproved(NamedTuple):
    """The operator lets withheld removals through; the next refresh does it, if they are still the same."""

    directory: str
    digest: str
    removal_count: int


class ApprovalExpired(NamedTuple):
    """Withheld removals had been approved, and are others by now, so nothing of it went through."""

    directory: str
    digest: str


class RemovalsReset(NamedTuple):
    """The operator had the earlier listing of a directory forgotten: the next one counts as the first."""

    directory: str


class NamesContested(NamedTuple):
    """Several directories of an endpoint claim the same user names; `holders` says who has each."""

    endpoint: str
    holders: tuple[tuple[str, str], ...]
    """Folded user names with the names of directories."""


class ListingProgressed(NamedTuple):
    """A page of a listing has come; the listing may still fail."""

    directory: str
    page_count: int
    entry_count: int


class OperationEnded(NamedTuple):
    """One LDAP operation ended. `outcome` is `ok`, `unavailable` or `refused`."""

    directory: str
    server: str
    operation: str
    """`connect`, `service_bind`, `user_bind`, `look_up` or `listing`."""
    outcome: str
    duration_s: float


class ServerSetAside(NamedTuple):
    """A server failed, or is still not well, and is tried after a while before it is asked again."""

    directory: str
    server: str
    error: BridgeError
    pause_s: float


class ServerRestored(NamedTuple):
    """A server that was set aside works, and is asked again."""

    directory: str
    server: str


class ServersKnown(NamedTuple):
    """The servers of a directory, in the order in which they are asked; others than before have gone."""

    directory: str
    servers: tuple[str, ...]
    were_discovered: bool = False
    """By the DNS, which is news; those of the configuration are none."""


class DiscoveryFailed(NamedTuple):
    """The DNS did not name the servers of a directory; `known_count` of an earlier answer are still asked."""

    directory: str
    error: BridgeError
    known_count: int


class CertificateSeen(NamedTuple):
    """A server has shown a certificate that is trusted until then."""

    directory: str
    server: str
    expires_at_s: float


class AccountWarned(NamedTuple):
    """A server has taken the service account, and something will soon go wrong; told when it begins."""

    directory: str
    server: str
    code: str
    message: str
    remedy: str


class FilesTaken(NamedTuple):
    """A secret or a certificate was taken anew from its files, which have changed."""

    place: str
    """Where the configuration names it: `directories[0].bind.password_file`."""
    files: tuple[str, ...]
    is_certificate: bool


class FilesUnusable(NamedTuple):
    """The files of a secret or a certificate can't be used; what was taken from them before stays in use."""

    place: str
    files: tuple[str, ...]
    is_certificate: bool
    error: str


class ConnectionDropped(NamedTuple):
    """A connection was refused, closed before its time, or came to nothing; one for each, for counting."""

    listener: str
    """`server`, `admin` or `control`."""
    reason: str
    """One of those in `bridge.web.drops`."""


class DropsCounted(NamedTuple):
    """How many connections were dropped since this was told last: a line for a flood, however large."""

    counts: tuple[tuple[str, str, int], ...]
    """Listener, reason, how many."""
    period_s: float
    """0 where it has just begun."""
    busiest_address: str
    """Where most of the connections come from that are there now."""
    busiest_count: int
    are_limits: bool
    """Whether a limit was reached, or callers did something else than they should."""


Event = (
    RequestAnswered
    | UserAuthenticated
    | Refreshed
    | RefreshFailed
    | RemovalsApproved
    | ApprovalExpired
    | RemovalsReset
    | NamesContested
    | ListingProgressed
    | OperationEnded
    | ServerSetAside
    | ServerRestored
    | ServersKnown
    | DiscoveryFailed
    | CertificateSeen
    | AccountWarned
    | FilesTaken
    | FilesUnusable
    | ConnectionDropped
    | DropsCounted
)

Observer = Callable[[Event], None]

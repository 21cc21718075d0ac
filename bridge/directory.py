"""The port through which the program talks to a directory.

What a directory can do, in the words of RFC 4511, and nothing of how: `bridge.ldap` implements it with sockets,
tests with entries in memory; one contract suite holds for all.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from bridge.model import Rejection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from bridge.errors import DirectoryError
    from bridge.model import Problem, Secret
    from bridge.syntax.filters import Filter


NO_SUCH_OBJECT = 32
"""The result code of a search whose base is not there (RFC 4511 Appendix A)."""


class Scope(IntEnum):
    """How far below its base a search reaches; the numbers are those of RFC 4511 §4.5.1.2."""

    BASE = 0
    ONE = 1
    SUBTREE = 2


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What is asked for. `attributes` are attribute descriptions; none at all asks for the DN alone."""

    base: str
    scope: Scope
    filter: Filter
    attributes: tuple[str, ...]
    size_limit_count: int = 0
    """0 asks for no limit."""
    shown: tuple[str, ...] = ()
    """Attributes, in lower case, that every entry shows; a kept connection that hides one is not believed alone."""


class Entry(NamedTuple):  # made for each user of each listing, in half the time of a frozen dataclass
    """An entry as the server sent it.

    The keys of `attributes` are attribute descriptions in lower case, options included (`cn;lang-de`); the values
    stand in the order in which they came.
    """

    dn: str
    attributes: Mapping[str, Sequence[bytes]]


class LookUp(NamedTuple):  # made for each login, as entries are
    """What a server said to a small search."""

    entries: tuple[Entry, ...]
    server: str
    """The URL of the server that said so: what follows from the entries belongs to it."""


@dataclass(frozen=True, slots=True)
class BindResult:
    """What a server said to a user bind: `rejection` is None where the password is right."""

    server: str
    rejection: Rejection | None = None
    notice: str | None = None
    result_code: int = 0
    diagnostic_message: str = ""
    was_compared: bool = False
    """Whether the password may have been compared and counted, though `rejection` names something else."""

    @property
    def may_have_counted(self) -> bool:
        """Whether the server may have counted a failure of the account for this bind."""
        return self.was_compared or self.rejection is Rejection.WRONG_PASSWORD


@dataclass(frozen=True, slots=True)
class RootDSE:
    """What a server says of itself (RFC 4512 §5.1)."""

    server: str
    naming_contexts: tuple[str, ...] = ()
    default_naming_context: str | None = None
    """Where searches begin if nothing is configured: what the server names, or its only naming context."""
    supported_controls: frozenset[str] = field(default_factory=frozenset)
    vendor: str = ""


class EntryStream(Protocol):
    """The entries of a listing as they come, in portions of the server's choosing.

    Only an iteration that ends by itself was complete (`bridge.errors.SearchIncomplete` is raised otherwise); the
    counters are final then.
    """

    @property
    def server(self) -> str:
        """The URL of the one server that answers the whole listing."""

    @property
    def page_count(self) -> int:
        """Pages that have come so far, over all searches."""

    @property
    def entry_count(self) -> int:
        """Entries that have come so far, over all searches."""

    @property
    def ignored_reference_count(self) -> int:
        """Continuation references that were ignored because the configuration says so."""

    def read(self, searches: Sequence[SearchRequest]) -> AsyncIterator[Sequence[Entry]]:
        """The entries of some searches, each portion once; all that is read comes from one server, in one time."""


class Directory(Protocol):
    """A configured directory, whichever of its servers answers.

    Every operation ends within its configured time. Raises `DirectoryUnavailable`, `DirectoryRefused`,
    `SearchInvalid` or `SearchIncomplete`; never returns part of a result.
    """

    @property
    def name(self) -> str:
        """The name under which the directory is configured."""

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of all servers that are known now, those asked first at the front, those set aside at the end."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What an administrator should know of our own account, of the files that it needs, and of the servers."""

    def open_listing(
        self, began_s: float | None = None, avoid: Collection[str] = ()
    ) -> AbstractAsyncContextManager[EntryStream]:
        """Open a connection of its own to one server for whole searches; leaving early abandons them.

        No server in `avoid` is asked, which names some of `servers` by their URLs, and not all of them.
        `began_s` is when this listing was begun by the event loop's clock, where another server has broken it off: its
        time counts.
        """

    async def look_up(self, search: SearchRequest, server: str | None = None, *, must_find: bool = False) -> LookUp:
        """Ask the first server that answers, or `server` alone, for the entries of a small search.

        Where more match than `size_limit_count`, that many are returned: to tell one from several, allow two. An entry
        that is the base of a search and not there (noSuchObject, RFC 4511 Appendix A) is an answer: no entry. With
        `must_find`, no entry is an answer only if a new connection says so, too.
        """

    async def bind(self, dn: str, password: Secret, server: str | None = None) -> BindResult:
        """The answer to exactly one simple bind at `server`, or at the first one; it is never repeated.

        Raises `OutcomeUnknown` where the password was sent, and nobody knows what came of it; any other
        `DirectoryError` says that no password was sent, or that the server has not looked at it. `ValueError` on an
        empty password (RFC 4513 §5.1.2 makes it an anonymous bind that succeeds).
        """

    def set_aside(self, server: str, error: DirectoryError, trial: Callable[[], Awaitable[None]] | None = None) -> None:
        """Ask `server` last until it has been tried in the background: another one has done what it could not.

        With `trial`, it is not asked before that has succeeded, too, which raises a `DirectoryError` otherwise; until
        then it is asked only where its URL is given, or every other server has to stand a trial as well.
        """

    async def probe(self) -> RootDSE:
        """What the preferred server that answers says of itself, after the service bind."""

    def forgive_refusal(self) -> None:
        """The operator asks: our own account is tried once more now, even where it was refused before.

        Otherwise a refused account is left alone for a time that grows, so that the directory does not lock it.
        """

    async def aclose(self) -> None:
        """No connection is left, and nothing waits any more."""

"""Look-ups: small searches by the service account that share one connection per server, many at a time.

A connection is never better than its last answer: what may mean that it isn't ours any more retires it, and the search
is asked once more on a new one. Searches may be repeated; nothing else goes through here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from bridge.deadlines import Deadlines
from bridge.directory import Scope
from bridge.errors import DirectoryError, DirectoryUnavailable, SearchIncomplete, share
from bridge.ldap.ages import Ages
from bridge.ldap.ranges import complete_ranges
from bridge.ldap.references import find_needed, server_of
from bridge.ldap.results import (
    NO_SUCH_OBJECT,
    OVERLOADED,
    SIZE_LIMIT_EXCEEDED,
    SUCCESS,
    check_entries,
    check_repetition,
    describe_place,
    search_error,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bridge.clock import Clock
    from bridge.directory import Entry, SearchRequest
    from bridge.ldap.connection import Connection, Exchange
    from bridge.ldap.messages import Response
    from bridge.ldap.service_account import ServiceAccount
    from bridge.ldap.settings import LdapSettings, ServerAddress

_HIDDEN = -1
"""No result code: an entry has come without what every entry shows."""
_PATIENCE = 0.5
"""The part of a request's time after which a silent connection is no longer waited for alone."""


class _Answer(NamedTuple):  # made for each look-up
    """What ended a search, and where."""

    connection: Connection
    exchange: Exchange
    response: Response


class _Silence:
    """A search on a kept connection that may have been forgotten: overtaken by a new one when it stays silent.

    A connection that has brought something meanwhile is alive and its server slow: then it is waited for.
    """

    __slots__ = ("_again", "_connections", "_exchange", "_received_count", "_search", "_server", "_silent", "due_s")

    def __init__(
        self,
        connections: LookupConnections,
        server: ServerAddress,
        silent: Connection,
        exchange: Exchange,
        search: SearchRequest,
    ) -> None:
        self._connections = connections
        self._server = server
        self._silent = silent
        self._exchange = exchange
        self._search = search
        self._received_count = silent.received_count
        self._again: asyncio.Task[Connection | None] | None = None
        self.due_s = 0.0

    @property
    def is_unbroken(self) -> bool:
        """Whether nothing has come on the connection since."""
        return self._silent.received_count == self._received_count

    @property
    def answered_by(self) -> Connection | None:
        """The new connection, where it was faster."""
        again = self._again
        return again.result() if again is not None and again.done() and not again.cancelled() else None

    def pass_by(self) -> None:
        """Ask on a new connection, too."""
        if self.is_unbroken and not self._exchange.done.done():
            self._connections.give_up(self._server, self._silent)
            self._again = asyncio.create_task(self._overtake())

    async def _overtake(self) -> Connection | None:
        try:
            connection, other, response = await self._connections.ask_anew(self._server, self._search)
        except DirectoryError:
            return None  # the silent connection may answer yet, and says what is wrong otherwise
        if self._exchange.done.done():
            return None
        self._silent.abandon(self._exchange)
        self._exchange.answer_by(other, response)
        return connection

    def end(self) -> None:
        """Ask no more."""
        if self._again is not None and not self._again.done():
            self._again.cancel()


class LookupConnections:
    """One bound connection for each server that is in use, opened when it is needed."""

    def __init__(
        self,
        settings: LdapSettings,
        account: ServiceAccount,
        clock: Clock,
        suspect: Callable[[ServerAddress], None],
    ) -> None:
        """`suspect` is told of a server whose kept connection has fallen silent: it is seldom the only one."""
        self._settings = settings
        self._account = account
        self._clock = clock
        self._suspect = suspect
        self._ages = Ages(settings, clock)
        self._patience = Deadlines(settings.request_timeout_s * _PATIENCE)
        self._openings: dict[ServerAddress, asyncio.Task[Connection]] = {}
        self._retired: dict[Connection, asyncio.TimerHandle] = {}
        """What waits to be closed until its last look-ups have had their time."""
        self._used_at_s: dict[ServerAddress, float] = {}
        self._confirmed: dict[ServerAddress, int] = {}
        """What is wrong on new connections as well, since a server's last good answer: asking anew would not help."""
        self._sweep: asyncio.TimerHandle | None = None

    async def search(
        self, server: ServerAddress, search: SearchRequest, *, must_find: bool = False, is_last: bool = True
    ) -> tuple[Entry, ...]:
        """The entries that match at `server`, at most `size_limit_count`.

        With `must_find`, an empty answer of a kept connection is asked for once more on a new one. A server that says
        that it has too much to do is asked once more only if it `is_last`. Raises `SearchIncomplete` and its kin where
        the entries may not be all; `TimeoutError` comes from outside.
        """
        connection, is_new = await self._connection(server)
        answer: _Answer | None = None
        try:
            answer = await (self._ask(connection, search) if is_new else self._ask_kept(server, connection, search))
        except DirectoryUnavailable:
            if is_new or connection.is_usable:
                raise
        is_of_kept = not is_new and (answer is None or answer.connection is connection)
        if answer is None or (is_of_kept and self._may_be_lost(server, answer, search, must_find=must_find)):
            self._retire_if_kept(server, connection)
            if answer is None or is_last or answer.response.result_code not in OVERLOADED:
                connection, _ = await self._connection(server)
                answer, is_of_kept = await self._ask(connection, search), False
        doubt = _doubt(answer, search)
        if doubt is None:
            if self._confirmed:
                self._confirmed.pop(server, None)
        elif not is_of_kept:
            self._confirmed[server] = doubt
        if _is_answer(answer, search):
            return await self._conclude(answer, search)
        raise search_error(answer.response, answer.connection.peer, search)

    def retain(self, servers: Collection[ServerAddress]) -> None:
        """No connection is kept to other servers than these; what is in flight has the time of a request to end."""
        for gone in self._openings.keys() - set(servers):
            self.retire(gone)

    def retire(self, server: ServerAddress) -> None:
        """No further look-up uses the connection to `server`; those in flight have the time of a request to end."""
        opening = self._openings.pop(server, None)
        if opening is not None:
            opening.add_done_callback(self._close_later)

    async def aclose(self) -> None:
        """Every connection is closed, those that are being opened too."""
        if self._sweep is not None:
            self._sweep.cancel()
        openings, self._openings = list(self._openings.values()), {}
        for opening in openings:
            opening.cancel()
        for outcome in await asyncio.gather(*openings, return_exceptions=True):
            if not isinstance(outcome, BaseException):
                outcome.close()
        for connection, timer in self._retired.items():
            timer.cancel()
            connection.close()
        self._retired.clear()

    async def _ask(self, connection: Connection, search: SearchRequest) -> _Answer:
        exchange = connection.send_search(search)
        return _Answer(connection, exchange, await connection.wait(exchange))

    async def _ask_kept(self, server: ServerAddress, connection: Connection, search: SearchRequest) -> _Answer:
        """The answer of a kept connection, or of a new one where this one stays silent."""
        exchange = connection.send_search(search)
        silence = _Silence(self, server, connection, exchange, search)
        self._patience.add(silence)
        try:
            response = await connection.wait(exchange)
        except asyncio.CancelledError:
            if silence.is_unbroken:
                self.give_up(server, connection)
            raise
        finally:
            self._patience.remove(silence)
            silence.end()
        return _Answer(silence.answered_by or connection, exchange, response)

    def give_up(self, server: ServerAddress, connection: Connection) -> None:
        """Use a silent connection no more, and tell those who keep others to its server."""
        self._suspect(server)
        self._retire_if_kept(server, connection)

    async def ask_anew(self, server: ServerAddress, search: SearchRequest) -> tuple[Connection, Exchange, Response]:
        """The answer on a connection that takes the place of one that was given up."""
        connection, _ = await self._connection(server)
        return await self._ask(connection, search)

    async def _conclude(self, answer: _Answer, search: SearchRequest) -> tuple[Entry, ...]:
        """The entries that an answer stands for. Raises `SearchIncomplete` where they may not be all."""
        connection, exchange, response = answer
        if response.result_code == NO_SUCH_OBJECT:
            return ()
        needed = find_needed(exchange.references, self._settings) if exchange.references else None
        if needed is not None:
            where, subject = describe_place(search)
            raise SearchIncomplete(
                f"the search {where} refers to {server_of(needed)}",
                subject=", ".join(filter(None, (subject, needed))),
                directory=self._settings.directory,
                server=connection.peer.server,
                remedy="Configure that server as a directory, or set `referrals: ignore` if nobody in there matters.",
            )
        entries = exchange.entries
        check_entries(entries, search, connection)
        if len(entries) > 1:
            check_repetition(entries, search, connection)
        if connection.has_ranges:
            entries = await complete_ranges(entries, connection, self._settings.limits)
        return tuple(entries)

    async def _connection(self, server: ServerAddress) -> tuple[Connection, bool]:
        """The shared connection, and whether it is new.

        However many ask, it is opened once, whoever of them goes away meanwhile.
        """
        now_s = self._clock.monotonic_s()
        opening = self._openings.get(server)
        if opening is not None and opening.done():
            if _is_usable(opening) and self._may_be_used(server, opening.result(), now_s):
                self._used_at_s[server] = now_s
                return opening.result(), False
            self.retire(server)
            opening = None
        if opening is None:
            opening = self._openings[server] = asyncio.create_task(self._open(server))
            opening.add_done_callback(_is_usable)  # fetches its exception, where everybody has gone away
        self._used_at_s[server] = now_s
        return await share(opening), True

    def _may_be_used(self, server: ServerAddress, connection: Connection, now_s: float) -> bool:
        return now_s < connection.ends_at_s and now_s - self._used_at_s[server] < self._settings.idle_s

    async def _open(self, server: ServerAddress) -> Connection:
        connection = await self._account.connect(server)
        self._ages.begin(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._settings.idle_s, self._close_unused)
        return connection

    def _close_unused(self) -> None:
        """Closes what nobody has needed for `idle_s`, or is too old, and comes again while anything is left."""
        self._sweep = None
        now_s = self._clock.monotonic_s()
        for server, opening in list(self._openings.items()):
            if opening.done() and not (_is_usable(opening) and self._may_be_used(server, opening.result(), now_s)):
                self.retire(server)
        if self._openings:
            self._sweep = asyncio.get_running_loop().call_later(self._settings.idle_s, self._close_unused)

    def _close_later(self, opening: asyncio.Task[Connection]) -> None:
        if _is_usable(opening):
            connection, loop = opening.result(), asyncio.get_running_loop()
            self._retired[connection] = loop.call_later(self._settings.request_timeout_s, self._close_now, connection)

    def _close_now(self, connection: Connection) -> None:
        self._retired.pop(connection, None)
        connection.close()

    def _may_be_lost(self, server: ServerAddress, answer: _Answer, search: SearchRequest, *, must_find: bool) -> bool:
        """Whether a kept connection may not be bound any more as whom it was, or lead where it did.

        A new connection shows it; where one has said the same already, the answer is true.
        """
        doubt = _doubt(answer, search)
        if doubt is None:
            return must_find and not answer.exchange.entries
        return self._confirmed.get(server) != doubt

    def _retire_if_kept(self, server: ServerAddress, connection: Connection) -> None:
        """No further look-up uses this very connection; another one that has taken its place stays."""
        opening = self._openings.get(server)
        if opening is not None and opening.done() and (not _is_usable(opening) or opening.result() is connection):
            self.retire(server)


def _doubt(answer: _Answer, search: SearchRequest) -> int | None:
    """What a lost session may have caused: the result, or `_HIDDEN`; None where all is as it should be."""
    if not _is_answer(answer, search):
        return answer.response.result_code
    entries = answer.exchange.entries
    is_whole = all(name in entry.attributes for entry in entries for name in search.shown)
    return None if is_whole else _HIDDEN


def _is_answer(answer: _Answer, search: SearchRequest) -> bool:
    """Whether the search has ended as it should; what is read by its name is one entry, or missing."""
    code = answer.response.result_code
    if code == SIZE_LIMIT_EXCEEDED:
        return search.scope is not Scope.BASE and len(answer.exchange.entries) >= search.size_limit_count > 0
    return code == SUCCESS or (code == NO_SUCH_OBJECT and search.scope is Scope.BASE)


def _is_usable(opening: asyncio.Task[Connection]) -> bool:
    """Whether a connection came of it that may be used."""
    return not opening.cancelled() and opening.exception() is None and opening.result().is_usable

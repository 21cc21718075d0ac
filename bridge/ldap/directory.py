"""A configured directory over LDAP: the port `bridge.directory.Directory`, made of connections.

Look-ups, listings and user binds have connections of their own, so that a hundred thousand users being listed don't
make a login wait.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from random import SystemRandom
from typing import TYPE_CHECKING

from bridge.clock import SystemClock
from bridge.deadlines import Deadlines
from bridge.directory import LookUp
from bridge.errors import DirectoryError, DirectoryRefused, DirectoryUnavailable, OutcomeUnknown
from bridge.events import CertificateSeen, OperationEnded
from bridge.ldap import messages
from bridge.ldap.account_notices import AccountNotices
from bridge.ldap.binds import BindConnections
from bridge.ldap.connect_errors import explain_silent_dns
from bridge.ldap.limiter import Limiter
from bridge.ldap.lookups import LookupConnections
from bridge.ldap.pace import Pace
from bridge.ldap.paged_search import PagedSearch
from bridge.ldap.results import ASK_ANOTHER_SERVER, SLOW_AT_PASSWORDS, judge_user_bind
from bridge.ldap.root_dse import read_root_dse
from bridge.ldap.servers import INNER_PART, Servers
from bridge.ldap.service_account import ServiceAccount
from bridge.ldap.service_secrets import RefusedSecrets
from bridge.model import file_problem
from bridge.renewal import Renewed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

    from bridge.certificates.verification import Words
    from bridge.clock import Clock
    from bridge.directory import BindResult, EntryStream, RootDSE, SearchRequest
    from bridge.events import Observer
    from bridge.ldap.connection import Connection
    from bridge.ldap.discovery import Discovery
    from bridge.ldap.messages import Response
    from bridge.ldap.settings import LdapSettings, ServerAddress
    from bridge.model import Problem, Secret


_CONNECTING_PART = 0.75
"""The part of a bind's time in which a connection must be had: what is left is for the answer."""


class LdapDirectory:
    """One directory and its servers."""

    def __init__(
        self,
        settings: LdapSettings,
        observe: Observer,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        refused: RefusedSecrets | None = None,
    ) -> None:
        """`refused` is what servers have refused of service accounts, shared by all directories of the process."""
        self.name = settings.directory
        self._settings = settings
        self._observe = observe
        clock = clock or SystemClock()
        self._monotonic_s = clock.monotonic_s
        self._discovery = self._make_discovery(sleep) if settings.discovery is not None else None
        self._servers = Servers(
            settings.directory,
            settings.servers,
            clock,
            observe,
            probe=self._probe_server,
            find=self._discovery.find if self._discovery is not None else None,
            why_slow=self._why_slow,
            sleep=sleep,
        )
        self._notices = AccountNotices(settings.directory, clock, observe)
        self._account = ServiceAccount(settings, refused or RefusedSecrets(clock), self._notices)
        self._binds = BindConnections(settings, self._servers, clock)
        self._lookups = LookupConnections(settings, self._account, clock, self._binds.suspect)
        queue = settings.queue_limit_count
        self._lookup_limiter = Limiter(self.name, settings.limits.lookups_in_flight_count, queue)
        self._bind_limiter = Limiter(self.name, settings.bind_connection_count, queue)
        self._request_time = Deadlines(settings.request_timeout_s)
        self._pace = Pace(self._lookup_limiter, self._bind_limiter)

    def _make_discovery(self, sleep: Callable[[float], Awaitable[None]]) -> Discovery:
        settings = self._settings
        assert settings.discovery is not None  # noqa: S101 - it is made for directories that have it
        spread = SystemRandom()
        # What asks the DNS is loaded where it is asked: the service would hold two MiB of it in memory for nothing.
        from bridge.ldap.discovery import Discovery  # noqa: PLC0415

        return Discovery(
            settings.discovery, self.name, self._take_servers, observe=self._observe, random=spread, sleep=sleep
        )

    def _take_servers(self, servers: Sequence[ServerAddress]) -> None:
        self._servers.replace(servers)
        self._lookups.retain(servers)

    def _why_slow(self, server: ServerAddress, share_s: float) -> Words | None:
        """The DNS, where it is what a server's share of the time went to."""
        return explain_silent_dns(server, share_s) if self._settings.names.is_asking(server) else None

    @property
    def servers(self) -> tuple[str, ...]:
        """The URLs of the servers that are known now, those that are asked first at the front."""
        return self._servers.urls

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the service account, with servers, or with the files of secret and certificates."""
        settings = self._settings
        key = settings.sasl.key if settings.sasl is not None else None
        sources = (settings.bind_password, settings.tls, key)
        files = (file_problem(source, self.name) for source in sources if isinstance(source, Renewed))
        return (
            *self._notices.problems,
            *self._servers.problems,
            *(problem for problem in files if problem is not None),
        )

    def set_aside(self, server: str, error: DirectoryError, trial: Callable[[], Awaitable[None]] | None = None) -> None:
        """Ask `server` last until it has been tried in the background."""
        with suppress(DirectoryUnavailable):
            self._servers.set_aside(self._servers.named(server), error, trial)

    async def look_up(self, search: SearchRequest, server: str | None = None, *, must_find: bool = False) -> LookUp:
        """Ask the first server that answers, or `server` alone, for the entries of a small search."""

        async def attempt(address: ServerAddress) -> LookUp:
            is_last = server is not None or self._servers.is_last(address)
            with self._observed("look_up", address):
                entries = await self._lookups.search(address, search, must_find=must_find, is_last=is_last)
                return LookUp(entries, address.url)

        try:
            with self._request_time.begin():
                async with self._lookup_limiter:
                    return await self._servers.first(attempt, self._request_time.timeout_s, server)
        except TimeoutError as error:
            raise self._too_slow("the look-up", self._request_time.timeout_s, server) from error

    async def bind(self, dn: str, password: Secret, server: str | None = None) -> BindResult:
        """The answer to exactly one simple bind at `server`, or at the first one; it is never repeated."""
        if not password:
            raise ValueError("an empty password would bind anonymously and succeed (RFC 4513 §5.1.2)")
        chosen = None
        try:
            with self._request_time.begin():
                async with self._bind_limiter:
                    chosen, connection = await self._binds.take(self._request_time.timeout_s * _CONNECTING_PART, server)
                    return await self._bind(chosen, connection, dn, password)
        except TimeoutError as error:
            if chosen is None:
                raise self._too_slow("the wait for a user bind", self._request_time.timeout_s) from error
            raise self._unanswered(chosen, f"within {self._request_time.timeout_s:g} s") from error

    async def _bind(self, server: ServerAddress, connection: Connection, dn: str, password: Secret) -> BindResult:
        """Bind. From here on the password may have been sent, whatever comes."""
        try:
            with self._observed("user_bind", server):
                response = await connection.bind(dn, password, messages.ASK_FOR_PASSWORD_POLICY)
        except DirectoryUnavailable as error:
            connection.abort()
            raise self._unanswered(server, f"before {error.detail}", error.diagnostic_message) from error
        except BaseException:
            connection.abort()
            raise
        try:
            result = self._judge(response, server, connection)
        except DirectoryError:
            # Whatever has become of this connection, has become of those, too, that were made when it was.
            connection.close()
            self._binds.suspect(server)
            raise
        self._binds.keep(server, connection)
        return result

    def _unanswered(self, server: ServerAddress, when: str, said: str = "") -> OutcomeUnknown:
        """The error for a bind that was sent and not answered; its server is set aside."""
        self._binds.suspect(server)
        self._lookups.retire(server)
        failure = OutcomeUnknown(
            f"the user bind was not answered {when}",
            directory=self.name,
            server=server.url,
            diagnostic_message=said,
            remedy=SLOW_AT_PASSWORDS,
        )
        self._servers.set_aside(server, failure, is_of_bind=True)
        return failure

    def _judge(self, response: Response, server: ServerAddress, connection: Connection) -> BindResult:
        try:
            result = judge_user_bind(response, connection.peer)
        except DirectoryError as error:
            refuses_all = isinstance(error, DirectoryRefused) and len(self._servers.urls) > 1
            if refuses_all or response.result_code in ASK_ANOTHER_SERVER:
                self._servers.set_aside(server, error, is_of_bind=True)
            raise
        if result.rejection is None:
            self._servers.note_accepted(server)
        return result

    @asynccontextmanager
    async def open_listing(
        self, began_s: float | None = None, avoid: Collection[str] = ()
    ) -> AsyncIterator[EntryStream]:
        """Open a connection of its own to one server for whole searches."""
        timeout_s, now_s = self._settings.listing_timeout_s, asyncio.get_running_loop().time()
        due_s = (now_s if began_s is None else began_s) + timeout_s
        try:
            async with asyncio.timeout_at(due_s):
                server, connection, root = await self._servers.first(
                    self._connect_and_greet, due_s - now_s, avoid=avoid
                )
                try:
                    with self._observed("listing", server):
                        yield PagedSearch(
                            connection,
                            self._settings,
                            root,
                            pace=self._pace,
                            observe=self._observe,
                            page_timeout_s=self._page_timeout_s(due_s, avoid),
                        )
                except DirectoryUnavailable as error:
                    self._servers.set_aside(server, error)
                    raise
                finally:
                    connection.close()
        except TimeoutError as error:
            raise self._too_slow("the listing", timeout_s) from error

    def _page_timeout_s(self, due_s: float, avoid: Collection[str]) -> float:
        """How long a page may take, so that time is left for the servers that come next, and to say who was slow."""
        server_count = len([server for server in self._servers.in_order() if server.url not in avoid])
        return (due_s - asyncio.get_running_loop().time()) * INNER_PART / max(1, server_count)

    async def probe(self) -> RootDSE:
        """What the preferred server that answers says of itself, after the service bind."""

        async def attempt(server: ServerAddress) -> RootDSE:
            _, connection, root = await self._connect_and_greet(server)
            connection.close()
            if root is None:
                raise DirectoryRefused(
                    "the server shows no root DSE",
                    directory=self.name,
                    server=server.url,
                    remedy="Let the service account read the entry with the empty name, or configure users.bases.",
                )
            return root

        try:
            with self._request_time.begin():
                return await self._servers.first(attempt, self._request_time.timeout_s)
        except TimeoutError as error:
            raise self._too_slow("the root DSE", self._request_time.timeout_s) from error

    def forgive_refusal(self) -> None:
        """The service account is bound once more, even if it was refused a moment ago."""
        self._account.forgive_refusal()

    async def aclose(self) -> None:
        """No connection is left."""
        if self._discovery is not None:
            await self._discovery.aclose()
        await self._servers.aclose()
        await self._lookups.aclose()
        await self._binds.aclose()

    async def _connect_and_greet(self, server: ServerAddress) -> tuple[ServerAddress, Connection, RootDSE | None]:
        """A connection of the service account, and what the server says of itself on it."""
        with self._observed("connect", server):
            connection = await self._account.connect(server)
            try:
                root = await read_root_dse(connection)
            except BaseException:
                connection.abort()
                raise
        if (expires_at_s := connection.certificate_expires_at_s) is not None:
            self._observe(CertificateSeen(self.name, server.url, expires_at_s))
        return server, connection, root

    async def _probe_server(self, server: ServerAddress) -> None:
        """Whether a server that was set aside is well: connected, TLS, service bind, an answer."""
        try:
            with self._request_time.begin():
                _, connection, _ = await self._connect_and_greet(server)
        except TimeoutError as error:
            raise self._too_slow("the root DSE", self._request_time.timeout_s) from error
        connection.close()

    def _too_slow(self, what: str, timeout_s: float, url: str | None = None) -> DirectoryUnavailable:
        """The error for what has taken all of its time: at the server that alone was asked, where there is one."""
        urls = self._servers.urls
        failure = DirectoryUnavailable(
            f"{what} took longer than {timeout_s:g} s",
            directory=self.name,
            server=url or (urls[0] if len(urls) == 1 else None),
            remedy="Check the load of the server, its indexes, and `timeouts` in the configuration.",
        )
        if failure.server is not None:
            self.set_aside(failure.server, failure)
        return failure

    def _observed(self, operation: str, server: ServerAddress) -> _Observed:
        return _Observed(self._observe, self._monotonic_s, (self.name, server.url, operation))


class _Observed:
    """Tells how the operation inside ended, and how long it took."""

    __slots__ = ("_monotonic_s", "_observe", "_started_s", "_subject")

    def __init__(self, observe: Observer, monotonic_s: Callable[[], float], subject: tuple[str, str, str]) -> None:
        self._observe = observe
        self._monotonic_s = monotonic_s
        self._subject = subject
        self._started_s = monotonic_s()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        outcome = "ok"
        if kind is not None:
            outcome = "refused" if issubclass(kind, DirectoryRefused) else "unavailable"
        self._observe(OperationEnded(*self._subject, outcome, self._monotonic_s() - self._started_s))

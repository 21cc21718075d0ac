"""A configured directory over LDAP: the port `bridge.directory.Directory`, made of connections.

Look-ups, listings and user binds have connections of their own, so that a hundred thousand users being listed don't
make a login wait.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import SystemRandom
from typing import TYPE_CHECKING

from bridge.clock import SystemClock
from bridge.deadlines import Deadlines
from bridge.errors import DirectoryRefused, DirectoryUnavailable
from bridge.events import CertificateSeen, OperationEnded
from bridge.ldap import messages
from bridge.ldap.binds import BindConnections
from bridge.ldap.limiter import Limiter
from bridge.ldap.lookups import LookupConnections
from bridge.ldap.pace import Pace
from bridge.ldap.paged_search import PagedSearch
from bridge.ldap.results import ASK_ANOTHER_SERVER, judge_user_bind
from bridge.ldap.root_dse import read_root_dse
from bridge.ldap.servers import Servers
from bridge.ldap.service_account import ServiceAccount
from bridge.ldap.service_secrets import RefusedSecrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from bridge.clock import Clock
    from bridge.directory import BindResult, Entry, EntryStream, RootDSE, SearchRequest
    from bridge.events import Observer
    from bridge.ldap.connection import Connection
    from bridge.ldap.discovery import Discovery
    from bridge.ldap.messages import Response
    from bridge.ldap.settings import LdapSettings, ServerAddress
    from bridge.model import Secret


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
            sleep=sleep,
        )
        self._account = ServiceAccount(settings, refused or RefusedSecrets(clock))
        self._lookups = LookupConnections(settings, self._account)
        self._binds = BindConnections(settings, self._servers)
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

    async def look_up(self, search: SearchRequest) -> tuple[Entry, ...]:
        """The entries of a small search by the service account."""

        async def attempt(server: ServerAddress) -> tuple[Entry, ...]:
            with self._observed("look_up", server):
                return await self._lookups.search(server, search)

        try:
            with self._request_time.begin():
                async with self._lookup_limiter:
                    return await self._servers.first(attempt, self._request_time.timeout_s)
        except TimeoutError as error:
            raise self._too_slow("the look-up", self._request_time.timeout_s) from error

    async def bind(self, dn: str, password: Secret) -> BindResult:
        """The answer to exactly one simple bind, which is never repeated."""
        if not password:
            raise ValueError("an empty password would bind anonymously and succeed (RFC 4513 §5.1.2)")
        server = None
        try:
            with self._request_time.begin():
                async with self._bind_limiter:
                    server, connection = await self._binds.take(self._request_time.timeout_s)
                    return await self._bind(server, connection, dn, password)
        except TimeoutError as error:
            failure = self._too_slow("the user bind", self._request_time.timeout_s)
            if server is not None:
                self._servers.set_aside(server, failure)
            raise failure from error

    async def _bind(self, server: ServerAddress, connection: Connection, dn: str, password: Secret) -> BindResult:
        try:
            with self._observed("user_bind", server):
                response = await connection.bind(dn, password, messages.ASK_FOR_PASSWORD_POLICY)
        except BaseException as error:
            connection.abort()
            if isinstance(error, DirectoryUnavailable):
                self._servers.set_aside(server, error)
            raise
        self._binds.keep(server, connection)
        return self._judge(response, server, connection)

    def _judge(self, response: Response, server: ServerAddress, connection: Connection) -> BindResult:
        try:
            return judge_user_bind(response, connection.peer)
        except DirectoryUnavailable as error:
            if response.result_code in ASK_ANOTHER_SERVER:
                self._servers.set_aside(server, error)
            raise

    @asynccontextmanager
    async def open_listing(self, began_s: float | None = None) -> AsyncIterator[EntryStream]:
        """Open a connection of its own to one server for whole searches."""
        timeout_s, now_s = self._settings.listing_timeout_s, asyncio.get_running_loop().time()
        due_s = (now_s if began_s is None else began_s) + timeout_s
        try:
            async with asyncio.timeout_at(due_s):
                server, connection, root = await self._servers.first(self._connect_and_greet, due_s - now_s)
                try:
                    with self._observed("listing", server):
                        yield PagedSearch(
                            connection,
                            self._settings,
                            root,
                            pace=self._pace,
                            observe=self._observe,
                            page_timeout_s=self._page_timeout_s(due_s),
                        )
                except DirectoryUnavailable as error:
                    self._servers.set_aside(server, error)
                    raise
                finally:
                    connection.close()
        except TimeoutError as error:
            raise self._too_slow("the listing", timeout_s) from error

    def _page_timeout_s(self, due_s: float) -> float | None:
        """How long a page may take, so that time is left for the servers that come next; None where there is none."""
        server_count = len(self._servers.in_order())
        return None if server_count == 1 else (due_s - asyncio.get_running_loop().time()) / server_count

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

    async def _connect_and_greet(
        self, server: ServerAddress, *, is_trial: bool = False
    ) -> tuple[ServerAddress, Connection, RootDSE | None]:
        """A connection of the service account, and what the server says of itself on it."""
        with self._observed("connect", server):
            connection = await self._account.connect(server, is_trial=is_trial)
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
                _, connection, _ = await self._connect_and_greet(server, is_trial=True)
        except TimeoutError as error:
            raise self._too_slow("the root DSE", self._request_time.timeout_s) from error
        connection.close()

    def _too_slow(self, what: str, timeout_s: float) -> DirectoryUnavailable:
        return DirectoryUnavailable(
            f"{what} took longer than {timeout_s:g} s",
            directory=self.name,
            remedy="Check the load of the server, its indexes, and `timeouts` in the configuration.",
        )

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

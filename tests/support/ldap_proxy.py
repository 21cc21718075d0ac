"""A proxy between an LDAP client and a real server, into which a test puts faults while connections are open.

    async with LdapProxy(("127.0.0.1", slapd.port)) as proxy:
        proxy.answer_searches(51, which="existing")  # busy
        …
        proxy.heal()

Whatever has no fault passes unchanged. `which` says where a fault is put: into the connections that exist at the moment
of the call, into those that come afterwards, or into all. A later fault goes before an earlier one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Literal, Self

from tests.support.ldap_messages import (
    Kind,
    Request,
    write_bind_response,
    write_notice,
    write_search_done,
)
from tests.support.proxied_connection import Faults, ProxiedConnection, Rule, reset_socket

Which = Literal["existing", "new", "all"]

_BACKLOG = 1024
_UNAVAILABLE = 52


class LdapProxy:
    """An asynchronous context manager: a free port of 127.0.0.1 whose connections are passed on to `target`.

    LDAP messages are recorded and can be answered; a connection that begins with TLS, or has begun it by StartTLS, is
    passed on unread, and only the faults of whole connections work on it. An exception of `on_request`, or of a
    condition, is raised when the proxy is left.
    """

    def __init__(self, target: tuple[str, int], *, on_request: Callable[[Request], None] | None = None) -> None:
        self.target = target
        """Host and port of the server, for connections that are still to come."""
        self.on_request = on_request
        """Called when a request has arrived, before it is decided what happens to it."""
        self.requests: list[Request] = []
        """Every request that has arrived, whether or not the server got it."""
        self.opened_count = 0
        """Connections that were accepted, without those that were refused."""
        self.refused_count = 0
        self.port = 0
        self._new = Faults()
        self._refuses = False
        self._listener: socket.socket | None = None
        self._holder: socket.socket | None = None
        """Never listens: between two listeners, the port would go to the next connection that somebody makes."""
        self._is_listening = False
        self._connections: list[ProxiedConnection] = []
        self._waiting: list[tuple[Callable[[Request], bool], asyncio.Future[Request]]] = []
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._holder = _bind(0)
        self.port = self._holder.getsockname()[1]
        self._listener = _bind(self.port)
        self.listen_again()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop_listening()
        assert self._listener is not None
        assert self._holder is not None
        self._listener.close()
        self._holder.close()
        tasks = [connection.task for connection in self._connections]
        self.close_existing(rst=True)
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failures and kind is None:
            raise self._failures[0]

    # What has been seen

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def open_count(self) -> int:
        """Connections that the client has not ended, and that the proxy has not closed."""
        return sum(connection.has_client for connection in self._connections)

    @property
    def silent_connections(self) -> frozenset[int]:
        """The numbers of those in a black hole that the client has not ended."""
        return frozenset(each.number for each in self._connections if each.has_client and each.faults.is_black_hole)

    @property
    def searches(self) -> list[Request]:
        """The search requests."""
        return [request for request in self.requests if request.kind == "search"]

    def binds_of(self, dn: str) -> int:
        """How many binds of this DN have arrived, in whatever case it was written."""
        folded = dn.casefold()
        return sum(request.kind == "bind" and request.dn.casefold() == folded for request in self.requests)

    async def wait_for(self, is_wanted: Callable[[Request], bool]) -> Request:
        """Return the first such request: one that has arrived, or the next one."""
        found = next(filter(is_wanted, self.requests), None)
        if found is not None:
            return found
        future: asyncio.Future[Request] = asyncio.get_running_loop().create_future()
        self._waiting.append((is_wanted, future))
        return await future

    # Faults of requests

    def answer_searches(
        self,
        result_code: int,
        diagnostic: str = "",
        *,
        entries: bool = False,
        only: Callable[[Request], bool] | None = None,
        which: Which = "all",
    ) -> None:
        """End searches with this result, in place of the server.

        With `entries` the server is asked all the same: its entries pass, and only the end of the search is replaced,
        together with its controls.
        """

        def answer(request: Request) -> bytes:
            return write_search_done(request.message_id, result_code, diagnostic)

        self.add(Rule(_searches(only), answer, is_forwarded=entries), which)

    def answer_binds(
        self,
        result_code: int,
        diagnostic: str = "",
        *,
        controls: bytes = b"",
        only: Callable[[str], bool] | None = None,
        which: Which = "all",
    ) -> None:
        """Answer binds in place of the server; `only` is asked about the DN.

        `controls` is the whole element, see `tests.support.ldap_messages.write_controls`.
        """

        def answer(request: Request) -> bytes:
            return write_bind_response(request.message_id, result_code, diagnostic, controls)

        self.add(Rule(_binds(only), answer), which)

    def swallow_binds(self, *, only: Callable[[str], bool] | None = None, which: Which = "all") -> None:
        """Let the server judge binds, and never pass on what it says."""
        self.add(Rule(_binds(only), is_forwarded=True), which)

    def drop_binds(self, *, only: Callable[[str], bool] | None = None, which: Which = "all") -> None:
        """Let binds never reach the server, so that no answer comes."""
        self.add(Rule(_binds(only)), which)

    def add(self, rule: Rule, which: Which = "all") -> None:
        """Put in any other fault of requests."""
        for faults in self._faults(which):
            faults.rules = (rule, *faults.rules)

    def delay(self, seconds: float, *, only: Collection[Kind] | None = None, which: Which = "all") -> None:
        """Make answers late: all of them, or those to requests of these kinds.

        What is late is held in memory, and no answer overtakes another one to the same request.
        """
        for faults in self._faults(which):
            faults.delay_s = seconds
            faults.delayed_kinds = None if only is None else frozenset(only)

    # Faults of connections

    def black_hole(self, which: Which = "all") -> None:
        """Swallow what either end sends, FIN and RST included, like a firewall that has forgotten the connection.

        A new connection is accepted and doesn't reach the server.
        """
        for faults in self._faults(which):
            faults.is_black_hole = True

    def refuse(self) -> None:
        """Close new connections at once, with RST. The client notices while it connects, or when it first reads."""
        self._refuses = True

    def stop_listening(self) -> None:
        """Have the system turn new connections away; the port stays ours."""
        if not self._is_listening or self._listener is None:
            return
        self._is_listening = False
        asyncio.get_running_loop().remove_reader(self._listener)
        # A child that is being started may hold the descriptor for a moment, and what listens keeps others from the port.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._listener = _bind(self.port)

    def listen_again(self) -> None:
        """Accept connections on the same port."""
        if self._is_listening or self._listener is None:
            return
        self._is_listening = True
        self._listener.listen(_BACKLOG)
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def close_existing(self, *, rst: bool) -> None:
        """Close the existing connections on both sides, with RST or else with FIN; those in a black hole too."""
        for connection in tuple(self._connections):
            connection.close(rst=rst)

    def send_notice(self, result_code: int = _UNAVAILABLE, diagnostic: str = "") -> None:
        """Announce the end on the existing connections (RFC 4511 §4.4.1); `close_existing` is what should follow."""
        self._send(write_notice(result_code, diagnostic))

    def garbage(self, data: bytes = b"HTTP/1.1 400 Bad Request\r\n\r\n") -> None:
        """Send on the existing connections what is no LDAP message."""
        self._send(data)

    def heal(self, *, revive_black_holed: bool = False) -> None:
        """End all faults, send what is late, and listen again.

        Connections in a black hole stay there, unless they are to be revived: then messages pass from now on, what was
        swallowed stays lost, and a connection of which one end has gone meanwhile is reset.
        """
        self._new, self._refuses = Faults(), False
        for connection in tuple(self._connections):
            connection.heal(revives_black_hole=revive_black_holed)
        self.listen_again()

    # Inside

    def _faults(self, which: Which) -> list[Faults]:
        found = [self._new] if which != "existing" else []
        if which != "new":
            found += [connection.faults for connection in self._connections]
        return found

    def _send(self, data: bytes) -> None:
        for connection in self._connections:
            connection.send(data)

    def _accept(self) -> None:
        assert self._listener is not None
        with contextlib.suppress(BlockingIOError, ConnectionAbortedError):  # the client may have gone already
            client, _ = self._listener.accept()
            if self._refuses:
                self.refused_count += 1
                reset_socket(client)
                return
            self.opened_count += 1
            connection = ProxiedConnection(
                client,
                self.target,
                number=self.opened_count,
                faults=replace(self._new),
                on_request=self._record,
            )
            self._connections.append(connection)
            connection.task.add_done_callback(lambda task: self._forget(connection, task))

    def _forget(self, connection: ProxiedConnection, task: asyncio.Task[None]) -> None:
        self._connections.remove(connection)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failures.append(error)

    def _record(self, request: Request) -> None:
        self.requests.append(request)
        for is_wanted, future in self._waiting:
            if not future.done() and is_wanted(request):
                future.set_result(request)
        self._waiting = [pair for pair in self._waiting if not pair[1].done()]
        if self.on_request is not None:
            self.on_request(request)


def _bind(port: int) -> socket.socket:
    """A socket that has the port and does not listen yet."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setblocking(False)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    return bound


def _searches(only: Callable[[Request], bool] | None) -> Callable[[Request], bool]:
    return lambda request: request.kind == "search" and (only is None or only(request))


def _binds(only: Callable[[str], bool] | None) -> Callable[[Request], bool]:
    return lambda request: request.kind == "bind" and (only is None or only(request.dn))

"""Listeners: sockets opened and closed, with the time-outs that aiohttp lacks."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http import HttpProcessingError, RawRequestMessage

from bridge.web.acceptor import Acceptor
from bridge.web.answers import SERVER_NAME, SentAnswer
from bridge.web.drops import HANDSHAKE, SILENT
from bridge.web.messages import end_with, is_understood
from bridge.web.places import Places, standing_at
from bridge.web.sockets import SocketAddress, open_sockets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp import StreamReader
    from aiohttp.abc import AbstractStreamWriter

    from bridge.web.limits import WebLimits
    from bridge.web.places import Place, Pool

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    Refusal = Callable[[web.BaseRequest], web.Response]

__all__ = ("Listener", "SocketAddress")

_HEADER_LINE_MAX_BYTES = 8190
_DRAIN_S = 10.0


class _Connection(web.RequestHandler):
    """A connection that must have sent the headers of its first request in time.

    aiohttp 3.14: its keep-alive timer bounds the headers of every later request, and nothing bounds those of the first.
    """

    __slots__ = ("_deadline", "_is_last", "_is_understood", "_payload", "_place", "_socket_transport")

    def __init__(self, manager: _Server, place: Place, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._is_last = False
        """Whether the client will send no more."""
        self._is_understood = True
        """Whether the request that is being answered is of a version that we speak."""
        self._place = place
        self._payload: StreamReader | None = None
        self._socket_transport: asyncio.Transport | None = None
        """As `transport`, which aiohttp forgets when it begins to close."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there, if it has not lost its place meanwhile."""
        if not self._may_stay(transport):
            return
        with standing_at(self._place):
            super().connection_made(transport)
        manager = self._manager
        if isinstance(manager, _Server):
            self._deadline = self._loop.call_later(manager.limits.header_timeout_s, self._check)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        if self._deadline is not None:
            self._deadline.cancel()
        # TLS 1.3: a caller that does not trust the certificate says so when our part of the handshake is over.
        is_refused = isinstance(exc, ssl.SSLError) and self._request_count == 0
        self._place.leave(HANDSHAKE if is_refused else None)
        super().connection_lost(exc)
        self._end_payload()
        self._socket_transport = None

    def _end_payload(self) -> None:
        # aiohttp 3.14: once a request is answered, its task waits for what is left of the body, though nobody sends it.
        # The end of the body would do as well there, and would make a whole one of a half where a handler reads it.
        payload, self._payload = self._payload, None
        _break(payload, TimeoutError())

    def data_received(self, data: bytes) -> None:
        """More has come. Where it is no HTTP, nothing more will come of the bodies that have begun.

        aiohttp 3.14: it queues an error behind the request, which goes on waiting for its body.
        """
        super().data_received(data)
        if self._messages and not isinstance(self._messages[-1][0], RawRequestMessage):
            for payload in (self._payload, *(payload for _, payload in self._messages)):
                _break(payload, web.RequestPayloadError())

    @property
    def is_idle(self) -> bool:
        """Nothing of a request is here."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def is_awaited(self) -> bool:
        """The caller is waited for: it has not sent all of its request, or not taken the answer."""
        transport = self._socket_transport
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() > 0:
            return True
        return self._payload is not None and not self._payload.is_eof()

    def abort(self) -> None:
        """Close the connection at once: TLS would wait for the caller's leave."""
        transport = self._socket_transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def begin(self, message: RawRequestMessage, payload: StreamReader) -> RawRequestMessage:
        """The headers of the request that begins, and of which `payload` is still to come, as they are to be taken."""
        self._payload = payload
        self._is_understood = is_understood(message)
        return end_with(message)

    def _may_stay(self, transport: asyncio.BaseTransport) -> bool:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - aiohttp takes no other
        self._socket_transport = transport
        # Security: without an address, a caller who is gone already would pass for one of a Unix socket.
        if self._place.is_held and (self._place.is_of_unix or transport.get_extra_info("peername")):
            self._place.occupant = self
            return True
        self.abort()
        return False

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it, and aiohttp never means to stay
        """The client has sent all it had; who has sent a whole request waits for its answer (RFC 9112 §9.6)."""
        last_body = self._messages[-1][1] if self._messages else self._payload
        if self.is_idle or last_body is None or not last_body.is_eof():
            return False
        transport = self._socket_transport
        if transport is None or transport.get_extra_info("sslcontext") is not None:
            return False  # asyncio ends TLS in both directions, and logs a warning where it is asked not to
        self._is_last = True
        return True

    async def _handle_request(
        self, request: web.BaseRequest, start_time: float | None, request_handler: Handler
    ) -> tuple[web.StreamResponse, bool]:
        handler = request_handler if self._is_understood else self._refuse
        answered = await super()._handle_request(request, start_time, handler)
        if self._is_last and not self._messages:
            self.close()
        return answered

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer. Security: without a name of ours, aiohttp names itself and Python, with their versions."""
        if not isinstance(resp, SentAnswer):
            resp.headers.setdefault("Server", SERVER_NAME)
        return await super().finish_response(request, resp, start_time)

    async def _refuse(self, request: web.BaseRequest) -> web.StreamResponse:
        return self.handle_error(request, 400)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's words
    ) -> web.StreamResponse:
        """The answer to what is no HTTP.

        Security: aiohttp's own words quote the request, and with it a password or its header.
        """
        if isinstance(exc, ConnectionError):  # the client has gone away
            raise exc
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        manager = self._manager
        if status >= 500 or not isinstance(manager, _Server):  # noqa: PLR2004
            self.log_exception(exc_info=exc)
            response = web.Response(status=500)
        else:
            response = manager.refuse(request)
        response.force_close()
        return response

    def log_exception(self, *_: object, exc_info: BaseException | None = None, **__: object) -> None:
        """Log what kind of error has ended a connection. Security: its words may quote what was sent."""
        if isinstance(exc_info, HttpProcessingError | web.RequestPayloadError):
            return  # the client's fault, and told already where that can be told
        self.logger.error("a connection was ended by %s", type(exc_info).__name__)

    def log_debug(self, *_: object, **__: object) -> None:
        """Nothing: these words may quote what was sent, too."""

    def _check(self) -> None:
        if self._request_count == 0:
            self._place.pool.drop(SILENT)
            self.force_close()


class _Server(web.Server):
    """Makes a protocol for each connection."""

    def __init__(self, handler: Handler, limits: WebLimits, refuse: Refusal) -> None:
        super().__init__(handler, request_factory=_make_request)
        self.limits = limits
        self.refuse = refuse
        self._options: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": limits.keep_alive_s,
            "lingering_time": limits.body_timeout_s,
            "max_line_size": _HEADER_LINE_MAX_BYTES,
            "max_field_size": _HEADER_LINE_MAX_BYTES,
        }

    def connect(self, place: Place) -> _Connection:
        """The protocol of one connection."""
        return _Connection(self, place, loop=asyncio.get_running_loop(), **self._options)


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: web.RequestHandler,
    writer: AbstractStreamWriter,
    task: asyncio.Task[None],
) -> web.BaseRequest:
    if isinstance(protocol, _Connection):
        message = protocol.begin(message, payload)
    return web.BaseRequest(message, payload, protocol, writer, task, task.get_loop())


class Listener:
    """Serves a handler at some addresses until it is closed."""

    def __init__(
        self, handler: Handler, limits: WebLimits, pool: Pool | None = None, refuse: Refusal | None = None
    ) -> None:
        """`pool` bounds the connections, of other listeners, too; None: only those of this one.

        `refuse` answers what is no HTTP; of such a request nothing but the address is known.
        """
        server = _Server(handler, limits, refuse or _refuse)
        self._runner = web.ServerRunner(server, shutdown_timeout=_DRAIN_S)
        pool = pool or Places(limits).make_pool("listener")
        self._acceptor = Acceptor(pool, server.connect, limits.handshake_timeout_s)

    async def start(self, addresses: tuple[SocketAddress, ...], tls: ssl.SSLContext | None = None) -> None:
        """Listens at every address, or at none. Raises `OSError` that names the one that can't be had."""
        sockets = await open_sockets(addresses)
        await self._runner.setup()
        self._acceptor.start(sockets, tls)

    @property
    def addresses(self) -> list[Any]:
        """What is listened at: a host and a port, or a path."""
        return self._acceptor.addresses

    async def aclose(self) -> None:
        """No request is taken any more; those that run have 10 s to end."""
        await self._acceptor.aclose()
        await self._runner.cleanup()


def _break(payload: StreamReader | None, error: Exception) -> None:
    """Have whoever waits for the rest of a body meet the error."""
    if payload is not None and payload.exception() is None and not payload.is_eof():
        payload.set_exception(error)


def _refuse(_request: web.BaseRequest) -> web.Response:
    return web.Response(status=400, text="This is no HTTP.\n")

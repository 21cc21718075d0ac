"""Listeners: sockets opened and closed, with the time-outs that aiohttp lacks."""

from __future__ import annotations

import asyncio
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from aiohttp import StreamReader

    from bridge.web.limits import WebLimits

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
    Refusal = Callable[[web.BaseRequest], web.Response]

_HEADER_LINE_MAX_BYTES = 8190
_DRAIN_S = 10.0


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Where to listen: a host and a port (0 for any), or the path of a socket."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class _Connection(web.RequestHandler):
    """A connection that must have sent the headers of its first request in time.

    aiohttp 3.14: its keep-alive timer bounds the headers of every later request, and nothing bounds those of the first.
    """

    __slots__ = ("_answered_count", "_deadline", "_is_last", "_last_body")

    def __init__(self, manager: _Server, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._answered_count = 0
        self._last_body: StreamReader | None = None
        self._is_last = False
        """Whether the client will send no more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The client is there; it is sent away at once where there are too many."""
        super().connection_made(transport)
        manager = self._manager
        if isinstance(manager, _Server):
            if len(manager.connections) > manager.limits.connection_count:
                self.force_close()
                return
            self._deadline = self._loop.call_later(manager.limits.header_timeout_s, self._check)

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Something has come."""
        super().data_received(data)
        if self._messages:
            self._last_body = self._messages[-1][1]

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks for it, and aiohttp never means to stay
        """The client has sent all it had; who has sent a whole request waits for its answer (RFC 9112 §9.6)."""
        is_asked = self._answered_count < self._request_count
        if not is_asked or self._last_body is None or not self._last_body.is_eof():
            return False
        self._is_last = True
        return True

    async def _handle_request(self, *arguments: Any) -> tuple[web.StreamResponse, bool]:
        answered = await super()._handle_request(*arguments)
        self._answered_count += 1
        if self._is_last and self._answered_count == self._request_count:
            self.close()
        return answered

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
        if isinstance(exc_info, HttpProcessingError):
            return  # the client's fault, and told already where that can be told
        self.logger.error("a connection was ended by %s", type(exc_info).__name__)

    def log_debug(self, *_: object, **__: object) -> None:
        """Nothing: these words may quote what was sent, too."""

    def _check(self) -> None:
        if self._request_count == 0:
            self.force_close()


class _Server(web.Server):
    """Makes a protocol for each connection."""

    def __init__(self, handler: Handler, limits: WebLimits, refuse: Refusal) -> None:
        super().__init__(handler)
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

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, loop=asyncio.get_running_loop(), **self._options)


class Listener:
    """Serves a handler at some addresses until it is closed."""

    def __init__(self, handler: Handler, limits: WebLimits, refuse: Refusal | None = None) -> None:
        """`refuse` answers what is no HTTP; of such a request nothing but the address is known."""
        server = _Server(handler, limits, refuse or _refuse)
        self._runner = web.ServerRunner(server, shutdown_timeout=_DRAIN_S)

    async def start(self, addresses: tuple[SocketAddress, ...], tls: ssl.SSLContext | None = None) -> None:
        """Listens at every address, or at none. Raises `OSError` that names the one that can't be had."""
        await self._runner.setup()
        for address in addresses:
            try:
                await self._site(address, tls).start()
            except OSError as error:
                await self._runner.cleanup()
                raise _name_address(error, address) from error

    @property
    def addresses(self) -> list[Any]:
        """What is listened at: a host and a port, or a path."""
        return self._runner.addresses

    async def aclose(self) -> None:
        """No request is taken any more; those that run have 10 s to end."""
        await self._runner.cleanup()

    def _site(self, address: SocketAddress, tls: ssl.SSLContext | None) -> web.BaseSite:
        if address.path is None:
            return web.TCPSite(self._runner, address.host, address.port, ssl_context=tls)
        _remove_stale_socket(Path(address.path))
        return web.UnixSite(self._runner, address.path, ssl_context=tls)


def _refuse(_request: web.BaseRequest) -> web.Response:
    return web.Response(status=400, text="This is no HTTP.\n")


def _name_address(error: OSError, address: SocketAddress) -> OSError:
    """The same kind of error, in the system's own words, about the address as it is configured."""
    # asyncio tells a sentence instead of the system's words, and not always the address.
    words = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
    return OSError(error.errno, words, str(address))


def _remove_stale_socket(path: Path) -> None:
    """What an ended process has left; anything but a socket is left alone, and listening will fail."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()

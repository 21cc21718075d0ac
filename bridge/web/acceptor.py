"""Accepts connections, and turns them away before anything costs: a bound first, then TLS, then HTTP.

asyncio's own server makes a protocol with its buffers for whoever connects, and tells nobody how many there are. Here a
caller costs a socket and a timer until its first byte has come, and no HTTP protocol is made before TLS is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import struct
from typing import TYPE_CHECKING, Any

from bridge.web.drops import DESCRIPTORS, GONE, HANDSHAKE, NOT_TLS, SILENT

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from bridge.web.places import Place, Pool

    Connect = Callable[[Place], asyncio.Protocol]

_ACCEPTED_AT_ONCE_COUNT = 64
"""Then others have their turn."""
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_EXHAUSTED_PAUSE_S = 0.5
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 s: close(2) resets the connection, and the kernel keeps nothing of it."""
_HANDSHAKE_RECORD = b"\x16"
"""RFC 8446 §5.1: the content type of the record that begins TLS."""
_HANDSHAKE_AT_LEAST_S = 1.0


class Acceptor:
    """Listens at sockets, and hands each connection that is admitted to a protocol."""

    def __init__(self, pool: Pool, connect: Connect, handshake_timeout_s: float) -> None:
        """`connect` makes the protocol of an admitted connection; the time is from accept(2) to the end of TLS."""
        self.pool, self.connect, self.handshake_timeout_s = pool, connect, handshake_timeout_s
        self.tls: ssl.SSLContext | None = None
        self.arrivals: set[_Arrival] = set()
        """Who has not ended TLS's handshake yet."""
        self.tasks: set[asyncio.Task[None]] = set()
        self._listening: list[socket.socket] = []

    @property
    def addresses(self) -> list[Any]:
        """What is listened at: a host and a port, or a path."""
        return [each.getsockname() for each in self._listening]

    def start(self, listening: list[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Accept at sockets that listen and don't block; they are closed with this."""
        self.tls = tls
        self._listening = listening
        for each in listening:
            asyncio.get_running_loop().add_reader(each, self._accept, each)

    async def aclose(self) -> None:
        """Nobody is accepted any more, and no handshake goes on; those who are being answered stay."""
        listening, self._listening = self._listening, []
        for each in listening:
            asyncio.get_running_loop().remove_reader(each)
            each.close()
        for arrival in tuple(self.arrivals):
            arrival.abort()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE_COUNT):
            try:
                found, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(listening)
                    return
                continue  # the caller has gone meanwhile, or its network has: accept(2), "Error handling"
            self._admit(found, None if listening.family == socket.AF_UNIX else address[0])

    def _admit(self, found: socket.socket, remote: str | None) -> None:
        place = self.pool.admit(remote)
        if place is None:
            _reset(found)
            return
        found.setblocking(False)
        _Arrival(self, found, place).begin()

    def _pause(self, listening: socket.socket) -> None:
        # The socket stays readable, and would be asked again in each turn of the loop.
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        self.pool.drop(DESCRIPTORS)
        loop.call_later(_EXHAUSTED_PAUSE_S, self._resume, listening)

    def _resume(self, listening: socket.socket) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening)


class _Arrival:
    """A caller until its protocol is made: with TLS, until the end of the handshake."""

    __slots__ = ("_acceptor", "_deadline", "_is_handed_over", "_loop", "_place", "_socket", "_timer")

    is_idle = True
    is_awaited = True

    def __init__(self, acceptor: Acceptor, found: socket.socket, place: Place) -> None:
        self._acceptor, self._socket, self._place = acceptor, found, place
        self._loop = asyncio.get_running_loop()
        self._deadline = self._loop.time() + acceptor.handshake_timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._is_handed_over = False
        place.occupant = self

    def begin(self) -> None:
        """Wait for the first byte of TLS; plain HTTP begins at once."""
        if self._acceptor.tls is None:
            self._hand_over()
            return
        self._acceptor.arrivals.add(self)
        self._timer = self._loop.call_at(self._deadline, self._end, SILENT)
        self._loop.add_reader(self._socket, self._look)

    def abort(self) -> None:
        """Close the connection at once."""
        if not self._is_handed_over:
            self._end()
            return
        # It is a transport's by now, which finds that nothing more comes.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _look(self) -> None:
        try:
            first = self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if first == _HANDSHAKE_RECORD:
            self._stop_waiting()
            self._hand_over()
        else:
            self._end(NOT_TLS if first else GONE)

    def _end(self, reason: str | None = None) -> None:
        self._stop_waiting()
        self._acceptor.arrivals.discard(self)
        self._place.leave(reason)
        _reset(self._socket)

    def _stop_waiting(self) -> None:
        self._loop.remove_reader(self._socket)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hand_over(self) -> None:
        self._is_handed_over = True
        task = self._loop.create_task(self._serve())
        tasks = self._acceptor.tasks
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def _serve(self) -> None:
        """Make the transport, end TLS's handshake and make the protocol."""
        tls, connect, place = self._acceptor.tls, self._acceptor.connect, self._place
        try:
            if tls is None:
                await self._loop.connect_accepted_socket(lambda: connect(place), self._socket)
            else:
                await self._loop.connect_accepted_socket(
                    lambda: _AfterHandshake(connect, place),
                    self._socket,
                    ssl=tls,
                    ssl_handshake_timeout=max(self._deadline - self._loop.time(), _HANDSHAKE_AT_LEAST_S),
                )
        except OSError as error:
            # asyncio 3.11: the error's traceback holds TLS's protocol and its buffers, which holds the error.
            error.__traceback__ = None
            place.leave(SILENT if isinstance(error, ConnectionAbortedError) else HANDSHAKE)
        except BaseException:
            place.leave()
            raise
        finally:
            self._acceptor.arrivals.discard(self)


class _AfterHandshake(asyncio.Protocol):
    """Makes the protocol of a connection when TLS is there, and never where it fails."""

    def __init__(self, connect: Connect, place: Place) -> None:
        self._connect, self._place = connect, place

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake has ended well."""
        protocol = self._connect(self._place)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)


def _reset(found: socket.socket) -> None:
    with contextlib.suppress(OSError):
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    found.close()

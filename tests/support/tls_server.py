"""A server that begins TLS at once or by StartTLS, on loopback, and sends alerts as real servers do.

Blocking sockets in a thread: asyncio's own servers close a failed handshake without the alert.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

_STARTED_TLS = bytes.fromhex("300c02010178070a010004000400")
"""Message 1: an extendedResp with success (RFC 4511 §4.12)."""

Handler = Callable[[socket.socket], None]


@asynccontextmanager
async def listening(handle: Handler, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """The port of a server that handles each connection in a thread; sockets are closed afterwards."""
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as listener:
        threads: list[threading.Thread] = []

        def run(connection: socket.socket) -> None:
            connection.settimeout(10)
            with connection, suppress(OSError):
                handle(connection)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=run, args=(connection,)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                await asyncio.to_thread(thread.join)  # the client's end is closed by the event loop


def speaks_tls(context: ssl.SSLContext, *, after_start_tls: bool = False) -> Handler:
    """What begins TLS, and says nothing then until the client has gone."""

    def handle(connection: socket.socket) -> None:
        if after_start_tls:
            connection.recv(1024)
            connection.sendall(_STARTED_TLS)
        with context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False) as tls:
            try:
                tls.do_handshake()
            except ssl.SSLError:
                socket.socket.recv(tls, 1024)  # what is left unread would have the system take the alert back
                raise
            while tls.recv(1024):
                pass

    return handle


def says(words: bytes, *, first: bool = False) -> Handler:
    """What says something, at once or when it was told something, and hangs up when the client does."""

    def handle(connection: socket.socket) -> None:
        if not first:
            connection.recv(1024)
        connection.sendall(words)
        while words and connection.recv(1024):
            pass

    return handle


def stays_silent(connection: socket.socket) -> None:
    while connection.recv(1024):
        pass

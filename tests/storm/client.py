"""One HTTP connection on a raw socket, which tells an answer that was cut from one that never began."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from base64 import b64encode
from typing import NamedTuple

from tests.support.bridges import CALLER, CALLER_PASSWORD

_READ_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_CREDENTIALS = b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class NoAnswer(Exception):
    """The connection was refused, or was closed before an answer began."""


class Truncated(Exception):
    """An answer began, and is not the whole one that its head announces."""


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    is_compressed: bool
    body: bytes


def write_request(body: str, *, path: str = "/mailstore", takes_gzip: bool = False) -> bytes:
    """A POST of MailStore's caller."""
    head = (
        f"POST {path} HTTP/1.1",
        "Host: bridge",
        f"Authorization: Basic {_CREDENTIALS}",
        "Content-Type: application/x-www-form-urlencoded",
        f"Content-Length: {len(body)}",
        *(["Accept-Encoding: gzip"] if takes_gzip else []),
    )
    return "\r\n".join((*head, "", body)).encode()


class Connection:
    """One connection to the bridge, opened when it is first needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None

    @property
    def is_open(self) -> bool:
        """Whether a request has been sent on it, and it was not closed by us."""
        return self._socket is not None

    async def send(self, data: bytes) -> None:
        """Send bytes. Raises `NoAnswer` where the other side takes none."""
        loop = asyncio.get_running_loop()
        try:
            if self._socket is None:
                self._socket = socket.socket()
                self._socket.setblocking(False)
                await loop.sock_connect(self._socket, ("127.0.0.1", self._port))
            await loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise NoAnswer(str(error)) from error

    def end_requests(self) -> None:
        """Say that nothing more will be sent (FIN)."""
        if self._socket is not None:
            self._socket.shutdown(socket.SHUT_WR)

    async def read(self, received: bytes = b"") -> bytes:
        """More bytes of an answer, after those that were received. Raises `NoAnswer` and `Truncated`."""
        assert self._socket is not None
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, _READ_BYTES)
        except OSError as error:
            data, reason = b"", str(error)
        else:
            reason = "closed"
        if not data and received:
            raise Truncated(f"{reason} after {received[:200]!r} … ({len(received)} bytes)")
        if not data:
            raise NoAnswer(reason)
        return received + data

    async def answer(self) -> Answer:
        """The answer to the request that was sent. Raises `NoAnswer` and `Truncated`."""
        received = await self.read()
        while (head_end := received.find(b"\r\n\r\n")) < 0:
            received = await self.read(received)
        head = received[: head_end + 2].lower()
        length = _LENGTH.search(head)
        if length is None:
            raise Truncated(f"no length in {head[:300]!r}")
        whole_bytes = head_end + 4 + int(length[1])
        while len(received) < whole_bytes:
            received = await self.read(received)
        if len(received) > whole_bytes:
            raise Truncated(f"more than was announced: {received[whole_bytes : whole_bytes + 200]!r}")
        is_compressed = b"\r\ncontent-encoding: gzip\r\n" in head
        return Answer(int(received[9:12]), is_compressed, received[head_end + 4 :])

    def close(self, *, rst: bool = False) -> None:
        """Leave, with RST or else with FIN; the next request opens another connection."""
        found, self._socket = self._socket, None
        if found is None:
            return
        if rst:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        found.close()


async def fetch(port: int, path: str) -> str:
    """What the admin listener says at this path."""
    connection = Connection(port)
    try:
        await connection.send(f"GET {path} HTTP/1.1\r\nHost: bridge\r\n\r\n".encode())
        return (await connection.answer()).body.decode()
    finally:
        connection.close()

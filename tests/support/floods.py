"""Callers in great numbers: raw sockets that connect and then say what they are told to, and one who is in the right."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import resource
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from tests.support.bridges import CALLER, CALLER_PASSWORD

_AT_ONCE_COUNT = 100
_BIND_ADDRESS_NO_PORT = 24
"""ip(7): the port is chosen when it is known where the connection goes, so that thousands find one."""
_CREDENTIALS = base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Let this process have as many descriptors as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def connect(port: int | str, source: str = "127.0.0.1") -> socket.socket:
    """A connection from an address of this machine, or to the path of a socket."""
    found = socket.socket(socket.AF_UNIX if isinstance(port, str) else socket.AF_INET)
    found.setblocking(False)
    try:
        if source != "127.0.0.1":
            found.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            found.bind((source, 0))
        address = port if isinstance(port, str) else ("127.0.0.1", port)
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(found, address), 10)
    except (OSError, TimeoutError):
        found.close()
        raise
    return found


def is_closed(found: socket.socket) -> bool:
    """The other side has closed it."""
    try:
        return found.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@asynccontextmanager
async def flood(
    port: int | str, count: int, *, says: bytes = b"", source: str = "127.0.0.1"
) -> AsyncIterator[list[socket.socket]]:
    """So many connections, some of which may be closed again by the other side; those that don't come are left out."""
    held: list[socket.socket] = []

    async def one() -> None:
        with contextlib.suppress(OSError, TimeoutError):
            found = await connect(port, source)
            held.append(found)
            if says:
                await asyncio.get_running_loop().sock_sendall(found, says)

    try:
        for start in range(0, count, _AT_ONCE_COUNT):
            await asyncio.gather(*(one() for _ in range(min(_AT_ONCE_COUNT, count - start))))
        yield held
    finally:
        for found in held:
            _reset(found)


@asynccontextmanager
async def kept_flood(port: int, count: int, says: bytes, tls: ssl.SSLContext | None = None) -> AsyncIterator[None]:
    """So many connections, each with a request that was answered, and kept open."""
    held: list[asyncio.StreamWriter] = []
    host = "127.0.0.1" if tls is not None else None

    async def one() -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=host)
                held.append(writer)
                writer.write(says)
                await reader.readuntil(b"\r\n\r\n")

    try:
        for start in range(0, count, _AT_ONCE_COUNT):
            await asyncio.gather(*(one() for _ in range(min(_AT_ONCE_COUNT, count - start))))
        yield
    finally:
        for writer in held:
            writer.transport.abort()


async def pass_by(port: int, count: int, *, says: bytes = b"", wait: bool = False) -> None:
    """So many connect, say something and leave; `wait` until the other side has closed, or answered and is reset."""
    loop = asyncio.get_running_loop()

    async def one() -> None:
        with contextlib.suppress(OSError, TimeoutError):
            found = await connect(port)
            try:
                if says:
                    await loop.sock_sendall(found, says)
                if wait:
                    await asyncio.wait_for(loop.sock_recv(found, 4096), 10)
            finally:
                if says:
                    _reset(found)
                else:
                    found.close()

    for start in range(0, count, _AT_ONCE_COUNT):
        await asyncio.gather(*(one() for _ in range(min(_AT_ONCE_COUNT, count - start))))


def _reset(found: socket.socket) -> None:
    """Close without TIME_WAIT, which would keep thousands of ports for a minute."""
    found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    found.close()


def client_hello() -> bytes:
    """What begins TLS."""
    outgoing = ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="bridge").do_handshake()
    return outgoing.read()


class RightCaller:
    """Someone with credentials, from another address; keeps one connection open where it is asked to."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, source: str = "127.0.0.2") -> None:
        self.port, self.tls, self.source = port, tls, source
        self.statuses: list[int] = []
        self.connection_count = 0
        self._kept: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, *, keep: bool = False) -> int:
        """The status of a listing, over a new connection or the one that was kept; 0 where there is none in time."""
        try:
            async with asyncio.timeout(15):
                status = await self._ask(keep=keep)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self._kept, status = None, 0
        self.statuses.append(status)
        return status

    async def keep_asking(self, pause_s: float = 0.02) -> None:
        """Until it is cancelled, by turns over a new connection and over one that is kept."""
        keep = False
        while True:
            await self.ask(keep=keep)
            keep = not keep
            await asyncio.sleep(pause_s)

    def close(self) -> None:
        """Leave."""
        if self._kept is not None:
            self._kept[1].transport.abort()

    async def _ask(self, *, keep: bool) -> int:
        if not keep or self._kept is None:
            self.connection_count += keep
            host = "127.0.0.1" if self.tls is not None else None
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=(self.source, 0), ssl=self.tls, server_hostname=host
            )
            if keep:
                self._kept = reader, writer
        else:
            reader, writer = self._kept
        writer.write(
            b"POST /mailstore HTTP/1.1\r\nHost: bridge\r\nContent-Length: 8\r\n"
            + f"Authorization: Basic {_CREDENTIALS}\r\n\r\ncmd=list".encode()
        )
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
        )
        await reader.readexactly(length)
        if not keep:
            writer.close()
        return int(head.split()[1])


def resident_kib(process_id: int, line: str = "VmRSS") -> int:
    """The memory that a process has, or by the line VmHWM of its status (proc(5)) the most that it has had."""
    text = Path(f"/proc/{process_id}/status").read_text()
    return next(int(each.split()[1]) for each in text.splitlines() if each.startswith(f"{line}:"))


def forget_peak() -> None:
    """The most that this process has had is what it has now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def open_count() -> int:
    """The descriptors of this process."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())

"""A listener with a service behind it whose answers are known, and what speaks to it."""

from __future__ import annotations

import asyncio
import base64
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from bridge.events import Event
from bridge.mailstore import ListAnswer
from bridge.model import Accepted, Rejected, Rejection, Secret, Verdict
from bridge.web.callers import Callers
from bridge.web.handlers import MailStoreHandler
from bridge.web.limits import WebLimits
from bridge.web.server import Listener, SocketAddress
from tests.support.slapd import require

BODY = b'[{"userName":"anna"}]'
AUTHORIZATION = "Authorization: Basic " + base64.b64encode("mailstore:pä".encode()).decode()


class FakeService:
    """A service whose answers are known, and which can be told to hang or to fail."""

    def __init__(self) -> None:
        self.body = BODY
        self.error: Exception | None = None
        self.hang = False
        self.asked: list[tuple[str, ...]] = []
        self._released = asyncio.Event()

    def release(self) -> None:
        """Answer what hangs."""
        self.hang = False
        self._released.set()

    async def list_users(self, endpoint: str, *, compressed: bool) -> ListAnswer:
        self.asked.append(("list", endpoint))
        await self._misbehave()
        if compressed:
            return ListAnswer(gzip.compress(self.body), 1, "gzip")
        return ListAnswer(self.body, 1)

    async def authenticate(self, endpoint: str, user_name: str, password: Secret) -> Verdict:
        self.asked.append(("auth", endpoint, user_name))
        await self._misbehave()
        if password == Secret(b"right"):
            return Accepted("d", "1")
        return Rejected(Rejection.WRONG_PASSWORD)

    async def _misbehave(self) -> None:
        if self.hang:
            await self._released.wait()
        if self.error is not None:
            raise self.error


class Web:
    """A listener with a fake service behind it."""

    def __init__(
        self, service: FakeService, listener: Listener, events: list[Event], bugs: list[BaseException]
    ) -> None:
        self.service, self.listener, self.events, self.bugs = service, listener, events, bugs
        self.port: int = listener.addresses[0][1]

    async def curl(self, *arguments: str, path: str = "/mailstore") -> tuple[int, bytes]:
        command = [require("curl"), "-sS", "-m", "20", "-w", "\n%{http_code}", *arguments]
        command.append(f"http://127.0.0.1:{self.port}{path}")
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        body, _, status = (await process.communicate())[0].rpartition(b"\n")
        return int(status), body

    async def talk(self, *pieces: bytes) -> bytes:
        """Everything that comes back for bytes that are sent one piece after the other, until the server closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)
        try:
            return await asyncio.wait_for(reader.read(), 10)
        finally:
            writer.close()


@asynccontextmanager
async def serving(limits: WebLimits | None = None, tls: ssl.SSLContext | None = None) -> AsyncIterator[Web]:
    service, events, bugs = FakeService(), list[Event](), list[BaseException]()
    limits = replace(limits or WebLimits(), refused_pause_s=0.0)
    numbers = iter(range(1, 10_000))
    handler = MailStoreHandler(
        service,
        {"/mailstore": Callers({"mailstore": Secret("pä".encode())}, b"k" * 32, limits)},
        limits,
        content_type="application/json",
        make_id=lambda: f"id{next(numbers)}",
        observe=events.append,
        report_bug=lambda _id, error: bugs.append(error),
    )
    listener = Listener(handler, limits, refuse=handler.refuse)
    await listener.start((SocketAddress("127.0.0.1", 0),), tls)
    try:
        yield Web(service, listener, events, bugs)
    finally:
        await listener.aclose()


USER = ("-u", "mailstore:pä")


def request(body: bytes, *headers: str, method: str = "POST", path: str = "/mailstore") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

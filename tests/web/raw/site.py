"""A whole bridge, twice: its three listeners over plain HTTP, and MailStore's over TLS; and the directory that counts binds."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from bridge.web.server import Listener as WebListener
from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.slapd import PEOPLE
from tests.web.raw.cases import Listener
from tests.web.raw.words import ANNA, BERT


class Site:
    """Both bridges, as somebody outside finds them and as somebody inside sees them."""

    def __init__(self, server: FaultyServer, plain: Client, tls: Client, socket: Path, trusted: ssl.SSLContext) -> None:
        self.server, self.plain, self.tls = server, plain, tls
        self.socket, self.trusted = socket, trusted

    async def connect(self, listener: Listener) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        place = self.place(listener)
        if isinstance(place, str):
            return await asyncio.open_unix_connection(place)
        return await asyncio.open_connection("127.0.0.1", place, ssl=self.trusted if listener is Listener.TLS else None)

    def place(self, listener: Listener) -> int | str:
        """The port, or the path of the socket."""
        match listener:
            case Listener.CONTROL:
                return str(self.socket)
            case Listener.TLS:
                return self.tls.port
            case Listener.ADMIN:
                found: int = self.plain.service.admin.addresses[0][1]
                return found
        return self.plain.port

    def connection_count(self) -> int:
        """All that the listeners have."""
        found: list[WebListener] = []
        for client in (self.plain, self.tls):
            found += [client.service.listener, client.service.admin, client.service.control]
        return sum(each._acceptor.pool.count for each in found)

    def log(self) -> str:
        """What both have logged."""
        return self.plain.log.getvalue() + self.tls.log.getvalue()

    def forget(self) -> None:
        """Begin both logs and the binds anew."""
        for client in (self.plain, self.tls):
            client.log.seek(0)
            client.log.truncate()
        self.server.binds.clear()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log().splitlines()]


@asynccontextmanager
async def running_site(folder: Path, certificate: tuple[Path, Path], authority: Path) -> AsyncIterator[Site]:
    """Both run until they are left, and have answered once."""
    directory = small_directory("anna", "bert")
    for uid, password in (("anna", ANNA), ("bert", BERT)):
        found = directory.find(f"uid={uid},{PEOPLE}")
        assert found is not None
        found.attributes["userpassword"][0] = password
    more = "cache: {refresh_ahead: false}\nlog: {level: debug}"
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(FaultyServer(directory))
        clients = []
        for name in ("plain", "tls"):
            own = folder / name
            own.mkdir()
            file = configuration(server.url, own, more=more)
            text = file.read_text().replace('"127.0.0.1:0"}', f'"127.0.0.1:0", socket: {own}/socket}}')
            tls = f", tls: {{certificate_file: {certificate[0]}, key_file: {certificate[1]}}}" if name == "tls" else ""
            text = text.replace(
                f'server: {{listen: "127.0.0.1:0", socket: {own}/socket}}', f'server: {{listen: "127.0.0.1:0"{tls}}}'
            )
            file.write_text(text)
            clients.append(await stack.enter_async_context(running_bridge(file)))
        trusted = ssl.create_default_context(cafile=str(authority))
        yield Site(server, clients[0], clients[1], folder / "plain" / "socket", trusted)

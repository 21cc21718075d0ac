"""The embedded server with faults that a script puts into it, and a record of what it was sent.

What a script may do with one request is `tests.faults.turns`; the tables of faults stand beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable

from bridge.demo import wire
from bridge.demo.people import BASE
from bridge.demo.server import EmbeddedServer, Session
from bridge.demo.store import Store
from bridge.syntax import ber
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD

OnSearch = Callable[[Session, wire.Message, wire.ReceivedSearch], Awaitable[bool]]
"""True where the script has answered."""
OnBind = Callable[[Session, wire.Message, wire.ReceivedBind], Awaitable[bool]]
OnRequest = Callable[["FaultySession", wire.Message], Awaitable[bool]]
OnConnect = Callable[["FaultySession"], Awaitable[bool]]


def small_directory(*uids: str) -> Store:
    """A few people, with the account that reads them."""
    store = Store(BASE)
    store.add(BASE, {"objectClass": ["domain"], "dc": ["example"]})
    store.add(READER, {"objectClass": ["device"], "cn": ["reader"], "userPassword": [READER_PASSWORD]})
    store.add(PEOPLE, {"objectClass": ["organizationalUnit"], "ou": ["people"]})
    for uid in uids:
        found = {"objectClass": ["inetOrgPerson"], "uid": [uid], "cn": [uid], "mail": [f"{uid}@example.com"]}
        store.add(f"uid={uid},{PEOPLE}", {**found, "userPassword": [f"Pass-{uid}"]})
    return store


class FaultyServer(EmbeddedServer):
    """Every request is shown to the scripts before it is answered.

    `on_search` and `on_bind` see every request of their kind, except for the root DSE; `on_request` comes before them
    and sees all requests; `on_connect` sees each connection before anything is read.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_search: OnSearch | None = None,
        on_bind: OnBind | None = None,
        tls: ssl.SSLContext | None = None,
        begins_with_tls: bool = False,
    ) -> None:
        """With `begins_with_tls` the server is one for `ldaps`; otherwise `tls` is for StartTLS."""
        super().__init__(store, tls=tls)
        self.begins_with_tls = begins_with_tls
        self.on_search = on_search
        self.on_bind = on_bind
        self.on_request: OnRequest | None = None
        self.on_connect: OnConnect | None = None
        self.binds: list[str] = []
        self.searches: list[wire.ReceivedSearch] = []
        self.sessions: set[FaultySession] = set()
        """Those of the clients that are connected."""
        self.connection_count = 0
        """How many have been opened in all."""
        self.abandoned_count = 0
        self.hidden_controls = False
        self.refuses = False
        """Whether every connection is closed at once, as by a server that is down."""

    def make_session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> FaultySession:
        self.connection_count += 1
        return FaultySession(self, reader, writer)

    @property
    def open_count(self) -> int:
        """How many clients are connected."""
        return len(self._sessions)

    async def until_empty(self) -> None:
        """Returns when no client is left."""
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def drop_connections(self) -> None:
        """Every connection is closed, as by a server that is started again."""
        sessions = list(self._sessions)
        for session in sessions:
            session.cancel()
        await asyncio.gather(*sessions, return_exceptions=True)

    def stop_listening(self) -> None:
        """From now on connections are refused."""
        assert self._server is not None
        self._server.close()

    async def listen_again(self) -> None:
        """Connections are taken again, at the same port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    def user_binds(self) -> list[str]:
        """The DNs that were bound, but for the service account."""
        return [dn for dn in self.binds if dn != READER]


class FaultySession(Session):
    """One connection, whose requests are shown to the server's scripts first."""

    def __init__(self, server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(server.store, reader, writer, server.tls)
        self.server = server
        self.page_count = 0
        """Pages that were asked for since the first one."""

    @property
    def writer(self) -> asyncio.StreamWriter:
        return self._writer

    @property
    def reader(self) -> asyncio.StreamReader:
        return self._reader

    async def run(self) -> None:
        self.server.sessions.add(self)
        try:
            with contextlib.suppress(ssl.SSLError):
                await self._run()
        finally:
            self.server.sessions.discard(self)

    async def _run(self) -> None:
        if self.server.on_connect is not None and await self.server.on_connect(self):
            return
        if self.server.begins_with_tls:
            assert self._tls is not None
            await self._writer.start_tls(self._tls)
        await super().run()

    async def answer(self, message: wire.Message) -> None:
        operation = message.operation
        if self.server.refuses:
            self._writer.close()
            return
        self._note(message)
        if self.server.on_request is not None and await self.server.on_request(self, message):
            return
        match operation:
            case wire.ReceivedBind() if self.server.on_bind is not None:
                is_answered = await self.server.on_bind(self, message, operation)
            case wire.ReceivedSearch(base) if base and self.server.on_search is not None:
                is_answered = await self.server.on_search(self, message, operation)
            case _:
                is_answered = False
        if not is_answered:
            await super().answer(message)

    def _note(self, message: wire.Message) -> None:
        match message.operation:
            case wire.ReceivedBind(dn):
                self.server.binds.append(dn)
            case wire.ReceivedSearch(base) as search if base:
                self.server.searches.append(search)
                if wire.PAGED_RESULTS in message.controls:
                    cookie = wire.read_paging(message.controls[wire.PAGED_RESULTS][1])[1]
                    self.page_count = self.page_count + 1 if cookie else 1
            case wire.ReceivedOther(None):
                self.server.abandoned_count += 1

    async def right_answer(self, message: wire.Message) -> list[bytes]:
        """The messages that a server without faults would send; the session is left as if they had been."""
        writer, recording = self._writer, _Recording()
        self._writer = recording  # type: ignore[assignment]  # what a session needs of a writer
        try:
            await super().answer(message)
        finally:
            self._writer = writer
        return split_messages(bytes(recording.data))

    def _root_dse(self) -> dict[str, list[bytes]]:
        found = super()._root_dse()
        if self.server.hidden_controls:
            del found["supportedControl"]
        return found


class _Recording:
    """Takes what a session writes."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> None:
        self.data += data

    async def drain(self) -> None:
        pass


def split_messages(data: bytes) -> list[bytes]:
    """The messages that stand one behind the other."""
    found = []
    while data:
        size = ber.message_size(data)
        assert size is not None
        found.append(data[:size])
        data = data[size:]
    return found

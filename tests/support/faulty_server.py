"""The embedded server with faults that a script puts into it, and a count of its binds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bridge.demo import wire
from bridge.demo.people import BASE
from bridge.demo.server import EmbeddedServer, Session
from bridge.demo.store import Store
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD

OnSearch = Callable[[Session, wire.Message, wire.ReceivedSearch], Awaitable[bool]]
"""True where the script has answered."""
OnBind = Callable[[Session, wire.Message, wire.ReceivedBind], Awaitable[bool]]


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
    """`on_search` and `on_bind` see every request of their kind first, except for the root DSE."""

    def __init__(self, store: Store, *, on_search: OnSearch | None = None, on_bind: OnBind | None = None) -> None:
        super().__init__(store)
        self.on_search = on_search
        self.on_bind = on_bind
        self.binds: list[str] = []
        self.searches: list[wire.ReceivedSearch] = []
        self.abandoned_count = 0
        self.hidden_controls = False
        self.refuses = False
        """Whether every connection is closed at once, as by a server that is down."""

    def make_session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Session:
        return _FaultySession(self, reader, writer)

    async def until_empty(self) -> None:
        """Returns when no client is left."""
        await asyncio.gather(*self._sessions, return_exceptions=True)

    def user_binds(self) -> list[str]:
        """The DNs that were bound, but for the service account."""
        return [dn for dn in self.binds if dn != READER]


class _FaultySession(Session):
    def __init__(self, server: FaultyServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(server.store, reader, writer, server.tls)
        self.server = server

    async def answer(self, message: wire.Message) -> None:
        operation = message.operation
        if self.server.refuses:
            self._writer.close()
            return
        if isinstance(operation, wire.ReceivedBind):
            self.server.binds.append(operation.dn)
            if self.server.on_bind is not None and await self.server.on_bind(self, message, operation):
                return
        if isinstance(operation, wire.ReceivedSearch) and operation.base:
            self.server.searches.append(operation)
            if self.server.on_search is not None and await self.server.on_search(self, message, operation):
                return
        if isinstance(operation, wire.ReceivedOther) and operation.answer is None:
            self.server.abandoned_count += 1
        await super().answer(message)

    def _root_dse(self) -> dict[str, list[bytes]]:
        found = super()._root_dse()
        if self.server.hidden_controls:
            del found["supportedControl"]
        return found

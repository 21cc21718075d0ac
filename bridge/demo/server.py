"""The embedded server: LDAP over asyncio, in front of entries in memory.

It binds, searches with paging, and begins TLS where it has a certificate; what changes entries is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import secrets
from itertools import islice
from typing import TYPE_CHECKING, Self

from bridge.demo import wire
from bridge.demo.store import OPERATIONAL
from bridge.syntax import ber

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator, Mapping, Sequence

    from bridge.demo.store import Store, StoredEntry

SUCCESS, PROTOCOL_ERROR, SIZE_LIMIT, CRITICAL = 0, 2, 4, 12
NO_SUCH_OBJECT, INVALID_CREDENTIALS, NO_ACCESS, UNWILLING = 32, 49, 50, 53
_MESSAGE_MAX_BYTES = 1024 * 1024
_FLUSH_AT_BYTES = 64 * 1024
_PAGED_SEARCHES_MAX_COUNT = 10


class EmbeddedServer:
    """Serves a store on a port of this machine while its context lasts."""

    def __init__(
        self, store: Store, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.store = store
        self.tls = tls
        self._address = (host, port)
        self._server: asyncio.Server | None = None
        self._port: int | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, *self._address)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._server is not None:
            self._server.close()
        for session in self._sessions:
            session.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port that is served, or was until the end."""
        if self._port is None:
            raise RuntimeError("the server has not been started")
        return self._port

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"ldap://{self._address[0]}:{self.port}"

    def make_session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Session:
        """What serves one connection."""
        return Session(self.store, reader, writer, self.tls)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this in a task
        self._sessions.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.make_session(reader, writer).run()
        finally:
            self._sessions.discard(task)
            writer.close()


class Session:
    """One connection, its requests answered one after the other."""

    def __init__(
        self, store: Store, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, tls: ssl.SSLContext | None
    ) -> None:
        self.store = store
        self._reader = reader
        self._writer = writer
        self._tls = tls
        self._user: StoredEntry | None = None
        self._pages: dict[bytes, Iterator[StoredEntry]] = {}

    async def run(self) -> None:
        """Answers until the client leaves or breaks the protocol (RFC 4511 §4.1.1)."""
        while True:
            try:
                message = wire.read_message(await self._read())
            except ber.BerError as error:
                self._writer.write(wire.write_notice(PROTOCOL_ERROR, str(error)))
                await self._writer.drain()
                return
            if isinstance(message.operation, wire.ReceivedOther) and message.operation.ends_connection:
                return
            await self.answer(message)
            await self._writer.drain()

    async def _read(self) -> bytes:
        data = await self._reader.readexactly(2)
        while (size := ber.message_size(data)) is None:
            data += await self._reader.readexactly(1)
        if size > _MESSAGE_MAX_BYTES:
            raise ber.BerError("the message is too long")
        return data + await self._reader.readexactly(size - len(data))

    async def answer(self, message: wire.Message) -> None:
        """Carries out one request."""
        operation = message.operation
        match operation:
            case wire.ReceivedBind():
                code, text = self.bind(operation)
                self._writer.write(wire.write_result(message.id, wire.BIND_RESPONSE, code, text))
            case wire.ReceivedSearch():
                await self.search(message, operation)
            case wire.ReceivedExtended(name):
                await self._extended(message.id, name)
            case wire.ReceivedOther(answer=int(tag)):
                self._writer.write(wire.write_result(message.id, tag, UNWILLING, "this directory is for reading only"))

    def bind(self, request: wire.ReceivedBind) -> tuple[int, str]:
        """The result of a bind; whoever was bound before isn't any more (RFC 4511 §4.2.1)."""
        self._user = None
        if request.password is None:
            return 7, "only simple binds are taken"
        if not request.dn and not request.password:
            return SUCCESS, ""
        if not request.password:
            return UNWILLING, "a bind with a DN and without a password is refused (RFC 4513 §5.1.2)"
        entry = self.store.find(request.dn)
        known = entry.attributes.get("userpassword", (b"",))[0] if entry else b""
        if not hmac.compare_digest(known, request.password) or entry is None:
            return INVALID_CREDENTIALS, ""
        self._user = entry
        return SUCCESS, ""

    async def search(self, message: wire.Message, request: wire.ReceivedSearch) -> None:
        """Answers a search with its entries, or with one page of them."""
        for name, (critical, _) in message.controls.items():
            if critical and name != wire.PAGED_RESULTS:
                self._finish(message.id, CRITICAL, f"the control {name} is not known")
                return
        if not request.base and request.scope == 0:
            self._writer.write(self._entry(message.id, "", self._root_dse(), request))
            self._finish(message.id, SUCCESS)
            return
        base = self.store.find(request.base)
        if self._user is None:
            self._finish(message.id, NO_ACCESS, "bind first")
        elif base is None:
            self._finish(message.id, NO_SUCH_OBJECT)
        elif wire.PAGED_RESULTS in message.controls:
            await self._page(message, request, base)
        else:
            found = self.store.search(base, request.scope, request.filter)
            await self._send_all(message.id, request, found)

    async def _send_all(self, message_id: int, request: wire.ReceivedSearch, found: Iterator[StoredEntry]) -> None:
        limit = request.size_limit or None
        await self._send_entries(message_id, request, islice(found, limit))
        exceeded = limit is not None and next(found, None) is not None
        self._finish(message_id, SIZE_LIMIT if exceeded else SUCCESS)

    async def _page(self, message: wire.Message, request: wire.ReceivedSearch, base: StoredEntry) -> None:
        """One page (RFC 2696 §3); the cookie is good for this connection and for one use."""
        size, cookie = wire.read_paging(message.controls[wire.PAGED_RESULTS][1])
        found = self._pages.pop(cookie, None) if cookie else self.store.search(base, request.scope, request.filter)
        if found is None or len(self._pages) >= _PAGED_SEARCHES_MAX_COUNT:
            self._finish(message.id, UNWILLING, "the cookie is not known")
            return
        await self._send_entries(message.id, request, islice(found, size))
        following = next(found, None)
        cookie = b""
        if following is not None:
            cookie = secrets.token_bytes(8)
            self._pages[cookie] = _chain(following, found)
        self._finish(message.id, SUCCESS, controls=wire.write_paging(cookie))

    async def _send_entries(self, message_id: int, request: wire.ReceivedSearch, found: Iterator[StoredEntry]) -> None:
        pending: list[bytes] = []
        size = 0
        for entry in found:
            attributes = {entry.names[name]: values for name, values in entry.attributes.items()}
            pending.append(self._entry(message_id, entry.dn, attributes, request))
            size += len(pending[-1])
            if size > _FLUSH_AT_BYTES:
                self._writer.write(b"".join(pending))
                pending, size = [], 0
                await self._writer.drain()
                await asyncio.sleep(0)
        self._writer.write(b"".join(pending))

    def _entry(
        self, message_id: int, dn: str, attributes: Mapping[str, Sequence[bytes]], request: wire.ReceivedSearch
    ) -> bytes:
        wanted = {name.lower() for name in request.attributes} or {"*"}
        chosen = [
            (name, [] if request.types_only else values)
            for name, values in attributes.items()
            if name.lower() != "userpassword"
            and (name.lower() in wanted or ("+" if name.lower() in OPERATIONAL else "*") in wanted)
        ]
        return wire.write_entry(message_id, dn, chosen)

    def _root_dse(self) -> dict[str, list[bytes]]:
        extensions = [wire.START_TLS.encode()] if self._tls is not None else []
        found = {
            "objectClass": [b"top"],
            "namingContexts": [self.store.base.encode()],
            "supportedControl": [wire.PAGED_RESULTS.encode()],
            "supportedLDAPVersion": [b"3"],
            "vendorName": [b"MailStore LDAP bridge (sample directory)"],
            "supportedExtension": extensions,
        }
        return {name: values for name, values in found.items() if values}

    async def _extended(self, message_id: int, name: str) -> None:
        if name != wire.START_TLS or self._tls is None:
            text = "this extended operation is not offered"
            self._writer.write(wire.write_result(message_id, wire.EXTENDED_RESPONSE, PROTOCOL_ERROR, text))
            return
        self._writer.write(wire.write_result(message_id, wire.EXTENDED_RESPONSE, SUCCESS))
        await self._writer.drain()
        await self._writer.start_tls(self._tls)
        self._tls = None

    def _finish(self, message_id: int, code: int, text: str = "", *, controls: bytes = b"") -> None:
        self._writer.write(wire.write_result(message_id, wire.SEARCH_DONE, code, text, controls=controls))


def _chain(first: StoredEntry, rest: Iterator[StoredEntry]) -> Iterator[StoredEntry]:
    yield first
    yield from rest

"""One connection to one server: messages go out, answers come in, many operations at once (RFC 4511 §3.1).

Knows nothing of pools, failover or completeness. Whatever breaks the protocol ends the connection and fails what is in
flight; an operation that nobody waits for any more is abandoned, and what still comes for it is dropped.
"""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.certificates.verification import Words
from bridge.errors import DirectoryUnavailable, system_words
from bridge.ldap import messages
from bridge.ldap.connect_errors import explain_first_bytes
from bridge.ldap.entries import EntryReader
from bridge.ldap.messages import Response
from bridge.ldap.results import SIZE_LIMIT_EXCEEDED
from bridge.syntax.ber import INTEGER, BerError, message_size, read_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.directory import Entry, SearchRequest
    from bridge.ldap.pace import Pace
    from bridge.ldap.settings import Limits
    from bridge.model import Secret

_READ_BYTES = 64 * 1024
_LAST_MESSAGE_ID = 2**31 - 1
"""RFC 4511 §4.1.1.1."""
_MESSAGE_ID_MAX_BYTES = 8
"""As for every integer: four would do, and more of them than are needed harm nobody."""
_SETTLE_ROUNDS = 3
_LOOK_THERE = "Look into the server's own log, and at a balancer or a firewall in between."
_KEEP_ALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
"""Seconds, and how often (tcp(7)): firewalls that forget after a minute see traffic before."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom a connection reaches, for errors and events."""

    directory: str
    server: str

    def unavailable(self, detail: str, *, remedy: str = "", diagnostic_message: str = "") -> DirectoryUnavailable:
        """The error that says that this server could not be asked; without a remedy, look into its log."""
        return DirectoryUnavailable(
            detail,
            directory=self.directory,
            server=self.server,
            remedy=remedy or _LOOK_THERE,
            diagnostic_message=diagnostic_message,
        )


@dataclass(slots=True, eq=False)
class Exchange:
    """An operation in flight, and what has come for it so far."""

    message_id: int
    answer_kind: int
    """The tag of the response that ends it; any other breaks the protocol."""
    done: asyncio.Future[Response]
    entries: list[Entry] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    """The first URI of each continuation reference."""
    entry_limit_count: int = 0
    """More entries than these are not taken; 0 for no limit."""
    received_bytes: int = 0
    """The length of what has come for it."""

    def answer_by(self, other: Exchange, response: Response) -> None:
        """End with what another exchange has brought: the same search on another connection was faster."""
        self.entries, self.references, self.received_bytes = other.entries, other.references, other.received_bytes
        self.done.set_result(response)


class Connection(asyncio.BufferedProtocol):
    """The client's end of an LDAP connection. Made by `bridge.ldap.transport`, which connects it."""

    def __init__(self, peer: Peer, limits: Limits) -> None:
        self.peer = peer
        self.pace: Pace | None = None
        """How much is read at once, where it matters."""
        self._limits = limits
        self._read_buffer = memoryview(bytearray(_READ_BYTES))
        self._incomplete = bytearray()
        self._needed_bytes = 0
        self._exchanges: dict[int, Exchange] = {}
        self._last_id = 0
        self._transport: asyncio.Transport | None = None
        self._failure: DirectoryUnavailable | None = None
        self._poll: select.poll | None = None
        self._entry_reader = EntryReader(limits.message_bytes)
        self._gathered: list[bytes] = []
        self._in_flight_bytes = 0
        """The length of what has come for all that is in flight."""
        self._has_dropped = False
        """Whether something has come that nobody waits for."""
        self._abandoned: set[int] = set()
        """The ids of what was given up, for which something may come yet."""
        self._streaming: Exchange | None = None
        """The search whose entry came last: more of them will follow."""
        self.received_count = 0
        """How often something has come from the server: a sign that it is still there."""
        self.silence_remedy = ""
        """What to do where the server has said nothing yet, since it was connected or TLS was begun."""
        self.explain_alert: Callable[[ssl.SSLError], Words] | None = None
        """Has words for what ends TLS."""
        self.on_silent_end: Callable[[], None] | None = None
        """Called where the connection has ended and the server has said nothing yet."""
        self._greeted_count = 0
        """How often something had come before TLS was begun."""
        self.bound_for_s: float | None = None
        """How long the bind holds, by the ticket that it was made with; None where it has no end of its own."""
        self.ends_at_s = float("inf")
        """When the connection is too old to be used again, by `Clock.monotonic_s`; its keeper sets it."""

    # What is asked

    def send_search(self, search: SearchRequest, controls: bytes = b"") -> Exchange:
        """A search that is under way; its answer is awaited with `wait`.

        Searches of one turn of the event loop leave together, with one call of the system.
        """
        self._require_transport()
        message_id = self._next_id()
        self._gather(messages.write_search(message_id, search, controls))
        exchange = self._expect(message_id, messages.SEARCH_DONE)
        exchange.entry_limit_count = search.size_limit_count
        return exchange

    async def bind(self, dn: str, password: Secret, controls: bytes = b"") -> Response:
        """The answer to one simple bind. Nothing else may be in flight (RFC 4511 §4.2.1).

        Cancelled before the answer has come, it leaves the connection closed: nobody knows whose it is then.
        """
        transport, message_id = self._require_transport(), self._next_id()
        transport.write(messages.write_bind(message_id, dn, password, controls))
        return await self._settle(self._expect(message_id, messages.BIND_RESPONSE))

    async def bind_by_sasl(self, mechanism: str, credentials: bytes) -> Response:
        """The answer to one step of a bind by SASL, under the rules of `bind`."""
        transport, message_id = self._require_transport(), self._next_id()
        transport.write(messages.write_sasl_bind(message_id, mechanism, credentials))
        return await self._settle(self._expect(message_id, messages.BIND_RESPONSE))

    async def start_tls(self) -> Response:
        """The answer to the request to begin TLS; the handshake itself is the transport's."""
        transport, message_id = self._require_transport(), self._next_id()
        transport.write(messages.write_start_tls(message_id))
        return await self._settle(self._expect(message_id, messages.EXTENDED_RESPONSE))

    async def wait(self, exchange: Exchange) -> Response:
        """The answer that ends the exchange. Cancelled before, the operation is abandoned (RFC 4511 §4.11)."""
        try:
            return await exchange.done
        except asyncio.CancelledError:
            self.abandon(exchange)
            raise

    def abandon(self, exchange: Exchange) -> None:
        """Give up an operation that is in flight; what still comes for it is dropped."""
        if self._exchanges.pop(exchange.message_id, None) is None:
            return
        self._in_flight_bytes -= exchange.received_bytes
        # An error may keep the exchange alive for a while.
        exchange.entries, exchange.references = [], []
        if self.is_usable:
            self._send_abandon(exchange)

    @property
    def is_usable(self) -> bool:
        """Whether a request may still be sent, as far as the event loop has noticed."""
        return self._failure is None and self._transport is not None and not self._transport.is_closing()

    @property
    def is_idle(self) -> bool:
        """Whether a request may still be sent, and nothing has reached this machine that nobody has read.

        The peer's farewell may lie in the socket; a password is not written after it.
        """
        return self.is_usable and not self._has_unread_input()

    async def is_alive(self) -> bool:
        """Whether a request may still be sent once the event loop has read what has reached this machine."""
        for _ in range(_SETTLE_ROUNDS):
            if not self.is_usable or not self._has_unread_input():
                break
            await asyncio.sleep(0)
        return self.is_idle

    @property
    def has_ranges(self) -> bool:
        """Whether an attribute of any entry came in pieces (`member;range=0-1499`)."""
        return self._entry_reader.has_ranges

    @property
    def has_long_names(self) -> bool:
        """Whether an entry has come whose DN is longer than may be."""
        return self._entry_reader.has_long_names

    def keep_alive(self) -> None:
        """Have the system ask a silent peer for a sign of life, and close the connection where none comes."""
        transport = self._require_transport()
        for level, option, value in _KEEP_ALIVE:
            transport.get_extra_info("socket").setsockopt(level, option, value)

    def begin_handshake(self) -> asyncio.Transport:
        """The transport over which TLS is begun now.

        Raises `DirectoryUnavailable` where it is gone, and where the server has said more in clear text than that it
        agrees: nothing of that may be taken for something said under TLS (RFC 4511 §4.14.2).
        """
        if self._incomplete or self._has_dropped:
            raise self.peer.unavailable("the server sent something in clear text after it had agreed to begin TLS")
        return self._require_transport()

    def end_handshake(self, transport: asyncio.Transport) -> None:
        """From now on everything goes through `transport`, under TLS."""
        self._transport = transport
        self._greeted_count = self.received_count

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """What is known of TLS on this connection, or None in clear text."""
        found = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return found if isinstance(found, ssl.SSLObject) else None

    @property
    def certificate_expires_at_s(self) -> float | None:
        """Until when the server's certificate is good; None in clear text, and where nothing but its print is known."""
        found = self.ssl_object.getpeercert() if self.ssl_object is not None else None
        return float(ssl.cert_time_to_seconds(str(found["notAfter"]))) if found else None

    def close(self) -> None:
        """The server is told farewell, and what is in flight fails."""
        if self.is_usable and self._transport is not None:
            self._transport.write(messages.write_unbind(self._next_id()))
            self._transport.close()
            if self.ssl_object is not None:
                # Our close_notify has left. asyncio would wait half a minute for the server's, which nobody needs.
                self._transport.abort()
        self._fail(self.peer.unavailable("the connection was closed"))

    def abort(self) -> None:
        """The socket is dropped without a word, and what is in flight fails."""
        if self._transport is not None:
            self._transport.abort()
        self._fail(self.peer.unavailable("the connection was dropped"))

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected; asyncio calls this once."""
        self._transport = transport  # type: ignore[assignment]  # asyncio promises no more than BaseTransport
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the hint is always -1
        """Where asyncio puts what it reads next."""
        return self._read_buffer if self.pace is None else self._read_buffer[: self.pace.read_bytes]

    def buffer_updated(self, nbytes: int) -> None:
        """Takes what has been read; a broken protocol ends the connection."""
        self.received_count += 1
        try:
            self._receive(bytes(self._read_buffer[:nbytes]))
        except BerError as error:
            stranger = explain_first_bytes(bytes(self._read_buffer[:nbytes])) if self.received_count == 1 else None
            words, said = stranger or (Words(f"the server broke the protocol: {error}", ""), "")
            self._fail(self.peer.unavailable(words.detail, remedy=words.remedy, diagnostic_message=said))
            self.abort()

    def eof_received(self) -> bool:
        """The server will send no more, so the connection is given up."""
        self._fail(self._closed())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone; asyncio calls this once."""
        self._poll = None
        if self.on_silent_end is not None and not self._has_spoken:
            self.on_silent_end()
        if isinstance(exc, ssl.SSLError) and self.explain_alert is not None:
            words = self.explain_alert(exc)
            self._fail(self.peer.unavailable(words.detail, remedy=words.remedy))
        if exc is None or (isinstance(exc, ConnectionError) and not self._has_spoken):
            self._fail(self._closed())  # whether it is a reset is chance: what of ours was on its way
            return
        said = system_words(exc) if isinstance(exc, OSError) else exc
        self._fail(self.silent(f"the connection was lost: {said}"))

    def silent(self, detail: str) -> DirectoryUnavailable:
        """The error for an end, or for no answer; where nothing has ever come, the wrong server may have been asked."""
        return self.peer.unavailable(detail, remedy="" if self._has_spoken else self.silence_remedy)

    @property
    def _has_spoken(self) -> bool:
        """Whether anything has come since the connection was there, or since TLS was begun."""
        return self.received_count > self._greeted_count

    def _closed(self) -> DirectoryUnavailable:
        return self.silent(f"the server closed the connection{'' if self._has_spoken else ' without a word'}")

    # How messages come in

    def _receive(self, data: bytes) -> None:
        if self._incomplete:
            self._incomplete += data
            if len(self._incomplete) < self._needed_bytes:
                return
            data = bytes(self._incomplete)
            self._incomplete.clear()
        position, end = 0, len(data)
        while position < end and self._failure is None:
            if self._streaming is not None:
                position = self._read_run(self._streaming, data, position)
                if position == end:
                    return
            size = message_size(data, position)
            if size is not None and size > self._limits.message_bytes:
                raise BerError(f"a message of {size} bytes is larger than the {self._limits.message_bytes} allowed")
            if size is None or position + size > end:
                self._incomplete += data[position:]
                self._needed_bytes = size or 0
                return
            self._dispatch(data, position, position + size)
            position += size

    def _read_run(self, exchange: Exchange, data: bytes, position: int) -> int:
        """Takes the entries that stand one after the other, and returns where they end."""
        self._streaming = None
        if exchange.message_id not in self._exchanges:
            return position
        entries = exchange.entries
        room = (exchange.entry_limit_count or self._limits.entry_count) - len(entries)
        stop = self._entry_reader.read_run(data, position, exchange.message_id, entries, room)
        self._count(exchange, stop - position)
        if stop == len(data):
            self._streaming = exchange
        return stop

    def _count(self, exchange: Exchange, size_bytes: int) -> None:
        """Note what has come for an exchange. Raises `BerError` where it is more than is kept for all of them."""
        exchange.received_bytes += size_bytes
        self._in_flight_bytes += size_bytes
        if self._in_flight_bytes > self._limits.in_flight_bytes:
            raise BerError(f"more than {self._limits.in_flight_bytes} bytes came for what was asked")

    def _dispatch(self, data: bytes, position: int, end: int) -> None:
        """Hands one whole message to the exchange that waits for it."""
        size_bytes = end - position
        _, position, end = read_header(data, position, end)
        tag, start, position = read_header(data, position, end)
        if tag != INTEGER or not 1 <= position - start <= _MESSAGE_ID_MAX_BYTES:
            raise BerError("a message has no id")
        message_id = int.from_bytes(data[start:position], "big", signed=True)
        kind, start, stop = read_header(data, position, end)
        exchange = self._exchanges.get(message_id)
        if message_id == 0:
            self._receive_notice(messages.read_response(data, kind, start, stop, end))
        elif exchange is None:
            if message_id not in self._abandoned:
                # An entry that comes under a wrong id would be missing under the right one.
                what = "has been answered" if 0 < message_id <= self._last_id else "was never sent"
                raise BerError(f"an answer came for message {message_id}, which {what}")
            self._has_dropped = True
        elif kind == exchange.answer_kind:
            response = messages.read_response(data, kind, start, stop, end)
            self._end(exchange, response)
        else:
            self._count(exchange, size_bytes)
            self._receive_part(exchange, kind, data, start, stop)

    def _end(self, exchange: Exchange, response: Response) -> None:
        """Hand over the answer; what has come before it is the caller's now."""
        del self._exchanges[exchange.message_id]
        self._in_flight_bytes -= exchange.received_bytes
        if not exchange.done.done():
            exchange.done.set_result(response)

    def _receive_part(self, exchange: Exchange, kind: int, data: bytes, start: int, stop: int) -> None:
        """Keeps what comes before the end of a search."""
        if kind == messages.INTERMEDIATE_RESPONSE:
            return  # RFC 4511 §4.13: it ends nothing, and we asked for none
        if (
            kind not in (messages.SEARCH_ENTRY, messages.SEARCH_REFERENCE)
            or exchange.answer_kind != messages.SEARCH_DONE
        ):
            raise BerError(f"a message with the tag 0x{kind:02x} answers no request of ours")
        if kind == messages.SEARCH_ENTRY:
            if len(exchange.entries) == exchange.entry_limit_count > 0:
                self._end_at_limit(exchange)
                return
            if len(exchange.entries) >= self._limits.entry_count:
                raise BerError(f"more than {self._limits.entry_count} entries came for one search")
            exchange.entries.append(self._entry_reader.read(data, start, stop))
            self._streaming = exchange
        else:
            if len(exchange.references) >= self._limits.reference_count:
                raise BerError(f"more than {self._limits.reference_count} references came for one search")
            exchange.references.append(next(iter(messages.read_reference(data, start, stop)), ""))

    def _end_at_limit(self, exchange: Exchange) -> None:
        """Give up a search that brings more than was asked for, as if the server had kept to its size limit."""
        self._send_abandon(exchange)
        self._end(exchange, Response(messages.SEARCH_DONE, SIZE_LIMIT_EXCEEDED))

    def _receive_notice(self, notice: Response) -> None:
        """An unsolicited message: the only one that there is announces the end (RFC 4511 §4.4)."""
        detail = f"the server ended the connection (result {notice.result_code})"
        self._fail(self.peer.unavailable(detail, diagnostic_message=notice.diagnostic_message))
        self.abort()

    # Small things

    async def _settle(self, exchange: Exchange) -> Response:
        """The answer to an operation that changes the connection, which is dropped where nobody waits for it."""
        try:
            return await exchange.done
        except asyncio.CancelledError:
            self.abort()
            raise

    def _send_abandon(self, exchange: Exchange) -> None:
        self._abandoned.add(exchange.message_id)
        self._gather(messages.write_abandon(self._next_id(), exchange.message_id))  # behind what it abandons

    def _gather(self, data: bytes) -> None:
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._send_gathered)
        self._gathered.append(data)

    def _send_gathered(self) -> None:
        data, self._gathered = b"".join(self._gathered), []
        if self.is_usable and self._transport is not None:
            self._transport.write(data)

    def _expect(self, message_id: int, answer_kind: int) -> Exchange:
        """The exchange that the answer to a message will end; no turn of the event loop lies between the two."""
        exchange = Exchange(message_id, answer_kind, asyncio.get_running_loop().create_future())
        self._exchanges[message_id] = exchange
        return exchange

    def _next_id(self) -> int:
        if self._last_id >= _LAST_MESSAGE_ID:
            raise self.peer.unavailable("the connection has used up its message ids")
        self._last_id += 1
        return self._last_id

    def _require_transport(self) -> asyncio.Transport:
        if self._failure is not None:
            raise self._failure.kept()
        if self._transport is None or self._transport.is_closing():
            raise self.peer.unavailable("the connection is closed")
        return self._transport

    def _fail(self, error: DirectoryUnavailable) -> None:
        """Everything in flight ends with `error`; the first reason is the one that is told."""
        if self._failure is None:
            self._failure = error
        exchanges, self._exchanges = self._exchanges, {}
        for exchange in exchanges.values():
            exchange.entries, exchange.references = [], []
            if not exchange.done.done():
                exchange.done.set_exception(self._failure.kept())
                exchange.done.exception()
        self._incomplete, self._in_flight_bytes = bytearray(), 0

    def _has_unread_input(self) -> bool:
        """Whether bytes, or the end of the stream, have arrived that the event loop has not seen yet."""
        return self._poll is not None and bool(self._poll.poll(0))

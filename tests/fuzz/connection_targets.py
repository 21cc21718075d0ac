"""What a connection makes of bytes, however they are cut, and of ranges that a server sends piece by piece."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from bridge.demo.wire import SEARCH_DONE, write_result
from bridge.directory import Entry, Scope, SearchRequest
from bridge.errors import DirectoryUnavailable, SearchIncomplete
from bridge.ldap import messages
from bridge.ldap.connection import Connection, Exchange, Peer
from bridge.ldap.ranges import complete_ranges
from bridge.ldap.results import SIZE_LIMIT_EXCEEDED
from bridge.ldap.settings import Limits
from bridge.syntax import ber
from bridge.syntax.filters import Present
from tests.fuzz import readers
from tests.fuzz.inputs import cut, entries_of, split_off

_LIMITS = Limits(message_bytes=600, in_flight_bytes=2000, entry_count=12, reference_count=3, range_count=4)
_SEARCH = SearchRequest("dc=e", Scope.SUBTREE, Present("uid"), ("uid",))
_ONE_ENTRY = SearchRequest("dc=e", Scope.SUBTREE, Present("uid"), ("uid",), 1)
_OPTION = ";range="
_SHORT_BYTES = 60
"""What is short enough to come octet by octet, too."""
_LOOP = asyncio.new_event_loop()
_SOCKETS = socket.socketpair()


class _Wire(asyncio.Transport):
    """The end of a connection at which nobody listens; what is written may be answered."""

    def __init__(self, answers: list[Entry] | None = None) -> None:
        super().__init__({"socket": _SOCKETS[0]})
        self.connection: Connection | None = None
        self._answers = answers or []
        self._is_closing = False

    def write(self, data: Any) -> None:
        """Answer a search by the next entry that there is."""
        if self.connection is None or self._is_closing:
            return
        message_id = ber.Reader(ber.Reader(bytes(data)).read_octets(ber.SEQUENCE)).read_integer()
        answer = b"" if not self._answers else _write_entry(message_id, self._answers.pop(0))
        _feed(self.connection, answer + write_result(message_id, SEARCH_DONE, 0))

    def is_closing(self) -> bool:
        return self._is_closing

    def abort(self) -> None:
        self._is_closing = True

    close = abort


def _write_entry(message_id: int, entry: Entry) -> bytes:
    parts = [
        ber.write_element(
            ber.SEQUENCE,
            ber.write_octets(name.encode()),
            ber.write_element(ber.SET, *map(ber.write_octets, values)),
        )
        for name, values in entry.attributes.items()
    ]
    content = (ber.write_octets(entry.dn.encode("utf-8", "surrogateescape")), ber.write_element(ber.SEQUENCE, *parts))
    operation = ber.write_element(messages.SEARCH_ENTRY, *content)
    return ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), operation)


def _feed(connection: Connection, data: bytes) -> None:
    """Hand the octets over as asyncio does: into the connection's own buffer, until it has given up."""
    while data and connection.is_usable:
        buffer = connection.get_buffer(-1)
        count = min(len(data), len(buffer))
        buffer[:count] = data[:count]
        connection.buffer_updated(count)
        data = data[count:]


def cut_stream(data: bytes) -> bool:
    """The same octets give the same entries, answers and end in whatever pieces they come, and those that ldap3 sees."""
    places, stream = split_off(data, 6)
    divisions = [[stream], cut(stream, places)]
    if len(stream) <= _SHORT_BYTES:
        divisions.append([stream[position : position + 1] for position in range(len(stream))])
    outcomes = [_LOOP.run_until_complete(_play(pieces)) for pieces in divisions]
    assert all(outcome == outcomes[0] for outcome in outcomes)
    has_failed, _, exchanges = outcomes[0]
    if not has_failed:
        _agree_with_ldap3(stream, exchanges)
    return not has_failed


async def _play(pieces: list[bytes]) -> tuple[bool, bool, list[tuple[Any, ...]]]:
    """Whether the connection has failed, whether it has dropped something, and what has come for each request."""
    connection = Connection(Peer("company", "ldap://h"), _LIMITS)
    connection.connection_made(_Wire())
    exchanges = [
        connection.send_search(_SEARCH),
        connection.send_search(_ONE_ENTRY),
        connection._expect(connection._next_id(), messages.BIND_RESPONSE),
        connection._expect(connection._next_id(), messages.EXTENDED_RESPONSE),
    ]
    connection._next_id()  # of an operation that was abandoned, for which something may still come
    for piece in pieces:
        _feed(connection, piece)
    await asyncio.sleep(0)
    assert 0 <= connection._in_flight_bytes <= _LIMITS.in_flight_bytes
    assert all(len(exchange.entries) <= _LIMITS.entry_count for exchange in exchanges)
    return not connection.is_usable, connection._has_dropped, [_result_of(exchange) for exchange in exchanges]


def _result_of(exchange: Exchange) -> tuple[Any, ...]:
    if not exchange.done.done():
        return exchange.message_id, None, exchange.entries, exchange.references
    if exchange.done.exception() is not None:
        return exchange.message_id, "failed", [], []
    return exchange.message_id, exchange.done.result(), exchange.entries, exchange.references


def _agree_with_ldap3(stream: bytes, exchanges: list[tuple[Any, ...]]) -> None:
    whole = [readers.read_fast(message) for message in readers.split_messages(stream)]
    if None in whole:
        return
    for message_id, response, entries, references in exchanges:
        limit = 1 if message_id == 2 else _LIMITS.entry_count
        dns: list[bytes] = []
        refer_count, is_over = 0, False
        for message in whole:
            assert message is not None
            if message["messageID"] != message_id or is_over:
                continue
            if message["protocolOp"] == 4 and len(dns) == limit:
                assert response.result_code == SIZE_LIMIT_EXCEEDED
                is_over = True
            elif message["protocolOp"] == 4:
                dns.append(bytes(message["payload"][0][3]))
            elif message["protocolOp"] == 19:
                refer_count += 1
            elif message["protocolOp"] != 25:
                assert response.result_code == message["payload"][0][3]
                is_over = True
        assert is_over is (response is not None)
        assert [entry.dn.encode("utf-8", "surrogateescape") for entry in entries] == dns
        assert len(references) == refer_count


def complete_entry(data: bytes) -> bool:
    """An entry in ranges is completed with all values from 0 on, one piece after the other, or not at all."""
    entry, *answers = entries_of(data)
    try:
        found = _LOOP.run_until_complete(_complete(entry, answers))
    except (SearchIncomplete, DirectoryUnavailable):
        return False
    assert found.dn == entry.dn
    assert {name: list(values) for name, values in found.attributes.items()} == _join(entry, answers)
    return True


async def _complete(entry: Entry, answers: list[Entry]) -> Entry:
    wire = _Wire(list(answers))
    connection = wire.connection = Connection(Peer("company", "ldap://h"), Limits(range_count=4))
    connection.connection_made(wire)
    exchange = connection.send_search(_SEARCH)
    wire._answers.insert(0, entry)
    await connection.wait(exchange)
    (completed,) = await complete_ranges(exchange.entries, connection, connection._limits)
    return completed


def _join(entry: Entry, answers: list[Entry]) -> dict[str, list[bytes]]:
    """All values by attribute, where each answer has the next piece of the one that is being read."""
    found = {name: list(values) for name, values in entry.attributes.items() if _OPTION not in name}
    for name, values in entry.attributes.items():
        attribute, option, interval = name.partition(_OPTION)
        if not option:
            continue
        joined = list(values)
        while not interval.endswith("*"):
            ((name_of_piece, more),) = [item for item in answers.pop(0).attributes.items() if _OPTION in item[0]]
            joined += more
            interval = name_of_piece.partition(_OPTION)[2]
        found[attribute] = joined
    return found


TARGETS = {"stream": cut_stream, "ranges": complete_entry}

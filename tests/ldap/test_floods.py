"""Servers that send more than anybody asked for: what is kept of it is bounded, and given back."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable

import pytest

from bridge.demo import wire
from bridge.demo.server import Session
from bridge.directory import Entry, Scope, SearchRequest
from bridge.errors import DirectoryError, DirectoryUnavailable, SearchIncomplete
from bridge.events import Event, ServerSetAside
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.settings import LdapSettings, Limits, ServerAddress
from bridge.model import Secret
from bridge.syntax import ber
from bridge.syntax.filters import Equal, Present
from tests.faults.server import FaultyServer, OnSearch, small_directory
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD

MIB = 1024 * 1024
LIMITS = Limits(message_bytes=2 * MIB, in_flight_bytes=8 * MIB, listing_bytes=24 * MIB)
LOOK_UP = SearchRequest(PEOPLE, Scope.SUBTREE, Equal("uid", b"anna"), ("uid", "jpegPhoto"), 2)
ALL = SearchRequest(PEOPLE, Scope.SUBTREE, Present("uid"), ("uid", "jpegPhoto"))
PHOTO = b"x" * MIB


def make_directory(server: FaultyServer, observe: Callable[[Event], None] = lambda _: None) -> LdapDirectory:
    address = ServerAddress("ldap", "127.0.0.1", server.port)
    password = Secret(READER_PASSWORD.encode())
    return LdapDirectory(
        LdapSettings(
            "company",
            (address,),
            bind_dn=READER,
            bind_password=password,
            page_size_count=10,
            limits=LIMITS,
            connect_timeout_s=1.0,
            request_timeout_s=4.0,
            listing_timeout_s=20.0,
        ),
        observe,
    )


async def look_up(directory: LdapDirectory, search: SearchRequest = LOOK_UP) -> tuple[Entry, ...]:
    return (await directory.look_up(search)).entries


async def list_all(directory: LdapDirectory) -> int:
    count = 0
    async with directory.open_listing() as stream:
        async for portion in stream.read([ALL]):
            count += len(portion)
    return count


async def probe(directory: LdapDirectory) -> object:
    return await directory.probe()


def keep_sending(write: Callable[[int, int], bytes]) -> OnSearch:
    """A server that sends one message after the other while the client takes them."""

    async def script(session: Session, message: wire.Message, _: wire.ReceivedSearch) -> bool:
        for number in range(200):
            session._writer.write(write(message.id, number))
            await session._writer.drain()
        session._finish(message.id, 0, controls=wire.write_paging(b""))
        return True

    return script


def write_large_entry(message_id: int, number: int) -> bytes:
    return wire.write_entry(message_id, f"uid=u{number},{PEOPLE}", [("uid", [b"u"]), ("jpegPhoto", [PHOTO])])


def write_large_reference(message_id: int, _: int) -> bytes:
    uri = b"ldap://127.0.0.1/dc=" + PHOTO
    return ber.write_element(
        ber.SEQUENCE, ber.write_integer(message_id), ber.write_element(0x73, ber.write_octets(uri))
    )


def write_large_range(message_id: int, number: int) -> bytes:
    name = f"member;range={number}-{number}"
    return wire.write_entry(message_id, PEOPLE, [(name, [PHOTO])])


READS: dict[str, tuple[Callable[[LdapDirectory], Awaitable[object]], Callable[[int, int], bytes]]] = {
    "a page": (list_all, write_large_entry),
    "references of a page": (list_all, write_large_reference),
    "references of a look-up": (look_up, write_large_reference),
    "a search without a limit": (
        lambda directory: look_up(directory, SearchRequest(PEOPLE, Scope.SUBTREE, Present("uid"), ("uid",))),
        write_large_entry,
    ),
}


@pytest.mark.parametrize("name", READS)
async def test_answer_that_has_no_end_is_left_before_it_fills_the_memory(name: str) -> None:
    """200 MiB are on their way: at the limit the connection is ended, and nothing of it stays."""
    read, write = READS[name]
    async with FaultyServer(small_directory("anna"), on_search=keep_sending(write)) as server:
        directory = make_directory(server)
        tracemalloc.start()
        try:
            with pytest.raises(DirectoryUnavailable, match="bytes"):
                await read(directory)
            peak_bytes = tracemalloc.get_traced_memory()[1]
            server.on_search = None
            assert len(await look_up(directory)) == 1
            gc.collect()
            kept_bytes = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            await directory.aclose()
    assert peak_bytes < 5 * LIMITS.in_flight_bytes  # the server and its buffers live in this process, too
    assert kept_bytes < LIMITS.in_flight_bytes / 2


async def test_look_up_takes_no_more_entries_than_it_has_asked_for() -> None:
    """A server that doesn't keep to the size limit is asked no longer, and what it has sent is an answer."""
    async with FaultyServer(small_directory("anna"), on_search=keep_sending(write_large_entry)) as server:
        directory = make_directory(server)
        try:
            assert [entry.dn for entry in await look_up(directory)] == [
                f"uid=u{number},{PEOPLE}" for number in range(2)
            ]
            server.on_search = None
            assert len(await look_up(directory)) == 1
        finally:
            await directory.aclose()
    assert server.abandoned_count >= 1


async def test_small_entries_beyond_the_size_limit_are_not_taken_either() -> None:
    """They come in one read, and are read in one run."""

    async def script(session: Session, message: wire.Message, _: wire.ReceivedSearch) -> bool:
        entries = [wire.write_entry(message.id, f"uid=u{number},{PEOPLE}", [("uid", [b"u"])]) for number in range(50)]
        session._writer.write(b"".join(entries))
        session._finish(message.id, 0)
        return True

    async with FaultyServer(small_directory("anna"), on_search=script) as server:
        directory = make_directory(server)
        try:
            assert len(await look_up(directory)) == 2
            server.on_search = None
            assert [entry.dn for entry in await look_up(directory)] == [f"uid=anna,{PEOPLE}"]
        finally:
            await directory.aclose()


async def test_listing_has_a_total() -> None:
    """Each page keeps within its bounds, and there is always one more."""
    pages = iter(range(1000))

    async def script(session: Session, message: wire.Message, _: wire.ReceivedSearch) -> bool:
        page = next(pages)
        for number in range(4):
            session._writer.write(write_large_entry(message.id, 10 * page + number))
            await session._writer.drain()
        session._finish(message.id, 0, controls=wire.write_paging(b"page %d" % page))
        return True

    async with FaultyServer(small_directory("anna"), on_search=script) as server:
        directory = make_directory(server)
        try:
            with pytest.raises(SearchIncomplete, match="bytes"):
                await list_all(directory)
        finally:
            await directory.aclose()
    assert next(pages) < 12


async def test_ranges_of_one_attribute_have_a_total() -> None:
    """Each piece keeps within its bounds, and there is always one more."""
    count = 0

    async def script(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        nonlocal count
        first = 0 if ";range=" not in request.attributes[0] else int(request.attributes[0].split("=")[1].split("-")[0])
        session._writer.write(wire.write_entry(message.id, PEOPLE, [(f"member;range={first}-{first}", [PHOTO])]))
        count += 1
        session._finish(message.id, 0)
        return True

    async with FaultyServer(small_directory("anna"), on_search=script) as server:
        directory = make_directory(server)
        try:
            with pytest.raises(SearchIncomplete, match="bytes"):
                await look_up(directory, SearchRequest(PEOPLE, Scope.BASE, Present("objectClass"), ("member",)))
        finally:
            await directory.aclose()
    assert count <= LIMITS.in_flight_bytes / MIB + 2


async def test_root_dse_is_bounded_too() -> None:
    """Whatever the server adds to it."""

    class Boastful(FaultyServer):
        def make_session(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Session:
            session = super().make_session(reader, writer)

            async def answer(
                message: wire.Message, inner: Callable[[wire.Message], Awaitable[None]] = session.answer
            ) -> None:
                operation = message.operation
                if isinstance(operation, wire.ReceivedSearch) and not operation.base:
                    await keep_sending(write_large_entry)(session, message, operation)
                    return
                await inner(message)

            session.answer = answer  # type: ignore[method-assign]
            return session

    async with Boastful(small_directory("anna")) as server:
        directory = make_directory(server)
        try:
            with pytest.raises(DirectoryError):
                await directory.probe()
        finally:
            await directory.aclose()


async def test_look_ups_that_time_out_leave_nothing_behind() -> None:
    """Five floods until the time-out: what is remembered of the errors holds no entry of them."""
    events: list[Event] = []

    async def script(session: Session, message: wire.Message, _: wire.ReceivedSearch) -> bool:
        for number in range(2):
            session._writer.write(write_large_entry(message.id, number))
        await session._writer.drain()
        await asyncio.Event().wait()
        return True

    search = SearchRequest(PEOPLE, Scope.SUBTREE, Equal("uid", b"anna"), ("uid", "jpegPhoto"), 5)
    async with FaultyServer(small_directory("anna"), on_search=script) as server:
        directory = make_directory(server, events.append)
        directory._request_time.timeout_s = 0.3
        tracemalloc.start()
        errors = []
        try:
            before_bytes = tracemalloc.get_traced_memory()[0]
            for _ in range(5):
                try:
                    await look_up(directory, search)
                except DirectoryError as error:
                    errors.append(error.kept())
            kept_bytes = tracemalloc.get_traced_memory()[0] - before_bytes
        finally:
            tracemalloc.stop()
            await directory.aclose()
    assert len(errors) == 5
    assert any(isinstance(event, ServerSetAside) for event in events)
    assert kept_bytes < MIB

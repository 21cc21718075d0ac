"""What makes a listing complete, shown by servers that do each thing wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bridge.demo import wire
from bridge.demo.people import BASE
from bridge.demo.server import Session
from bridge.directory import Entry, Scope, SearchRequest
from bridge.errors import DirectoryError, DirectoryRefused, DirectoryUnavailable, SearchIncomplete, SearchInvalid
from bridge.events import Event, OperationEnded
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.references import find_needed, is_ignored, server_of
from bridge.ldap.settings import LdapSettings, Limits, ServerAddress
from bridge.mapping import AttributeMap, parse_item
from bridge.model import Secret
from bridge.sources.directory.groups import GroupRules, ResolvedGroups
from bridge.sources.directory.source import DirectorySource
from bridge.syntax import ber
from bridge.syntax.filters import parse_filter
from tests.faults.server import FaultyServer, OnSearch, small_directory
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD

SEARCH = SearchRequest(PEOPLE, Scope.SUBTREE, parse_filter("(objectClass=inetOrgPerson)"), ("uid", "mail"))
UIDS = [f"u{number:02}" for number in range(25)]


def settings(*servers: FaultyServer, **options: object) -> LdapSettings:
    addresses = tuple(ServerAddress("ldap", "127.0.0.1", server.port) for server in servers)
    found = {"page_size_count": 10, "listing_timeout_s": 20.0, "request_timeout_s": 5.0, **options}
    return LdapSettings(
        "company",
        addresses,
        bind_dn=READER,
        bind_password=Secret(READER_PASSWORD.encode()),
        **found,  # type: ignore[arg-type]
    )


async def list_all(
    server: FaultyServer, searches: Sequence[SearchRequest] = (SEARCH,), **options: object
) -> tuple[list[Entry], int, int]:
    """The entries, the pages and the ignored references of one listing."""
    directory = LdapDirectory(settings(server, **options), lambda _event: None)
    entries: list[Entry] = []
    try:
        async with directory.open_listing() as stream:
            async for portion in stream.read(searches):
                entries += portion
    finally:
        await directory.aclose()
    return entries, stream.page_count, stream.ignored_reference_count


async def test_listing_comes_page_by_page_and_whole() -> None:
    """25 entries in pages of 10 are three pages."""
    async with FaultyServer(small_directory(*UIDS)) as server:
        entries, page_count, _ = await list_all(server)
    assert [entry.attributes["uid"] for entry in entries] == [[uid.encode()] for uid in UIDS]
    assert page_count == 3


async def test_listing_goes_through_every_base_on_one_connection() -> None:
    """Two bases are two searches, by one service bind."""
    one = SearchRequest(BASE, Scope.ONE, parse_filter("(objectClass=device)"), ("cn",))
    async with FaultyServer(small_directory(*UIDS)) as server:
        entries, _, _ = await list_all(server, [SEARCH, one])
        assert len(entries) == 26
        assert server.binds == [READER]


async def test_listing_takes_an_answer_in_one_page_from_a_server_without_paging() -> None:
    """A server that never offered the control, and ends with success, has said all."""
    async with FaultyServer(small_directory(*UIDS)) as server:
        server.hidden_controls = True
        entries, page_count, _ = await list_all(server)
    assert (len(entries), page_count) == (25, 1)


def end(
    session: Session, message: wire.Message, code: int = 0, text: str = "", *, controls: bytes = b"", tail: bytes = b""
) -> None:
    session._writer.write(wire.write_result(message.id, wire.SEARCH_DONE, code, text, controls=controls, tail=tail))


def entry(session: Session, message: wire.Message, dn: str, **attributes: list[bytes]) -> None:
    session._writer.write(wire.write_entry(message.id, dn, list(attributes.items())))


def on_page(number: int, script: OnSearch) -> OnSearch:
    """The script meets the page of that number, counted from 1; the others are in order."""
    count = 0

    async def on_search(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        nonlocal count
        count += 1
        return await script(session, message, request) if count == number else False

    return on_search


def ends_with(code: int, text: str = "") -> OnSearch:
    async def script(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        entry(session, message, f"uid=x,{PEOPLE}", uid=[b"x"])
        end(session, message, code, text, controls=wire.write_paging(b""))
        return True

    return script


async def without_control(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    entry(session, message, f"uid=x,{PEOPLE}", uid=[b"x"])
    end(session, message)
    return True


async def broken_control(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    control = ber.write_element(
        ber.SEQUENCE, ber.write_octets(wire.PAGED_RESULTS.encode()), ber.write_octets(b"\x30\x01")
    )
    end(session, message, controls=ber.write_element(0xA0, control))
    return True


def paging_controls(*cookies: bytes) -> bytes:
    """The controls of a page, with the paged-results control as often as there are cookies."""
    each = (ber.Reader(wire.write_paging(cookie)).read_octets(0xA0) for cookie in cookies)
    return ber.write_element(0xA0, *each)


async def two_cookies(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    """The first control says that more will come, and the second one that this is all."""
    entry(session, message, f"uid=x,{PEOPLE}", uid=[b"x"])
    end(session, message, controls=paging_controls(b"more", b""))
    return True


async def forgotten_cookie(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    """What 389 DS answers to a cookie that it doesn't know any more."""
    end(session, message, 0, "Simple Paged Results Search abandoned", controls=wire.write_paging(b""))
    return True


async def no_entries_but_a_cookie(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    end(session, message, controls=wire.write_paging(b"more"))
    return True


async def same_cookie(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    entry(session, message, f"uid=x,{PEOPLE}", uid=[b"x"])
    end(session, message, controls=wire.write_paging(b"same"))
    return True


async def referral(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    tail = ber.write_element(0xA3, ber.write_octets(b"ldap://other.example.com/"))
    end(session, message, 10, "", tail=tail)
    return True


async def success_with_referral(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    tail = ber.write_element(0xA3, ber.write_octets(b"ldap://other.example.com/"))
    end(session, message, 0, "", tail=tail, controls=wire.write_paging(b""))
    return True


async def reference(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    content = ber.write_element(wire.SEARCH_REFERENCE, ber.write_octets(b"ldap://other.example.com/dc=x"))
    session._writer.write(ber.write_element(ber.SEQUENCE, ber.write_integer(message.id), content))
    return False


async def drops(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    entry(session, message, f"uid=x,{PEOPLE}", uid=[b"x"])
    session._writer.close()
    return True


async def resets(session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    session._writer.transport.abort()
    return True


async def cut_entry(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    data = wire.write_entry(message.id, f"uid=x,{PEOPLE}", [("uid", [b"x"])])
    session._writer.write(data[:-4])
    session._writer.close()
    return True


async def nested_lie(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    """The outer length is right, an inner one reaches beyond it."""
    data = bytearray(wire.write_entry(message.id, f"uid=x,{PEOPLE}", [("uid", [b"x"])]))
    data[-2] = 0x7F
    session._writer.write(bytes(data))
    return True


async def not_ldap(session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    session._writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    return True


async def huge_message(session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    session._writer.write(b"\x30\x84\x7f\xff\xff\xff")
    return True


async def notice(session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    session._writer.write(wire.write_notice(52, "shutting down"))
    return True


async def unknown_id(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    session._writer.write(wire.write_result(message.id + 1000, wire.SEARCH_DONE, 0))
    return True


async def id_of_a_bind(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    """An entry comes with the id of a message that has been answered, and would be missing without a word."""
    session._writer.write(wire.write_entry(1, f"uid=x,{PEOPLE}", [("uid", [b"x"])]))
    end(session, message, controls=wire.write_paging(b""))
    return True


async def id_that_is_no_number(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    data = bytearray(wire.write_entry(message.id, f"uid=x,{PEOPLE}", [("uid", [b"x"])]))
    data[2] = ber.OCTET_STRING
    session._writer.write(bytes(data))
    end(session, message, controls=wire.write_paging(b""))
    return True


async def other_kind(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    session._writer.write(wire.write_result(message.id, wire.BIND_RESPONSE, 0))
    return True


FAULTS: list[tuple[str, OnSearch, type[DirectoryError], str]] = [
    ("size limit", ends_with(4), SearchIncomplete, "sizeLimitExceeded (4)"),
    ("time limit", ends_with(3), SearchIncomplete, "timeLimitExceeded (3)"),
    ("admin limit", ends_with(11, "no paging"), SearchIncomplete, "adminLimitExceeded (11), no paging"),
    ("unwilling", ends_with(53), SearchIncomplete, "unwillingToPerform (53)"),
    ("critical control", ends_with(12), SearchIncomplete, "(12)"),
    ("busy", ends_with(51), DirectoryUnavailable, "busy (51)"),
    ("unavailable", ends_with(52), DirectoryUnavailable, "unavailable (52)"),
    ("other", ends_with(80), DirectoryUnavailable, "other (80)"),
    ("no rights", ends_with(50), DirectoryRefused, "insufficientAccessRights (50)"),
    ("confidentiality", ends_with(13), DirectoryRefused, "confidentialityRequired (13)"),
    ("operations error", ends_with(1), SearchInvalid, "operationsError (1)"),
    ("unheard-of code", ends_with(4242), SearchInvalid, "unknown result (4242)"),
    ("missing base", ends_with(32), SearchInvalid, "does not exist"),
    ("no control", without_control, SearchIncomplete, "control is missing"),
    ("broken control", broken_control, SearchIncomplete, "can't be read"),
    ("two cookies", two_cookies, DirectoryUnavailable, "broke the protocol"),
    ("message beside success", forgotten_cookie, SearchIncomplete, "Simple Paged Results Search abandoned"),
    ("empty page", no_entries_but_a_cookie, SearchIncomplete, "without entries"),
    ("referral", referral, SearchIncomplete, "ldap://other.example.com/"),
    ("success with referral", success_with_referral, SearchIncomplete, "success (0)"),
    ("reference", reference, SearchIncomplete, "ldap://other.example.com/dc=x"),
    ("dropped", drops, DirectoryUnavailable, "closed the connection"),
    ("reset", resets, DirectoryUnavailable, "connection"),
    ("cut entry", cut_entry, DirectoryUnavailable, "closed the connection"),
    ("lying length", nested_lie, DirectoryUnavailable, "broke the protocol"),
    ("not LDAP", not_ldap, DirectoryUnavailable, "broke the protocol"),
    ("huge message", huge_message, DirectoryUnavailable, "broke the protocol"),
    ("notice", notice, DirectoryUnavailable, "ended the connection (result 52)"),
    ("unknown id", unknown_id, DirectoryUnavailable, "never sent"),
    ("id of a bind", id_of_a_bind, DirectoryUnavailable, "message 1, which has been answered"),
    ("id that is no number", id_that_is_no_number, DirectoryUnavailable, "broke the protocol"),
    ("other kind", other_kind, DirectoryUnavailable, "answers no request"),
]


@pytest.mark.parametrize("page", [1, 3])
@pytest.mark.parametrize(
    ("script", "kind", "sentence"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
async def test_listing_that_cannot_be_proven_complete_is_an_error(
    script: OnSearch, kind: type[DirectoryError], sentence: str, page: int
) -> None:
    """Whatever goes wrong, on the first page or on the last, there is an error and no shorter list."""
    async with FaultyServer(small_directory(*UIDS), on_search=on_page(page, script)) as server:
        with pytest.raises(kind) as caught:
            await list_all(server)
    assert type(caught.value) is kind
    assert sentence in caught.value.full_message
    assert "company" in caught.value.message
    assert caught.value.remedy


async def test_listing_ends_at_a_cookie_that_comes_twice() -> None:
    """A server that hands out one cookie for ever doesn't keep us for ever."""
    async with FaultyServer(small_directory(*UIDS), on_search=same_cookie) as server:
        with pytest.raises(SearchIncomplete, match="same cookie twice") as caught:
            await list_all(server)
    assert "set preset 389ds or samba" in caught.value.remedy


def in_pages(*sizes: int, cookie: bytes = b"1") -> OnSearch:
    """Pages of so many entries, each but the last with the same cookie, as 389 DS sends them."""
    pages = iter(enumerate(sizes))

    async def script(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        number, size = next(pages)
        for position in range(size):
            entry(session, message, f"uid=u{number}-{position},{PEOPLE}", uid=[b"x"])
        end(session, message, controls=wire.write_paging(cookie if number + 1 < len(sizes) else b""))
        return True

    return script


@pytest.mark.parametrize("sizes", [(10, 10, 10, 4), (10, 9, 3, 10), (10, 0, 0, 10), (0, 3), (10, 10, 0), (3,), (0,)])
async def test_listing_with_one_cookie_for_all_pages_is_complete(sizes: tuple[int, ...]) -> None:
    """389 DS and Samba number the search, not the page; where a branch's database ends or somebody is gone, a page has a gap."""
    async with FaultyServer(small_directory(), on_search=in_pages(*sizes)) as server:
        entries, page_count, _ = await list_all(server, repeats_cookies=True)
    assert (len(entries), page_count) == (sum(sizes), len(sizes))


@pytest.mark.parametrize("sizes", [(10, 10), (10, 0, 10)])
async def test_listing_with_one_cookie_is_refused_where_each_page_should_have_its_own(sizes: tuple[int, ...]) -> None:
    """The twin: without the preset, the same pages prove nothing."""
    async with FaultyServer(small_directory(), on_search=in_pages(*sizes, 1)) as server:
        with pytest.raises(SearchIncomplete, match=r"same cookie twice|without entries"):
            await list_all(server)


async def test_listing_with_one_cookie_ends_where_the_server_begins_anew() -> None:
    """A server that hands out the same page for ever doesn't keep us for ever, whatever its cookies say."""
    async with FaultyServer(small_directory(*UIDS), on_search=same_cookie) as server:
        with pytest.raises(SearchIncomplete, match="began with the same entry"):
            await list_all(server, repeats_cookies=True)


async def test_listing_with_one_cookie_ends_though_pages_without_anybody_never_do() -> None:
    """Empty pages are counted like others."""
    async with FaultyServer(small_directory(), on_search=no_entries_but_a_cookie) as server:
        with pytest.raises(SearchIncomplete, match="more than 20 pages"):
            await list_all(server, repeats_cookies=True, limits=Limits(page_count=20))


async def test_listing_with_one_cookie_ends_where_the_server_has_forgotten_it() -> None:
    """389 DS answers a cookie that it doesn't know any more with success and nobody, and says so in words."""
    script = on_page(3, forgotten_cookie)
    async with FaultyServer(small_directory(*UIDS), on_search=script) as server:
        with pytest.raises(SearchIncomplete, match="a page came with a message") as caught:
            await list_all(server, repeats_cookies=True)
    assert "Simple Paged Results Search abandoned" in caught.value.diagnostic_message


PARTITIONS = ("DC=DomainDnsZones", "DC=ForestDnsZones", "CN=Configuration")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("ldap://DomainDnsZones.example.com/DC=DomainDnsZones,DC=example,DC=com", True),
        ("ldap://ForestDnsZones.example.com/DC=ForestDnsZones,DC=example,DC=com", True),
        ("ldap://example.com/CN=Configuration,DC=example,DC=com", True),
        ("ldaps://example.com/CN=Configuration,DC=example,DC=com??sub", True),
        ("LDAP://example.com:389/cn=configuration%2cdc=example,dc=com", True),
        ("ldap://child.example.com/DC=child,DC=example,DC=com", False),
        ("ldap://example.com/CN=Configuration,OU=staff,DC=example,DC=com", False),
        ("ldap://example.com/OU=x,CN=Configuration,DC=example,DC=com", False),
        ("ldap://example.com/CN=Configuration", False),
        ("ldap://example.com/CN=Schema,CN=Configuration,DC=example,DC=com", False),
        ("ldap://example.com/OU=people,DC=DomainDnsZones,DC=example,DC=com", False),
        ("ldap://example.com/CN=Configuration+OU=staff,DC=example,DC=com", False),
        ("ldap://CN=Configuration,DC=example,DC=com", False),
        ("http://example.com/CN=Configuration,DC=example,DC=com", False),
        ("ldap://[2001:db8::1]:389/CN=Configuration,DC=example,DC=com", True),
        ("ldap://example.com[/CN=Configuration,DC=example,DC=com", False),
        ("ldap://user@example.com/CN=Configuration,DC=example,DC=com", False),
        ("ldap://example.com/", False),
        ("ldap://example.com/not a DN", False),
        ("ldap://example.com/%ff%fe", False),
        ("", False),
    ],
)
def test_reference_is_ignored_only_where_it_leads_to_a_partition_without_people(uri: str, expected: bool) -> None:
    """MS-ADTS §3.1.1.4.7: the partitions below a domain; other domains, and everything that is not understood, count."""
    assert is_ignored(uri, PARTITIONS) is expected
    assert not is_ignored(uri, ())


def refers_to(*uris: bytes) -> OnSearch:
    """Adds references to each answer."""

    async def script(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        for uri in uris:
            content = ber.write_element(wire.SEARCH_REFERENCE, ber.write_octets(uri))
            session._writer.write(ber.write_element(ber.SEQUENCE, ber.write_integer(message.id), content))
        return False

    return script


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("ldap://a.example.com", "ldap://a.example.com"),
        ("LDAPS://a_b.example.com:636/uid=anna,dc=x??base", "LDAPS://a_b.example.com:636"),
        ("ldap://[2001:db8::1]:389?uid=anna", "ldap://[2001:db8::1]:389"),
        ("ldap:///uid=anna", "another server"),
        ("ldap://uid=anna,dc=x", "another server"),
        ("ldap://anna@host/", "another server"),
        ("ldap://%61nna/", "another server"),
        ("ldap://h\nanna/", "another server"),
        ("https://h/anna", "another server"),
        ("", "another server"),
    ],
)
def test_referral_is_shown_by_its_server_alone(uri: str, expected: str) -> None:
    """What follows may be the entry of a person, and so may whatever is no host."""
    assert server_of(uri) == expected


CONFIGURATION, CHILD = b"ldap://e.com/CN=Configuration,DC=e,DC=com", b"ldap://c.e.com/DC=c,DC=e,DC=com"


async def test_references_to_partitions_without_people_are_counted_and_ignored() -> None:
    """A listing and a look-up from the root of an Active Directory domain are complete without them."""
    async with FaultyServer(small_directory(*UIDS), on_search=refers_to(CONFIGURATION)) as server:
        entries, _, ignored_count = await list_all(server, ignored_references=PARTITIONS)
        directory = LdapDirectory(settings(server, ignored_references=PARTITIONS), lambda _event: None)
        assert len((await directory.look_up(SEARCH)).entries) == 25
        await directory.aclose()
    assert (len(entries), ignored_count) == (25, 3)


@pytest.mark.parametrize("options", [{}, {"ignored_references": PARTITIONS}])
async def test_references_to_another_domain_make_a_search_incomplete(options: dict[str, object]) -> None:
    """Its people may be wanted; the message names the reference that counts, not the first one."""
    async with FaultyServer(small_directory(*UIDS), on_search=refers_to(CONFIGURATION, CHILD)) as server:
        named = "DC=c,DC=e,DC=com" if options else "CN=Configuration"
        with pytest.raises(SearchIncomplete, match="refers to ldap://") as listing:
            await list_all(server, **options)
        directory = LdapDirectory(settings(server, **options), lambda _event: None)
        with pytest.raises(SearchIncomplete, match="refers to ldap://") as look_up:
            await directory.look_up(SEARCH)
        assert named in listing.value.subject
        assert named in look_up.value.subject
        await directory.aclose()


async def test_listing_counts_references_that_may_be_ignored() -> None:
    """With `referrals: ignore` the rest counts, and the report tells how many were left out."""
    async with FaultyServer(small_directory(*UIDS), on_search=reference) as server:
        entries, _, ignored_count = await list_all(server, ignore_references=True)
    assert (len(entries), ignored_count) == (25, 3)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(entry_count=20), "20 entries"),
        (Limits(page_count=2), "2 pages"),
        (Limits(entry_count=5), "more than 5 entries"),
        (Limits(message_bytes=50), "larger than the 50 allowed"),
    ],
)
async def test_listing_beyond_its_caps_is_an_error(limits: Limits, sentence: str) -> None:
    """A server without end is left, with an error."""
    async with FaultyServer(small_directory(*UIDS)) as server:
        with pytest.raises(DirectoryError, match=sentence):
            await list_all(server, limits=limits)


async def test_listing_has_a_deadline_however_busily_the_server_drips() -> None:
    """The time-out is a total: a byte now and then doesn't prolong it."""

    async def drips(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        for byte in wire.write_entry(message.id, f"uid=x,{PEOPLE}", [("uid", [b"x" * 2000])]):
            session._writer.write(bytes((byte,)))
            await session._writer.drain()
            await asyncio.sleep(0.01)
        return True

    async with FaultyServer(small_directory(*UIDS), on_search=drips) as server:
        with pytest.raises(DirectoryUnavailable, match="took longer than"):
            await list_all(server, listing_timeout_s=0.3)


async def test_search_for_one_entry_needs_no_pages() -> None:
    """389 DS answers without the control where nothing is at the base; below a base, that proves nothing."""

    async def nothing(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        end(session, message)
        return True

    one = SearchRequest(PEOPLE, Scope.BASE, SEARCH.filter, ())
    async with FaultyServer(small_directory(), on_search=nothing) as server:
        assert (await list_all(server, [one]))[0] == []
        with pytest.raises(SearchIncomplete, match="control is missing"):
            await list_all(server, [SEARCH])


def ranged(
    values: int,
    step: int,
    *,
    broken_at: int | None = None,
    attribute: str = "mail",
    dn: str = f"uid=u,{PEOPLE}",
    value: bytes = b"m%d@example.com",
) -> OnSearch:
    """A server that hands out an attribute in ranges, as Active Directory does."""

    async def script(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        first = 0
        if request.base not in (dn, PEOPLE):
            return False
        if request.attributes[0].startswith(f"{attribute};range="):
            first = int(request.attributes[0].removeprefix(f"{attribute};range=").split("-")[0])
        if broken_at is not None and first >= broken_at:
            end(session, message, controls=wire.write_paging(b""))
            return True
        last = min(first + step, values)
        name = f"{attribute};range={first}-{'*' if last == values else last - 1}"
        found = {name: [value % number for number in range(first, last)], "uid": [b"u"]}
        entry(session, message, dn, **found)
        end(session, message, controls=wire.write_paging(b""))
        return True

    return script


async def test_listing_fetches_every_range_of_an_attribute() -> None:
    """Long attributes come in pieces, and all the pieces are fetched, in order (MS-ADTS §3.1.1.3.1.3.3)."""
    async with FaultyServer(small_directory(), on_search=ranged(25, 10)) as server:
        entries, _, _ = await list_all(server)
    assert entries[0].attributes["mail"] == [b"m%d@example.com" % number for number in range(25)]


async def test_listing_with_a_range_that_does_not_come_is_an_error() -> None:
    """Half of somebody's addresses is a removal, too."""
    async with FaultyServer(small_directory(), on_search=ranged(25, 10, broken_at=10)) as server:
        with pytest.raises(SearchIncomplete, match="mail;range=10-"):
            await list_all(server)


@pytest.mark.parametrize(("dn_bytes", "is_taken"), [(8 * 1024, True), (8 * 1024 + 1, False)])
async def test_dn_that_is_too_long_is_refused_and_never_shortened(dn_bytes: int, is_taken: bool) -> None:
    """A part of a name is another name: the listing is incomplete, and a login is an error."""
    rest = f",{PEOPLE}"
    dn = f"uid={'x' * (dn_bytes - len(rest) - 4)}{rest}"
    script = answers([(dn, {"mail": [b"a@e"]})] * 2)
    async with FaultyServer(small_directory(), on_search=script) as server:
        directory = LdapDirectory(settings(server), lambda _event: None)
        try:
            if is_taken:
                assert [entry.dn for entry in (await directory.look_up(SEARCH)).entries] == [dn]
                assert [entry.dn for entry in (await list_all(server))[0]] == [dn]
                return
            with pytest.raises(SearchIncomplete, match="longer than 8192 bytes"):
                await directory.look_up(SEARCH)
            with pytest.raises(SearchIncomplete, match="longer than 8192 bytes"):
                await list_all(server)
        finally:
            await directory.aclose()


def test_long_reference_is_never_ignored_and_shown_in_part() -> None:
    """What is too long to be read may lead to anybody."""
    short, long = "ldap://h/CN=Configuration,DC=example,DC=com", f"ldap://h/CN=Configuration,DC={'x' * 8192},DC=com"
    assert is_ignored(short, ["CN=Configuration"])
    assert not is_ignored(long, ["CN=Configuration"])
    found = find_needed([long], LdapSettings("company", (), ignored_references=("CN=Configuration",)))
    assert found is not None
    assert len(found) < 300


UNTRUE_RANGES: dict[str, list[tuple[str, dict[str, list[bytes]]]]] = {
    "a range inside of a range": [(f"uid=u,{PEOPLE}", {"mail;range=0-;range=0-*": [b"a@e"]})],
    "the first piece begins later": [(f"uid=u,{PEOPLE}", {"mail;range=5-*": [b"a@e"]})],
    "two pieces at once": [(f"uid=u,{PEOPLE}", {"mail;range=0-0": [b"a@e"], "mail;range=1-*": [b"b@e"]})],
    "plain values beside a range": [(f"uid=u,{PEOPLE}", {"mail": [b"x@e"], "mail;range=0-*": [b"a@e"]})],
    "fewer values than it says": [(f"uid=u,{PEOPLE}", {"mail;range=0-9": [b"a@e"]})],
    "more values than it says": [(f"uid=u,{PEOPLE}", {"mail;range=0-0": [b"a@e", b"b@e"]})],
    "no values": [(f"uid=u,{PEOPLE}", {"mail;range=0-9": []})],
    "a range that ends before it begins": [(f"uid=u,{PEOPLE}", {"mail;range=1-0": []})],
    "a number without end": [(f"uid=u,{PEOPLE}", {f"mail;range=0-{'9' * 5000}": [b"a@e"]})],
    "a beginning without end": [(f"uid=u,{PEOPLE}", {f"mail;range={'0' * 5000}-*": [b"a@e"]})],
    "no numbers": [(f"uid=u,{PEOPLE}", {"mail;range=a-b": [b"a@e"]})],
    "no end": [(f"uid=u,{PEOPLE}", {"mail;range=0": [b"a@e"]})],
    "the rest of another entry": [
        (f"uid=u,{PEOPLE}", {"mail;range=0-0": [b"a@e"]}),
        (f"uid=v,{PEOPLE}", {"mail;range=1-*": [b"b@e"]}),
    ],
    "no value at all": [(f"uid=u,{PEOPLE}", {"mail;range=0-*": []})],
    "the rest of another attribute": [
        (f"uid=u,{PEOPLE}", {"mail;range=0-0": [b"a@e"]}),
        (f"uid=u,{PEOPLE}", {"cn;range=1-*": [b"b@e"]}),
    ],
    "the same piece again": [
        (f"uid=u,{PEOPLE}", {"mail;range=0-0": [b"a@e"]}),
        (f"uid=u,{PEOPLE}", {"mail;range=0-0": [b"a@e"]}),
    ],
    "a hole": [
        (f"uid=u,{PEOPLE}", {"mail;range=0-0": [b"a@e"]}),
        (f"uid=u,{PEOPLE}", {"mail;range=2-*": [b"b@e"]}),
    ],
    "the rest without a range": [
        (f"uid=u,{PEOPLE}", {"mail;range=0-0": [b"a@e"]}),
        (f"uid=u,{PEOPLE}", {"mail": [b"b@e"]}),
    ],
}


def answers(entries: list[tuple[str, dict[str, list[bytes]]]]) -> OnSearch:
    """A server that answers one search after the other with an entry."""
    left = iter(entries)

    async def script(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        dn, attributes = next(left)
        entry(session, message, dn, uid=[b"u"], **attributes)
        end(session, message, controls=wire.write_paging(b""))
        return True

    return script


@pytest.mark.parametrize("entries", UNTRUE_RANGES.values(), ids=UNTRUE_RANGES.keys())
async def test_range_that_is_not_what_it_says_makes_a_listing_incomplete(
    entries: list[tuple[str, dict[str, list[bytes]]]],
) -> None:
    """A value that is lost on the way is a lost address, or a lost member."""
    async with FaultyServer(small_directory(), on_search=answers(entries)) as server:
        with pytest.raises(SearchIncomplete):
            await list_all(server)


TRUE_RANGES: dict[str, list[tuple[str, dict[str, list[bytes]]]]] = {
    "all at once": [(f"uid=u,{PEOPLE}", {"mail;range=0-*": [b"a@e", b"b@e"]})],
    "the attribute without values beside it": [(f"uid=u,{PEOPLE}", {"mail": [], "mail;range=0-*": [b"a@e", b"b@e"]})],
    "the DN in another spelling": [
        (f"uid=u,{PEOPLE}", {"mail;range=0-0": [b"a@e"]}),
        (f"UID=U, {PEOPLE}", {"mail;range=1-*": [b"b@e"]}),
    ],
    "an empty last piece": [
        (f"uid=u,{PEOPLE}", {"mail;range=0-1": [b"a@e", b"b@e"]}),
        (f"uid=u,{PEOPLE}", {"mail;range=2-*": []}),
    ],
}


@pytest.mark.parametrize("entries", TRUE_RANGES.values(), ids=TRUE_RANGES.keys())
async def test_ranges_are_joined(entries: list[tuple[str, dict[str, list[bytes]]]]) -> None:
    """What servers send that may be trusted."""
    async with FaultyServer(small_directory(), on_search=answers(entries)) as server:
        found, _, _ = await list_all(server)
    assert found[0].attributes == {"uid": [b"u"], "mail": [b"a@e", b"b@e"]}


STAFF = f"cn=staff,{BASE}"


async def read_group(server: FaultyServer) -> ResolvedGroups:
    """The group, read over LDAP."""
    directory = LdapDirectory(settings(server), lambda _event: None)
    groups = GroupRules((STAFF,), nested=False)
    source = DirectorySource(
        directory, SEARCH.filter, AttributeMap("entryUUID", (parse_item("uid"),)), (PEOPLE,), groups=groups
    )
    try:
        return await source.read_groups_anew()
    finally:
        await directory.aclose()


async def test_group_has_the_members_of_every_range() -> None:
    """Active Directory sends 1,500 members at a time (MS-ADTS §3.1.1.3.1.3.3)."""
    script = ranged(25, 10, attribute="member", dn=STAFF, value=b"uid=u%d,dc=e")
    async with FaultyServer(small_directory(), on_search=script) as server:
        groups = await read_group(server)
    assert groups.included[0].member_keys == {f"uid=u{number},dc=e" for number in range(25)}


@pytest.mark.parametrize("is_first", [True, False])
async def test_search_for_one_entry_that_brings_two_is_an_error(is_first: bool) -> None:
    """A group that is read has one entry; of two, nobody knows which one has its members (RFC 4511 §4.5.1.2)."""

    async def two_entries(session: Session, message: wire.Message, request: wire.ReceivedSearch) -> bool:
        entry(session, message, f"cn=other,{BASE}" if is_first else STAFF, member=[f"uid=u1,{PEOPLE}".encode()])
        entry(session, message, STAFF if is_first else f"cn=other,{BASE}", member=[f"uid=u2,{PEOPLE}".encode()])
        end(session, message)
        return True

    async with FaultyServer(small_directory(), on_search=two_entries) as server:
        with pytest.raises(SearchIncomplete, match="one entry was asked for, and 2 came"):
            await read_group(server)
        directory = LdapDirectory(settings(server), lambda _event: None)
        try:
            with pytest.raises(SearchIncomplete, match="one entry was asked for, and 2 came"):
                await directory.look_up(SearchRequest(STAFF, Scope.BASE, SEARCH.filter, ("cn",)))
        finally:
            await directory.aclose()


async def test_group_with_a_range_that_does_not_come_is_an_error() -> None:
    """Ten of 25 members would remove the other fifteen."""
    script = ranged(25, 10, attribute="member", dn=STAFF, value=b"uid=u%d,dc=e", broken_at=10)
    async with FaultyServer(small_directory(), on_search=script) as server:
        with pytest.raises(SearchIncomplete, match="member;range=10-"):
            await read_group(server)


async def test_listing_that_is_left_early_closes_its_connection() -> None:
    """Whoever has seen enough leaves nothing running."""
    events: list[Event] = []
    async with FaultyServer(small_directory(*UIDS)) as server:
        directory = LdapDirectory(settings(server), events.append)
        async with directory.open_listing() as stream:
            async for _ in stream.read([SEARCH]):
                break
        await asyncio.wait_for(server.until_empty(), 5)
        await directory.aclose()
    assert [event.outcome for event in events if isinstance(event, OperationEnded)] == ["ok", "ok"]


async def test_listing_begins_anew_on_the_next_server_and_never_mixes() -> None:
    """The first server breaks off: it is set aside, and the next listing asks the second one alone."""
    async with (
        FaultyServer(small_directory(*UIDS), on_search=on_page(2, drops)) as broken,
        FaultyServer(small_directory(*UIDS)) as good,
    ):
        directory = LdapDirectory(settings(broken, good), lambda _event: None)

        async def list_once() -> tuple[int, str]:
            async with directory.open_listing() as stream:
                count = 0
                async for portion in stream.read([SEARCH]):
                    count += len(portion)
            return count, stream.server

        with pytest.raises(DirectoryUnavailable):
            await list_once()
        assert await list_once() == (25, f"ldap://127.0.0.1:{good.port}")
        await directory.aclose()

"""The embedded server, asked by programs that know LDAP: ldapsearch, ldapwhoami and ldap3."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from pathlib import Path

import ldap3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.demo import wire
from bridge.demo.matching import matches
from bridge.demo.people import (
    BASE,
    READER_DN,
    READER_PASSWORD,
    SAMPLE_PASSWORD,
    SAMPLE_USER,
    generate_people,
    password_of,
    sample_directory,
)
from bridge.demo.server import EmbeddedServer
from bridge.demo.store import Store
from bridge.syntax import ber
from bridge.syntax.filters import parse_filter
from tests.support.slapd import require

STORE = sample_directory(300)
READER = ("-D", READER_DN, "-w", READER_PASSWORD)


async def ldap(program: str, server: EmbeddedServer, *arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        require(program),
        *("-x", "-H", server.url, *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


async def search(server: EmbeddedServer, *arguments: str) -> tuple[int, list[str]]:
    code, output, _ = await ldap("ldapsearch", server, "-LLL", "-o", "ldif-wrap=no", *READER, "-b", BASE, *arguments)
    return code, [line for line in output.splitlines() if line.startswith("dn:")]


@pytest.mark.parametrize("paging", [(), ("-E", "pr=7/noprompt"), ("-E", "pr=1000/noprompt")])
async def test_search_gives_everybody_with_and_without_paging(paging: tuple[str, ...]) -> None:
    """Each person once, whatever the page size."""
    async with EmbeddedServer(STORE) as server:
        code, found = await search(server, *paging, "(objectClass=inetOrgPerson)", "uid")
    assert (code, len(found), len(set(found))) == (0, 300, 300)


@pytest.mark.parametrize(
    ("arguments", "code", "count"),
    [
        (("-s", "base", "(objectClass=*)"), 0, 1),
        (("-s", "one", "(objectClass=*)"), 0, 2),
        (("(uid=anna.mueller)",), 0, 1),
        (("(UID=ANNA.MUELLER)",), 0, 1),
        (("(mail=anna.mueller@example.com)",), 0, 1),
        (("(&(objectClass=inetOrgPerson)(uid=anna.mueller))",), 0, 1),
        (("(&(objectClass=inetOrgPerson)(!(uid=anna.mueller)))",), 0, 299),
        (("(uid=nobody)",), 0, 0),
        (("-z", "5", "(objectClass=inetOrgPerson)"), 4, 5),
        (("-b", "ou=missing,dc=example,dc=com"), 32, 0),
        (("-b", "no dn"), 32, 0),
        (("-E", "!sync=ro", "(uid=anna.mueller)"), 12, 0),
    ],
)
async def test_search_ends_as_it_should(arguments: tuple[str, ...], code: int, count: int) -> None:
    """Scopes, filters, limits, missing bases, unknown critical controls."""
    async with EmbeddedServer(STORE) as server:
        found_code, found = await search(server, *arguments)
    assert (found_code, len(found)) == (code, count)


async def test_search_gives_the_attributes_that_were_asked_for() -> None:
    """Operational ones by name or `+`, passwords never, none at all for 1.1."""
    async with EmbeddedServer(STORE) as server:
        for wanted, there, missing in (
            ((), "uid:", "entryUUID:"),
            (("+",), "entryUUID:", "uid:"),
            (("entryuuid", "MAIL"), "entryUUID:", "uid:"),
            (("1.1",), "dn:", "uid:"),
            (("*", "userPassword"), "uid:", "userPassword:"),
            (("-A", "uid"), "uid:", "uid: anna"),
        ):
            options = tuple(option for option in wanted if option == "-A")
            names = tuple(option for option in wanted if option != "-A")
            _, text, _ = await ldap(
                "ldapsearch", server, "-LLL", *READER, "-b", BASE, *options, "(uid=anna.mueller)", *names
            )
            assert there in text
            assert missing not in text


async def test_binds_are_checked_and_the_anonymous_see_nothing() -> None:
    """Right, wrong, unknown, without a password; nobody reads without a bind but the root DSE."""
    dn = f"uid={SAMPLE_USER},ou=Sales,ou=people,{BASE}"
    async with EmbeddedServer(STORE) as server:
        for who, password, code in (
            (dn, SAMPLE_PASSWORD, 0),
            (dn, "wrong", 49),
            (f"uid=x,{BASE}", "x", 49),
            ("y", "x", 49),
        ):
            found, _, _ = await ldap("ldapsearch", server, "-D", who, "-w", password, "-s", "base", "-b", BASE)
            assert found == code
        code, _, _ = await ldap("ldapsearch", server, "-b", BASE)
        assert code == 50
        code, text, _ = await ldap("ldapsearch", server, "-s", "base", "-b", "", "vendorName")
        assert (code, "vendorName" in text) == (0, True)
        code, _, _ = await ldap("ldapdelete", server, *READER, dn)
        assert code == 53
        code, _, errors = await ldap("ldapsearch", server, "-D", dn, "-w", "", "-b", BASE)
        assert (code, "without a password" in errors) == (53, True)


async def test_start_tls_is_served_with_a_certificate_and_refused_without(
    authority_file: Path, make_certificate: Callable[..., tuple[Path, Path]]
) -> None:
    """A client begins TLS, binds and searches; without a certificate it is told that there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*make_certificate())

    environment = {"LDAPTLS_CACERT": str(authority_file), "LDAPTLS_REQCERT": "demand"}
    arguments = ("-ZZ", *READER, "-LLL", "-b", BASE, "(uid=anna.mueller)", "uid")
    async with EmbeddedServer(STORE, tls=context) as server:
        code, text, errors = await ldap("ldapsearch", server, *arguments, **environment)
        assert (code, "uid: anna.mueller" in text) == (0, True), errors
    async with EmbeddedServer(STORE) as server:
        code, _, errors = await ldap("ldapsearch", server, *arguments, **environment)
        assert (code, "not offered" in errors) == (1, True), errors


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x30\x80",
        b"\x30\x05\x02\x01\x01\x7f\x00",
        b"\x30\x84\x7f\xff\xff\xff",
        b"\x30\x03\x02\x01\x01",
    ],
)
async def test_broken_protocol_ends_one_connection_with_a_notice(data: bytes) -> None:
    """RFC 4511 §4.1.1: a notice of disconnection; others are served on."""
    async with EmbeddedServer(STORE) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(data)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert wire.NOTICE_OF_DISCONNECTION.encode() in answer
        assert (await search(server, "(uid=anna.mueller)"))[0] == 0


async def test_cookie_is_good_once_and_only_where_it_was_given() -> None:
    """A forged or used cookie is refused rather than taken for the first page."""
    async with EmbeddedServer(STORE) as server:

        def talk() -> list[int]:
            connection = ldap3.Connection(
                ldap3.Server("127.0.0.1", server.port, get_info=ldap3.NONE), READER_DN, READER_PASSWORD, auto_bind=True
            )
            codes = []
            arguments = (BASE, "(objectClass=inetOrgPerson)")
            connection.search(*arguments, paged_size=10)
            cookie = connection.result["controls"]["1.2.840.113556.1.4.319"]["value"]["cookie"]
            for found in (cookie, cookie, b"forged"):
                connection.search(*arguments, paged_size=10, paged_cookie=found)
                codes.append(connection.result["result"])
            connection.unbind()
            return codes

        assert await asyncio.to_thread(talk) == [0, 53, 53]


@given(st.binary(max_size=60))
def test_read_message_takes_or_refuses_any_bytes(data: bytes) -> None:
    """Bytes are a request or raise BerError."""
    try:
        message = wire.read_message(data)
    except ber.BerError:
        return
    assert message.id is not None


ATTRIBUTES = {"uid": [b"Anna"], "cn": [b"Anna  M", "Änne".encode()], "age": [b"5"], "flags": [b"6"], "bin": [b"\xff"]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(uid=anna)", True),
        ("(uid=bert)", False),
        ("(missing=x)", None),
        ("(!(missing=x))", None),
        ("(!(uid=bert))", True),
        ("(cn=anna m)", True),
        ("(cn=ÄNNE)", True),
        ("(cn=a*m)", True),
        ("(cn=*nn*m)", True),
        ("(cn=*x*)", False),
        ("(cn=m*a)", False),
        ("(uid=*)", True),
        ("(missing=*)", False),
        ("(age>=5)", True),
        ("(age>=10)", False),
        ("(age<=10)", True),
        ("(cn>=a)", True),
        ("(uid~=ANNA)", True),
        ("(flags:1.2.840.113556.1.4.803:=2)", True),
        ("(flags:1.2.840.113556.1.4.803:=3)", False),
        ("(flags:1.2.840.113556.1.4.804:=3)", True),
        ("(flags:1.2.840.113556.1.4.803:=x)", None),
        ("(uid:1.2.840.113556.1.4.803:=1)", False),
        ("(uid:caseExactMatch:=x)", None),
        ("(:caseExactMatch:=x)", None),
        ("(uid:dn:=anna)", True),
        ("(&)", True),
        ("(|)", False),
        ("(&(uid=anna)(missing=x))", None),
        ("(&(uid=bert)(missing=x))", False),
        ("(|(uid=anna)(missing=x))", True),
        ("(|(uid=bert)(missing=x))", None),
    ],
)
def test_matches_knows_true_false_and_undefined(text: str, expected: bool | None) -> None:
    """Three values, as RFC 4511 §4.5.1.7 has them."""
    assert matches(parse_filter(text), ATTRIBUTES) is expected


def test_sample_people_are_the_same_each_time_and_unique() -> None:
    """User names repeat for nobody, however many there are, and the sample user is the first."""
    people = list(generate_people(2000))
    assert people == list(generate_people(2000))
    assert len({person.uid for person in people}) == 2000
    assert people[0].uid == SAMPLE_USER
    assert all(person.uid.isascii() for person in people)
    assert len({password_of(person) for person in people}) == 2000


def test_store_refuses_a_second_entry_of_one_name() -> None:
    """Names are unique, whatever their spelling."""
    store = Store(BASE)
    store.add("uid=a,dc=e", {})
    with pytest.raises(ValueError, match="stands there already"):
        store.add("UID=A, DC=E", {})
    assert len(store) == 1
    assert store.find("no dn") is None


async def test_server_that_was_not_started_has_no_port() -> None:
    """Its address is known once it listens."""
    with pytest.raises(RuntimeError):
        _ = EmbeddedServer(STORE).port

"""Listings before a first server that fails in every way, and a good second one: two real slapd and a proxy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.syntax import ber
from tests.conftest import StartSlapd
from tests.directories.test_witnesses_openldap import dn, listed, of_servers, people, problem_codes
from tests.support.bridges import Client, running_bridge
from tests.support.ldap_messages import Request, write_controls, write_search_done
from tests.support.ldap_proxy import LdapProxy
from tests.support.proxied_connection import Rule
from tests.support.slapd import BASE, PEOPLE, READER

pytestmark = pytest.mark.slapd

Fault = Callable[[LdapProxy], None]
PAGED = "1.2.840.113556.1.4.319"
_SEARCH_REFERENCE = 0x73
IN_TIME = "timeouts: {connect: 500ms, request: 1500ms, listing: 4s}\n    page_size: 5"


def is_listing(request: Request) -> bool:
    """Whether a search asks for everybody, and not for a few by their ids."""
    return request.base == PEOPLE and request.scope == 2 and b"entryUUID" not in request.filter


def paging(cookie: bytes) -> bytes:
    """The value of a paged-results control (RFC 2696)."""
    return ber.write_element(ber.SEQUENCE, ber.write_integer(0), ber.write_octets(cookie))


def result(code: int, diagnostic: str = "", *, entries: bool = False) -> Fault:
    """Each page of a listing ends so."""
    return lambda proxy: proxy.answer_searches(code, diagnostic, entries=entries, only=is_listing)


def second_page(code: int) -> Fault:
    """The second page of each listing ends so."""
    seen = 0

    def is_second(request: Request) -> bool:
        nonlocal seen
        seen += is_listing(request)
        return is_listing(request) and seen % 2 == 0

    return lambda proxy: proxy.answer_searches(code, entries=True, only=is_second)


def control(*values: bytes | None, name: str = PAGED) -> Fault:
    """Each page has these controls in place of its own."""
    found = write_controls(*((name, value) for value in values))

    def answer(request: Request) -> bytes:
        return write_search_done(request.message_id, 0, controls=found)

    return lambda proxy: proxy.add(Rule(is_listing, answer, is_forwarded=True))


def reference(proxy: LdapProxy) -> None:
    """A continuation reference comes before the end of each page."""

    def answer(request: Request) -> bytes:
        uri = ber.write_octets(b"ldap://elsewhere.example.com/dc=example,dc=com")
        reference = ber.write_element(_SEARCH_REFERENCE, uri)
        found = ber.write_element(ber.SEQUENCE, ber.write_integer(request.message_id), reference)
        return found + write_search_done(request.message_id, 0, controls=write_controls((PAGED, paging(b""))))

    proxy.add(Rule(is_listing, answer, is_forwarded=True))


def silence(proxy: LdapProxy) -> None:
    """No page is answered."""
    proxy.add(Rule(is_listing))


def breaking(*, rst: bool) -> Fault:
    """The connection ends with the first page of each listing."""

    def put_in(proxy: LdapProxy) -> None:
        def end(request: Request) -> None:
            if is_listing(request):
                proxy.close_existing(rst=rst)

        proxy.on_request = end

    return put_in


def nonsense(proxy: LdapProxy) -> None:
    """Each listing is answered with what is no LDAP."""

    def end(request: Request) -> None:
        if is_listing(request):
            proxy.garbage()

    proxy.on_request = end


def service_bind(code: int, diagnostic: str = "") -> Fault:
    """The service account is bound nowhere any more, and the kept connections are gone."""

    def put_in(proxy: LdapProxy) -> None:
        proxy.answer_binds(code, diagnostic, only=lambda name: name == READER)
        proxy.close_existing(rst=False)

    return put_in


def refused(proxy: LdapProxy) -> None:
    """Nothing listens any more."""
    proxy.stop_listening()
    proxy.close_existing(rst=True)


def ids(code: int) -> Fault:
    """Nobody is found by an id, since each such search ends so."""
    return lambda proxy: proxy.answer_searches(code, only=lambda request: b"entryUUID" in request.filter)


FAULTS: dict[str, Fault] = {
    **{f"page with result {code}": result(code) for code in (1, 2, 3, 4, 8, 10, 11, 12, 13, 16, 18, 32, 34, 50)},
    **{f"page with result {code}": result(code) for code in (51, 52, 53, 80, 113)},
    **{f"entries, then result {code}": result(code, entries=True) for code in (3, 4, 10, 11, 53, 80)},
    **{f"second page with result {code}": second_page(code) for code in (1, 4, 53)},
    "page with a message": result(0, "Simple Paged Results Search abandoned", entries=True),
    "no paging control": control(),
    "another control": control(None, name="1.2.3.4"),
    "paging control without a value": control(None),
    "paging control that is no BER": control(b"\xff\xff\xff"),
    "paging control that is cut": control(paging(b"cookie")[:-2]),
    "same cookie for ever": control(paging(b"again")),
    "cookie of its own making": control(paging(b"x" * 30)),
    "continuation reference": reference,
    "silence": silence,
    "reset": breaking(rst=True),
    "end of the connection": breaking(rst=False),
    "no LDAP": nonsense,
    **{f"service bind with {code}": service_bind(code) for code in (8, 32, 48, 49, 50, 51, 52, 53, 80)},
    "service account locked at one replica": service_bind(49, "80090308: data 775, v1db1"),
    **{f"search by id with {code}": ids(code) for code in (1, 11, 50, 53, 80)},
    "search by id with success, and nobody": ids(0),
    "connection refused": refused,
    "black hole": LdapProxy.black_hole,
}


async def fall_back(client: Client, everybody: set[str], first: str, second: str) -> None:
    """Everybody is listed by the second server; the first is set aside, and nothing is wrong with the answer."""
    assert await listed(client) == everybody
    report = client.last_refresh()
    assert (report["server"], report["user_count"], report["withheld_count"]) == (second, 20, 0)
    assert any('"server.set_aside"' in line and first in line for line in client.log.getvalue().splitlines())
    assert set(problem_codes(client)) <= {"no_replica"}


@pytest.mark.timeout(240)
async def test_whatever_fails_at_the_first_server_the_second_one_lists(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Each fault comes upon a service that has listed before; the first listing after it is whole, within its time."""
    first, second = start_slapd(people(range(20))), start_slapd(people(range(20)))
    wrong: dict[str, str] = {}
    assert len(FAULTS) >= 50
    for number, (name, put_in) in enumerate(FAULTS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with LdapProxy(("127.0.0.1", first.port)) as proxy:
            file = of_servers(folder, proxy.url, second.url)
            text = file.read_text()
            line = next(line for line in text.splitlines() if "timeouts:" in line)
            file.write_text(text.replace(line, f"    {IN_TIME}"))
            async with running_bridge(file) as client:
                everybody = await listed(client)
                assert client.last_refresh()["server"] == proxy.url
                put_in(proxy)
                try:
                    await fall_back(client, everybody, proxy.url, second.url)
                except AssertionError as error:
                    wrong[name] = str(error)[:300]
    assert wrong == {}


async def test_error_of_all_servers_names_each(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """One of them has no such base, the other one no control: neither is the configuration's fault alone."""
    first, second = start_slapd(people(range(20))), start_slapd(people(range(20)))
    async with LdapProxy(("127.0.0.1", first.port)) as one, LdapProxy(("127.0.0.1", second.port)) as two:
        async with running_bridge(of_servers(tmp_path, one.url, two.url)) as client:
            result(32)(one)
            control()(two)
            status, answer = await client.post("cmd=list")
            assert (status, answer["error"]) == (503, "directory_unavailable")
            assert f"{one.url}: the search base '{PEOPLE}' does not exist" in answer["message"]
            assert f"{two.url}: the paged-results control is missing" in answer["message"]


async def test_error_on_which_all_servers_agree_is_that_error(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The twin: a base that is nowhere is a fault of the configuration."""
    first, second = start_slapd(), start_slapd()
    users = f'users: {{bases: ["ou=nowhere,{BASE}"]}}'
    async with running_bridge(of_servers(tmp_path, first.url, second.url, users=users)) as client:
        status, answer = await client.post("cmd=list")
        assert (status, answer["error"]) == (502, "search_invalid")


async def test_missing_base_group_or_id_at_the_first_server_is_found_at_the_second(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """What the first one really lacks: a base among two, a group, the right to read the id."""
    first, second = start_slapd(people(range(20))), start_slapd(people(range(20)))
    other, group = f"ou=other,{BASE}", f"cn=archived,{BASE}"
    second.modify(f"dn: {other}\nchangetype: add\nobjectClass: organizationalUnit\nou: other\n\n")
    members = "".join(f"member: {dn(number)}\n" for number in range(20))
    second.modify(f"dn: {group}\nchangetype: add\nobjectClass: groupOfNames\ncn: archived\n{members}\n")
    for number, users in enumerate(
        (
            f'{{bases: ["{PEOPLE}", "{other}"]}}',
            f'{{bases: ["{PEOPLE}"], groups: {{include: ["{group}"], way: members}}}}',
        )
    ):
        folder = tmp_path / f"missing{number}"
        folder.mkdir()
        async with running_bridge(of_servers(folder, first.url, second.url, users=f"users: {users}")) as client:
            assert len(await listed(client)) == 20
            assert client.last_refresh()["server"] == second.url
    reader = f'by dn.exact="{READER}"'
    first.restart_with_access(
        f"access to attrs=entryUUID {reader} none by * none\naccess to * {reader} read by anonymous auth by * none"
    )
    folder = tmp_path / "ids"
    folder.mkdir()
    async with running_bridge(of_servers(folder, first.url, second.url)) as client:
        assert len(await listed(client)) == 20
        assert client.last_refresh()["server"] == second.url

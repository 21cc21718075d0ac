"""Every raw case at every listener: a defined answer or a defined end, no secret, no second bind, and others are served."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.floods import open_count
from tests.support.waiting import until
from tests.web.raw import flow, framing, requests
from tests.web.raw.cases import GOOD, MAILSTORE, OK, VOICES, Act, Case, Ending, Listener
from tests.web.raw.neighbours import Neighbours
from tests.web.raw.playing import Answer, Heard, play
from tests.web.raw.site import Site, running_site
from tests.web.raw.words import SECRETS

pytestmark = pytest.mark.processes
TABLES = (
    framing.SMUGGLING,
    framing.CHUNKING,
    framing.LINES,
    requests.METHODS,
    requests.TARGETS,
    requests.VERSIONS,
    requests.HEADERS,
    requests.CREDENTIALS,
    requests.FORMS,
    requests.COMMANDS,
    flow.PIPELINING,
    flow.SPEED,
    flow.LEAVING,
)
CASES = [case for table in TABLES for case in table]
PLAYED = [
    pytest.param(listener, case, id=f"{listener.value}: {case.name}") for case in CASES for listener in case.listeners
]
CODES = {400: "bad_request", 401: "unauthorized", 404: "not_found", 413: "too_large"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    tmp_path_factory: pytest.TempPathFactory, make_certificate: Callable[..., tuple[Path, Path]], authority_file: Path
) -> AsyncIterator[Site]:
    async with running_site(tmp_path_factory.mktemp("site"), make_certificate(), authority_file) as found:
        for listener in Listener:
            await play(found, listener, flow.PIPELINING[0])
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbours(site: Site) -> AsyncIterator[Neighbours]:
    async with Neighbours(site) as found:
        yield found


def test_there_are_enough_cases_and_each_has_a_name_of_its_own() -> None:
    """A name that stands twice would hide a case."""
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []
    assert len(CASES) > 170


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("listener", "case"), PLAYED)
async def test_raw_request(site: Site, neighbours: Neighbours, listener: Listener, case: Case) -> None:
    """What came is what the table says; and nobody else has noticed."""
    site.forget()
    tasks, descriptor_count, connection_count = asyncio.all_tasks(), open_count(), site.connection_count()
    async with neighbours.asking():
        heard = await play(site, listener, case)
    check_answers(listener, case, heard)
    check_traces(heard, site)
    check_log(listener, heard, site)
    check_binds(listener, case, site)
    neighbours.check()

    def is_as_before() -> bool:
        has_ended = all(task.done() or task in tasks for task in asyncio.all_tasks())
        return has_ended and site.connection_count() == connection_count and open_count() <= descriptor_count

    await until(is_as_before, 5, pause_s=0.001)


def expected_statuses(case: Case) -> list[int]:
    """With that of the request that is played after a case that leaves the connection open."""
    found = [200 if status == OK else status for status in case.statuses]
    return [*found, 200] if case.ending is Ending.OPEN else found


def check_answers(listener: Listener, case: Case, heard: Heard) -> None:
    """Each is one of ours, whole, and without the name of a library."""
    statuses, expected = [answer.status for answer in heard.answers], expected_statuses(case)
    if heard.was_reset:  # who goes on sending may lose an answer
        assert statuses == expected[: len(statuses)], heard.raw
    else:
        assert statuses == expected, heard.raw
    assert heard.has_ended is (case.ending is not Ending.WAITING) or Act.RESET in case.steps
    for answer in heard.answers:
        check_answer(listener, case, answer)
    if case.ending is Ending.CLOSED and heard.answers and not heard.was_reset:
        assert heard.answers[-1].headers.get("connection", "close") == "close"


def check_answer(listener: Listener, case: Case, answer: Answer) -> None:
    """Whose it is, and for an error what it says."""
    if answer.status == 100:
        return
    assert answer.headers["server"].startswith("mailstore-ldap-bridge/"), answer
    if answer.status == 200 or case.bodiless:
        return
    assert answer.body, answer
    if listener in MAILSTORE and answer.status != 405:
        assert json.loads(answer.body)["request_id"] == answer.headers["x-request-id"]
        assert json.loads(answer.body)["error"] == CODES[answer.status]
    assert b"<" not in answer.body


def check_traces(heard: Heard, site: Site) -> None:
    """No library speaks, no secret is repeated, nothing is taken for a fault of ours."""
    for word in (b"aiohttp", b"python", b"traceback"):
        assert word not in heard.raw.lower()
    log = site.log()
    for secret in SECRETS:
        assert secret not in heard.raw
        assert secret.decode() not in log
    assert "Traceback" not in log
    assert [
        line for line in site.lines() if line["level"] in ("error", "critical") or line["event"] == "library.logged"
    ] == []


def check_log(listener: Listener, heard: Heard, site: Site) -> None:
    """Each of MailStore's requests is told once, with the status that was answered; the neighbours have another address."""
    lines = [line for line in site.lines() if line["event"].startswith("request.") and line["remote"] == "127.0.0.1"]
    told, answered = (
        [line["status"] for line in lines],
        [answer.status for answer in heard.answers if answer.status != 100],
    )
    if not heard.was_reset:
        assert told == (answered if listener in MAILSTORE else [])


def check_binds(listener: Listener, case: Case, site: Site) -> None:
    """One for each login that was answered, none for what is hidden in something else."""
    names = [dn.partition(",")[0] for dn in site.server.user_binds()]
    login_count = sum(status == OK for status in case.statuses) if listener in MAILSTORE else 0
    assert names == ["uid=anna"] * login_count


@pytest.mark.asyncio(loop_scope="module")
async def test_login_of_a_caller_that_has_ended_tls_costs_no_bind(site: Site) -> None:
    """`close_notify` right behind the body: asyncio ends both directions, so that nobody could be answered."""
    site.forget()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.tls.port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = site.trusted.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(1 << 16))
        else:
            break
    head, separator, body = VOICES[Listener.TLS].render(GOOD).partition(b"\r\n\r\n")
    tls.write(head + separator)
    writer.write(outgoing.read())
    await asyncio.sleep(0.05)
    tls.write(body)
    with pytest.raises(ssl.SSLWantReadError):
        tls.unwrap()
    writer.write(outgoing.read())
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await until(lambda: site.tls.service.listener._acceptor.pool.count <= 1, 5)
    assert site.server.user_binds() == []
    assert [line for line in site.lines() if line["level"] != "debug"] == []

"""Crowds at every listener, silent, half-said and greedy: who is in the right is answered, and nothing is left of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.floods import client_hello, flood, kept_flood, many_descriptors, open_count
from tests.support.waiting import until
from tests.web.raw.cases import GOOD, HEAD, VOICES, Case, Ending, Listener
from tests.web.raw.neighbours import Neighbours
from tests.web.raw.playing import play
from tests.web.raw.site import Site, running_site

pytestmark = [pytest.mark.processes, pytest.mark.asyncio(loop_scope="module")]

CROWD_COUNT = 1200
"""More than all listeners have together."""
GREEDY_COUNT, ASKED_COUNT = 20, 300
SAID = {"nothing": b"", "half of the headers": HEAD, "half of the body": HEAD + b"Content-Length: 99\r\n\r\n@WORD@"}
WITHOUT_TLS = [each for each in Listener if each is not Listener.TLS]
PROBE = Case("a request that is right", (), (), Ending.OPEN)
LARGE = {
    Listener.PLAIN: GOOD.replace(b"@AUTH@", b""),
    Listener.TLS: GOOD.replace(b"@AUTH@", b""),
    Listener.ADMIN: b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    Listener.CONTROL: b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    tmp_path_factory: pytest.TempPathFactory, make_certificate: Callable[..., tuple[Path, Path]], authority_file: Path
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with many_descriptors():
        async with running_site(folder, make_certificate(), authority_file) as found:
            for listener in Listener:
                await play(found, listener, PROBE)
            yield found


async def check_crowd(site: Site, crowd: AbstractAsyncContextManager[object]) -> None:
    """Everybody else is answered while the crowd is there; afterwards everything is as before."""
    site.forget()
    await until(lambda: site.connection_count() == 0, 5)
    tasks, descriptor_count = asyncio.all_tasks(), open_count()
    async with Neighbours(site) as neighbours:
        async with neighbours.asking(), crowd:
            for each in (Listener.ADMIN, Listener.CONTROL):
                heard = await play(site, each, PROBE)
                assert [answer.status for answer in heard.answers] == [200]
        neighbours.check()

    def is_as_before() -> bool:
        has_ended = all(task.done() or task in tasks for task in asyncio.all_tasks())
        return has_ended and site.connection_count() == 0 and open_count() <= descriptor_count

    await until(is_as_before, 10)
    assert [line for line in site.lines() if line["level"] == "error" or line["event"] == "library.logged"] == []
    assert site.server.user_binds() == []


@pytest.mark.parametrize("said", SAID)
@pytest.mark.parametrize("listener", WITHOUT_TLS)
async def test_crowd_that_goes_no_further_keeps_nobody_out(site: Site, listener: Listener, said: str) -> None:
    """The oldest ones go when there is no room for more."""
    await check_crowd(site, flood(site.place(listener), CROWD_COUNT, says=VOICES[listener].render(SAID[said])))


@pytest.mark.parametrize("says", [b"", b"\x16", client_hello()], ids=["nothing", "a byte", "a greeting"])
async def test_crowd_that_does_not_end_its_handshake_keeps_nobody_out(site: Site, says: bytes) -> None:
    """They are counted before TLS costs anything."""
    await check_crowd(site, flood(site.place(Listener.TLS), CROWD_COUNT, says=says))


@pytest.mark.parametrize("listener", Listener)
async def test_callers_that_take_no_answer_keep_nobody_waiting(site: Site, listener: Listener) -> None:
    """Each asks hundreds of times in one piece, and reads nothing; over TLS nothing more than its first headers."""
    says = VOICES[listener].render(LARGE[listener]) * ASKED_COUNT
    if listener is Listener.TLS:
        await check_crowd(site, kept_flood(site.tls.port, GREEDY_COUNT, says, site.trusted))
    else:
        await check_crowd(site, flood(site.place(listener), GREEDY_COUNT, says=says))

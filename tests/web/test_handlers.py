"""The listener as a client sees it: curl, and bytes on a socket as a .NET program sends them."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.errors import DirectoryUnavailable
from bridge.events import RequestAnswered
from bridge.web.limits import WebLimits
from tests.support.web import AUTHORIZATION, BODY, USER, request, serving


@pytest.mark.parametrize("path", ["/mailstore", "/mailstore/"])
async def test_list_answers_the_json_at_both_spellings_of_the_endpoint(path: str) -> None:
    """With and without a slash, never by redirection."""
    async with serving() as web:
        assert await web.curl(*USER, "-d", "cmd=list", path=path) == (200, BODY)


@pytest.mark.parametrize(
    ("password", "expected"), [("right", b'{"succeeded":true}'), ("wrong", b'{"succeeded":false}')]
)
async def test_auth_is_200_whatever_the_verdict(password: str, expected: bytes) -> None:
    """A refused login is an answer, not an HTTP error."""
    async with serving() as web:
        assert await web.curl(*USER, "-d", f"cmd=auth&user=anna&pass={password}") == (200, expected)


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("-d", "cmd=list"), 401, "unauthorized"),
        (("-u", "mailstore:wrong", "-d", "cmd=list"), 401, "unauthorized"),
        (("-u", "other:pä", "-d", "cmd=list"), 401, "unauthorized"),
        (("-H", "Authorization: Bearer x", "-d", "cmd=list"), 401, "unauthorized"),
        (("-H", "Authorization: Basic /w==", "-d", "cmd=list"), 401, "unauthorized"),
        ((*USER, "-H", AUTHORIZATION, "-H", AUTHORIZATION, "-d", "cmd=list"), 401, "unauthorized"),
        ((*USER, "-d", ""), 400, "bad_request"),
        ((*USER, "-d", "cmd=nonsense"), 400, "bad_request"),
        ((*USER, "-d", "cmd=list&cmd=list"), 400, "bad_request"),
        ((*USER, "-d", "cmd=auth&user=%FF&pass=x"), 400, "bad_request"),
        ((*USER, "-H", "Content-Type: text/plain", "-d", "cmd=list"), 400, "bad_request"),
        ((*USER, "-d", "cmd=list&x=" + "x" * 70_000), 413, "too_large"),
        ((*USER, "-H", "Transfer-Encoding: chunked", "-d", "cmd=list&x=" + "x" * 70_000), 413, "too_large"),
    ],
)
async def test_errors_have_their_status_and_a_json_body(arguments: tuple[str, ...], status: int, code: str) -> None:
    """Each row of the table of errors: status, code, a sentence and the request's id."""
    async with serving() as web:
        found, body = await web.curl(*arguments)
        answer = json.loads(body)
        assert (found, answer["error"]) == (status, code)
        assert answer["message"]
        assert answer["request_id"].startswith("id")
        assert web.service.asked == []


async def test_other_paths_are_404_and_other_methods_405() -> None:
    """A browser is told what this address is for, and which method it takes."""
    async with serving() as web:
        status, body = await web.curl(*USER, "-d", "cmd=list", path="/other")
        assert (status, json.loads(body)["error"]) == (404, "not_found")
        answer = await web.talk(request(b"", "Connection: close", method="GET"))
        assert b"405" in answer.split(b"\r\n")[0]
        assert b"Allow: POST" in answer
        assert b"MailStore" in answer


async def test_dotnet_client_is_challenged_before_each_request_on_one_connection() -> None:
    """401, then 200 with credentials, and again, all on one connection; no failed login is counted."""
    async with serving() as web:
        body = b"cmd=auth&user=anna&pass=right"
        pieces = [request(body), request(body, AUTHORIZATION)] * 2
        answer = await web.talk(*pieces, request(body, AUTHORIZATION, "Connection: close"))
        assert re.findall(rb"HTTP/1.1 (\d+) ", answer) == [b"401", b"200", b"401", b"200", b"200"]
        assert b'WWW-Authenticate: Basic realm="MailStore LDAP bridge", charset="UTF-8"' in answer
        told = [event.challenge for event in web.events if isinstance(event, RequestAnswered)]
        assert told == [True, False, True, False, False]
        assert len(web.service.asked) == 3


async def test_expect_100_continue_is_answered_before_the_body_comes() -> None:
    """.NET waits for it before it sends the form."""
    async with serving() as web:
        whole = request(b"cmd=list", AUTHORIZATION, "Expect: 100-continue", "Connection: close")
        head, _, body = whole.partition(b"\r\n\r\n")
        answer = await web.talk(head + b"\r\n\r\n", body)
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200")
        assert answer.endswith(BODY)


@pytest.mark.parametrize(
    ("header", "compressed"),
    [
        (None, False),
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("identity", False),
        ("br", False),
        ("*;q=0, gzip", True),
        ("gzip;q=nonsense", False),
    ],
)
async def test_answers_are_compressed_only_if_asked_for(header: str | None, compressed: bool) -> None:
    """`Accept-Encoding` decides, weights included (RFC 9110 §12.5.3)."""
    async with serving() as web:
        headers = [AUTHORIZATION, "Connection: close"] + ([f"Accept-Encoding: {header}"] if header else [])
        head, _, body = (await web.talk(request(b"cmd=list", *headers))).partition(b"\r\n\r\n")
        assert (b"Content-Encoding: gzip" in head) is compressed
        assert (gzip.decompress(body) if compressed else body) == BODY
        assert b"Vary: Accept-Encoding" in head


async def test_answers_carry_type_id_and_no_banner() -> None:
    """Content type as configured, an id to find the request by, nothing for caches."""
    async with serving() as web:
        answer = await web.talk(request(b"cmd=list", AUTHORIZATION, "Connection: close"))
        head = answer.partition(b"\r\n\r\n")[0]
        assert b"Content-Type: application/json; charset=utf-8" in head
        assert b"X-Request-Id: id1" in head
        assert b"Cache-Control: no-store" in head
        assert b"aiohttp" not in head


async def test_bad_http_is_400_and_ends_nothing() -> None:
    """What is no HTTP at all is refused, and the next request is answered."""
    async with serving() as web:
        for garbage in (
            b"\x16\x03\x01\x02\x00\r\n\r\n",
            b"POST\r\n\r\n",
            b"POST / HTTP/1.1\r\nA: " + b"x" * 99_999 + b"\r\n\r\n",
        ):
            answer = await web.talk(garbage)
            assert answer == b"" or b" 400 " in answer.split(b"\r\n")[0]
        assert (await web.curl(*USER, "-d", "cmd=list"))[0] == 200


async def test_slow_headers_end_with_the_connection() -> None:
    """A client that never finishes its headers holds nothing for ever."""
    async with serving(WebLimits(header_timeout_s=0.1)) as web:
        assert await web.talk(b"POST /mailstore HTTP/1.1\r\nHost: x\r\n", b"X-Slow: ") == b""


async def test_slow_body_is_400_and_ends_the_connection() -> None:
    """A client that never finishes its form gets an answer, and no more of our time."""
    async with serving(WebLimits(body_timeout_s=0.1)) as web:
        answer = await web.talk(request(b"x" * 100, AUTHORIZATION)[:-50])
        assert b" 400 " in answer.split(b"\r\n")[0]
        assert b"did not come within" in answer


Contexts = tuple[ssl.SSLContext | None, ssl.SSLContext | None]


@pytest.fixture(params=["plain", "tls"])
def contexts(
    request: pytest.FixtureRequest, make_certificate: Callable[..., tuple[Path, Path]], authority_file: Path
) -> Contexts:
    """What the listener and its client speak TLS with; nothing for plain HTTP."""
    if request.param == "plain":
        return None, None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*make_certificate())
    return server, ssl.create_default_context(cafile=authority_file)


async def test_slow_reader_is_cut_off(contexts: Contexts) -> None:
    """A client that doesn't take its answer doesn't keep it in our memory."""
    server, client = contexts
    async with serving(WebLimits(write_timeout_s=0.1), server) as web:
        web.service.body = b"x" * 20_000_000
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=1024, ssl=client)
        writer.write(request(b"cmd=list", AUTHORIZATION))
        await asyncio.sleep(0.5)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(20_000_000), 10)
        writer.close()


async def test_reader_of_many_small_answers_who_takes_none_is_cut_off(contexts: Contexts) -> None:
    """Nor does one that asks again and again without reading, whatever the size of the answers."""
    server, client = contexts
    async with serving(WebLimits(write_timeout_s=0.2), server) as web:
        web.service.body = b"x" * 30_000
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=1024, ssl=client)
        writer.write(request(b"cmd=list", AUTHORIZATION) * 5000)  # 150 MB, which no socket holds
        await asyncio.sleep(1.5)
        asked = len(web.service.asked)
        assert asked < 5000
        with contextlib.suppress(ConnectionResetError):
            while await asyncio.wait_for(reader.read(1 << 20), 10):
                pass
        assert len(web.service.asked) == asked
        writer.close()


async def test_client_that_goes_away_in_the_middle_of_its_answer_is_no_bug() -> None:
    """Somebody pressed Ctrl-C; the next one is answered."""
    async with serving() as web:
        web.service.body = b"x" * 20_000_000
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port, limit=1024)
        writer.write(request(b"cmd=list", AUTHORIZATION))
        await reader.readexactly(1000)
        writer.transport.abort()
        status, body = await web.curl(*USER, "-d", "cmd=list")
        assert (status, len(body)) == (200, 20_000_000)
        assert web.bugs == []


async def test_idle_connections_beyond_the_limit_are_closed() -> None:
    """One client can't take all the connections there are: its oldest one that is idle goes in favour of a new one."""
    async with serving(WebLimits(connection_count=2)) as web:
        held = [await asyncio.open_connection("127.0.0.1", web.port) for _ in range(2)]
        await asyncio.sleep(0.05)
        assert (await web.curl(*USER, "-d", "cmd=list"))[0] == 200
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(held[0][0].read(), 5) == b""
        assert not held[1][0].at_eof()
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize("body", ["cmd=list", "cmd=auth&user=a&pass=b"])
async def test_directory_that_hangs_is_503_in_time(body: str) -> None:
    """MailStore gives up after 100 s; it has its error before."""
    async with serving(WebLimits(list_timeout_s=0.05, auth_timeout_s=0.05)) as web:
        web.service.hang = True
        status, answer = await web.curl(*USER, "-d", body)
        assert (status, json.loads(answer)["error"]) == (503, "too_busy")


async def test_bug_is_500_with_an_id_and_nothing_else() -> None:
    """What went wrong is for the log, where the id leads."""
    async with serving() as web:
        web.service.error = RuntimeError("canary")
        status, answer = await web.curl(*USER, "-d", "cmd=list")
        assert (status, json.loads(answer)) == (500, {"error": "internal", "request_id": "id1"})
        assert web.bugs == [web.service.error]


async def test_error_of_a_directory_reaches_the_administrator() -> None:
    """The sentence names the directory and what to do."""
    async with serving() as web:
        web.service.error = DirectoryUnavailable("no route", directory="company", remedy="Look at the network.")
        status, answer = await web.curl(*USER, "-d", "cmd=list")
        assert status == 503
        assert json.loads(answer)["message"].endswith("(directory company): no route. Look at the network.")


async def test_each_request_is_told_once() -> None:
    """One event for each request, with what a log line needs and nothing secret."""
    async with serving() as web:
        await web.curl(*USER, "-d", "cmd=auth&user=anna&pass=canary")
        (event,) = web.events
        assert isinstance(event, RequestAnswered)
        assert (event.endpoint, event.command, event.status, event.caller) == ("/mailstore", "auth", 200, "mailstore")
        assert event.remote == "127.0.0.1"
        assert "canary" not in repr(event)


async def test_verdicts_carry_the_headers_of_every_answer_and_leave_the_connection_as_it_was_asked_for() -> None:
    """A login's answer is written by ourselves: complete, followed by the next one, and closed only on demand."""
    body = b"cmd=auth&user=anna&pass=right"
    async with serving() as web:
        first, second = request(body, AUTHORIZATION), request(body, AUTHORIZATION, "Connection: close")
        _, *answers = (await web.talk(first, second)).split(b"HTTP/1.1 200 OK\r\n")
        old = await web.talk(request(body, AUTHORIZATION).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert len(answers) == 2
    for answer in answers:
        head, _, verdict = answer.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        assert verdict == b'{"succeeded":true}'
        assert headers["Content-Length"] == str(len(verdict))
        assert headers["Content-Type"] == "application/json; charset=utf-8"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Request-Id"].startswith("id")
        assert headers["Server"].startswith("mailstore-ldap-bridge/")
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", headers["Date"])
    assert [b"Connection: close" in answer for answer in answers] == [False, True]
    assert old.startswith(b"HTTP/1.0 200")
    assert old.endswith(b'{"succeeded":true}')

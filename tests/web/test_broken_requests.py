"""Requests that are no HTTP, or half of it: our own 400, and nothing of them in log or answer, as it may be a password."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket

import pytest

from bridge.events import RequestAnswered
from tests.support.waiting import until
from tests.support.web import AUTHORIZATION, Web, request, serving

SECRET = "canary-in-a-broken-request"
FORM = f"cmd=auth&user=anna&pass={SECRET}".encode()
HEAD = b"POST /mailstore HTTP/1.1\r\nHost: x\r\n"
AUTHORIZED = HEAD + AUTHORIZATION.encode() + b"\r\n"
CHUNKED = AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n"
NAME = SECRET.encode()

BROKEN: dict[str, tuple[bytes, ...]] = {
    "bare line feeds": (b"POST /mailstore HTTP/1.1\nHost: x\nAuthorization: Basic " + NAME + b"\n\n" + FORM,),
    "bare carriage returns": (b"POST /mailstore HTTP/1.1\rHost: x\rAuthorization: Basic " + NAME + b"\r\r" + FORM,),
    "a chunk with a wrong end": (CHUNKED + b"5\r\npass=" + NAME + b"\r\n0\r\n\r\n",),
    "a chunk with a wrong end, later": (CHUNKED, b"5\r\npass=", NAME + b"\r\n0\r\n\r\n"),
    "a size of a chunk that is none": (CHUNKED + NAME + b"\r\n" + FORM + b"\r\n0\r\n\r\n",),
    "a size of a chunk without end": (CHUNKED + b"f" * 40 + b"\r\n" + FORM,),
    "a trailer that is none": (CHUNKED + b"0\r\n" + NAME + b"\r\n\r\n",),
    "a body without its length": (AUTHORIZED + b"\r\n", FORM),
    "a control character in a header": (HEAD + b"Authorization: Basic \x01" + NAME + b"\r\n\r\n",),
    "NUL in a header": (HEAD + b"X: \0" + NAME + b"\r\n\r\n",),
    "a header without a colon": (HEAD + NAME + b"\r\n\r\n",),
    "a name of a header with a blank": (HEAD + b"pass " + NAME + b": x\r\n\r\n",),
    "a header that is folded": (HEAD + b"Authorization: Basic\r\n " + NAME + b"\r\n\r\n",),
    "a header that is too long": (HEAD + b"Authorization: Basic " + NAME * 400 + b"\r\n\r\n",),
    "too many headers": (HEAD + b"".join(b"X%d: %b\r\n" % (number, NAME * 10) for number in range(2000)) + b"\r\n",),
    "a target that is too long": (b"POST /" + NAME * 400 + b" HTTP/1.1\r\n\r\n",),
    "a target with a blank": (b"POST /mailstore " + NAME + b" HTTP/1.1\r\nHost: x\r\n\r\n",),
    "a target with a control character": (b"POST /\x7f" + NAME + b" HTTP/1.1\r\nHost: x\r\n\r\n",),
    "a method that is none": (NAME + b" /mailstore HTTP/1.1\r\nHost: x\r\n\r\n",),
    "a method with a blank before it": (b" POST /" + NAME + b" HTTP/1.1\r\nHost: x\r\n\r\n",),
    "a version that is none": (b"POST /mailstore HTTP/" + NAME + b"\r\nHost: x\r\n\r\n",),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + NAME,),
    "HTTP/0.9": (b"GET /" + NAME + b"\r\n",),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00" + NAME + b"\r\n\r\n",),
    "a form alone": (FORM + b"\r\n\r\n",),
    "two lengths": (AUTHORIZED + b"Content-Length: 3\r\nContent-Length: 40\r\n\r\n" + FORM,),
    "a negative length": (AUTHORIZED + b"Content-Length: -1\r\n\r\n" + FORM,),
    "a length that is none": (AUTHORIZED + b"Content-Length: " + NAME + b"\r\n\r\n" + FORM,),
    "a length beside chunks": (AUTHORIZED + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n" + NAME,),
    "a transfer encoding that is none": (AUTHORIZED + b"Transfer-Encoding: " + NAME + b"\r\n\r\n" + FORM,),
    "a body that is no gzip": (request(FORM, AUTHORIZATION, "Content-Encoding: gzip"),),
    "a body that is no gzip, of a stranger": (request(FORM, "Content-Encoding: gzip"),),
    "a body that is no deflate": (request(FORM, AUTHORIZATION, "Content-Encoding: deflate"),),
    "a body in an encoding that is none": (request(FORM, AUTHORIZATION, f"Content-Encoding: {SECRET}"),),
    "a body that is no gzip, in chunks": (
        AUTHORIZED + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\npass=\r\n",
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(NAME), NAME),
    ),
    "an upgrade with something behind it": (
        AUTHORIZED + b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n" + NAME + b"\r\n\r\n",
    ),
    "a second request that is none": (request(b"cmd=list", AUTHORIZATION) + NAME + b"\r\n\r\n",),
}


async def exchange(web: Web, pieces: tuple[bytes, ...]) -> tuple[bytes, bool]:
    """Everything that comes back, and whether the server has ended the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    heard, has_ended = bytearray(), True
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0.02)
        while data := await asyncio.wait_for(reader.read(65536), 1):
            heard += data
    except ConnectionError:
        pass
    except TimeoutError:
        has_ended = False
    finally:
        writer.close()
    return bytes(heard), has_ended


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_request_is_our_own_400_and_leaves_no_trace(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the words of a library, nor its page, nor its version; and the next request is answered."""
    caplog.set_level(logging.DEBUG)
    async with serving() as web:
        heard, has_ended = await exchange(web, BROKEN[name])
        answers = re.split(rb"HTTP/1\.[01] (?=\d{3} )", heard)[1:]
        assert all(answer.startswith((b"400 ", b"401 ", b"404 ", b"405 ", b"200 ")) for answer in answers), heard
        for answer in answers:
            if answer.startswith(b"400 "):
                head, _, body = answer.partition(b"\r\n\r\n")
                assert json.loads(body)["error"] == "bad_request"
                assert b"X-Request-Id: " in head
                assert has_ended
        assert NAME not in heard
        assert b"aiohttp" not in heard.lower()
        assert b"Python" not in heard
        assert SECRET not in caplog.text
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
        assert web.bugs == []
        assert SECRET not in repr(web.events)
        told = [event.status for event in web.events if isinstance(event, RequestAnswered)]
        # Who goes on sending may lose the answer, as the connection is reset.
        assert told == [int(answer[:3]) for answer in answers] or (told, answers) == ([400], [])
        assert ("auth", "/mailstore", "anna") not in web.service.asked
        assert (await web.curl("-u", "mailstore:pä", "-d", "cmd=list"))[0] == 200


@pytest.mark.parametrize("pieces", [(request(FORM, AUTHORIZATION),), (request(FORM, AUTHORIZATION)[:-5], FORM[-5:])])
async def test_caller_that_has_said_all_is_answered(pieces: tuple[bytes, ...]) -> None:
    """It closes its own direction behind the request (RFC 9112 §9.6), as `nc -N` does."""
    async with serving() as web:
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert answer.endswith(b'{"succeeded":false}')
        assert [event.status for event in web.events if isinstance(event, RequestAnswered)] == [200]


async def test_caller_that_has_said_all_while_the_answer_is_being_made_is_answered() -> None:
    """FIN comes long after the request, and long before the answer."""
    async with serving() as web:
        web.service.hang = True
        reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
        writer.write(request(FORM, AUTHORIZATION) + request(b"cmd=list", AUTHORIZATION))
        await until(lambda: bool(web.service.asked))
        writer.write_eof()
        await asyncio.sleep(0.05)
        web.service.release()
        answer = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize("abort", [False, True])
async def test_caller_that_goes_away_in_the_middle_of_its_body_is_no_bug(
    abort: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """FIN or RST: nothing is asked, nothing is told, and nothing is left."""
    async with serving() as web:
        for whole in (request(FORM, AUTHORIZATION), CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(FORM), FORM)):
            _, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(whole[:-10])
            await asyncio.sleep(0.02)
            if abort:
                raw = writer.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.close()
        server = web.listener._runner.server
        assert server is not None
        await until(lambda: not server.connections)
        assert (web.service.asked, web.bugs, web.events) == ([], [], [])
        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_idle_connection_ends_with_its_caller() -> None:
    """FIN between two requests, or before the first one."""
    async with serving() as web:
        for sent in (b"", request(b"cmd=list", AUTHORIZATION)):
            reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(sent)
            if sent:
                await reader.readuntil(b"}]")
            writer.write_eof()
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()

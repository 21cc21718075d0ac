"""Callers that go away, or say that they have said all; what they may send stands in the tables of `raw`."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from tests.support.waiting import until
from tests.support.web import AUTHORIZATION, request, serving

FORM = b"cmd=auth&user=anna&pass=wrong"
HEAD = b"POST /mailstore HTTP/1.1\r\nHost: x\r\n"
AUTHORIZED = HEAD + AUTHORIZATION.encode() + b"\r\n"
CHUNKED = AUTHORIZED + b"Transfer-Encoding: chunked\r\n\r\n"


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

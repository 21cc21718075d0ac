from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from aiohttp import web

from bridge.web.limits import WebLimits
from bridge.web.server import Listener, SocketAddress
from tests.support.slapd import require


async def answer(_request: web.BaseRequest) -> web.Response:
    return web.Response(text="here")


async def curl(*arguments: str) -> bytes:
    process = await asyncio.create_subprocess_exec(
        require("curl"), "-sS", "-m", "10", *arguments, stdout=asyncio.subprocess.PIPE
    )
    return (await process.communicate())[0]


async def test_listener_serves_several_addresses_and_a_socket(tmp_path: Path) -> None:
    """IPv4 and a path at once; a socket that an ended process has left is no hindrance."""
    path = tmp_path / "bridge.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    listener = Listener(answer, WebLimits())
    await listener.start((SocketAddress("127.0.0.1", 0), SocketAddress(path=str(path))))
    try:
        port = listener.addresses[0][1]
        assert await curl(f"http://127.0.0.1:{port}/") == b"here"
        assert await curl("--unix-socket", str(path), "http://bridge/") == b"here"
    finally:
        await listener.aclose()


async def test_listener_takes_all_addresses_or_none(tmp_path: Path) -> None:
    """Where one address is taken, nothing is served at the others either; a file is never removed."""
    file = tmp_path / "precious"
    file.write_text("data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for wrong in (SocketAddress("127.0.0.1", port), SocketAddress(path=str(file))):
            listener = Listener(answer, WebLimits())
            with pytest.raises(OSError, match="in use"):
                await listener.start((SocketAddress("127.0.0.1", 0), wrong))
            assert listener.addresses == []
    assert file.read_text() == "data"


async def test_listener_lets_what_runs_end() -> None:
    """Closing waits for the answer that is being made."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def slow(_request: web.BaseRequest) -> web.Response:
        entered.set()
        await leave.wait()
        return web.Response(text="done")

    listener = Listener(slow, WebLimits())
    await listener.start((SocketAddress("127.0.0.1", 0),))
    asking = asyncio.create_task(curl(f"http://127.0.0.1:{listener.addresses[0][1]}/"))
    await entered.wait()
    closing = asyncio.create_task(listener.aclose())
    await asyncio.sleep(0.05)
    leave.set()
    assert await asking == b"done"
    await closing


@pytest.mark.parametrize("is_reset", [True, False])
async def test_half_a_body_is_never_taken_for_a_whole_one(is_reset: bool) -> None:
    """Where its caller goes, whoever reads it has an error, also if it was not read before."""
    found: list[bytes | Exception] = []
    entered, leave, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read(request: web.BaseRequest) -> web.Response:
        entered.set()
        await leave.wait()
        try:
            found.append(await request.read())
        except (OSError, web.RequestPayloadError) as error:
            found.append(error)
        ended.set()
        return web.Response()

    listener = Listener(read, WebLimits())
    await listener.start((SocketAddress("127.0.0.1", 0),))
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", listener.addresses[0][1])
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\ncmd=auth&user=a&pass=b")
        await entered.wait()
        if is_reset:
            writer.transport.abort()
        else:
            writer.close()
        await asyncio.sleep(0.05)
        leave.set()
        await asyncio.wait_for(ended.wait(), 5)
        assert isinstance(found[0], Exception)
    finally:
        await listener.aclose()

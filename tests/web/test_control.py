"""The control socket, asked over a real Unix socket by bytes that come as they like."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bridge.operations import Operations
from bridge.web.control import ControlHandler
from bridge.web.limits import WebLimits
from bridge.web.server import Listener, SocketAddress

LIMIT_BYTES = 64 * 1024


class Throttle:
    """As much of a bridge as knows whose passwords are not tried any more."""

    def release(self, user_name: str) -> int:
        return len(user_name)


async def ask(path: str, body: bytes, first_bytes: int) -> tuple[int, dict[str, object]]:
    """The status and the answer, where the rest of the body comes a moment after its first bytes."""
    reader, writer = await asyncio.open_unix_connection(path)
    head = f"POST /throttle/clear HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[:first_bytes])
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.write(body[first_bytes:])
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("first_bytes", [0, 1, 8, 15])
@pytest.mark.parametrize(("blanks_count", "status"), [(0, 200), (LIMIT_BYTES - 15, 200), (LIMIT_BYTES - 14, 413)])
async def test_body_counts_as_a_whole_however_it_is_cut(
    first_bytes: int, blanks_count: int, status: int, tmp_path: Path
) -> None:
    """What has come first is no request by itself, and what is too long isn't cut to one that means something else."""
    bugs: list[BaseException] = []
    handler = ControlHandler(Operations(Throttle()), lambda _id, error: bugs.append(error))  # type: ignore[arg-type]
    listener = Listener(handler, WebLimits())
    await listener.start((SocketAddress(path=str(tmp_path / "s")),))
    try:
        found, answer = await ask(str(tmp_path / "s"), b'{"user":"anna"}' + b" " * blanks_count, first_bytes)
    finally:
        await listener.aclose()
    assert (found, bugs) == (status, [])
    assert status != 200 or answer == {"user": "anna", "released_count": 4}

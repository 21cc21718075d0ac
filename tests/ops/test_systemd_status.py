"""`STATUS=` of systemd, received as systemd receives it."""

from __future__ import annotations

import asyncio
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.config.loading import load
from bridge.model import EndpointHealth, Health, Problem, Status
from bridge.ops.systemd import describe_health
from bridge.run.service import Service
from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import configuration


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket at which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


async def receive(listener: socket.socket) -> dict[str, str]:
    """The next states."""
    async with asyncio.timeout(20):
        data = await asyncio.get_running_loop().sock_recv(listener, 4096)
    return dict(line.split("=", 1) for line in data.decode().splitlines())


async def status_until(listener: socket.socket, words: str) -> str:
    """The first status with these words in it."""
    while words not in (status := (await receive(listener)).get("STATUS", "")):
        pass
    return status


async def test_status_follows_the_health(tmp_path: Path, notified: socket.socket) -> None:
    """READY once, and then a status for each change: well, withheld, down, well again, and the end."""
    names = [f"u{number:02}" for number in range(40)]
    async with FaultyServer(small_directory(*names)) as server:
        file = configuration(server.url, tmp_path, more="cache: {ttl: 0s, refresh_ahead: false, stale_if_error: 0s}")
        service = Service(load(str(file), {}), io.StringIO(), {"NOTIFY_SOCKET": str(tmp_path / "notify")})
        await service.start()
        try:
            first = await receive(notified)
            assert first["READY"] == "1"
            assert first["STATUS"].startswith("Serving 1 endpoint: ")
            if not first["STATUS"].endswith("endpoint: ok"):
                assert await status_until(notified, "ok") == "Serving 1 endpoint: ok"
            server.refuses = True
            with pytest.raises(Exception, match="can't be asked"):
                await service.bridge.list_users("/mailstore", compressed=False)
            down = "Serving 1 endpoint: unavailable: /mailstore: directory unavailable in company"
            assert await status_until(notified, "unavailable") == down
            server.refuses = False
            await service.bridge.list_users("/mailstore", compressed=False)
            assert await status_until(notified, "ok") == "Serving 1 endpoint: ok"
        finally:
            await service.stop()
        assert (await receive(notified))["STOPPING"] == "1"
        with pytest.raises(BlockingIOError):
            notified.recv(4096)


def test_words_name_what_is_wrong_and_where() -> None:
    """Endpoints that are well aren't named; a line stays a line."""
    withheld = Problem("removals_withheld", "company", "two\nlines", "", 0.0)
    health = Health(
        (
            EndpointHealth("/a", Status.OK),
            EndpointHealth("/b", Status.DEGRADED, (withheld, Problem("logins_failing", "branch", "", "", 0.0))),
            EndpointHealth("/c", Status.UNAVAILABLE),
            EndpointHealth("/d", Status.DEGRADED, (Problem("file_unusable", "", "", "", 0.0),)),
        )
    )
    assert describe_health(Health((EndpointHealth("/a", Status.OK),) * 2)) == "Serving 2 endpoints: ok"
    assert describe_health(health) == (
        "Serving 4 endpoints: unavailable: /b: removals withheld in company, logins failing in branch; /c: unavailable; "
        "/d: file unusable"
    )

"""The service killed at any moment, and started again while its directory is down: nobody is lost."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import CALLER, CALLER_PASSWORD, configuration
from tests.support.slapd import free_port

pytestmark = pytest.mark.processes

ROUNDS = int(os.environ.get("BRIDGE_TEST_KILLS", "50"))
_FIRST_COUNT = 40
_AUTHORIZATION = "Basic " + base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()


class KilledService:
    """`serve` in a process of its own, which is never ended in another way than by SIGKILL."""

    def __init__(self, file: Path, port: int) -> None:
        self._file = file
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Requests are taken."""
        command = (sys.executable, "-m", "bridge", "serve", "--config", str(self._file))
        # The measuring of coverage makes files when a process ends, and this one never does.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        devnull = asyncio.subprocess.DEVNULL
        self._process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=devnull)
        ends_s = time.monotonic() + 60
        while time.monotonic() < ends_s and self._process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                return
        pytest.fail("the service did not start")

    async def kill(self) -> None:
        """The process is gone, wherever it was."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(
        f"http://127.0.0.1:{port}", headers={"Authorization": _AUTHORIZATION}, timeout=timeout
    ) as session:
        yield session


async def list_users(session: aiohttp.ClientSession) -> set[str] | None:
    """The user names in an answer, or None where there was none."""
    async with session.post("/mailstore", data={"cmd": "list"}) as response:
        users = json.loads(await response.read())
        return {user["userName"] for user in users} if response.status == 200 else None


@pytest.mark.timeout(60 + 10 * ROUNDS)
async def test_killed_service_answers_everybody_who_was_answered_before(tmp_path: Path) -> None:
    """People only come while it runs, so whoever was in an answer is in every later one, kill or no kill."""
    port, chance = free_port(), random.Random(ROUNDS)
    store = small_directory(*(f"u{number:04}" for number in range(_FIRST_COUNT)))
    async with FaultyServer(store) as server:
        more = "cache: {refresh_ahead: false, ttl: 1ms}\nadmin: {listen: off}"
        file = configuration(server.url, tmp_path, more=more)
        file.write_text(
            file.read_text()
            .replace("127.0.0.1:0", f"127.0.0.1:{port}", 1)
            .replace('admin: {listen: "127.0.0.1:0"}\n', "")
        )
        service, answered, added_count = KilledService(file, port), set[str](), 0
        for _ in range(ROUNDS):
            server.refuses = True  # after a kill the directory is down at first
            await service.start()
            try:
                async with asking(port) as session:
                    found = await list_users(session)
                    assert found is not None or not answered
                    assert (found or set()) >= answered  # more, where the kill came between keeping and answering
                    server.refuses = False
                    killing = asyncio.create_task(_kill_after(chance.uniform(0, 0.3), service))
                    while not killing.done():
                        uid = f"x{added_count:05}"
                        server.store = small_directory(
                            *(f"u{at:04}" for at in range(_FIRST_COUNT)), *_added(added_count)
                        )
                        added_count += 1
                        try:
                            now = await list_users(session)
                        except aiohttp.ClientError:
                            break
                        assert now is None or now >= answered, uid
                        answered = now or answered
                    await killing
            finally:
                await service.kill()
        assert len(answered) >= _FIRST_COUNT


def _added(count: int) -> list[str]:
    return [f"x{number:05}" for number in range(count + 1)]


async def _kill_after(seconds: float, service: KilledService) -> None:
    await asyncio.sleep(seconds)
    await service.kill()

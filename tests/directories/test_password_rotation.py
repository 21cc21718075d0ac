"""The password of the service account changes: in the directory and in the file, in each order, on real OpenLDAP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartSlapd
from tests.support.bridges import Client, command, configuration, running_bridge
from tests.support.counting_slapd import failure_count, start_counting
from tests.support.manual_clock import ManualClock
from tests.support.recording_proxy import RecordingProxy
from tests.support.slapd import READER, READER_PASSWORD, Slapd

pytestmark = pytest.mark.slapd

LOGIN = "cmd=auth&user=anna&pass=Pass-anna"
OLD, NEW = READER_PASSWORD, "a new password"


class Rotating:
    """A bridge in front of servers that lock the account at the third failure, and what was sent to them."""

    def __init__(self, client: Client, clock: ManualClock, slapds: list[Slapd], proxies: list[RecordingProxy]) -> None:
        self.client = client
        self.clock = clock
        self.slapds = slapds
        self.proxies = proxies
        self.file = Path()

    def write(self, password: str) -> None:
        self.file.write_text(password + "\n")

    def set(self, password: str) -> None:
        for slapd in self.slapds:
            slapd.replace([READER], "userPassword", password)

    def count(self, password: str) -> int:
        """How often the service account was bound with it."""
        binds = [bind for proxy in self.proxies for bind in proxy.binds]
        return sum(bind.dn == READER and bind.password == password.encode() for bind in binds)

    def failures(self) -> list[int]:
        return [failure_count(slapd) for slapd in self.slapds]

    async def ask(self) -> list[int]:
        """The status of a login and of a listing after a while in which every kept connection has ended."""
        self.clock.advance(2000.0)
        found = [(await self.client.post(LOGIN))[0]]
        return [*found, (await self.client.post("cmd=list"))[0]]

    async def problems(self) -> list[dict[str, Any]]:
        answer = json.loads((await self.client.curl(path="/status.json"))[1])
        found: list[dict[str, Any]] = answer["endpoints"][0]["problems"]
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.client.log.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def rotating(start_slapd: StartSlapd, folder: Path, server_count: int) -> AsyncIterator[Rotating]:
    slapds = [start_counting(start_slapd, locks_after=3) for _ in range(server_count)]
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(RecordingProxy(slapd.port)) for slapd in slapds]
        more = "cache: {refresh_ahead: false, ttl: 0s, stale_if_error: 0s}"
        file = configuration(proxies[0].url, folder, more=more)
        urls = ", ".join(f'"{proxy.url}"' for proxy in proxies)
        file.write_text(file.read_text().replace(f'["{proxies[0].url}"]', f"[{urls}]"))
        client = await stack.enter_async_context(running_bridge(file, clock))
        found = Rotating(client, clock, slapds, proxies)
        found.file = folder / "reader.password"
        assert await found.ask() == [200, 200]
        yield found


@pytest.mark.parametrize("server_count", [1, 2])
async def test_directory_first_then_the_file(start_slapd: StartSlapd, tmp_path: Path, server_count: int) -> None:
    """Each server refuses the old password once; the next request after the file has changed succeeds."""
    async with rotating(start_slapd, tmp_path, server_count) as found:
        before = found.count(OLD)
        found.set(NEW)
        found.clock.advance(2000.0)
        for _ in range(5):
            status, _ = await found.client.post(LOGIN)
            assert status == 502
        assert found.count(OLD) - before == server_count
        found.write(NEW)
        assert (await found.client.post(LOGIN))[0] == 200
        assert (await found.client.post("cmd=list"))[0] == 200
        assert await found.ask() == [200, 200]
        assert found.count(OLD) - before == server_count
        assert sum(found.failures()) <= server_count
        assert [line["place"] for line in found.logged("secret.renewed")] == ["directories[0].bind.password_file"]


@pytest.mark.parametrize("server_count", [1, 2])
async def test_file_first_then_the_directory(start_slapd: StartSlapd, tmp_path: Path, server_count: int) -> None:
    """The old password goes on where the new one is refused; once both fit, the new one is used, by itself."""
    async with rotating(start_slapd, tmp_path, server_count) as found:
        found.write(NEW)
        for _ in range(3):
            found.clock.advance(100.0)
            assert await found.client.auth("anna", "Pass-anna")
            assert (await found.client.post("cmd=list"))[0] == 200
        assert found.count(NEW) == 1
        old_count = found.count(OLD)
        found.client.port, port = found.client.service.admin.addresses[0][1], found.client.port
        (problem,) = await found.problems()
        found.client.port = port
        assert problem["code"] == "service_password_refused"
        assert NEW not in json.dumps(problem)
        assert len(found.logged("account.warned")) == 1
        found.set(NEW)
        found.clock.advance(100.0)
        answers = await asyncio.gather(*(found.client.post(body) for body in (LOGIN, "cmd=list") * 4))
        assert [status for status, _ in answers] == [200] * 8
        assert found.count(OLD) - old_count == 1
        assert sum(found.failures()) <= 2
        found.client.port = found.client.service.admin.addresses[0][1]
        assert await found.problems() == []


async def test_file_first_and_the_servers_one_after_the_other(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Replication takes its time: the second server has the old password for a while, and nothing fails."""
    async with rotating(start_slapd, tmp_path, 2) as found:
        first, second = found.slapds
        first.stop()
        assert await found.ask() == [200, 200]  # the second server is known to take the old one
        first.start()
        await found.client.post("cmd=list")
        first.replace([READER], "userPassword", NEW)
        found.write(NEW)
        first.stop()
        assert await found.ask() == [200, 200]
        assert found.count(NEW) == 1
        second.replace([READER], "userPassword", NEW)
        assert await found.ask() == [200, 200]
        first.start()
        assert await found.ask() == [200, 200]
        assert sum(found.failures()) <= 2


async def test_old_password_is_never_sent_again_before_the_file_has_changed(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """A quarter of an hour passes with many requests, and the file is touched; one bind at each server."""
    async with rotating(start_slapd, tmp_path, 2) as found:
        before = found.count(OLD)
        found.set(NEW)
        found.clock.advance(1000.0)
        for _ in range(20):
            await found.client.post(LOGIN)
            await found.client.post("cmd=list")
            found.file.touch()
            found.clock.advance(50.0)
        assert found.count(OLD) - before == 2
        assert found.failures() == [1, 1]
        found.write(NEW)
        assert await found.client.auth("anna", "Pass-anna")


async def test_kept_connections_stay_while_the_secret_is_withheld(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Logins go on by the look-up connection that is there; a listing needs a new one and is refused."""
    async with rotating(start_slapd, tmp_path, 1) as found:
        found.set(NEW)
        assert (await found.client.post("cmd=list"))[0] == 502
        assert await found.client.auth("anna", "Pass-anna")
        assert found.failures() == [1]


async def test_file_that_is_gone_or_empty_for_a_moment_breaks_nothing(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The last password is used; told once in the log, and by health until it is mended."""
    async with rotating(start_slapd, tmp_path, 1) as found:
        found.file.unlink()
        assert await found.ask() == [200, 200]
        found.file.touch()
        assert await found.ask() == [200, 200]
        assert len(found.logged("secret.unusable")) == 1
        found.client.port, port = found.client.service.admin.addresses[0][1], found.client.port
        (problem,) = await found.problems()
        assert (problem["code"], "holds nothing" in problem["message"]) == ("file_unusable", True)
        found.set(NEW)
        found.write(NEW)
        found.client.port = port
        assert await found.ask() == [200, 200]
        found.client.port = found.client.service.admin.addresses[0][1]
        assert await found.problems() == []
        assert sum(found.failures()) == 0


@pytest.mark.parametrize("server_count", [1, 2])
async def test_check_spends_one_bind_on_a_refused_password(
    start_slapd: StartSlapd, tmp_path: Path, server_count: int
) -> None:
    """However many servers there are, and however much `check` wants to know of them."""
    async with AsyncExitStack() as stack:
        slapds = [start_counting(start_slapd, locks_after=3) for _ in range(server_count)]
        proxies = [await stack.enter_async_context(RecordingProxy(slapd.port)) for slapd in slapds]
        file = configuration(proxies[0].url, tmp_path, reader=(READER, "wrong"))
        urls = ", ".join(f'"{proxy.url}"' for proxy in proxies)
        file.write_text(file.read_text().replace(f'["{proxies[0].url}"]', f"[{urls}]"))
        code, _ = await command(file, "check")
        assert code == 1
        assert sum(bind.dn == READER for proxy in proxies for bind in proxy.binds) == 1

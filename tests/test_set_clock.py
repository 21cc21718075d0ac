"""Somebody sets the clock of the machine while the service runs: nothing lasts longer or shorter for it."""

from __future__ import annotations

import asyncio
import subprocess
from base64 import b64encode
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.conftest import StartSlapd
from tests.support.bridges import CALLER, CALLER_PASSWORD, command, configuration
from tests.support.ldap_proxy import LdapProxy
from tests.support.serve_process import ServeProcess
from tests.support.slapd import require
from tests.support.waiting import until

pytestmark = [pytest.mark.slapd, pytest.mark.processes]

HOUR_S = 3600
WINDOW_S = 5.0
MORE = f"""\
cache: {{refresh_ahead: false, ttl: 0s}}
auth: {{max_failures: 1, window: {WINDOW_S:g}s, remember_failures: {WINDOW_S:g}s, fast_refusals: true}}"""
SLOW_S = 0.5
CREDENTIALS = b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()


class SetClock:
    """The clock of one process, by libfaketime; those that nobody can set go on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)

    def set(self, offset_s: int) -> None:
        """Let it show so many seconds more than it is."""
        file = self._file.with_suffix(".new")
        file.write_text(f"{offset_s:+}s\n")
        file.replace(self._file)

    @property
    def before(self) -> tuple[str, ...]:
        """The words that start a program with this clock."""
        words = (require("faketime"), "-m", "-f", "+0s", require("printenv"), "LD_PRELOAD")
        library = subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
        settings = ("DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=1", f"FAKETIME_TIMESTAMP_FILE={self._file}")
        return ("env", f"LD_PRELOAD={library}", *settings)


def logins(service: ServeProcess) -> list[dict[str, Any]]:
    """What the log says of logins."""
    return [line for line in service.lines if line["event"].startswith("login.")]


async def test_clock_that_is_set_while_the_service_runs_changes_no_duration(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """An hour forward and back, between requests and in the midst of them: windows and durations are those of time."""
    clock = SetClock(tmp_path / "clock")
    async with LdapProxy(("127.0.0.1", start_slapd().port)) as proxy:
        file = configuration(proxy.url, tmp_path, more=MORE)
        async with (
            ServeProcess(file, before=clock.before) as service,
            aiohttp.ClientSession(headers={"Authorization": f"Basic {CREDENTIALS}"}) as session,
        ):
            url = f"http://127.0.0.1:{await service.port()}/mailstore"

            async def ask(**body: str) -> Any:
                async with session.post(url, data=body) as answer:
                    return await answer.json()

            async def log_in(password: str) -> str:
                count = len(logins(service))
                answer = await ask(cmd="auth", user="anna", **{"pass": password})
                await until(lambda: len(logins(service)) > count)
                line = logins(service)[count]
                assert answer["succeeded"] is (line["event"] == "login.accepted")
                return str(line.get("reason", "accepted"))

            assert await log_in("wrong") == "wrong_password"
            clock.set(HOUR_S)
            assert await log_in("Pass-anna") == "held_back"
            code, shown = await command(file, "throttle", "show")
            assert (code, "yes" in shown) == (0, True)
            clock.set(-HOUR_S)
            await asyncio.sleep(WINDOW_S)
            assert await log_in("Pass-anna") == "accepted"

            proxy.delay(SLOW_S, only={"search", "bind"})
            for number, offset_s in enumerate((HOUR_S, -HOUR_S)):
                asked_count = len(proxy.requests)
                tasks = [asyncio.create_task(ask(cmd="list")), asyncio.create_task(log_in("Pass-anna"))]
                await until(lambda: len(proxy.requests) >= asked_count + 2)  # noqa: B023 - it is over before the next one
                clock.set(offset_s)
                users, reason = await asyncio.gather(*tasks)
                assert (len(users), reason) == (3, "accepted")
                await service.wait_for("refresh.finished", number + 1)
            code, shown = await command(file, "status", "--json")
            assert (code, '"duration_s": -' in shown) == (0, False)
        found = [line["duration_s"] for line in service.lines if "duration_s" in line]
        found += [line["duration_ms"] / 1000 for line in service.lines if "duration_ms" in line]
        assert len(found) > 8
        assert all(0 <= seconds < 10 for seconds in found), found
        dates = {line["timestamp"][:13] for line in service.lines if "timestamp" in line}
        assert len(dates) > 1, "the clock was not set"

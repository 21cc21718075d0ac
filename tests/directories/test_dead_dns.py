"""A directory whose DNS is dead, beside one that is well, in a process with an /etc/resolv.conf of its own."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import StartSlapd
from tests.support.bridges import CALLER, CALLER_PASSWORD, configuration
from tests.support.slapd import PEOPLE, READER, free_port

pytestmark = pytest.mark.processes

_LOGINS_COUNT = 20
_BEGUN_S = 4
"""By then the DNS was asked for every server, several times."""
_SLOWEST_S = 1.5
"""A login takes some 20 ms; a look-up that waits for a dead DNS takes 10 s and more."""


@contextmanager
def silent_name_server() -> Iterator[str]:
    """The loopback address of a name server that never answers."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("an /etc/resolv.conf of its own needs root and unshare")
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        for number in range(53, 253):
            try:
                server.bind((f"127.0.0.{number}", 53))
            except OSError:
                continue
            yield f"127.0.0.{number}"
            return
    pytest.fail("every loopback address has a name server")


def two_directories(slapd_port: int, folder: Path, port: int) -> Path:
    """A configuration with the directory that is well at /company, and the other at /dead."""
    file = configuration(f"ldap://localhost:{slapd_port}", folder, directory="pool: {reuse_binds: false}", more="")
    dead = ", ".join(f"ldaps://ldap{number}.dead.example" for number in range(1, 5))
    text = file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1)
    text = text.replace('admin: {listen: "127.0.0.1:0"}', "admin: {listen: off}")
    caller = f"callers: [{{username: {CALLER}, password_file: {folder}/caller.password}}]"
    text = text.replace("path: /mailstore\n", "path: /company\n    directories: [company]\n")
    text = text.replace("directories:\n", f"  - path: /dead\n    {caller}\n    directories: [dead]\ndirectories:\n", 1)
    text += f"""
  - name: dead
    preset: openldap
    servers: [{dead}]
    bind: {{dn: "{READER}", password_file: {folder}/reader.password}}
    users: {{bases: ["{PEOPLE}"]}}
"""
    file.write_text(text.replace("cache: {refresh_ahead: false}", ""))
    return file


@asynccontextmanager
async def serving(file: Path, port: int, name_server: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """`serve`, with that name server alone."""
    resolv = file.parent / "resolv.conf"
    resolv.write_text(f"nameserver {name_server}\n")
    inner = f'mount --bind {resolv} /etc/resolv.conf && exec "$@"'
    command = ("unshare", "--mount", "sh", "-c", inner, "sh", sys.executable, "-m", "bridge", "serve", "--config", file)
    with (file.parent / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stderr=log, cwd=Path(__file__).parents[2])
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def log_in(session: aiohttp.ClientSession, path: str) -> tuple[int, float]:
    """The status of a login, and how many seconds it took."""
    started_s = time.monotonic()
    data = {"cmd": "auth", "user": "anna", "pass": "Pass-anna"}
    async with session.post(path, data=data) as response:
        await response.read()
        return response.status, time.monotonic() - started_s


async def test_directory_with_a_dead_dns_slows_no_other_and_is_told_by_its_dns(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Logins at the other one take no longer, the message names the DNS, and the service ends when it is told to."""
    slapd, port = start_slapd(), free_port()
    with silent_name_server() as name_server:
        file = two_directories(slapd.port, tmp_path, port)
        credentials = base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()
        headers, total = {"Authorization": f"Basic {credentials}"}, aiohttp.ClientTimeout(total=60)
        async with (
            serving(file, port, name_server) as process,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=headers, timeout=total) as session,
        ):
            dead = [asyncio.create_task(log_in(session, "/dead")) for _ in range(_LOGINS_COUNT)]
            await asyncio.wait(dead, timeout=_BEGUN_S)
            dead += [asyncio.create_task(log_in(session, "/dead")) for _ in range(_LOGINS_COUNT)]
            found = [await log_in(session, "/company") for _ in range(_LOGINS_COUNT)]
            assert [status for status, _ in found] == [200] * _LOGINS_COUNT
            assert max(duration_s for _, duration_s in found) < _SLOWEST_S
            assert {status for status, _ in await asyncio.gather(*dead)} == {503}
            process.terminate()
            await asyncio.wait_for(process.wait(), 15)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    told = [line["error"] for line in lines if line["event"] == "server.set_aside"]
    assert any(
        f"the name ldap1.dead.example could not be resolved within 0.95 s: the DNS does not answer (/etc/resolv.conf "
        f"names {name_server})" in text
        for text in told
    ), told


def test_check_names_the_dns_that_is_dead(tmp_path: Path) -> None:
    """A single server has all of the time to connect; the command ends although its question has no answer."""
    with silent_name_server() as name_server:
        file = configuration("ldaps://ldap.dead.example", tmp_path)
        resolv = tmp_path / "resolv.conf"
        resolv.write_text(f"nameserver {name_server}\n")
        inner = f'mount --bind {resolv} /etc/resolv.conf && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", inner, "sh", sys.executable, "-m", "bridge", "check", "--json"]
        started_s = time.monotonic()
        done = subprocess.run(
            [*command, "--config", str(file)], capture_output=True, check=False, cwd=Path(__file__).parents[2]
        )
        assert time.monotonic() - started_s < 15
    checks = json.loads(done.stdout)["checks"]
    (server,) = (check for check in checks if check["name"] == "server")
    assert server["message"].endswith(
        "the name ldap.dead.example could not be resolved within 3 s: the DNS does not answer (/etc/resolv.conf names "
        f"{name_server})"
    )
    assert server["remedy"] == (
        "Check these name servers, and ask by `getent ahosts ldap.dead.example`; or write an address into `servers`."
    )

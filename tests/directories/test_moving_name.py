"""A name that leads to another server while logins keep coming: the service has an /etc/hosts of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from tests.conftest import StartSlapd
from tests.support.bridges import CALLER, CALLER_PASSWORD, configuration
from tests.support.serve_process import ServeProcess
from tests.support.slapd import person

pytestmark = [pytest.mark.slapd, pytest.mark.processes]

NAME = "ldap.moving.example"
MAX_AGE_S = 1.5
CREDENTIALS = b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()
MOUNTED = 'mount --bind "$0" /etc/hosts && exec "$@"'


def lead_to(hosts: Path, address: str) -> None:
    """Let the name lead there. The file stays the same one, as it is mounted."""
    with hosts.open("r+" if hosts.exists() else "w") as file:
        file.write(f"{address} {NAME}\n")


async def test_name_that_moves_is_followed_though_connections_are_in_use(
    start_slapd: StartSlapd,
    tmp_path: Path,
    make_certificate: Callable[..., tuple[Path, Path]],
    authority_file: Path,
) -> None:
    """Within `max_age` look-ups and binds go to the new server, where the passwords are other ones."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("an /etc/hosts of its own needs root and unshare")
    names, certificate, hosts = ("anna", "bert"), make_certificate(NAME), tmp_path / "hosts"
    old = start_slapd([person(uid) for uid in names], certificate=certificate)
    new = [person(uid, userPassword=[f"New-{uid}"]) for uid in names]
    start_slapd(new, certificate=certificate, address="127.0.0.2", tls_port=old.tls_port)
    lines = f"tls: {{ca_file: {authority_file}}}\n    pool: {{idle: 1h, max_age: {MAX_AGE_S:g}s}}"
    file = configuration(
        f"ldaps://{NAME}:{old.tls_port}", tmp_path, directory=lines, more="auth: {fast_refusals: true}"
    )
    lead_to(hosts, "127.0.0.1")
    async with (
        ServeProcess(file, before=("unshare", "--mount", "sh", "-c", MOUNTED, str(hosts))) as service,
        aiohttp.ClientSession(headers={"Authorization": f"Basic {CREDENTIALS}"}) as session,
    ):
        url = f"http://127.0.0.1:{await service.port()}/mailstore"

        async def log_in(user: str, password: str) -> bool:
            async with session.post(url, data={"cmd": "auth", "user": user, "pass": password}) as answer:
                assert answer.status == 200, await answer.text()
                return bool((await answer.json())["succeeded"])

        assert await log_in("anna", "Pass-anna")
        lead_to(hosts, "127.0.0.2")
        ends_s = time.monotonic() + 1.2 * MAX_AGE_S
        while time.monotonic() < ends_s:
            await log_in("anna", "Pass-anna")
            await asyncio.sleep(0.05)
        assert await log_in("bert", "New-bert")
        assert not await log_in("anna", "Pass-anna")

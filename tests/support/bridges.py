"""A whole bridge from a configuration, as `serve` runs it, and requests to it by curl."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from bridge.clock import Clock
from bridge.config.loading import load
from bridge.run.service import Service
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD, Slapd, require

CALLER, CALLER_PASSWORD = "mailstore", "caller ü password"


def configuration(
    server: str,
    folder: Path,
    *,
    preset: str = "openldap",
    reader: tuple[str, str] = (READER, READER_PASSWORD),
    directory: str = "",
    users: str = "",
    more: str = "",
) -> Path:
    """A configuration file for one directory; `directory`, `users` and `more` are lines of YAML."""
    for name, text in (("caller", CALLER_PASSWORD), ("reader", reader[1])):
        file = folder / f"{name}.password"
        file.write_text(text + "\n")
        file.chmod(0o600)
    file = folder / "config.yaml"
    file.write_text(f"""\
server: {{listen: "127.0.0.1:0"}}
admin: {{listen: "127.0.0.1:0"}}
state: {{directory: {folder}/state}}
endpoints:
  - path: /mailstore
    callers: [{{username: {CALLER}, password_file: {folder}/caller.password}}]
directories:
  - name: company
    preset: {preset}
    servers: ["{server}"]
    bind: {{dn: '{reader[0]}', password_file: {folder}/reader.password}}
    {users or f'users: {{bases: ["{PEOPLE}"]}}'}
    {directory}
{more or "cache: {refresh_ahead: false}"}
""")
    return file


class Client:
    """Asks a running bridge by curl, as a program other than ours."""

    def __init__(self, service: Service, log: io.StringIO) -> None:
        self.service = service
        self.log = log
        self.port: int = service.listener.addresses[0][1]

    async def curl(self, *arguments: str, path: str = "/mailstore") -> tuple[int, bytes]:
        """The status and the body of an answer."""
        url = f"http://127.0.0.1:{self.port}{path}"
        process = await asyncio.create_subprocess_exec(
            require("curl"), "-sS", "-m", "60", "-w", "\n%{http_code}", *arguments, url, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        body, _, status = output.rpartition(b"\n")
        return int(status), body

    async def post(self, body: str) -> tuple[int, Any]:
        """The status and the JSON of an answer to the right caller."""
        status, answer = await self.curl("-u", f"{CALLER}:{CALLER_PASSWORD}", "--data-binary", body)
        return status, json.loads(answer)

    async def headers(self, body: str) -> tuple[int, dict[str, str]]:
        """The status and the headers of an answer to the right caller, by their names in lower case."""
        credentials = f"{CALLER}:{CALLER_PASSWORD}"
        status, found = await self.curl("-u", credentials, "--data-binary", body, "-o", "/dev/null", "-D", "-")
        lines = (line.partition(": ") for line in found.decode().splitlines())
        return status, {name.lower(): value for name, sign, value in lines if sign}

    async def list_users(self) -> list[dict[str, Any]]:
        status, users = await self.post("cmd=list")
        assert status == 200, users
        found: list[dict[str, Any]] = users
        return found

    async def auth(self, user: str, password: str) -> bool:
        status, answer = await self.post(f"cmd=auth&user={quote_plus(user)}&pass={quote_plus(password)}")
        assert status == 200, answer
        assert set(answer) == {"succeeded"}
        return bool(answer["succeeded"])

    def last_login(self) -> dict[str, Any]:
        """What the log says of the last login."""
        return self._last("login.")

    def last_refresh(self) -> dict[str, Any]:
        """What the log says of the last listing."""
        return self._last("refresh.finished")

    def _last(self, kind: str) -> dict[str, Any]:
        lines = [json.loads(line) for line in self.log.getvalue().splitlines()]
        found: dict[str, Any] = next(line for line in reversed(lines) if line["event"].startswith(kind))
        return found


@asynccontextmanager
async def running_bridge(file: Path, clock: Clock | None = None) -> AsyncIterator[Client]:
    """The service of a configuration file, on a port of its own."""
    log = io.StringIO()
    service = Service(load(str(file), {}), log, {}, clock)
    await service.start()
    try:
        yield Client(service, log)
    finally:
        await service.stop()


def url_of(server: Slapd, scheme: str = "ldap") -> str:
    return server.url if scheme == "ldap" else f"ldaps://127.0.0.1:{server.tls_port}"


async def command(file: Path, *arguments: str) -> tuple[int, str]:
    """The exit code and the output of a command, run beside the service."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bridge",
        *arguments,
        "--config",
        str(file),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()

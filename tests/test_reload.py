"""Secrets and certificates of a running service, each changed in its file; nothing is restarted and nothing fails."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import signal
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from tests.conftest import StartSlapd
from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import CALLER, CALLER_PASSWORD, command, configuration, running_bridge
from tests.support.serve_process import ServeProcess
from tests.support.slapd import require
from tests.support.tls_front import TlsFront
from tests.support.waiting import until

pytestmark = pytest.mark.processes


def write_pair(authority: trustme.CA, certificate: Path, key: Path) -> None:
    """A new certificate and, a moment later, its key: for that moment they don't fit."""
    issued = authority.issue_cert("127.0.0.1")
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())


def write_authorities(file: Path, *authorities: trustme.CA) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(b"".join(authority.cert_pem.bytes() for authority in authorities))
    new.replace(file)


class Load:
    """Logins and listings, one after the other on new connections, until the context is left; each must succeed."""

    def __init__(self, port: int, *authorities: trustme.CA) -> None:
        self.url = f"https://127.0.0.1:{port}/mailstore"
        self.context = ssl.create_default_context()
        for authority in authorities:
            authority.configure_trust(self.context)
        self.count = 0
        self.issuers: set[str] = set()
        self.failures: list[Any] = []

    async def run(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self.context, force_close=True)
        async with aiohttp.ClientSession(connector=connector) as session:
            while True:
                for form in ({"cmd": "auth", "user": "anna", "pass": "Pass-anna"}, {"cmd": "list"}):
                    try:
                        found = await self._post(session, form)
                    except (aiohttp.ClientError, TimeoutError) as error:
                        found = error
                    if not (isinstance(found, list) or found == {"succeeded": True}):
                        self.failures.append(found)
                    self.count += 1

    async def _post(self, session: aiohttp.ClientSession, form: dict[str, str]) -> Any:
        credentials = base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()
        headers = {"Authorization": f"Basic {credentials}"}
        async with session.post(self.url, data=form, headers=headers) as response:
            return await response.json(content_type=None)

    async def more(self, count: int = 10) -> None:
        """So many more requests are answered."""
        due = self.count + count
        await until(lambda: self.count >= due or self.failures != [], 60)
        assert self.failures == []


@asynccontextmanager
async def under_load(port: int, *authorities: trustme.CA) -> AsyncIterator[Load]:
    load = Load(port, *authorities)
    task = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def certificate_of(port: int) -> bytes:
    """What the listener shows now."""
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))


@pytest.mark.slapd
@pytest.mark.timeout(240)
async def test_every_certificate_and_password_is_renewed_under_load(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Authorities, the servers' certificate, ours for them, the listener's, the service password: no request fails."""
    old, new = trustme.CA(), trustme.CA()
    slapd = start_slapd()
    ca, client, client_key = tmp_path / "ca.pem", tmp_path / "client.pem", tmp_path / "client.key"
    listener, listener_key = tmp_path / "bridge.pem", tmp_path / "bridge.key"
    write_authorities(ca, old)
    write_pair(old, client, client_key)
    write_pair(old, listener, listener_key)
    async with TlsFront(slapd.port, old) as front:
        lines = f"tls: {{ca_file: {ca}, client_certificate_file: {client}, client_key_file: {client_key}}}\n"
        lines += "    pool: {reuse_binds: false, idle: 20ms, max_age: 50ms}"
        more = "cache: {refresh_ahead: false, ttl: 0s, stale_if_error: 0s}"
        file = configuration(f"ldaps://127.0.0.1:{front.port}", tmp_path, directory=lines, more=more)
        tls = f'server: {{listen: "127.0.0.1:0", tls: {{certificate_file: {listener}, key_file: {listener_key}}}}}'
        file.write_text(file.read_text().replace('server: {listen: "127.0.0.1:0"}', tls))
        async with ServeProcess(file) as serve:
            port = await serve.port()
            async with under_load(port, old, new) as load:
                await load.more()
                write_authorities(ca, old, new)
                front.present(new)
                await load.more()
                write_authorities(ca, new)
                await load.more()
                front.trust(new)
                write_pair(new, client, client_key)
                await load.more()
                before = certificate_of(port)
                write_pair(new, listener, listener_key)
                serve.send(signal.SIGHUP)
                reloaded = await serve.wait_for("service.reloaded")
                await load.more()
                assert certificate_of(port) != before
                (tmp_path / "reader.password").write_text("next")
                slapd.replace(["cn=reader,dc=example,dc=com"], "userPassword", "next")
                await load.more()
            assert "server.tls" in reloaded["renewed"]
            assert reloaded["failed"] == {}
            renewed = {line["place"] for line in serve.lines if line["event"].endswith(".renewed")}
            assert renewed == {"directories[0].tls", "server.tls", "directories[0].bind.password_file"}
            assert serve.is_running


async def test_password_of_the_caller_counts_from_the_next_request_on(tmp_path: Path) -> None:
    """The new one is taken and the old one refused; a file that is empty for a moment changes nothing."""
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path)
        async with running_bridge(file) as client:

            async def status(password: str) -> int:
                return (await client.curl("-u", f"{CALLER}:{password}", "-d", "cmd=list"))[0]

            password = tmp_path / "caller.password"
            assert await status(CALLER_PASSWORD) == 200
            password.write_text("second\n")
            assert await status("second") == 200
            assert await status(CALLER_PASSWORD) == 401
            password.write_text("")
            assert await status("second") == 200
            password.unlink()
            assert await status("second") == 200
            assert await status("") == 401
            password.write_text("third\n")
            assert await status("third") == 200
            password.write_text("second\n")
            assert await status("third") == 401
            assert await status("second") == 200


async def test_new_password_is_taken_although_it_was_refused_a_moment_ago(tmp_path: Path) -> None:
    """It was entered in MailStore before the file was changed; the first request after that is answered."""
    async with (
        FaultyServer(small_directory("anna")) as server,
        running_bridge(configuration(server.url, tmp_path)) as client,
    ):
        for _ in range(2):
            assert (await client.curl("-u", f"{CALLER}:next", "-d", "cmd=list"))[0] == 401
        (tmp_path / "caller.password").write_text("next")
        assert (await client.curl("-u", f"{CALLER}:next", "-d", "cmd=list"))[0] == 200


def handles_hangup(pid: int) -> bool:
    """Whether SIGHUP is ignored or caught."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    masks = [int(lines[name], 16) for name in ("SigIgn", "SigCgt")]
    return any(mask >> (signal.SIGHUP - 1) & 1 for mask in masks)


@pytest.mark.parametrize("before", [(), ("env", "--ignore-signal=HUP")])
async def test_hangup_ends_the_service_at_no_moment(tmp_path: Path, before: tuple[str, ...]) -> None:
    """From the first line of our own code on; and from the very beginning where the parent has it ignored."""
    if before:
        require("env")
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path)
        async with ServeProcess(file, before=before) as serve:
            if before:
                await asyncio.sleep(0.02)  # `env` itself has to begin
            else:
                await until(lambda: handles_hangup(serve.process.pid))
            while not any(line["event"] == "service.started" for line in serve.lines):
                assert serve.is_running
                serve.send(signal.SIGHUP)
                await asyncio.sleep(0.005)
            serve.send(signal.SIGHUP)
            await serve.wait_for("service.reloaded")
            serve.send(signal.SIGTERM)
            while serve.is_running:
                serve.send(signal.SIGHUP)
                await asyncio.sleep(0.002)
            await serve.process.wait()
            assert serve.process.returncode == 0


async def test_hangup_tells_in_one_line_what_was_taken_and_what_was_not(tmp_path: Path) -> None:
    """No secret among it; the service goes on with what it had."""
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path)
        async with ServeProcess(file) as serve:
            await serve.wait_for("service.started")
            serve.send(signal.SIGHUP)
            line = await serve.wait_for("service.reloaded")
            assert (line["level"], line["renewed"], line["failed"], line["unchanged_count"]) == ("info", [], {}, 2)
            (tmp_path / "caller.password").write_text("canary-one")
            (tmp_path / "reader.password").unlink()
            serve.send(signal.SIGHUP)
            line = await serve.wait_for("service.reloaded", 2)
            assert line["level"] == "warning"
            assert line["renewed"] == ["endpoints[0].callers[0].password_file"]
            assert "No such file" in line["failed"]["directories[0].bind.password_file"]
            assert "canary" not in json.dumps(serve.lines)


@pytest.mark.parametrize("name", ["caller.password", "bridge.pem", "bridge.key"])
async def test_status_tells_which_file_can_not_be_used(tmp_path: Path, name: str) -> None:
    """Also where it is no directory's; the service goes on, and all is well once the file is back."""
    pair = tmp_path / "bridge.pem", tmp_path / "bridge.key"
    write_pair(trustme.CA(), *pair)
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path)
        tls = f'server: {{listen: "127.0.0.1:0", tls: {{certificate_file: {pair[0]}, key_file: {pair[1]}}}}}'
        file.write_text(file.read_text().replace('server: {listen: "127.0.0.1:0"}', tls))

        async def status(code: int) -> list[Any]:
            found = await command(file, "status", "--json")
            assert found[0] == code
            return json.loads(found[1][found[1].index("{") :])["endpoints"][0]["problems"]

        async with ServeProcess(file) as serve:
            await serve.wait_for("service.started")
            assert (await command(file, "refresh"))[0] == 0
            (tmp_path / name).rename(tmp_path / "away")
            serve.send(signal.SIGHUP)
            line = await serve.wait_for("service.reloaded")
            (problem,) = await status(1)
            assert (problem["code"], problem["directory"]) == ("file_unusable", "")
            for words in (problem["message"], *([] if name == "caller.password" else line["failed"].values())):
                assert f"{tmp_path / name}" in words
                assert "No such file" in words
            (tmp_path / "away").rename(tmp_path / name)
            serve.send(signal.SIGHUP)
            await serve.wait_for("service.reloaded", 2)
            assert await status(0) == []


async def test_check_compares_what_runs_with_the_files(tmp_path: Path) -> None:
    """An older password or certificate is told with the remedy; nothing where all is the same, or no service runs."""
    authority = trustme.CA()
    pair = tmp_path / "bridge.pem", tmp_path / "bridge.key"
    write_pair(authority, *pair)
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path)
        tls = f'server: {{listen: "127.0.0.1:0", tls: {{certificate_file: {pair[0]}, key_file: {pair[1]}}}}}'
        file.write_text(file.read_text().replace('server: {listen: "127.0.0.1:0"}', tls))

        async def found() -> list[str]:
            output = (await command(file, "check", "--json"))[1]
            checks = json.loads(output[output.index("{") :])["checks"]
            return [f"{check['message']} {check['remedy']}" for check in checks if check["name"] == "file"]

        assert await found() == []
        async with ServeProcess(file) as serve:
            await serve.wait_for("service.started")
            assert await found() == []
            write_pair(authority, *pair)
            (tmp_path / "caller.password").write_text("canary-two")
            told = await found()
            assert len(told) == 3
            for message in told:
                assert message.startswith("the running service uses an older ")
                assert "`systemctl reload mailstore-bridge`" in message
                assert "canary" not in message
            serve.send(signal.SIGHUP)
            await serve.wait_for("service.reloaded")
            assert await found() == []
            shutil.copy(pair[1], pair[0])
            (tmp_path / "reader.password").touch()
            serve.send(signal.SIGHUP)
            await serve.wait_for("service.reloaded", 2)
            code, output = await command(file, "check")
            assert code == 78
            assert f"server.tls.certificate_file: {pair[0]} holds a private key and no certificate" in output

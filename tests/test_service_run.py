"""The service as a whole: health, metrics, HTTPS, memory."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest

from bridge.demo import wire
from bridge.demo.server import Session
from tests.conftest import StartSlapd
from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import CALLER, CALLER_PASSWORD, configuration, running_bridge
from tests.support.slapd import person, require


async def test_admin_listener_tells_health_and_metrics(tmp_path: Path) -> None:
    """Alive, ready, counted; nothing else is there, and nothing can be changed."""
    server = FaultyServer(small_directory("anna"))
    async with server, running_bridge(configuration(server.url, tmp_path)) as client:
        admin = client.service.admin.addresses[0][1]

        async def get(path: str, *options: str) -> tuple[int, bytes]:
            client.port = admin
            return await client.curl(*options, path=path)

        assert await get("/healthz") == (200, b"ok\n")
        await client.service.bridge.list_users("/mailstore", compressed=False)
        status, body = await get("/readyz")
        assert (status, json.loads(body)) == (
            200,
            {"status": "ok", "endpoints": [{"path": "/mailstore", "status": "ok", "problems": []}]},
        )
        assert json.loads((await get("/status.json"))[1])["version"]
        metrics = (await get("/metrics"))[1].decode()
        assert 'mailstore_bridge_snapshot_users{directory="company"} 1.0' in metrics
        assert "\nmailstore_bridge_tasks " in metrics
        assert "anna" not in metrics
        assert (await get("/other"))[0] == 404
        assert (await get("/readyz", "-X", "DELETE"))[0] == 405


async def test_https_is_served_with_the_configured_certificate(
    tmp_path: Path, authority_file: Path, make_certificate: Callable[..., tuple[Path, Path]]
) -> None:
    """Curl checks the certificate, and gets its answer."""
    certificate, key = make_certificate()
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path)
        tls = f'server: {{listen: "127.0.0.1:0", tls: {{certificate_file: {certificate}, key_file: {key}}}}}'
        file.write_text(file.read_text().replace('server: {listen: "127.0.0.1:0"}', tls))
        async with running_bridge(file) as client:
            command = [require("curl"), "-sS", "--cacert", str(authority_file), "-u", f"{CALLER}:{CALLER_PASSWORD}"]
            url = f"https://127.0.0.1:{client.port}/mailstore"
            done = await _run([*command, "-d", "cmd=list", url])
            assert json.loads(done)[0]["userName"] == "anna"


async def _run(command: list[str]) -> bytes:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0]


async def test_service_starts_while_its_directory_is_down(tmp_path: Path) -> None:
    """A start doesn't wait for the directory; logins and listings are 503 until it is there."""
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path)
    async with running_bridge(file) as client:
        status, answer = await client.post("cmd=list")
        assert (status, answer["error"]) == (503, "directory_unavailable")


MEASURE = """
import asyncio, re, sys
from bridge.config.loading import load
from bridge.run.service import Service
async def main():
    service = Service(load(sys.argv[1], {}), sys.stderr, {})
    await service.start()
    listing = await service.bridge.list_users("/mailstore", compressed=False)
    listing = (await service.bridge.refresh("company"), await service.bridge.list_users("/mailstore", compressed=True))[1]
    await service.stop()
    peak_kib = re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1]
    print(listing.user_count, int(peak_kib) // 1024)
asyncio.run(main())
"""


@pytest.mark.slapd
@pytest.mark.timeout(300)
def test_hundred_thousand_people_are_listed_within_200_mib(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Two listings one after the other, compressed too, and the process stays small."""
    count = int(os.environ.get("BRIDGE_TEST_PEOPLE", "100000"))
    slapd = start_slapd([person(f"u{number:06}") for number in range(count)])
    file = configuration(slapd.url, tmp_path)
    done = subprocess.run([sys.executable, "-c", MEASURE, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    user_count, peak_mib = map(int, done.stdout.split())
    assert user_count == count
    assert peak_mib < 200


async def test_server_that_drops_the_connection_in_the_middle_gives_no_shorter_list(tmp_path: Path) -> None:
    """503 with a sentence, however often it is tried; then the server is well, and everybody is there."""
    uids = [f"u{number:02}" for number in range(25)]
    pages = 0

    async def on_search(session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        nonlocal pages
        pages += 1
        if pages % 3 == 0 and pages <= 6:
            session._writer.close()
            return True
        return False

    async with FaultyServer(small_directory(*uids), on_search=on_search) as server:
        async with running_bridge(configuration(server.url, tmp_path, directory="page_size: 10")) as client:
            status, answer = await client.post("cmd=list")
            assert (status, answer["error"]) == (503, "directory_unavailable")
            assert "closed the connection" in answer["message"]
            assert len(await client.list_users()) == 25


@pytest.mark.parametrize(
    ("allowed", "over_tcp", "over_unix"),
    [
        (None, 200, 200),
        ("[127.0.0.0/8]", 200, 401),
        ("[127.0.0.0/8, unix]", 200, 200),
        ("unix", 401, 200),
        ("[192.0.2.0/24, '2001:db8::1']", 401, 401),
    ],
)
async def test_allow_from_decides_from_where_an_endpoint_is_asked(
    tmp_path: Path, allowed: str | None, over_tcp: int, over_unix: int
) -> None:
    """By network, and by name for a Unix socket; the answer tells the administrator what to add."""
    socket = tmp_path / "bridge.sock"
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path)
        text = file.read_text().replace('listen: "127.0.0.1:0"}', f'listen: ["127.0.0.1:0", "unix:{socket}"]}}', 1)
        if allowed is not None:
            text = text.replace("  - path: /mailstore\n", f"  - path: /mailstore\n    allow_from: {allowed}\n")
        file.write_text(text)
        async with running_bridge(file) as client:
            user = ("-u", f"{CALLER}:{CALLER_PASSWORD}", "-d", "cmd=auth&user=anna&pass=Pass-anna")
            answers = [await client.curl(*user), await client.curl(*user, "--unix-socket", str(socket))]
            log = client.log.getvalue()
    assert [status for status, _ in answers] == [over_tcp, over_unix]
    for (status, body), place in zip(answers, ("from 127.0.0.1", "through a Unix socket"), strict=True):
        if status == 200:
            assert body == b'{"succeeded":true}'
            continue
        found = json.loads(body)
        assert found["error"] == "unauthorized"
        assert place in found["message"]
        assert "allow_from" in found["message"]
        assert place in log


@pytest.mark.timeout(60)
async def test_service_answers_and_ends_though_nobody_reads_its_log(tmp_path: Path) -> None:
    """`serve | less`, or a journal that is stalled: some thousand lines fit into no pipe."""
    async with FaultyServer(small_directory("anna")) as server:
        file = configuration(server.url, tmp_path)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        file.write_text(file.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1))
        command = [sys.executable, "-m", "bridge", "serve", "--config", str(file)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)  # noqa: ASYNC220 - asyncio would read the pipe
        assert process.stderr is not None
        started = await asyncio.to_thread(process.stderr.readline)
        assert b"service.started" in started
        password = b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()
        async with aiohttp.ClientSession(headers={"Authorization": f"Basic {password}"}) as session:
            for _ in range(400):
                form = {"cmd": "auth", "user": "anna", "pass": "Pass-anna"}
                async with session.post(f"http://127.0.0.1:{port}/mailstore", data=form) as answer:
                    assert await answer.json() == {"succeeded": True}
        process.terminate()
        assert await asyncio.to_thread(process.wait, 15) == 0
        process.stderr.close()

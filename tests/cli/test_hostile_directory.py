"""Every command on a terminal, beside a directory whose every word would steer it: nothing of that arrives."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import quote_plus

import pytest
import pytest_asyncio

from bridge.demo import wire
from bridge.demo.server import Session
from tests.faults.server import FaultyServer, FaultySession, small_directory
from tests.faults.turns import read_entry
from tests.support.bridges import CALLER, CALLER_PASSWORD, Client, configuration, running_bridge
from tests.support.many_commands import all_commands
from tests.support.slapd import PEOPLE, READER, free_port
from tests.support.terminals import BRIDGE, Terminal, inherit, on_terminal
from tests.support.waiting import until

pytestmark = pytest.mark.processes

WORDS = "\x1b]52;c;eA==\x07\x1b[31m \x9b2J \u202egnp\r\n<0>forged\x7f"
SHOWN = r"\x1b]52;c;eA==\x07\x1b[31m \x9b2J \u202egnp\r\n<0>forged\x7f"
EVE, EVE_SHOWN = "eve\u202egnp", r"eve\u202egnp"
"""A user name may hold what is no control character."""
STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
ASK_NO_DIRECTORY = {"demo", "hash-password", "schema"}
PLAIN = {"TERM": "dumb"}
"""A terminal for which nothing of ours is coloured or moved either."""


async def boast(session: FaultySession, message: wire.Message) -> bool:
    """Answers for the root DSE, with a vendor of such words."""
    match message.operation:
        case wire.ReceivedSearch(""):
            first, end = await session.right_answer(message)
            found = read_entry(first)
            assert found is not None
            session.writer.write(wire.write_entry(message.id, "", [*found[1], ("vendorName", [WORDS.encode()])]) + end)
            return True
    return False


async def refuse_search(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
    session._writer.write(wire.write_result(message.id, wire.SEARCH_DONE, 80, WORDS))
    return True


async def refuse_bind(session: Session, message: wire.Message, request: wire.ReceivedBind) -> bool:
    if request.dn != READER:
        session._writer.write(wire.write_result(message.id, wire.BIND_RESPONSE, 80, WORDS))
    return request.dn != READER


def hostile_person(uid: str) -> tuple[str, dict[str, Sequence[str]]]:
    entry: dict[str, Sequence[str]] = {"objectClass": ["inetOrgPerson"], "uid": [uid], "cn": [WORDS]}
    return f"uid={uid},{PEOPLE}", {**entry, "mail": [f"{uid}@example.com"], "userPassword": ["Pass"]}


class Operator:
    """Somebody who runs commands, and what their terminal has shown."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.typed: set[str] = set()

    async def run(self, name: str, *arguments: str, typed: str = "", piped: str | None = None) -> str:
        """What the terminal gets of a command, its errors too, with a blank for each break; none of it steers."""
        self.typed.add(name)
        words = (*name.split(), *arguments, "--config", str(self.file))
        _, output = await asyncio.to_thread(
            on_terminal, words, environment=PLAIN, typed=typed, piped=piped, stderr=True
        )
        assert "Traceback" not in output
        assert STEERING.findall(output) == [], (name, output)
        return " ".join(output.split())

    async def read_document(self, *words: str) -> str:
        """The document that a command prints on a terminal, as whoever reads it has it."""
        command = (*words, "--json", "--config", str(self.file))
        _, output = await asyncio.to_thread(on_terminal, command, environment=PLAIN)
        assert STEERING.findall(output) == [], (words, output)
        return json.dumps(json.loads(output), ensure_ascii=False)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FaultyServer]:
    store = small_directory("anna")
    for uid in ("esc", EVE):
        store.add(*hostile_person(uid))
    async with FaultyServer(store) as found:
        found.on_request = boast
        yield found


@pytest_asyncio.fixture
async def client(server: FaultyServer, tmp_path: Path) -> AsyncIterator[Client]:
    """A service that has listed everybody; somebody has mistyped, is gone since, and somebody else has changed."""
    more = (
        "auth: {max_failures: 2, fast_refusals: true}\nremovals: {max_percent: 0, max_count: 0}\n"
        "cache: {ttl: 0s, refresh_ahead: false}"
    )
    async with running_bridge(configuration(server.url, tmp_path, more=more)) as found:
        await found.list_users()
        for number in range(3):
            await found.auth(EVE, f"wrong-{number}")
        change(server, EVE, "objectclass", "device")
        change(server, "esc", "cn", f"new {WORDS}")
        yield found


def change(server: FaultyServer, uid: str, attribute: str, value: str) -> None:
    """Somebody's entry holds another value."""
    entry = server.store.find(f"uid={uid},{PEOPLE}")
    assert entry is not None
    entry.attributes[attribute] = [value.encode()]  # type: ignore[index]


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("client")
async def test_no_command_lets_a_directory_steer_the_terminal(server: FaultyServer, tmp_path: Path) -> None:
    """Each shows such words so that they can be read; where one shows them to scripts, the document has them exactly."""
    operator = Operator(tmp_path / "config.yaml")
    assert EVE_SHOWN in await operator.run("throttle show")
    assert EVE in await operator.read_document("throttle", "show")
    await operator.run("throttle clear", EVE)
    assert EVE_SHOWN in await operator.run("throttle clear", EVE)
    assert f"(sample directory) {SHOWN}" in await operator.run("check")
    assert f"new {json.dumps(WORDS, ensure_ascii=False)[1:-1]}" in await operator.read_document("list")
    difference = await operator.run("diff")
    assert f"{SHOWN} → new {SHOWN}" in difference
    assert EVE_SHOWN in difference
    assert EVE in await operator.read_document("diff")
    assert "1 withheld" in await operator.run("refresh")
    assert SHOWN in await operator.run("list")
    removals = await operator.run("removals show")
    assert EVE_SHOWN in removals
    assert EVE in await operator.read_document("removals", "show")
    (digest,) = re.findall("removals approve ([0-9a-f]+)", removals)
    await operator.run("removals approve", digest)
    assert SHOWN in await operator.run("removals reset", "--directory", WORDS, typed="n\n")
    server.on_bind = refuse_bind
    assert SHOWN in await operator.run("auth", "anna", piped="Pass-anna\n")
    server.on_search = refuse_search
    for name in ("check", "list", "diff", "refresh", "status"):
        assert SHOWN in await operator.run(name), name
    assert operator.typed | {"serve"} == set(all_commands()) - ASK_NO_DIRECTORY


async def test_service_on_a_terminal_writes_a_log_that_steers_nothing(server: FaultyServer, tmp_path: Path) -> None:
    """What a caller types, what a directory says of a bind and of a search, and what stands in entries."""
    port, server.on_bind = free_port(), refuse_bind
    file = configuration(server.url, tmp_path, more="log: {level: debug}\ncache: {ttl: 0s, refresh_ahead: false}")
    file.write_text(
        file.read_text().replace('server: {listen: "127.0.0.1:0"}', f'server: {{listen: "127.0.0.1:{port}"}}')
    )
    terminal = Terminal(400)
    process = subprocess.Popen(  # noqa: ASYNC220 - its standard error is a terminal
        [*BRIDGE, "serve", "--config", str(file)],
        stdin=subprocess.DEVNULL,
        stderr=terminal.descriptor,
        env={**inherit(), "NO_COLOR": "1"},
    )
    try:
        await until(lambda: is_listening(port), 30)
        await ask(port, "cmd=list")
        for user in (WORDS, f"{WORDS}\x00", "anna"):
            await ask(port, f"cmd=auth&user={quote_plus(user)}&pass=Pass-anna")
        server.on_search = refuse_search
        await ask(port, "cmd=list")
    finally:
        process.terminate()
        code = await asyncio.to_thread(process.wait, 20)
        output = terminal.close()
    assert code == 0
    assert STEERING.findall(output) == []
    assert not re.search("^<0>", output, re.MULTILINE)
    for event in ("login.rejected", "request.answered", "refresh.failed"):
        assert re.search(f"{event}.*{re.escape(SHOWN)}", output.replace(r"\\", "\\")), (event, output)


def is_listening(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


async def ask(port: int, body: str) -> None:
    """A request of the right caller; whatever is answered."""
    token = base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()
    head = f"POST /mailstore HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {token}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert (await reader.read()).startswith(b"HTTP/1.1 ")
    writer.close()

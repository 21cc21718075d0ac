"""Where nobody is asked for a password, and in a log without user names, nobody is named, whatever goes wrong."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import pytest

from bridge.errors import ServiceError
from bridge.web.control_client import ask_service
from tests.faults.server import FaultyServer
from tests.support.bridges import CALLER, CALLER_PASSWORD, command
from tests.support.named_faults import (
    BIND_FAULTS,
    DN,
    GROUP,
    ID,
    INNER_GROUP,
    LISTING_FAULTS,
    PASSWORD,
    SAID,
    UID,
    VERDICTS,
    WORD,
    Fault,
    Play,
    directory_with,
    refuses_service,
)
from tests.support.serve_process import ServeProcess
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD, free_port
from tests.support.waiting import until

PAGES = ("/healthz", "/readyz", "/status.json", "/metrics", f"/{UID}", f"/status.json?user={UID}")


def is_named_in(text: bytes | str) -> bool:
    """Whether something of the person's names stands in the text: plain, in hexadecimal, or in Base64."""
    data = text.encode() if isinstance(text, str) else text
    word = WORD.encode()
    coded = {base64.b64encode(b"\0" * offset + word)[(4 if offset else 0) : 8] for offset in range(3)}
    return word in data.lower() or word.hex().encode() in data.lower() or any(form in data for form in coded)


def test_names_are_found_in_each_of_their_forms() -> None:
    """The search itself."""
    token = base64.b64encode(f"{UID}:x".encode())
    for text in (DN, SAID.upper(), json.dumps([UID]), DN.encode().hex(), token, base64.b64encode(f"x{DN}".encode())):
        assert is_named_in(text)
    assert not is_named_in("nothing")


def configuration(folder: Path, admin: int, servers: dict[str, list[FaultyServer]], *, usernames: bool) -> Path:
    """Company and branch have the person both; club bars them by a group; pair has two servers."""
    for name, text in (("caller", CALLER_PASSWORD), ("reader", READER_PASSWORD)):
        (folder / f"{name}.password").write_text(text)
        (folder / f"{name}.password").chmod(0o600)
    file = folder / "config.yaml"
    caller = f"callers: [{{username: {CALLER}, password_file: {folder}/caller.password}}]"
    groups = {"club": f', groups: {{exclude: ["{GROUP}"]}}'}
    directories = "".join(
        f"""
  - name: {name}
    preset: openldap
    servers: {json.dumps([each.url for each in found])}
    bind: {{dn: "{READER}", password_file: {folder}/reader.password}}
    users: {{bases: ["{PEOPLE}"]{groups.get(name, "")}}}"""
        for name, found in servers.items()
    )
    file.write_text(f"""\
server: {{listen: "127.0.0.1:0"}}
admin: {{listen: "127.0.0.1:{admin}", socket: {folder}/socket}}
state: {{directory: {folder}/state}}
log: {{level: debug, usernames: {str(usernames).lower()}}}
cache: {{refresh_ahead: false}}
auth: {{max_failures: 100}}
removals: {{max_percent: 0, max_count: 0}}
endpoints:
  - {{path: /both, directories: [company, branch], {caller}}}
  - {{path: /club, directories: [club], {caller}}}
  - {{path: /company, directories: [company], {caller}}}
  - {{path: /pair, directories: [pair], {caller}}}
directories:{directories}
""")
    return file


class Running:
    """A real `serve` beside directories that are in trouble."""

    def __init__(self, file: Path, admin: int, service: ServeProcess, plays: dict[str, Play]) -> None:
        self.file, self.admin, self.service, self.plays = file, admin, service, plays
        self._port = 0

    async def until_started(self) -> Self:
        self._port = await self.service.port()
        return self

    async def fetch(self, path: str) -> bytes:
        """A page of the admin listener, as anybody gets it."""
        return await _talk(self.admin, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

    async def post(self, path: str, *, caller: str = CALLER, **fields: str) -> tuple[int, str]:
        """The status and the body of an answer to MailStore."""
        token = base64.b64encode(f"{caller}:{CALLER_PASSWORD}".encode()).decode()
        body = urlencode(fields)
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic {token}\r\n"
        answer = await _talk(self._port, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        head, _, found = answer.decode().partition("\r\n\r\n")
        return int(head.split(" ", 2)[1]), found

    async def control(self, method: str, path: str, **body: str) -> dict[str, Any]:
        """What the control socket answers, an error as a document with its message."""
        try:
            found = await ask_service(self.file.parent / "socket", method, path, body)
        except ServiceError as error:
            return {"error": error.service_code, "message": error.message}
        assert found is not None
        return found

    async def refresh(self, directory: str) -> dict[str, Any]:
        return await self.control("POST", "/refresh", directory=directory)

    async def named_pages(self) -> list[str]:
        """The pages on which somebody is named."""
        return [path for path in PAGES if is_named_in(await self.fetch(path))]

    def log_since(self, count: int) -> list[str]:
        return [json.dumps(line, ensure_ascii=False) for line in self.service.lines[count:]]


async def _talk(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


@asynccontextmanager
async def running(folder: Path, *, usernames: bool) -> AsyncIterator[Running]:
    admin = free_port()
    async with (
        FaultyServer(directory_with("anna", "bert", "carl")) as company,
        FaultyServer(directory_with("dora", "emil")) as branch,
        FaultyServer(directory_with("fritz", "gerd")) as club,
        FaultyServer(directory_with("hanna", "ida")) as first,
        FaultyServer(directory_with("hanna", "ida")) as second,
    ):
        servers = {"company": [company], "branch": [branch], "club": [club], "pair": [first, second]}
        file = configuration(folder, admin, servers, usernames=usernames)
        async with ServeProcess(file) as service:
            plays = {name: Play(*found) for name, found in servers.items()}
            yield await Running(file, admin, service, plays).until_started()


class Witness:
    """Looks, after each fault, at what anybody can see, and whether those who may are told whom it is about."""

    def __init__(self, bridge: Running, *, usernames: bool) -> None:
        self.bridge, self.usernames = bridge, usernames
        self.leaks: dict[str, list[str]] = {}
        self.untold: list[str] = []

    async def look(self, name: str, line_count: int, *told: object, is_logged: bool = True) -> None:
        """`told` is what somebody with a password, or the control socket, was answered."""
        if pages := await self.bridge.named_pages():
            self.leaks[name] = pages
        self.untold += [name for each in told if not is_named_in(json.dumps(each, ensure_ascii=False))]
        if self.usernames and is_logged:
            await until(lambda: any(map(is_named_in, self.bridge.log_since(line_count))))

    async def suffer(self, name: str, fault: Fault, directory: str = "company") -> None:
        """A listing that fails, and whatever comes of a login meanwhile."""
        bridge, count = self.bridge, len(self.bridge.service.lines)
        bridge.plays[directory].begin(fault)
        refreshed = await bridge.refresh(directory)
        assert "error" in refreshed, (name, refreshed)
        await bridge.post(f"/{directory}", cmd="auth", user=UID, **{"pass": PASSWORD})
        assert b'"problems":[{' in await bridge.fetch("/readyz")
        await self.look(name, count, refreshed, await bridge.control("GET", "/status"))
        bridge.plays[directory].end()
        assert "reports" in await bridge.refresh(directory), name

    async def pass_over(self, name: str, fault: Fault) -> None:
        """A listing that fails at the first server and comes from the second; the first is set aside."""
        bridge = self.bridge
        bridge.plays["pair"].begin(fault, at_first_alone=True)
        assert "reports" in await bridge.refresh("pair"), name
        await self.look(f"{name} at one server", 0, is_logged=False)
        bridge.plays["pair"].end()

    async def log_in(self, name: str, fault: Fault, *, status: int) -> None:
        """A login that is refused, or can't be decided."""
        bridge, count = self.bridge, len(self.bridge.service.lines)
        bridge.plays["company"].begin(fault)
        found, answer = await bridge.post("/company", cmd="auth", user=UID, **{"pass": f"{PASSWORD} of {name}"})
        assert found // 100 == status // 100, (name, answer)
        assert status != 200 or answer == '{"succeeded":false}'
        told = (answer, await bridge.control("GET", "/status")) if status != 200 else ()
        await self.look(name, count, *told)
        bridge.plays["company"].end()
        await bridge.control("POST", "/throttle/clear", user=UID)


async def suffer_everything(bridge: Running, witness: Witness) -> None:
    """All kinds of trouble, one after the other."""
    for name in bridge.plays:
        assert "reports" in await bridge.refresh(name)
    for name, fault in LISTING_FAULTS.items():
        await witness.suffer(name, fault)
        await witness.suffer(f"{name} at both servers", fault, "pair")
        await witness.pass_over(name, fault)
    for name, fault in BIND_FAULTS.items():
        await witness.log_in(name, fault, status=503)
    for name, fault in VERDICTS.items():
        await witness.log_in(name, fault, status=200)
    await withhold(bridge, witness)
    await confuse(bridge, witness)
    inner = bridge.plays["club"].servers[0].store.find(INNER_GROUP)
    assert inner is not None
    inner.attributes["member"].clear()  # type: ignore[attr-defined]
    count, found = len(bridge.service.lines), await bridge.refresh("club")
    await witness.look("members of a group that nobody sees", count, found, await bridge.control("GET", "/status"))
    count, bridge.plays["branch"].servers[0].on_bind = len(bridge.service.lines), refuses_service
    found = await bridge.refresh("branch")
    await witness.look("the service account refused", count, found, await bridge.control("GET", "/status"))
    found = await bridge.refresh("branch")
    await witness.look("the service account not bound", count, found, await bridge.control("GET", "/status"))


async def withhold(bridge: Running, witness: Witness) -> None:
    """Removals that wait for the operator."""
    play = bridge.plays["company"]
    for name, attributes in (
        ("gone from the filter", {"objectclass": [b"device"]}),
        ("renamed", {"uid": [f"{WORD}-new".encode()]}),
        ("without an address", {"mail": []}),
        ("without a user name", {"uid": []}),
    ):
        play.change(attributes)
        count, found = len(bridge.service.lines), await bridge.refresh("company")
        assert "reports" in found
        await bridge.post("/company", cmd="auth", user=UID, **{"pass": PASSWORD})
        assert b"removals_withheld" in await bridge.fetch("/status.json"), name
        await witness.look(name, count, await bridge.control("GET", "/removals"), is_logged=False)
    play.end()
    await bridge.refresh("company")


async def confuse(bridge: Running, witness: Witness) -> None:
    """Names that several have, ids that come twice, callers who are called so, groups that bar."""
    lines = bridge.service.lines
    count, (status, answer) = len(lines), await bridge.post("/both", cmd="list")
    assert (status, is_named_in(answer)) == (200, True)
    await witness.look("contested", count, is_logged=False)
    count = len(lines)
    for path in ("/club", "/both", f"/{UID}", f"/company?user={UID}"):
        await bridge.post(path, cmd="auth", user=UID, **{"pass": "wrong"})
    await bridge.post("/company", caller=UID, cmd="list")
    await bridge.post("/company", cmd=UID)
    await witness.look("requests", count)
    store = bridge.plays["company"].servers[0].store
    twin = {"objectClass": ["inetOrgPerson"], "uid": [UID], "cn": [WORD], "mail": [f"{WORD}@example.com"]}
    store.add(f"cn={WORD} twin,{PEOPLE}", twin)
    count = len(lines)
    assert "reports" in await bridge.refresh("company")
    await bridge.post("/company", cmd="auth", user=UID, **{"pass": PASSWORD})
    await witness.look("ambiguous", count, await bridge.control("GET", "/status"))
    store.add(f"cn={WORD} again,{PEOPLE}", {**twin, "uid": [f"{WORD}-again"], "entryUUID": [ID]})
    count, found = len(lines), await bridge.refresh("company")
    await witness.look("an id that comes twice", count, found, await bridge.control("GET", "/status"))
    code, output = await command(bridge.file, "check")
    assert code != 70
    await witness.look("check", count, output)


@pytest.mark.parametrize("usernames", [False, True])
async def test_nobody_is_named_where_nobody_asks_for_a_password(tmp_path: Path, *, usernames: bool) -> None:
    """Neither on the admin listener nor in a log without user names; those who may know are told who it is."""
    async with running(tmp_path, usernames=usernames) as bridge:
        witness = Witness(bridge, usernames=usernames)
        await suffer_everything(bridge, witness)
    events = {line["event"] for line in bridge.service.lines}
    assert events >= {"refresh.failed", "server.set_aside", "login.rejected", "names.contested", "request.answered"}
    assert witness.leaks == {}
    assert witness.untold == []
    named = {line["event"] for line in bridge.service.lines if is_named_in(json.dumps(line))}
    assert ("names.contested" in named) is usernames
    if not usernames:
        assert [line for line in bridge.log_since(0) if is_named_in(line)] == []

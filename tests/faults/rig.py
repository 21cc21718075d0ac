"""What a case is played on: its servers, and a whole bridge in front of them that is asked over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import aiohttp

from bridge.demo import wire
from tests.faults.cases import Case
from tests.faults.server import FaultyServer, FaultySession, small_directory
from tests.faults.stages import BARRED, EXCLUDED, GUESTS, INNER, PAGE_SIZE_COUNT, STAFF, USERS, Stage, stage_of
from tests.faults.tls_faults import Contexts
from tests.faults.turns import Turn, result
from tests.support.bridges import CALLER, CALLER_PASSWORD, Client, configuration, running_bridge
from tests.support.slapd import PEOPLE, READER_PASSWORD

CONNECT_S, REQUEST_S, LISTING_S = 1.0, 1.5, 3.0
_CREDENTIALS = base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()
_HEADERS = {"Authorization": f"Basic {_CREDENTIALS}", "Content-Type": "application/x-www-form-urlencoded"}
_MORE = "cache: {refresh_ahead: false, ttl: 0s}\nauth: {fast_refusals: true}"


@dataclass(frozen=True)
class Answer:
    """What the bridge has answered, and how long that took."""

    status: int
    body: object
    took_s: float


@dataclass
class Rig:
    """The servers of a case, the first of which is in trouble at times, and the bridge."""

    case: Case
    servers: list[FaultyServer]
    contexts: Contexts
    target: socket.socket
    """Where references lead."""
    http: aiohttp.ClientSession
    client: Client = field(init=False)
    hit_count: int = 0
    """How often the fault was met."""
    _old_sessions: set[FaultySession] = field(default_factory=set)

    @property
    def _faulty(self) -> FaultyServer:
        return self.servers[0]

    def user_bind_counts(self) -> list[int]:
        """How many passwords of users have been sent to each server."""
        return [len(server.user_binds()) for server in self.servers]

    async def begin_fault(self, *, keep_connections: bool) -> None:
        """From now on the first server is in trouble."""
        server, case = self._faulty, self.case
        if case.certificate != "good":
            server.tls, self.hit_count = self.contexts.by_name[case.certificate], 1
        elif case.action is None:
            server.stop_listening()
            self.hit_count = 1
        elif case.stage is Stage.CONNECT or (case.stage is Stage.TLS and case.transport == "ldaps"):
            server.on_connect = self._fail_connection
        else:
            server.on_request = self._fail_request
        if not keep_connections:
            await server.drop_connections()
        self._old_sessions = set(server.sessions)

    async def end_fault(self) -> None:
        """The first server is well again, as after a new start."""
        server = self._faulty
        server.on_connect = server.on_request = None
        if self.case.certificate != "good":
            server.tls = self.contexts.by_name["good"]
        elif self.case.action is None:
            await server.listen_again()
        await server.drop_connections()

    async def list_users(self) -> Answer:
        return await self._post({"cmd": "list"})

    async def log_in(self, user: str, password: str) -> Answer:
        return await self._post({"cmd": "auth", "user": user, "pass": password})

    def find_in_log(self) -> list[str]:
        """What must never be in a log: passwords, and errors of our own."""
        log = self.client.log.getvalue()
        secrets = (READER_PASSWORD, CALLER_PASSWORD, *(f"Pass-{uid}" for uid in USERS))
        found = ["a password is in the log"] if any(secret in log for secret in secrets) else []
        return found + ["an error of our own is in the log"] * ("request.failed" in log or "Traceback" in log)

    def referral_count(self) -> int:
        """How many connections have come to where references lead."""
        self.target.setblocking(False)
        count = 0
        while True:
            try:
                self.target.accept()[0].close()
            except BlockingIOError:
                return count
            count += 1

    async def _post(self, form: dict[str, str]) -> Answer:
        clock = asyncio.get_running_loop().time
        began_s = clock()
        url = f"http://127.0.0.1:{self.client.port}/mailstore"
        async with self.http.post(url, data=urlencode(form), headers=_HEADERS) as response:
            return Answer(response.status, json.loads(await response.read()), clock() - began_s)

    async def _fail_connection(self, session: FaultySession) -> bool:
        await self._act(Turn(session, self.case.stage))
        return True

    async def _fail_request(self, session: FaultySession, message: wire.Message) -> bool:
        case, stage = self.case, stage_of(session, message)
        if case.spares_new_connections and session not in self._old_sessions:
            return False
        uri = f"ldap://127.0.0.1:{self.target.getsockname()[1]}/{PEOPLE}"
        turn = Turn(session, stage, message, uri)
        if case.stage is Stage.TLS and stage is Stage.START_TLS:
            await turn.send(result(turn, 0))
        elif stage is not case.stage:
            return False
        await self._act(turn)
        return True

    async def _act(self, turn: Turn) -> None:
        assert self.case.action is not None
        self.hit_count += 1
        await self.case.action(turn)
        if self.case.fault.startswith("agreed") and not turn.session.writer.is_closing():
            await turn.linger()  # TLS was promised, and does not begin


def _server(case: Case, contexts: Contexts) -> FaultyServer:
    store = small_directory(*USERS, BARRED)
    group = {"objectClass": ["groupOfNames"]}
    store.add(STAFF, {**group, "member": [f"uid={uid},{PEOPLE}" for uid in (*USERS[:2], BARRED)]})
    store.add(GUESTS, {**group, "member": [f"uid={uid},{PEOPLE}" for uid in USERS[2:]]})
    store.add(EXCLUDED, {**group, "member": [INNER]})
    store.add(INNER, {**group, "member": [f"uid={BARRED},{PEOPLE}"]})
    tls = contexts.by_name["good"] if case.transport != "plain" else None
    return FaultyServer(store, tls=tls, begins_with_tls=case.transport == "ldaps")


def _configure(case: Case, urls: list[str], folder: Path, contexts: Contexts) -> Path:
    if case.transport == "ldaps":
        urls = [url.replace("ldap://", "ldaps://") for url in urls]
    groups = f', groups: {{include: ["{STAFF}", "{GUESTS}"], exclude: ["{EXCLUDED}"]}}' if case.has_groups else ""
    keys = [
        f"page_size: {PAGE_SIZE_COUNT}",
        f"timeouts: {{connect: {CONNECT_S}s, request: {REQUEST_S}s, listing: {LISTING_S}s}}",
    ]
    if case.transport != "plain":
        keys.append(f"tls: {{ca_file: {contexts.ca_file}}}")
    if case.transport == "starttls":
        keys.append("starttls: required")
    return configuration(
        '", "'.join(urls),
        folder,
        users=f'users: {{bases: ["{PEOPLE}"]{groups}}}',
        directory="\n    ".join(keys),
        more=_MORE,
    )


def expected_users(case: Case) -> list[dict[str, object]]:
    """The list of a good directory."""
    return [
        {
            "userName": uid,
            "distinguishedName": f"uid={uid},{PEOPLE}",
            "fullName": uid,
            "emailAddresses": [f"{uid}@example.com"],
        }
        for uid in (USERS if case.has_groups else (*USERS, BARRED))
    ]


@asynccontextmanager
async def set_up(case: Case, contexts: Contexts, http: aiohttp.ClientSession) -> AsyncIterator[Rig]:
    """The servers of a case run, and nothing is asked of them yet; `bridge_of` comes next."""
    async with AsyncExitStack() as stack:
        target = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0), backlog=128)))
        servers = [_server(case, contexts) for _ in range(case.server_count)]
        for server in servers:
            await stack.enter_async_context(server)
        yield Rig(case, servers, contexts, target, http)


@asynccontextmanager
async def bridge_of(rig: Rig, folder: Path) -> AsyncIterator[None]:
    """The bridge of a case runs."""
    write = partial(_configure, rig.case, [server.url for server in rig.servers], folder, rig.contexts)
    async with running_bridge(await asyncio.to_thread(write)) as rig.client:
        yield

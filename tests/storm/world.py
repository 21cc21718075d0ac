"""The bridge as a process, two slapds behind proxies, and everybody in them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

from tests.conftest import StartSlapd
from tests.storm.callers import LISTING_S, TTL_S, Crowd
from tests.storm.figures import Figures
from tests.storm.people import People
from tests.storm.weather import LogWatch, Weather
from tests.support.bridges import configuration
from tests.support.ldap_messages import Request
from tests.support.ldap_proxy import LdapProxy
from tests.support.serve_process import ServeProcess
from tests.support.slapd import BASE, Slapd, free_port, person

PROVIDER, CONSUMER = 0, 1
IDLE_S = 2.0
"""How long the bridge keeps a connection to a server that it doesn't need."""
_CATCH_UP_S = 120.0
"""For a server that is away, and then has to hear what it has missed."""

_DIRECTORY = f"""\
timeouts: {{connect: 1s, request: 2s, listing: {LISTING_S:g}s}}
    pool: {{idle: {IDLE_S:g}s}}
    page_size: 150"""
_MORE = f"""\
cache: {{refresh_ahead: false, ttl: {TTL_S:g}s}}
removals: {{window: 1m}}
auth: {{window: 5s, remember_failures: 5s}}"""


class World:
    """Everything that runs in a storm."""

    def __init__(
        self,
        servers: tuple[Slapd, Slapd],
        proxies: tuple[LdapProxy, LdapProxy],
        people: People,
        *,
        chance: random.Random,
        figures: Figures,
    ) -> None:
        """The provider comes before its consumer; the proxy before each is what the bridge knows."""
        self.servers, self.proxies, self.people, self.random, self.figures = servers, proxies, people, chance, figures
        self.weather = Weather()
        self.log = LogWatch(self.weather)
        self.provider_turn = asyncio.Lock()
        """Held while the provider is being changed, and while it is away."""
        self.fault_turn = asyncio.Lock()
        """Held while something is broken, and while it is measured that nothing is."""
        self.is_over = asyncio.Event()
        """Set when no further fault and no further change may begin."""
        self.has_seen_everything = asyncio.Event()
        """Set when each fault has come once."""
        self.process: ServeProcess
        self.crowd: Crowd
        self.admin_port = 0
        for proxy in proxies:
            proxy.on_request = lambda request, proxy=proxy: self._note(request, proxy)

    @property
    def process_id(self) -> int:
        """That of the bridge."""
        return self.process.process.pid

    async def pause(self, seconds: float) -> bool:
        """Wait so long, or until the storm is over. Returns whether it is."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.is_over.wait()
        return self.is_over.is_set()

    def _note(self, request: Request, proxy: LdapProxy) -> None:
        proxy.requests.clear()  # an hour has millions
        self.figures.counts["binds of users"] += request.kind == "bind" and not request.dn.startswith("cn=")
        if (problem := self.people.note(request)) is not None:
            self.figures.fail(problem)

    async def until_shown(self, server: int, uid: str, *, is_there: bool) -> None:
        """Wait until a server can be asked, and shows a user or not."""
        ends_s = time.monotonic() + _CATCH_UP_S
        while time.monotonic() < ends_s:
            with contextlib.suppress(AssertionError):  # it is away
                found = await asyncio.to_thread(self.servers[server].ldapsearch, "-b", BASE, f"(uid={uid})", "uid")
                if (f"uid: {uid}" in found) == is_there:
                    return
            await asyncio.sleep(0.1)
        raise AssertionError(f"{uid}: not {is_there} at {self.servers[server].url}")


@asynccontextmanager
async def stormy_world(start_slapd: StartSlapd, folder: Path, chance: random.Random) -> AsyncIterator[World]:
    """A provider and its consumer with everybody, and `serve` in front of their proxies."""
    figures, people = Figures(), People(chance)
    async with AsyncExitStack() as stack:
        ports = [stack.enter_context(_held_port()) for _ in range(2)]
        servers = await asyncio.to_thread(_start_servers, start_slapd, people, ports)
        ways = [await stack.enter_async_context(LdapProxy(("127.0.0.1", port))) for port in ports]
        world = World(servers, (ways[0], ways[1]), people, chance=chance, figures=figures)
        await world.until_shown(CONSUMER, people.staying[-1].uid, is_there=True)
        world.admin_port = free_port()
        file = configuration(ways[0].url, folder, directory=_DIRECTORY, more=_MORE)
        text = file.read_text().replace(f'"{ways[0].url}"', ", ".join(f'"{way.url}"' for way in ways))
        admin = 'admin: {listen: "127.0.0.1:0"}'
        file.write_text(text.replace(admin, admin.replace(":0", f":{world.admin_port}")))
        world.process = await stack.enter_async_context(ServeProcess(file, take=world.log))
        world.crowd = Crowd(await world.process.port(), people, world.weather, figures, chance)
        stack.push_async_callback(world.crowd.aclose)
        yield world


@contextmanager
def _held_port() -> Iterator[int]:
    """A port for a server that is killed and restarted; nobody else gets it meanwhile."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def _start_servers(start_slapd: StartSlapd, people: People, ports: list[int]) -> tuple[Slapd, Slapd]:
    """Start two slapds that have the same people, one from the other."""
    provider = start_slapd(
        [person(each.uid) for each in people.staying],
        overlays="moduleload syncprov\nserverID 1",
        extra="overlay syncprov\nsyncprov-checkpoint 1 1",
        log_level="none",
        port=ports[PROVIDER],
    )
    replication = (
        f'syncrepl rid=1 provider={provider.url} type=refreshAndPersist retry="1 +" timeout=2 network-timeout=2',
        f' bindmethod=simple binddn="cn=admin,{BASE}" credentials=admin searchbase="{BASE}"',
    )
    consumer = start_slapd(
        [], skeleton=(), overlays="serverID 2", extra="\n".join(replication), log_level="none", port=ports[CONSUMER]
    )
    return provider, consumer

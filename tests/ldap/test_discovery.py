"""Servers that the DNS names: which, in which order, for how long."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from bridge.errors import DirectoryUnavailable
from bridge.events import DiscoveryFailed, Event
from bridge.ldap.discovery import Discovery, Record, order_records
from bridge.ldap.settings import DiscoverySettings, ServerAddress
from tests.support.dns_server import DnsServer

LDAPS, LDAP = "_ldaps._tcp.example.com", "_ldap._tcp.example.com"


class Bench:
    """A discovery, what it has told, and its sleep, which lasts until it is woken."""

    def __init__(self, server: DnsServer, **options: object) -> None:
        self.told: list[list[str]] = []
        self.servers: list[ServerAddress] = []
        self.events: list[Event] = []
        self.pauses: list[float] = []
        self._woken = asyncio.Event()
        self._asleep = asyncio.Event()
        settings = DiscoverySettings(
            **{"domain": "example.com", "nameservers": (("127.0.0.1", server.port),), "timeout_s": 0.5, **options}  # type: ignore[arg-type]
        )
        self.discovery = Discovery(
            settings, "company", self._take, observe=self.events.append, random=Random(1), sleep=self._sleep
        )

    def _take(self, servers: object) -> None:
        self.servers = list(servers)  # type: ignore[call-overload]
        self.told.append([server.url for server in self.servers])

    async def _sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self._asleep.set()
        await self._woken.wait()
        self._woken.clear()

    async def wake(self) -> None:
        """The pause is over, and the DNS has been asked again."""
        await asyncio.wait_for(self._asleep.wait(), 5)
        self._asleep.clear()
        self._woken.set()
        await asyncio.wait_for(self._asleep.wait(), 5)


@asynccontextmanager
async def bench(server: DnsServer, **options: object) -> AsyncIterator[Bench]:
    found = Bench(server, **options)
    try:
        yield found
    finally:
        await found.discovery.aclose()


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    async with DnsServer().running() as found:
        yield found


async def test_servers_come_by_priority_with_their_addresses(server: DnsServer) -> None:
    """The name is kept for the certificate; where it leads is asked of the same name server."""
    server.set_servers(LDAPS, "20 0 636 second.example.com.", "10 0 6360 First.example.com.")
    server.zone["first.example.com", "A"] = ["127.0.0.1", "127.0.0.2"]
    server.zone["first.example.com", "AAAA"] = ["::1"]
    async with bench(server) as found:
        await found.discovery.find()
        assert found.told == [["ldaps://first.example.com:6360", "ldaps://second.example.com:636"]]
        assert sorted(found.servers[0].addresses) == ["127.0.0.1", "127.0.0.2", "::1"]
        assert (found.servers[0].start_tls, found.servers[1].addresses) == (False, ())


@pytest.mark.parametrize("ldaps", [[], ["0 0 0 ."]])
async def test_without_ldaps_there_is_start_tls(server: DnsServer, ldaps: list[str]) -> None:
    """A target of "." means that the service is not there (RFC 2782), like no record at all."""
    if ldaps:
        server.set_servers(LDAPS, *ldaps)
    server.set_servers(LDAP, "0 0 389 dc1.example.com.")
    async with bench(server) as found:
        await found.discovery.find()
        assert found.servers == [ServerAddress("ldap", "dc1.example.com", 389, start_tls=True)]
    async with bench(server, scheme="ldaps") as found:
        with pytest.raises(DirectoryUnavailable, match=f"no record {LDAPS}"):
            await found.discovery.find()


async def test_answer_too_long_for_udp_is_asked_for_over_tcp() -> None:
    """A large domain has more servers than fit into a datagram (RFC 2181 §9); dnspython 2.6.0 gave up there."""
    async with DnsServer(truncates=True).running() as server:
        server.set_servers(LDAPS, *(f"{number} 0 636 ldap{number}.example.com." for number in range(60)))
        async with bench(server, timeout_s=10) as found:
            await found.discovery.find()
            assert len(found.servers) == 60


async def test_question_that_is_not_answered_is_not_taken_for_no_record(server: DnsServer) -> None:
    """Whoever can drop a packet could choose the other service otherwise."""
    server.silent_names.add(LDAPS)
    server.set_servers(LDAP, "0 0 389 dc1.example.com.")
    async with bench(server) as found:
        with pytest.raises(DirectoryUnavailable, match=f"could not be asked for {LDAPS}"):
            await found.discovery.find()
        assert (LDAP, "SRV") not in server.asked


@pytest.mark.parametrize(
    ("target", "is_taken"),
    [
        ("dc1.example.com.", True),
        ("example.com.", True),
        ("deep.in.EXAMPLE.com.", True),
        ("dc1.example.net.", True),
        ("dc1.example.org.", False),
        ("evilexample.com.", False),
        ("example.com.evil.org.", False),
    ],
)
async def test_server_outside_of_the_domain_is_refused_unless_allowed(
    server: DnsServer, target: str, is_taken: bool
) -> None:
    """A forged answer could name somebody else's server, whose certificate is in order. The whole answer is refused."""
    server.set_servers(LDAPS, "0 0 636 good.example.com.", f"0 0 636 {target}")
    async with bench(server, allowed_domains=("example.net",)) as found:
        if is_taken:
            await found.discovery.find()
            assert len(found.servers) == 2
        else:
            with pytest.raises(DirectoryUnavailable, match=r"outside of example\.com.*discover\.allow_domains"):
                await found.discovery.find()
            assert found.told == []


async def test_new_order_is_taken_and_an_equal_answer_changes_nothing(server: DnsServer) -> None:
    """Other priorities, other servers, other addresses: each is told; which of two equals comes first stays."""
    server.set_servers(LDAPS, *(f"0 10 636 dc{number}.example.com." for number in range(8)))
    async with bench(server) as found:
        await found.discovery.find()
        for _ in range(3):
            await found.wake()
        assert len(found.told) == 1
        server.set_servers(LDAPS, "0 0 636 dc9.example.com.", "1 0 636 dc1.example.com.")
        await found.wake()
        assert found.told[1:] == [["ldaps://dc9.example.com:636", "ldaps://dc1.example.com:636"]]
        server.set_servers(LDAPS, "1 0 636 dc9.example.com.", "0 0 636 dc1.example.com.")
        await found.wake()
        assert found.told[2:] == [["ldaps://dc1.example.com:636", "ldaps://dc9.example.com:636"]]
        server.zone["dc1.example.com", "A"] = ["127.0.0.7"]
        await found.wake()
        assert len(found.told) == 4
        assert found.servers[0].addresses == ("127.0.0.7",)


@pytest.mark.parametrize(("ttl_s", "pause_s"), [(300, 300), (0, 5), (5_000_000, 86_400)])
async def test_answer_is_kept_as_long_as_it_says(server: DnsServer, ttl_s: int, pause_s: int) -> None:
    """But never for less than 5 s, nor for more than a day."""
    server.ttl_s = ttl_s
    server.set_servers(LDAPS, "0 0 636 dc1.example.com.")
    server.zone["dc1.example.com", "A"] = ["127.0.0.1"]
    server.zone["dc1.example.com", "AAAA"] = ["::1"]
    async with bench(server) as found:
        await found.discovery.find()
        await asyncio.sleep(0)
        assert found.pauses == [pause_s]


@pytest.mark.parametrize("fault", ["silent", "gone", "outside"])
async def test_dns_that_fails_leaves_the_servers_as_they_were(server: DnsServer, fault: str) -> None:
    """No answer, no record any more, a forged one: those known go on, and it is told; then all is well again."""
    server.set_servers(LDAPS, "0 0 636 dc1.example.com.")
    async with bench(server) as found:
        await found.discovery.find()
        if fault == "silent":
            server.is_silent = True
        else:
            server.set_servers(LDAPS, *(["0 0 636 dc1.example.org."] if fault == "outside" else []))
        await found.wake()
        await found.discovery.find()
        assert found.told == [["ldaps://dc1.example.com:636"]]
        (event,) = found.events
        assert isinstance(event, DiscoveryFailed)
        assert (event.directory, event.known_count) == ("company", 1)
        server.is_silent = False
        server.set_servers(LDAPS, "0 0 636 dc2.example.com.")
        await found.wake()
        assert found.told[1:] == [["ldaps://dc2.example.com:636"]]
        assert found.pauses[1] == 10


async def test_dns_that_is_down_at_the_beginning_is_asked_again(server: DnsServer) -> None:
    """Whoever comes meanwhile is told at once, and what to look at."""
    server.is_silent = True
    async with bench(server) as found:
        for _ in range(2):
            with pytest.raises(DirectoryUnavailable, match=f"dig {LDAPS} SRV"):
                await found.discovery.find()
        server.is_silent = False
        server.set_servers(LDAPS, "0 0 636 dc1.example.com.")
        await found.wake()
        await found.discovery.find()
        assert found.told == [["ldaps://dc1.example.com:636"]]


async def test_servers_of_the_site_come_first(server: DnsServer) -> None:
    """Those of the domain follow, each once; a site that is not there is a fault, not the whole domain."""
    near, far = "_ldap._tcp.Berlin._sites.dc._msdcs.example.com", "_ldap._tcp.dc._msdcs.example.com"
    server.set_servers(near, "0 100 389 berlin.example.com.")
    server.set_servers(far, "0 100 389 paris.example.com.", "0 50 389 berlin.example.com.")
    async with bench(server, site="Berlin") as found:
        await found.discovery.find()
        assert found.told == [["ldap://berlin.example.com:389", "ldap://paris.example.com:389"]]
        assert all(each.start_tls for each in found.servers)
    async with bench(server, site="Bernlin") as found:
        with pytest.raises(DirectoryUnavailable, match=r"no record _ldap\._tcp\.Bernlin\._sites"):
            await found.discovery.find()


def test_weights_say_how_often_a_server_comes_first() -> None:
    """RFC 2782: in proportion among equal priorities; 0 has a very small chance; priorities are never mixed."""
    records = [Record(1, weight, 389, f"w{weight}") for weight in (0, 10, 30)] + [Record(0, 1, 389, "preferred")]
    random = Random(7)
    seconds = Counter[str]()
    for _ in range(2000):
        ordered = order_records(records, random)
        assert ordered[0].target == "preferred"
        assert sorted(ordered) == sorted(records)
        seconds[ordered[1].target] += 1
    assert 1350 < seconds["w30"] < 1600
    assert 350 < seconds["w10"] < 600
    assert 0 < seconds["w0"] < 120

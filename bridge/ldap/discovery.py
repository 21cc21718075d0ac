"""The servers of a directory that the DNS names (RFC 2782), asked for anew when the answer has expired.

Knows nothing of connections. Whatever keeps the DNS from answering leaves the servers as they were.
"""

from __future__ import annotations

import asyncio
from random import SystemRandom
from typing import TYPE_CHECKING, Any, NamedTuple

import dns.exception
import dns.resolver
from dns.asyncresolver import Resolver
from dns.nameserver import Do53Nameserver

from bridge.errors import DirectoryUnavailable
from bridge.events import DiscoveryFailed
from bridge.ldap.settings import ServerAddress

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from random import Random

    from bridge.events import Observer
    from bridge.ldap.settings import DiscoverySettings, LdapSettings

_LEAST_TTL_S = 5
_LONGEST_TTL_S = 86_400
"""However long an answer may be kept, the DNS is asked once a day."""
_RETRY_S = 10.0
_CHECK_REMEDY = "Check `discover` in the configuration, and ask the DNS by `dig {} SRV`."


class Record(NamedTuple):
    """A server by its SRV record."""

    priority: int
    weight: int
    port: int
    target: str
    """In lower case, without the dot at its end."""


class Discovery:
    """Keeps the servers of one directory as the DNS has them."""

    def __init__(
        self,
        settings: DiscoverySettings,
        directory: str,
        apply: Callable[[Sequence[ServerAddress]], None],
        *,
        observe: Observer,
        random: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`apply` is told the servers in the order in which they are to be asked, whenever that is another one."""
        self._settings = settings
        self._directory = directory
        self._apply = apply
        self._observe = observe
        self._random = random
        self._sleep = sleep
        self._resolver = _make_resolver(settings)
        self._groups: list[frozenset[Record]] = []
        self._order: list[Record] = []
        self._servers: tuple[ServerAddress, ...] = ()
        self._failure: DirectoryUnavailable | None = None
        self._has_answer = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def find(self) -> None:
        """Servers are known. Raises `DirectoryUnavailable` where the DNS has named none yet."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep())
        await self._has_answer.wait()
        if not self._servers and self._failure is not None:
            raise self._failure.kept()

    async def aclose(self) -> None:
        """The DNS is not asked any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            try:
                pause_s = await self.refresh()
            except DirectoryUnavailable as error:
                self._failure, pause_s = error.kept(), _RETRY_S
                self._observe(DiscoveryFailed(self._directory, error, len(self._servers)))
            self._has_answer.set()
            await self._sleep(pause_s)

    async def refresh(self) -> float:
        """The servers are those that the DNS names now; returns for how many seconds.

        Raises `DirectoryUnavailable`; the servers are the old ones then.
        """
        scheme, groups, ttl_s = await self._ask()
        for record in frozenset[Record]().union(*groups):
            self._check_target(record)
        if groups != self._groups:  # the same answer is no reason to go to another server
            self._groups, self._order = groups, []
            for group in groups:
                new = group.difference(self._order)  # a site's servers come first, and once
                self._order += order_records(new, self._random)
        start_tls = scheme == "ldap" and self._settings.start_tls
        servers = []
        for record in self._order:
            addresses, address_ttl_s = await self._addresses_of(record.target)
            ttl_s = min(ttl_s, address_ttl_s)
            servers.append(ServerAddress(scheme, record.target, record.port, start_tls, addresses))
        servers = list(dict.fromkeys(servers))  # two records may differ in their weight alone
        if self._has_changed(servers):
            self._servers = tuple(servers)
            self._apply(self._servers)
        self._failure = None
        return min(max(ttl_s, _LEAST_TTL_S), _LONGEST_TTL_S)

    def _has_changed(self, servers: Sequence[ServerAddress]) -> bool:
        """Whether anything is another one; the addresses of equal servers may be."""
        before = [(server, server.addresses) for server in self._servers]
        return before != [(server, server.addresses) for server in servers]

    async def _ask(self) -> tuple[str, list[frozenset[Record]], int]:
        """The scheme, the records of each name that is asked for, and for how many seconds they hold."""
        domain, site = self._settings.domain, self._settings.site
        if site is not None:
            # AD: the site's own domain controllers come first, those of other sites after them.
            near = f"_ldap._tcp.{site}._sites.dc._msdcs.{domain}"
            answers = [await self._records_of(near), await self._records_of(f"_ldap._tcp.dc._msdcs.{domain}")]
            if not answers[0][0]:
                raise self._unavailable(f"the DNS has no record {near}", near)
            return "ldap", [answer[0] for answer in answers], min(answer[1] for answer in answers)
        schemes = ("ldaps", "ldap") if self._settings.scheme is None else (self._settings.scheme,)
        for scheme in schemes:
            records, ttl_s = await self._records_of(f"_{scheme}._tcp.{domain}")
            if records:
                return scheme, [records], ttl_s
        names = " and no ".join(f"_{scheme}._tcp.{domain}" for scheme in schemes)
        raise self._unavailable(f"the DNS has no record {names}", f"_{schemes[-1]}._tcp.{domain}")

    async def _records_of(self, name: str) -> tuple[frozenset[Record], int]:
        """The SRV records of a name, none where there are none, and how long that holds."""
        found, ttl_s = await self._resolve(name, "SRV")
        records = (
            Record(item.priority, item.weight, item.port, item.target.to_text(omit_final_dot=True).lower())
            for item in found
        )
        # RFC 2782: a target of "." says that the service is not there.
        return frozenset(record for record in records if record.target != "."), ttl_s

    async def _addresses_of(self, target: str) -> tuple[tuple[str, ...], int]:
        """The addresses that the configured name servers have for a host; none where the system's are asked."""
        if not self._settings.nameservers:
            return (), _LONGEST_TTL_S
        answers = [await self._resolve(target, kind) for kind in ("AAAA", "A")]
        found = tuple(item.to_text() for items, _ in answers for item in items)
        return found, min(ttl_s for _, ttl_s in answers)

    async def _resolve(self, name: str, kind: str) -> tuple[Sequence[Any], int]:
        """What the DNS has of a kind for a name, and how long that holds. Raises `DirectoryUnavailable`."""
        try:
            answer = await self._resolver.resolve(
                f"{name}.", kind, lifetime=self._settings.timeout_s, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return (), _LONGEST_TTL_S
        except (dns.exception.DNSException, OSError) as error:
            raise self._unavailable(f"the DNS could not be asked for {name}: {error}", name) from error
        return tuple(answer.rrset or ()), answer.chaining_result.minimum_ttl

    def _check_target(self, record: Record) -> None:
        """Security: whoever can forge an answer could name a server of their own, with a certificate for its name."""
        domains = (self._settings.domain, *self._settings.allowed_domains)
        if not any(record.target == domain or record.target.endswith(f".{domain}") for domain in domains):
            raise DirectoryUnavailable(
                f"the DNS names the server {record.target}, which lies outside of {self._settings.domain}",
                directory=self._directory,
                remedy="If that is right, name its domain in discover.allow_domains.",
            )

    def _unavailable(self, detail: str, name: str) -> DirectoryUnavailable:
        return DirectoryUnavailable(detail, directory=self._directory, remedy=_CHECK_REMEDY.format(name))


async def discover_servers(settings: LdapSettings) -> tuple[ServerAddress, ...]:
    """The servers of a directory by the DNS, asked once. Raises `DirectoryUnavailable`."""
    assert settings.discovery is not None  # noqa: S101 - who has no servers has this
    found: list[ServerAddress] = []
    discovery = Discovery(
        settings.discovery, settings.directory, found.extend, observe=lambda _event: None, random=SystemRandom()
    )
    await discovery.refresh()
    return tuple(found)


def order_records(records: Iterable[Record], random: Random) -> list[Record]:
    """Records by their priority, and by chance according to their weights where that is equal (RFC 2782)."""
    left = sorted(records, key=lambda record: (record.priority, record.weight != 0, record.target, record.port))
    ordered = []
    while left:
        rivals = [record for record in left if record.priority == left[0].priority]
        chosen = _choose(rivals, random.randint(0, sum(record.weight for record in rivals)))
        left.remove(chosen)
        ordered.append(chosen)
    return ordered


def _choose(rivals: Sequence[Record], drawn: int) -> Record:
    """The first one at which the running sum of weights reaches what was drawn."""
    running = 0
    for record in rivals:
        running += record.weight
        if running >= drawn:
            return record
    raise AssertionError("no more can be drawn than the sum of the weights")


def _make_resolver(settings: DiscoverySettings) -> Resolver:
    resolver = Resolver(configure=not settings.nameservers)
    if settings.nameservers:
        resolver.nameservers = [Do53Nameserver(host, port) for host, port in settings.nameservers]
    return resolver

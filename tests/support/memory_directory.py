"""A directory of entries in memory that fails when it is told to, for tests of what stands before the port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from bridge.demo.matching import matches
from bridge.directory import BindResult, Entry, EntryStream, LookUp, RootDSE, Scope, SearchRequest
from bridge.errors import BridgeError, DirectoryError, DirectoryUnavailable
from bridge.events import Event
from bridge.mapping import AccountState, AttributeMap, IdForm, parse_item
from bridge.model import Problem, Secret
from bridge.removals.model import RemovalPolicy
from bridge.snapshots.directory_snapshots import DirectorySnapshots
from bridge.snapshots.memory_store import MemorySnapshotStore
from bridge.snapshots.policy import SnapshotPolicy
from bridge.snapshots.store import SnapshotStore
from bridge.sources.directory.source import DirectorySource
from bridge.syntax.dn import is_at_or_below, parse_dn
from bridge.syntax.filters import parse_filter
from tests.support.manual_clock import ManualClock


def person(uid: str, user_id: str | None = None, *, mail: tuple[str, ...] = (), base: str = "dc=e") -> Entry:
    attributes = {"uid": [uid.encode()], "entryuuid": [(user_id or f"id-{uid}").encode()]}
    if mail:
        attributes["mail"] = [address.encode() for address in mail]
    return Entry(f"uid={uid},{base}", attributes)


class MemoryDirectory:
    """A directory of given entries, which fails when it is told to, and counts what it is asked."""

    def __init__(self, *entries: Entry, name: str = "memory", url: str = "memory:") -> None:
        self.name = name
        self.url = url
        self.entries: Sequence[Entry] = entries
        self.failures: list[BridgeError] = []
        self.look_up_failures: list[BridgeError] = []
        self.hidden: Sequence[Entry] = ()
        """Entries that are there, and that no listing shows."""
        self.listing_count = 0
        self.look_up_count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.default_context: str | None = "dc=e"
        self.naming_contexts: tuple[str, ...] = ("dc=e", "dc=f")

    @asynccontextmanager
    async def open_listing(
        self, began_s: float | None = None, avoid: Collection[str] = ()
    ) -> AsyncIterator[EntryStream]:
        self.listing_count += 1
        await self.gate.wait()
        yield _Stream(self)

    async def look_up(self, search: SearchRequest, server: str | None = None, *, must_find: bool = False) -> LookUp:
        """Those that match, hidden from listings or not."""
        self.look_up_count += 1
        if self.look_up_failures:
            raise self.look_up_failures.pop(0)
        everybody = (*self.entries, *self.hidden)
        if search.scope is Scope.BASE:
            everybody = tuple(
                entry
                for entry in everybody
                if is_at_or_below(entry.dn, search.base) and is_at_or_below(search.base, entry.dn)
            )
        return LookUp(tuple(entry for entry in everybody if _is_found(entry, search)), self.url)

    async def bind(self, dn: str, password: Secret, server: str | None = None) -> BindResult:
        raise NotImplementedError

    @property
    def problems(self) -> tuple[Problem, ...]:
        return ()

    @property
    def servers(self) -> tuple[str, ...]:
        return (self.url,)

    def set_aside(self, server: str, error: DirectoryError, trial: Callable[[], Awaitable[None]] | None = None) -> None:
        raise NotImplementedError

    async def probe(self) -> RootDSE:
        return RootDSE(self.url, self.naming_contexts, self.default_context)

    def forgive_refusal(self) -> None:
        return

    async def aclose(self) -> None:
        return


class MemoryServers:
    """A directory of several servers, each of which is a `MemoryDirectory` of its own URL.

    The first one answers that is not down, nor has been set aside, nor is avoided.
    """

    def __init__(self, *servers: MemoryDirectory) -> None:
        self.name = servers[0].name
        self.members = list(servers)
        self.down: set[str] = set()
        self.aside: dict[str, DirectoryError] = {}
        self.trials: dict[str, Callable[[], Awaitable[None]]] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        return ()

    @property
    def servers(self) -> tuple[str, ...]:
        return tuple(sorted((each.url for each in self.members), key=self.aside.__contains__))

    def _first(self, avoid: Collection[str] = ()) -> MemoryDirectory:
        wanted = [url for url in self.servers if url not in avoid]
        honest = [url for url in wanted if url not in self.trials]
        # One that has to stand a trial is asked where all others are avoided, or have to stand one, too.
        usable = [url for url in honest or wanted if url not in self.down]
        if not usable:
            raise DirectoryUnavailable("no server answers", directory=self.name, server=wanted[0])
        return self.named(usable[0])

    def named(self, url: str) -> MemoryDirectory:
        if url in self.down or url not in self.servers:
            raise DirectoryUnavailable("it is down", directory=self.name, server=url)
        return next(each for each in self.members if each.url == url)

    @asynccontextmanager
    async def open_listing(
        self, began_s: float | None = None, avoid: Collection[str] = ()
    ) -> AsyncIterator[EntryStream]:
        async with self._first(avoid).open_listing(began_s) as stream:
            yield stream

    async def look_up(self, search: SearchRequest, server: str | None = None, *, must_find: bool = False) -> LookUp:
        chosen = self._first() if server is None else self.named(server)
        return await chosen.look_up(search, must_find=must_find)

    async def bind(self, dn: str, password: Secret, server: str | None = None) -> BindResult:
        raise NotImplementedError

    def set_aside(self, server: str, error: DirectoryError, trial: Callable[[], Awaitable[None]] | None = None) -> None:
        self.aside[server] = error
        if trial is not None:
            self.trials[server] = trial

    async def restore(self) -> None:
        """Try all that are set aside, as happens in the background after a while."""
        for url in list(self.aside):
            try:
                self.named(url)
                if url in self.trials:
                    await self.trials[url]()
            except DirectoryError:
                continue
            del self.aside[url]
            self.trials.pop(url, None)

    async def probe(self) -> RootDSE:
        return await self._first().probe()

    def forgive_refusal(self) -> None:
        return

    async def aclose(self) -> None:
        return


class _Stream:
    page_count = 1
    ignored_reference_count = 0

    def __init__(self, directory: MemoryDirectory) -> None:
        self._directory = directory
        self.server = directory.url
        self.entry_count = 0

    async def read(self, searches: Sequence[SearchRequest]) -> AsyncIterator[Sequence[Entry]]:
        entries = self._directory.entries
        listed = [entry for search in searches for entry in entries if _is_found(entry, search)]
        self.entry_count += len(listed)
        yield listed[:1]
        if self._directory.failures:
            raise self._directory.failures.pop(0)
        yield listed[1:]


def _is_found(entry: Entry, search: SearchRequest) -> bool:
    """Whether the entry lies within the search's base and scope, and matches."""
    attributes = {"objectclass": [b"top"], **entry.attributes}
    if not is_at_or_below(entry.dn, search.base) or not matches(search.filter, attributes):
        return False
    depth = len(parse_dn(entry.dn)) - len(parse_dn(search.base))
    return search.scope is Scope.SUBTREE or depth == search.scope


def make(
    directory: MemoryDirectory | MemoryServers,
    *,
    id_attribute: str | None = "entryUUID",
    id_form: IdForm = IdForm.TEXT,
    account_states: tuple[AccountState, ...] = (),
    users_filter: str = "(&)",
    store: SnapshotStore | None = None,
    clock: ManualClock | None = None,
    **options: object,
) -> tuple[DirectorySnapshots, ManualClock, list[Event]]:
    """The snapshots of a directory; options that a policy has go there."""
    removals = {name: options.pop(name) for name in RemovalPolicy.__dataclass_fields__ if name in options}
    times = {"ttl_s": 100.0, "stale_if_error_s": 1000.0}
    times |= {name: options.pop(name) for name in SnapshotPolicy.__dataclass_fields__ if name in options}  # type: ignore[misc]
    clock, events = clock or ManualClock(), list[Event]()
    found: dict[str, object] = {"bases": ("dc=e",), "groups_ttl_s": 100.0, "clock": clock, **options}
    source = DirectorySource(
        directory,
        parse_filter(users_filter),
        AttributeMap(
            id_attribute,
            (parse_item("uid"),),
            email_addresses=(parse_item("mail"),),
            id_form=id_form,
            account_states=account_states,
        ),
        **found,  # type: ignore[arg-type]
    )
    policy = SnapshotPolicy(**times, removals=RemovalPolicy(**removals))  # type: ignore[arg-type]
    return DirectorySnapshots(source, policy, store or MemorySnapshotStore(), clock, events.append), clock, events


def broken(name: str = "memory") -> DirectoryUnavailable:
    return DirectoryUnavailable("it broke", directory=name)

"""A directory together with how its users are found, mapped and kept: what the composition root makes of a section."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bridge.clock import Clock, SystemClock
from bridge.deadlines import GROUPS_S
from bridge.directory import Scope, SearchRequest
from bridge.errors import DirectoryUnavailable, SearchInvalid, share
from bridge.model import Rejection
from bridge.sources.directory.group_clauses import ClauseMaker
from bridge.sources.directory.group_entries import Place
from bridge.sources.directory.group_walking import Walker
from bridge.sources.directory.groups import EVERYBODY
from bridge.sources.directory.login_state import Bar, LoginState
from bridge.syntax.dn import DNError, is_at_or_below
from bridge.syntax.filters import And, Equal, Or, parse_filter_template

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from bridge.directory import Directory, Entry, EntryStream
    from bridge.mapping import AttributeMap
    from bridge.sources.directory.groups import GroupRules, ResolvedGroups
    from bridge.sources.directory.lockout import LockoutRule
    from bridge.syntax.filters import Filter, FilterTemplate


_CANDIDATES_MAX_COUNT = 20
"""So many entries of one login name are looked at for one that is in the groups."""


@dataclass(slots=True)
class _Reading:
    """Groups that are being read for logins."""

    task: asyncio.Task[ResolvedGroups]
    server: str | None = None
    """Where, as soon as that is known."""


@dataclass(slots=True)
class DirectorySource:
    """Where users come from, and the rules for them."""

    directory: Directory
    users_filter: Filter
    attribute_map: AttributeMap
    bases: tuple[str, ...] = ()
    """Empty: the directory's default naming context, asked for once."""
    container: str | None = None
    """Where users are below that naming context; None: anywhere."""
    scope: Scope = Scope.SUBTREE
    login_template: FilterTemplate | None = None
    """None: users are found through the last listing, since their names are composed."""
    list_disabled: bool = False
    groups: GroupRules | None = None
    """None: users are chosen by their own attributes alone."""
    password_changed: tuple[str, ...] = ()
    """Attributes that take another value when a password is set; asked for when somebody logs in."""
    lockout: tuple[LockoutRule, ...] = ()
    """Where the directory shows when it locks accounts."""
    failure_marks: tuple[str, ...] = ()
    """Attributes that take another value when the server counts a failed bind; asked for likewise."""
    groups_ttl_s: float = 300.0
    """How old what was last read of the groups may be at a login."""
    min_user_count: int = 0
    clock: Clock = field(default_factory=SystemClock, repr=False)
    resolved_groups: ResolvedGroups = field(default=EVERYBODY, init=False, repr=False)
    """Who is in the groups, when they were last read."""
    asks_groups: bool = field(default=True, init=False, repr=False)
    """Whether groups that are walked say the same when they are asked for one member; learnt from what they say."""
    shows_counts: bool = field(default=False, init=False, repr=False)
    """Whether an entry has shown that a failed bind was counted; learnt from what they show."""
    finds_by_user_name: bool = field(init=False, repr=False)
    """Whether a login finds nobody by anything but the userName."""
    _attributes: tuple[str, ...] = field(init=False, repr=False)
    login_attributes: tuple[str, ...] = field(init=False, repr=False)
    """What a login reads of an entry."""
    _mark_names: tuple[str, ...] = field(init=False, repr=False)
    _failure_names: tuple[str, ...] = field(init=False, repr=False)
    _shown_names: tuple[str, ...] = field(init=False, repr=False)
    _named_contexts: tuple[str, ...] | None = field(default=None, init=False, repr=False)
    _groups_read_at_s: float | None = field(default=None, init=False, repr=False)
    _reading_groups: _Reading | None = field(default=None, init=False, repr=False)
    _slow_readings: set[asyncio.Task[ResolvedGroups]] = field(default_factory=set, init=False, repr=False)
    """Those that logins don't wait for any more."""

    def __post_init__(self) -> None:
        wanted = (*self.attribute_map.attributes, *(self.groups.user_attributes if self.groups else ()))
        self._attributes = tuple({name.lower(): name for name in wanted}.values())
        states = (state.attribute for state in self.attribute_map.account_states)
        wanted = (*self._attributes, *states, *self.password_changed, *self.failure_marks)
        self.login_attributes = tuple({name.lower(): name for name in wanted}.values())
        self._mark_names = tuple(name.lower() for name in self.password_changed)
        vital = (self.attribute_map.id_attribute, self.attribute_map.user_name_attribute)
        self._shown_names = tuple({name.lower() for name in vital if name is not None})
        self._failure_names = tuple(name.lower() for name in self.failure_marks)
        self.finds_by_user_name = self.login_template in (None, self._default_template())

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.directory.name

    async def resolve_bases(self) -> tuple[str, ...]:
        """The search bases. Raises `SearchInvalid` where none is configured and the directory names none."""
        if not self.bases:
            root = await self.directory.probe()
            if root.default_naming_context is None:
                raise SearchInvalid(
                    "no search base is configured, and the directory names several or none: "
                    f"{', '.join(root.naming_contexts) or 'none'}",
                    directory=self.name,
                    server=root.server,
                    remedy="Set users.bases.",
                )
            context = root.default_naming_context
            self.bases = (f"{self.container},{context}" if self.container else context,)
        return self.bases

    async def try_search(self) -> None:
        """Search for one user below each base, as a sign that a listing could be had. Raises a `DirectoryError`."""
        for base in await self.resolve_bases():
            await self.directory.look_up(SearchRequest(base, self.scope, self.users_filter, (), size_limit_count=1))

    def listing_search(self, base: str) -> SearchRequest:
        """The search for every user below one base."""
        return SearchRequest(base, self.scope, self.filter, self._attributes)

    def login_search(self, base: str, login_filter: Filter) -> SearchRequest:
        """The search for one user below one base; two are enough to see that it isn't one.

        Where groups are walked, some of those who are found may be in none of them.
        """
        both = And((self.filter, login_filter))
        limit = _CANDIDATES_MAX_COUNT if self.resolved_groups.is_walked else 2
        return SearchRequest(base, self.scope, both, self.login_attributes, limit, self._shown_names)

    def without_groups(self, search: SearchRequest) -> SearchRequest:
        """A login search that finds people outside of the groups, too, and tells no more than whether there are any."""
        clauses = {clause.filter for clause in self.resolved_groups.clauses}
        return replace(search, filter=_without(search.filter, clauses), attributes=(), size_limit_count=1)

    def user_name_search(self, base: str, user_name: str) -> SearchRequest | None:
        """The search for the one whose userName it is, and for nobody else; None where userName is composed."""
        template = self._default_template()
        return self.login_search(base, template.fill(user_name)) if template is not None else None

    def entry_search(self, dn: str) -> SearchRequest:
        """The search for one entry by its DN, if it is still one of the users."""
        return SearchRequest(dn, Scope.BASE, self.filter, self.login_attributes, 2, self._shown_names)

    def login_search_by_id(self, base: str, user_id: str) -> SearchRequest:
        """The search for one user whose id is known, below one base. There must be an id attribute."""
        found = self.ids_search(base, (user_id,), self.filter, scope=self.scope)
        return replace(found, attributes=self.login_attributes)

    def login_state(self, entry: Entry) -> LoginState:
        """What the entry shows that matters to a login: bars, counted failures, when the password was set."""
        attributes = entry.attributes
        password_mark: tuple[bytes, ...] = ()
        failure_marks: tuple[tuple[bytes, ...], ...] = ()
        for name in self._mark_names:
            if name in attributes:
                password_mark += tuple(attributes[name])
        for name in self._failure_names:
            if name in attributes:
                failure_marks += (tuple(attributes[name]),)
        bars: tuple[Bar, ...] = ()
        for state in self.attribute_map.account_states:
            is_bar = state.key in attributes and state.rejection is not Rejection.MUST_CHANGE_PASSWORD
            if is_bar and state.applies(entry, self.clock.now_s()):
                bars += (Bar(state.rejection, state.key, tuple(attributes[state.key]), state.is_uncompared),)
        return LoginState(bars, failure_marks, password_mark)

    def _default_template(self) -> FilterTemplate | None:
        attribute = self.attribute_map.user_name_attribute
        return parse_filter_template(f"({attribute}={{user}})") if attribute is not None else None

    def ids_search(
        self, base: str, user_ids: Iterable[str], *filters: Filter, scope: Scope = Scope.SUBTREE
    ) -> SearchRequest:
        """The search for entries by their ids, of those that match all of `filters`. There must be an id attribute."""
        attribute = self.attribute_map.id_attribute
        if attribute is None:
            raise ValueError("where the DN is the id, entries are found by entry_search")
        wanted = Or(tuple(Equal(attribute, self.attribute_map.id_value(user_id)) for user_id in user_ids))
        return SearchRequest(base, scope, And((*filters, wanted)), self._attributes)

    def can_be_asked_for(self, user_id: str) -> bool:
        """Whether the id can be one of these entries; the configuration may have had another id attribute before."""
        if self.attribute_map.id_attribute is None:
            return True
        try:
            self.attribute_map.id_value(user_id)
        except ValueError:
            return False
        return True

    async def resolve_contexts(self) -> tuple[str, ...]:
        """The naming contexts in which the search bases lie; a base itself where none is named for it."""
        contexts, _ = await self._contexts_of(await self.resolve_bases())
        return contexts

    async def _contexts_of(self, dns: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The naming contexts in which DNs lie, or the DN itself; and the DNs that lie neither in one nor above one."""
        if self._named_contexts is None:
            self._named_contexts = (await self.directory.probe()).naming_contexts
        named = self._named_contexts
        found = {dn: next((name for name in named if _lies_in(dn, name)), None) for dn in dns}
        unnamed = tuple(
            dn for dn, name in found.items() if name is None and not any(_lies_in(name, dn) for name in named)
        )
        if unnamed:
            self._named_contexts = None  # asked for again: what is hidden now may be shown the next time
        return tuple(dict.fromkeys(dn if name is None else name for dn, name in found.items())), unnamed

    @property
    def filter(self) -> Filter:
        """The users' filter with what it says of groups, where the server compares that."""
        return self.filter_with(self.resolved_groups)

    def filter_with(self, groups: ResolvedGroups) -> Filter:
        """The users' filter with what it says of these groups."""
        if not groups.clauses:
            return self.users_filter
        return And((self.users_filter, *(clause.filter for clause in groups.clauses)))

    async def read_groups(self, stream: EntryStream) -> ResolvedGroups:
        """The groups as they are now, which are what logins go by from now on.

        Raises a `DirectoryError` where one is missing or can't be read.
        """
        started_s = self.clock.monotonic_s()
        found = await self.read_groups_only(stream)
        if self.groups is not None and (self._groups_read_at_s is None or started_s >= self._groups_read_at_s):
            self.resolved_groups, self._groups_read_at_s = found, started_s
        return found

    async def read_groups_only(self, stream: EntryStream) -> ResolvedGroups:
        """The groups as one server shows them now; logins go by what they went by. Raises like `read_groups`."""
        if self.groups is None:
            return EVERYBODY
        bases, dns = await self.resolve_bases(), (*self.groups.include, *self.groups.exclude)
        contexts, unnamed = await self._contexts_of((*bases, *dns))
        others = tuple(name for name in self._named_contexts or () if name and name not in contexts)
        place = Place(self.name, contexts, bases, unnamed, others)
        reader = Walker if self.groups.is_walked else ClauseMaker

        async def look_up(search: SearchRequest) -> tuple[Entry, ...]:
            return (await self.directory.look_up(search, stream.server, must_find=True)).entries

        return await reader(self.groups, stream, place, look_up).read()

    async def read_groups_anew(self, server: str | None = None) -> ResolvedGroups:
        """The groups, read after this call began, at `server` if given. Raises like `read_groups`."""
        async with self.directory.open_listing(avoid=self._all_but(server)) as stream:
            return await self.read_groups(stream)

    async def read_groups_at(self, server: str) -> ResolvedGroups:
        """The groups as `server` shows them now; logins go by what they went by. Raises like `read_groups`."""
        if self.groups is None or not self.groups.is_walked:
            return self.resolved_groups
        async with self.directory.open_listing(avoid=self._all_but(server)) as stream:
            return await self.read_groups_only(stream)

    def _all_but(self, server: str | None) -> tuple[str, ...]:
        return tuple(url for url in self.directory.servers if url != server) if server is not None else ()

    async def current_groups(self) -> ResolvedGroups:
        """The groups as they were within the TTL; whoever comes later reads them, once for all who wait.

        Raises like `read_groups`, and `DirectoryUnavailable` where it takes longer than a login has time for.
        """
        read_at_s = self._groups_read_at_s
        if self.groups is None or (read_at_s is not None and self.clock.monotonic_s() - read_at_s < self.groups_ttl_s):
            return self.resolved_groups
        reading = self._reading_groups
        if reading is None or reading.task.done():
            reading = self._reading_groups = self._begin_reading()
        done, _ = await asyncio.wait((reading.task,), timeout=GROUPS_S)
        if done:
            return await share(reading.task)
        self._slow_readings = {each for each in self._slow_readings if not each.done()} | {reading.task}
        if len(self._slow_readings) < len(self.directory.servers):
            self._reading_groups = None  # the next one begins at another server; this one may come to its end yet
        raise DirectoryUnavailable(
            f"the groups were not read within {GROUPS_S:g} s",
            directory=self.name,
            server=reading.server,
            remedy="Check the load of the server, and how large the groups of users.groups are.",
        )

    def _begin_reading(self) -> _Reading:
        async def read() -> ResolvedGroups:
            async with self.directory.open_listing() as stream:
                reading.server = stream.server
                return await self.read_groups(stream)

        reading = _Reading(asyncio.create_task(read()))
        reading.task.add_done_callback(lambda task: task.cancelled() or task.exception())
        return reading

    async def aclose(self) -> None:
        """No group is being read any more."""
        readings = [*self._slow_readings, *([self._reading_groups.task] if self._reading_groups else [])]
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)


def _without(tree: Filter, clauses: Collection[Filter]) -> Filter:
    if not isinstance(tree, And):
        return tree
    return And(tuple(_without(part, clauses) for part in tree.parts if part not in clauses))


def _lies_in(base: str, context: str) -> bool:
    try:
        return is_at_or_below(base, context)
    except DNError:  # a server may name what we can't read
        return False

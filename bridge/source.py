"""A directory together with how its users are found, mapped and kept: what the composition root makes of a section."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bridge.directory import Scope, SearchRequest
from bridge.errors import SearchInvalid
from bridge.guard import RemovalPolicy
from bridge.syntax.dn import DNError, is_at_or_below
from bridge.syntax.filters import And, Equal, Or, parse_filter_template

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.directory import Directory, Entry
    from bridge.mapping import AttributeMap
    from bridge.syntax.filters import Filter, FilterTemplate


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
    password_changed: tuple[str, ...] = ()
    """Attributes that take another value when a password is set; asked for when somebody logs in."""
    ttl_s: float = 300.0
    stale_if_error_s: float = 86_400.0
    min_user_count: int = 0
    removals: RemovalPolicy = field(default_factory=RemovalPolicy)
    finds_by_user_name: bool = field(init=False, repr=False)
    """Whether a login finds nobody by anything but the userName."""
    _attributes: tuple[str, ...] = field(init=False, repr=False)
    _login_attributes: tuple[str, ...] = field(init=False, repr=False)
    _mark_names: tuple[str, ...] = field(init=False, repr=False)
    _contexts: tuple[str, ...] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        self._attributes = self.attribute_map.attributes
        states = (state.attribute for state in self.attribute_map.account_states)
        names = {name.lower(): name for name in (*self._attributes, *states, *self.password_changed)}
        self._login_attributes = tuple(names.values())
        self._mark_names = tuple(name.lower() for name in self.password_changed)
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

    def listing_search(self, base: str) -> SearchRequest:
        """The search for every user below one base."""
        return SearchRequest(base, self.scope, self.users_filter, self._attributes)

    def login_search(self, base: str, login_filter: Filter) -> SearchRequest:
        """The search for one user below one base; two are enough to see that it isn't one."""
        both = And((self.users_filter, login_filter))
        return SearchRequest(base, self.scope, both, self._login_attributes, size_limit_count=2)

    def entry_search(self, dn: str) -> SearchRequest:
        """The search for one entry by its DN, if it is still one of the users."""
        return SearchRequest(dn, Scope.BASE, self.users_filter, self._login_attributes, size_limit_count=2)

    def login_search_by_id(self, base: str, user_id: str) -> SearchRequest:
        """The search for one user whose id is known, below one base. There must be an id attribute."""
        found = self.ids_search(base, (user_id,), self.users_filter, scope=self.scope)
        return replace(found, attributes=self._login_attributes)

    def password_mark(self, entry: Entry) -> tuple[bytes, ...]:
        """What changes when the entry's password is set; empty where the directory shows nothing of it."""
        found: tuple[bytes, ...] = ()
        for name in self._mark_names:
            if name in entry.attributes:
                found += tuple(entry.attributes[name])
        return found

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

    async def resolve_contexts(self) -> tuple[str, ...]:
        """The naming contexts in which the search bases lie; a base itself where none is named for it."""
        if self._contexts is None:
            named = (await self.directory.probe()).naming_contexts
            bases = await self.resolve_bases()
            found = (next((name for name in named if _lies_in(base, name)), base) for base in bases)
            self._contexts = tuple(dict.fromkeys(found))
        return self._contexts


def _lies_in(base: str, context: str) -> bool:
    try:
        return is_at_or_below(base, context)
    except DNError:  # a server may name what we can't read
        return False

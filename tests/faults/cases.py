"""The matrix: every fault of the tables at every stage that it fits, with one and with two servers, with groups."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import chain, product
from typing import Literal

from tests.faults import entry_faults, message_faults, search_faults, tls_faults
from tests.faults.connection_faults import ACCEPTED, ANSWERED, stay_silent
from tests.faults.result_faults import RESULTS, meaning_of
from tests.faults.stages import (
    AUTH_GROUP_STAGES,
    AUTH_STAGES,
    BIND_STAGES,
    GROUP_READS,
    GROUP_STAGES,
    KEPT_GROUP_STAGES,
    KEPT_STAGES,
    LIST_GROUP_STAGES,
    LIST_STAGES,
    PAGES,
    Stage,
)
from tests.faults.turns import Action


class Mode(StrEnum):
    """What is asked of the bridge while the directory is in trouble."""

    LIST = "list"
    """The first list of all, since the service has started."""
    AGAIN = "list-again"
    """Another list, after a good one."""
    AUTH = "auth"
    """Logins after a good list, over new connections; and another list."""
    KEPT = "kept"
    """Logins after a good list and a good login, over the connections that these have left."""


Says = bool | Literal["nothing", "truth"]
"""What the answer to a user bind says of any password: accepted, refused, nothing at all, or what is so."""
Transport = Literal["plain", "starttls", "ldaps"]
_UNDER_TLS: tuple[Transport, ...] = ("starttls", "ldaps")

Position = tuple[Mode, Stage, bool]
"""The last: with groups."""


@dataclass(frozen=True)
class Case:
    """One fault at one place."""

    kind: str
    fault: str
    mode: Mode
    stage: Stage
    has_groups: bool
    server_count: int
    """The first one is in trouble; a second one is well."""
    action: Action | None
    """None where the server has stopped."""
    says: Says = "truth"
    is_about_account: bool = False
    """Whether the service account is refused, and not bound again until an administrator asks for it (`refresh`)."""
    transport: Transport = "plain"
    certificate: str = "good"
    spares_new_connections: bool = False
    """Whether only connections that were there before are in trouble."""

    @property
    def shows_strangers(self) -> bool:
        """Whether the server shows users whom nobody knows, so that they may be listed, too."""
        return self.kind in ("entries", "floods")

    @property
    def id(self) -> str:
        """Its name, for people and for the command line."""
        transport = "" if self.transport == "plain" else f"/{self.transport}"
        servers = "one-server" if self.server_count == 1 else "two-servers"
        groups = "/groups" if self.has_groups else ""
        return f"{self.kind}/{self.fault}/{self.mode}/{self.stage}{transport}/{servers}{groups}"


_STAGES = {
    Mode.LIST: (LIST_STAGES, LIST_GROUP_STAGES),
    Mode.AGAIN: (LIST_STAGES, LIST_GROUP_STAGES),
    Mode.AUTH: (AUTH_STAGES, AUTH_GROUP_STAGES),
    Mode.KEPT: (KEPT_STAGES, KEPT_GROUP_STAGES),
}
SEARCH_STAGES = frozenset(Stage) - BIND_STAGES - {Stage.CONNECT, Stage.TLS, Stage.START_TLS}
ENTRY_STAGES = frozenset((*PAGES, Stage.LOOK_UP, Stage.SECOND_LOOK, *GROUP_READS, Stage.ROOT_DSE))
FLOODED = frozenset((Stage.ROOT_DSE, Stage.FIRST_PAGE, Stage.LAST_PAGE, Stage.LOOK_UP, Stage.GROUP_READ))


def _positions(*modes: Mode, all_with_groups: bool = False, among: Iterable[Stage] = Stage) -> Iterator[Position]:
    """Each stage of these modes; those of groups with groups, and others too if `all_with_groups` says so."""
    wanted = frozenset(among)
    for mode in modes:
        plain, of_groups = _STAGES[mode]
        yield from ((mode, stage, False) for stage in plain if stage in wanted)
        yield from ((mode, stage, True) for stage in of_groups if stage in wanted)
        if all_with_groups:
            yield from ((mode, stage, True) for stage in plain if stage in wanted)


def _results() -> Iterator[Case]:
    for (name, (action, code)), (mode, stage, has_groups), count in product(
        RESULTS.items(), _positions(Mode.LIST, Mode.AUTH, all_with_groups=True), (1, 2)
    ):
        meaning = meaning_of(code)
        says: Says = "truth" if stage is not Stage.USER_BIND else "nothing" if meaning is None else meaning
        is_about_account = stage is Stage.SERVICE_BIND and code != 0
        yield Case("results", name, mode, stage, has_groups, count, action, says, is_about_account)


def _spread(kind: str, faults: dict[str, Action], positions: Iterable[Position]) -> Iterator[Case]:
    for (name, action), (mode, stage, has_groups), count in product(faults.items(), list(positions), (1, 2)):
        if stage in BIND_STAGES and name == "bind-response":
            continue  # it is the right answer, or one that is not
        yield Case(kind, name, mode, stage, has_groups, count, action)


def _connections() -> Iterator[Case]:
    once = (Mode.LIST, Mode.AUTH, Mode.KEPT)
    yield from _spread("connections", ANSWERED, _positions(*once, all_with_groups=True))
    yield from _spread("connections", ANSWERED, _positions(Mode.AGAIN, all_with_groups=True))
    accepted: dict[str, Action | None] = {**ACCEPTED, "refused": None}
    for (name, action), mode, has_groups, count in product(accepted.items(), Mode, (False, True), (1, 2)):
        yield Case("connections", name, mode, Stage.CONNECT, has_groups, count, action)
    for (mode, stage, has_groups), count in product(_positions(Mode.KEPT, all_with_groups=True), (1, 2)):
        forgotten = Case("connections", "forgotten", mode, stage, has_groups, count, stay_silent)
        yield Case(**{**forgotten.__dict__, "spares_new_connections": True})


def _tls() -> Iterator[Case]:
    places = list(product((Mode.LIST, Mode.AUTH), (False, True), (1, 2)))
    for (mode, has_groups, count), transport in product(places, _UNDER_TLS):
        place = (mode, Stage.TLS, has_groups, count)
        for name in tls_faults.CERTIFICATES:
            yield Case("tls", f"certificate-{name}", *place, None, transport=transport, certificate=name)
        for name, action in tls_faults.HANDSHAKES.items():
            yield Case("tls", name, *place, action, transport=transport)
    for (mode, has_groups, count), (name, action) in product(places, tls_faults.START_TLS.items()):
        yield Case("tls", name, mode, Stage.START_TLS, has_groups, count, action, transport="starttls")


def all_cases() -> list[Case]:
    """Every case, by kind."""
    both, all_but_kept = (Mode.LIST, Mode.AUTH), (Mode.LIST, Mode.AGAIN, Mode.AUTH)
    pages = list(_positions(*all_but_kept, all_with_groups=True, among=(*PAGES, Stage.GROUP_SEARCH)))
    searches = list(_positions(*all_but_kept, all_with_groups=True, among=SEARCH_STAGES))
    entries = list(_positions(*all_but_kept, all_with_groups=True, among=ENTRY_STAGES))
    binds = list(_positions(*both, all_with_groups=True, among=BIND_STAGES))
    users = [each for each in entries if each[1] not in GROUP_STAGES | {Stage.ROOT_DSE}]
    groups = [each for each in entries if each[1] in GROUP_READS]
    bind_controls = {name: search_faults.bind_with(one) for name, one in search_faults.BIND_CONTROLS.items()}
    return list(
        chain(
            _results(),
            _connections(),
            _tls(),
            _spread("messages", message_faults.RESPONSES, _positions(*both, all_with_groups=True)),
            _spread("messages", message_faults.ENTRIES, entries),
            _spread("paging", search_faults.PAGING, pages),
            _spread("controls", search_faults.CONTROLS, searches),
            _spread("controls", bind_controls, binds),
            _spread("references", search_faults.REFERENCES, searches),
            _spread("ranges", search_faults.ranges_of("mail"), users),
            _spread("ranges", search_faults.ranges_of("member"), groups),
            _spread("entries", entry_faults.ENTRIES, entries),
            _spread("floods", entry_faults.FLOODS, _positions(*both, all_with_groups=True, among=FLOODED)),
        )
    )


def matching(cases: Iterable[Case], patterns: Iterable[str]) -> list[Case]:
    """Those whose id is, holds or matches one of the patterns; all without any."""
    wanted = list(patterns)
    return [case for case in cases if not wanted or any(_matches(case.id, pattern) for pattern in wanted)]


def _matches(case_id: str, pattern: str) -> bool:
    return pattern in case_id or fnmatchcase(case_id, pattern)


def sample(cases: Iterable[Case], count: int) -> list[Case]:
    """About so many of the cases, always the same ones, of each kind as many as it has of all."""
    found = list(cases)
    step = max(1, len(found) // count)
    ordered = sorted(found, key=lambda case: (case.kind, zlib.crc32(case.id.encode())))
    return ordered[::step]

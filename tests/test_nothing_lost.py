"""Nothing is lost: a whole bridge, driven by chance through changes, failures, restarts, approvals and time.

What may leave an answer is computed here, from what stands in the directories and from what was done, and never from
what the guard remembers.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bridge.directory import Entry
from bridge.errors import ApprovalOutdated, BridgeError, StateUnavailable, UnknownDirectory
from bridge.mapping import AccountState, AttributeMap, parse_item
from bridge.model import Rejection, User
from bridge.removals.model import HeldBy, RemovalKind, RemovalPolicy
from bridge.roster.roster import fold_user_name
from bridge.service import Bridge
from bridge.snapshots.policy import SnapshotPolicy
from bridge.snapshots.store import Snapshot
from bridge.sources.directory.source import DirectorySource
from bridge.state import SqliteSnapshotStore
from bridge.syntax.filters import parse_filter
from tests.support.binds import make_binds
from tests.support.memory_directory import MemoryDirectory, broken

Result = TypeVar("Result")

STEPS = int(os.environ.get("BRIDGE_TEST_STEPS", "2000"))
STEPS_OF_ONE_RUN = 50
TTL_S, STALE_S, WINDOW_S = 100.0, 5_000.0, 2_000.0
INSIDE, OUTSIDE = "ou=in,dc=e", "ou=out,dc=e"
FILTERS = ("(&)", "(mark=yes)", "(&(uid=*)(mark=yes))", "(!(mark=yes))")
NAMES = ("anna", "Anna", "bert", "carl", "dora", "emil", "fritz", "gerd", "straße", "STRASSE", "İda", "żaba")
ADDRESSES = ("a@e", "b@e", "B@e", "c@e")


EVERYTHING = (
    *(f"{kind.value} {word}" for kind in RemovalKind for word in ("approved", "within the limits")),
    *(f"held by {held_by.value}" for held_by in HeldBy if held_by is not HeldBy.WITNESS),
    "answered stale",
    "answered directory_unavailable",
    "answered removals_refused",
    "hidden behind another directory",
)
"""What must have happened in ten thousand steps, or little was tried.

Each directory has one server here; those with several are in `tests/sources/directory/test_turns.py`.
"""


class Crashed(Exception):
    """The process ended here."""


class FragileStore(SqliteSnapshotStore):
    """A store in whose middle the process ends, or whose disk is full, when it is told so."""

    fault: str | None = None

    async def save(self, snapshot: Snapshot) -> None:
        """Kept, or not, or kept by a process that ends before it says so."""
        self._fail("full", "before save")
        await super().save(snapshot)
        self._fail("after save")

    async def save_holders(self, endpoint: str, holders: Mapping[str, str]) -> None:
        """As `save`."""
        self._fail("full", "before holders")
        await super().save_holders(endpoint, holders)
        self._fail("after holders")

    def _fail(self, *faults: str) -> None:
        if self.fault in faults:
            if self.fault == "full":
                raise StateUnavailable("the disk is full")
            raise Crashed


@dataclass
class Person:
    """Somebody in a directory."""

    id: str
    name: str
    addresses: tuple[str, ...]
    place: str = INSIDE
    is_marked: bool = True
    is_locked: bool = False
    is_hidden: bool = False
    """Whether listings forget them."""

    @property
    def entry(self) -> Entry:
        attributes = {"uid": [self.name.encode()], "entryuuid": [self.id.encode()]}
        if self.addresses:
            attributes["mail"] = [address.encode() for address in self.addresses]
        if self.is_marked:
            attributes["mark"] = [b"yes"]
        if self.is_locked:
            attributes["locked"] = [b"TRUE"]
        return Entry(f"cn={self.id},{self.place}", attributes)


@dataclass
class Side:
    """A directory, how it is configured, and what must be true of what is accepted of it."""

    name: str
    people: dict[str, Person] = field(default_factory=dict)
    users_filter: str = "(&)"
    policy: RemovalPolicy = field(default_factory=lambda: RemovalPolicy(25.0, 1, WINDOW_S))
    is_down: bool = False
    breaks_off: bool = False
    answers_look_ups: bool = True
    is_blind: bool = False
    """Whether the service account sees nobody."""
    accepted: dict[str, User] | None = None
    snapshot: Snapshot | None = None
    accepted_elapsed_s: float | None = None
    """When it was accepted, by the clock that is never set; None where an earlier process did."""
    lost_at_s: dict[str, float] = field(default_factory=dict)
    """When users lost something without being approved, who are not back since."""
    lost_names: dict[str, str] = field(default_factory=dict)
    last_seen_s: dict[str, float] = field(default_factory=dict)
    approved: frozenset[tuple[str, RemovalKind]] = frozenset()
    is_reset: bool = False
    """Whether the directory was reset since the last answer."""

    def matches(self, person: Person) -> bool:
        """Whether the person is one of the users that the configuration asks for."""
        in_filter = {"(&)": True, "(!(mark=yes))": False}.get(self.users_filter, person.is_marked)
        return person.place == INSIDE and in_filter and not person.is_locked and not self.is_blind

    @property
    def there(self) -> dict[str, Person]:
        """Who is a user, whether or not a listing shows it."""
        return {person.id: person for person in self.people.values() if self.matches(person)}

    @property
    def listed(self) -> dict[str, Person]:
        """Whom a listing shows."""
        return {user_id: person for user_id, person in self.there.items() if not person.is_hidden}

    @property
    def contested(self) -> set[str]:
        counts = Counter(fold_user_name(person.name) for person in self.listed.values())
        return {name for name, count in counts.items() if count > 1}

    def source(self) -> tuple[DirectorySource, MemoryDirectory]:
        directory = MemoryDirectory(name=self.name)
        directory.default_context = None
        attribute_map = AttributeMap(
            "entryUUID",
            (parse_item("uid"),),
            email_addresses=(parse_item("mail"),),
            account_states=(AccountState(Rejection.ACCOUNT_DISABLED, "locked", equals="TRUE"),),
        )
        source = DirectorySource(
            directory,
            parse_filter(self.users_filter),
            attribute_map,
            bases=(INSIDE,),
            groups_ttl_s=TTL_S,
        )
        return source, directory


class NothingLost(RuleBasedStateMachine):
    """The bridge over three directories, two of which answer at one address."""

    step_count = 0
    met: Counter[str]
    """What has happened in all runs."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.date_s, self.elapsed_s = 1_000_000.0, 5_000.0
        self.dates_s = [self.date_s, self.date_s]
        """The earliest and the latest since the start of the process."""
        self.number = 0
        self.sides = {name: Side(name) for name in "abc"}
        self.endpoints: dict[str, tuple[str, ...]] = {"/one": ("a", "b"), "/two": ("c",)}
        self.answers: dict[str, dict[tuple[str, str], str]] = {"/one": {}, "/two": {}}
        self.is_failing = False
        """Whether a fault of the store may have made an answer an error."""
        self.events: list[object] = []
        self.start()

    def run(self, work: Awaitable[Result]) -> Result:
        return self.loop.run_until_complete(_await(work))

    def now_s(self) -> float:
        self.advance(0.001)  # no two listings end at the same time
        return self.date_s

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def advance(self, seconds: float) -> None:
        self.elapsed_s += seconds
        self.set_date(self.date_s + seconds)

    def set_date(self, date_s: float) -> None:
        self.date_s = date_s
        self.dates_s = [min(self.dates_s[0], date_s), max(self.dates_s[1], date_s)]

    def ages_s(self, side: Side) -> tuple[float, float]:
        """How old the accepted listing is, at the least and at the most: dates alone tell after a restart."""
        if side.snapshot is None:
            return STALE_S, STALE_S
        if side.accepted_elapsed_s is not None:
            age_s = self.elapsed_s - side.accepted_elapsed_s
            return age_s, age_s
        low_s, high_s = (max(0.0, date_s - side.snapshot.taken_at_s) for date_s in self.dates_s)
        return low_s, high_s + self.elapsed_s - self.started_elapsed_s

    def start(self) -> None:
        """A bridge over what is kept in the folder."""
        made = {name: side.source() for name, side in self.sides.items()}
        self.directories = {name: directory for name, (_, directory) in made.items()}
        self.dates_s, self.started_elapsed_s = [self.date_s, self.date_s], self.elapsed_s
        for side in self.sides.values():
            side.accepted_elapsed_s = None
        self.store = FragileStore.open(self.folder, self.now_s)
        names = {name for chosen in self.endpoints.values() for name in chosen}
        self.bridge = Bridge(
            self.endpoints,
            [
                (source, SnapshotPolicy(TTL_S, STALE_S, removals=self.sides[name].policy))
                for name, (source, _) in made.items()
                if name in names
            ],
            store=self.store,
            clock=self,
            make_token=lambda: "t",
            binds=make_binds(self),
            observe=self.events.append,
        )

    def stop(self) -> None:
        """The bridge ends in good order."""
        self.run(self.bridge.aclose())
        self.run(self.store.aclose())

    def prepare(self) -> None:
        """The directories hold what the model says, and fail as it says."""
        for side in self.sides.values():
            directory = self.directories[side.name]
            seen = () if side.is_blind else tuple(side.people.values())
            directory.entries = [person.entry for person in seen if not person.is_hidden]
            directory.hidden = [person.entry for person in seen if person.is_hidden]
            fails = side.is_down or side.breaks_off
            directory.failures = [broken(side.name) for _ in range(50)] if fails else []
            fails = side.is_down or not side.answers_look_ups
            directory.look_up_failures = [broken(side.name) for _ in range(500)] if fails else []

    def teardown(self) -> None:
        self.stop()
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.folder)

    # What happens in the directories.

    sides_of = st.sampled_from("abc")
    some = st.integers(0, 11)

    @initialize(counts=st.tuples(*[st.integers(0, 12)] * 3), order=st.sampled_from((("a", "b"), ("b", "a"), ("a",))))
    def begin(self, counts: tuple[int, int, int], order: tuple[str, ...]) -> None:
        for side, count in zip(self.sides.values(), counts, strict=True):
            for position in range(count):
                self.add_person(side, f"{side.name}{position}", ("x@e",), is_marked=True)
        self.stop()
        self.endpoints = {"/one": order, "/two": ("c",)}
        self.start()

    def add_person(self, side: Side, name: str, addresses: tuple[str, ...], *, is_marked: bool) -> None:
        self.number += 1
        person = Person(f"{side.name}-{self.number}", name, addresses, is_marked=is_marked)
        side.people[person.id] = person

    @rule(
        name=sides_of,
        called=st.sampled_from(NAMES),
        addresses=st.lists(st.sampled_from(ADDRESSES), max_size=2, unique_by=str.lower).map(tuple),
        is_marked=st.booleans(),
    )
    def add(self, name: str, called: str, addresses: tuple[str, ...], is_marked: bool) -> None:
        self.add_person(self.sides[name], called, addresses, is_marked=is_marked)

    def choose(self, name: str, number: int) -> Person | None:
        people = list(self.sides[name].people.values())
        return people[number % len(people)] if people else None

    @rule(name=sides_of, number=some, count=st.sampled_from((1, 1, 1, 3, 8)))
    def delete(self, name: str, number: int, count: int) -> None:
        for _ in range(count):
            person = self.choose(name, number)
            if person is not None:
                del self.sides[name].people[person.id]

    @rule(name=sides_of, number=some, called=st.sampled_from(NAMES), count=st.sampled_from((1, 1, 5)))
    def rename(self, name: str, number: int, called: str, count: int) -> None:
        for offset in range(count):
            person = self.choose(name, number + offset)
            if person is not None:
                person.name = called if offset == 0 else f"{called}{person.id}"

    @rule(name=sides_of, number=some, other=some)
    def swap_names(self, name: str, number: int, other: int) -> None:
        one, two = self.choose(name, number), self.choose(name, other)
        if one is not None and two is not None:
            one.name, two.name = two.name, one.name

    @rule(name=sides_of, number=some, other=some, hides=st.booleans())
    def claim_a_name(self, name: str, number: int, other: int, hides: bool) -> None:
        """Two entries of one directory have one name; a listing may forget the one that had it."""
        one, two = self.choose(name, number), self.choose(name, other)
        if one is not None and two is not None and one is not two:
            one.name, two.is_hidden = two.name, hides

    @rule(name=st.sampled_from("ab"), number=some, other=some)
    def take_name_of_the_other_directory(self, name: str, number: int, other: int) -> None:
        one, two = self.choose(name, number), self.choose("b" if name == "a" else "a", other)
        if one is not None and two is not None:
            one.name = two.name.swapcase()

    @rule(
        name=sides_of,
        number=some,
        count=st.sampled_from((1, 1, 6)),
        addresses=st.lists(st.sampled_from(ADDRESSES), max_size=3, unique_by=str.lower).map(tuple),
    )
    def change_addresses(self, name: str, number: int, count: int, addresses: tuple[str, ...]) -> None:
        for offset in range(count):
            person = self.choose(name, number + offset)
            if person is not None:
                person.addresses = addresses

    @rule(
        name=sides_of,
        number=some,
        count=st.sampled_from((1, 1, 4)),
        what=st.sampled_from(("place", "is_marked", "is_locked", "is_hidden")),
    )
    def turn(self, name: str, number: int, count: int, what: str) -> None:
        """Moved out of the base or back, out of the filter, locked, hidden from listings."""
        for offset in range(count):
            person = self.choose(name, number + offset)
            if person is None:
                continue
            if what == "place":
                person.place = OUTSIDE if person.place == INSIDE else INSIDE
            else:
                setattr(person, what, not getattr(person, what))

    @rule(name=sides_of)
    def restore(self, name: str) -> None:
        """All is well again."""
        self.mend()
        for person in self.sides[name].people.values():
            person.place, person.is_marked, person.is_locked, person.is_hidden = INSIDE, True, False, False

    @rule(name=sides_of, what=st.sampled_from(("is_blind", "is_down", "breaks_off", "answers_look_ups")))
    def fail(self, name: str, what: str) -> None:
        setattr(self.sides[name], what, what != "answers_look_ups")

    @rule()
    def mend(self) -> None:
        for side in self.sides.values():
            side.is_blind = side.is_down = side.breaks_off = False
            side.answers_look_ups = True

    @rule(name=st.sampled_from("ab"), number=some)
    def give_a_name_to_both(self, name: str, number: int) -> None:
        """Somebody new has the name of somebody in the other directory."""
        other = self.choose("b" if name == "a" else "a", number)
        if other is not None:
            self.add_person(self.sides[name], other.name, (), is_marked=True)

    @rule(name=sides_of, number=some)
    def remove_unconfirmed(self, name: str, number: int) -> None:
        """Somebody is deleted, and nobody can be asked whether it is so."""
        self.delete(name, number, 1)
        self.sides[name].answers_look_ups = False
        self.refresh(name, None)
        self.nothing_is_lost()
        self.sides[name].answers_look_ups = True

    # What happens to the bridge.

    @rule(seconds=st.sampled_from((1.0, 99.0, 150.0, 150.0, 700.0, 2_500.0, 6_000.0, -50.0, -1_500.0)))
    def pass_time(self, seconds: float) -> None:
        if seconds > 0:
            self.advance(seconds)
        else:  # somebody sets the clock of the machine back
            self.set_date(self.date_s + seconds)

    @rule(
        name=sides_of,
        fault=st.sampled_from(
            (None, None, None, "full", *["after save"] * 2, "after holders", "before holders", "before save")
        ),
    )
    def refresh(self, name: str, fault: str | None) -> None:
        self.prepare()
        self.store.fault = fault
        try:
            if name in self.bridge.directories:
                self.run(self.bridge.refresh(name))
        except BridgeError:
            pass
        except Crashed:
            self.crash()
        self.store.fault = None

    @rule(fault=st.sampled_from(("full", "after save", "after save", "before holders", "after holders")))
    def list_with_a_fault(self, fault: str) -> None:
        """The process ends, or the disk fills, while a list is being answered."""
        self.prepare()
        self.store.fault = fault
        self.advance(TTL_S)
        try:
            self.run(self.bridge.list_users("/one", compressed=False))
        except BridgeError:
            pass
        except Crashed:
            self.crash()
        self.store.fault = None

    @rule(name=sides_of)
    def crash_when_nothing_could_be_kept(self, name: str) -> None:
        """Somebody new comes, the disk is full, a list is answered, and the process starts again with the directory down."""
        side = self.sides[name]
        self.mend()
        self.advance(TTL_S)
        self.add_person(side, f"{name}{self.number}new", (), is_marked=True)
        self.refresh(name, "full")
        self.nothing_is_lost()
        side.is_down = True
        self.crash()
        self.nothing_is_lost()
        self.mend()

    def crash(self) -> None:
        """Nothing was ended in order; what the process held is free."""
        self.run(self.abandon())
        self.start()

    async def abandon(self) -> None:
        await self.store.aclose()  # the lock and the connection end with the process
        current = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not current]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    @rule()
    def end_suddenly(self) -> None:
        self.crash()

    @rule(loads_first=st.booleans())
    def restart(self, loads_first: bool) -> None:
        self.stop()
        self.start()
        if loads_first:
            self.run(self.bridge.load())

    @rule()
    def restart_while_all_is_down(self) -> None:
        for side in self.sides.values():
            side.is_down = True
        self.restart(loads_first=True)
        self.nothing_is_lost()
        self.mend()

    @rule(
        name=sides_of,
        users_filter=st.sampled_from(FILTERS),
        policy=st.builds(
            RemovalPolicy,
            max_percent=st.sampled_from((0.0, 10.0, 25.0, 50.0, 100.0)),
            max_count=st.sampled_from((0, 1, 3, 10)),
            window_s=st.just(WINDOW_S),
            refuse=st.sampled_from((False,) * 5 + (True,)),
            grace_s=st.sampled_from((0.0, 0.0, 400.0)),
            allow_empty=st.booleans(),
            keep_user_names=st.booleans(),
        ),
    )
    def configure(self, name: str, users_filter: str, policy: RemovalPolicy) -> None:
        side = self.sides[name]
        side.users_filter, side.policy = users_filter, policy
        self.restart(loads_first=False)

    @rule(order=st.sampled_from((("a", "b"), ("b", "a"))))
    def configure_order(self, order: tuple[str, ...]) -> None:
        """The other order, or a directory that joins."""
        self.endpoints = {**self.endpoints, "/one": order}
        self.restart(loads_first=False)

    # What the operator does.

    def shown(self, name: str) -> Snapshot | None:
        if name not in self.bridge.directories:
            return None
        return self.run(self.bridge.directories[name].load())

    @rule(name=sides_of, then_refreshes=st.booleans())
    def approve(self, name: str, then_refreshes: bool) -> None:
        """What `removals show` shows is approved."""
        snapshot = self.shown(name)
        if snapshot is None or snapshot.guard.digest is None:
            return
        directory, count = self.run(self.bridge.approve(snapshot.guard.digest))
        assert (directory, count) == (name, len(snapshot.guard.withheld))
        side = self.sides[name]
        side.approved = frozenset(held.removal.key for held in snapshot.guard.withheld)
        if then_refreshes:
            self.refresh(name, None)

    @rule(name=sides_of, what=st.sampled_from(tuple(RemovalKind)), changes_more=st.sampled_from((False, False, True)))
    def approve_a_large_change(self, name: str, what: RemovalKind, changes_more: bool) -> None:
        """Most of a directory changes; the operator approves it, and sometimes more has changed by then."""
        people = list(self.sides[name].people.values())
        self.advance(TTL_S)
        for person in people[1:]:
            if what is RemovalKind.MISSING:
                person.place = OUTSIDE
            elif what is RemovalKind.ADDRESSES:
                person.addresses = ()
            else:
                person.name = f"{person.name}x"
        self.refresh(name, None)
        self.nothing_is_lost()
        if changes_more and people:
            people[0].name, people[0].addresses = f"{people[0].name}y", ()
        self.approve(name, then_refreshes=True)

    @rule(name=sides_of)
    def approve_something_else(self, name: str) -> None:
        """A digest that was made up, or is not that of today, changes nothing."""
        snapshot = self.shown(name)
        wrong = "0123456789abcdef" if snapshot is None else (snapshot.guard.digest or "0" * 16)[::-1]
        if snapshot is not None and wrong == snapshot.guard.digest:
            return
        try:
            self.run(self.bridge.approve(wrong))
        except ApprovalOutdated:
            return
        raise AssertionError("a wrong digest was taken")

    @precondition(lambda self: self.number % 3 == 0)  # too many would leave little to be kept
    @rule(name=sides_of)
    def reset(self, name: str) -> None:
        side = self.sides[name]
        try:
            self.run(self.bridge.reset(name))
        except UnknownDirectory:  # nothing of it was ever kept, and it is in no endpoint
            assert name not in self.bridge.directories
            assert side.accepted is None
            return
        side.accepted, side.snapshot, side.approved, side.is_reset = None, None, frozenset(), True
        side.lost_at_s, side.lost_names, side.last_seen_s = {}, {}, {}

    # What must be true.

    @invariant()
    def nothing_is_lost(self) -> None:
        NothingLost.step_count += 1
        self.prepare()
        found = {path: self.ask(path) for path in self.endpoints}
        for name in self.bridge.directories:
            self.check_side(self.sides[name])
        for path, answer in found.items():
            self.check_answer(path, answer)

    def ask(self, path: str) -> bytes | BridgeError:
        try:
            return self.run(self.bridge.list_users(path, compressed=False)).body
        except BridgeError as error:
            self.met[f"answered {error.code}"] += 1
            return error

    def check_side(self, side: Side) -> None:
        snapshot = self.run(self.bridge.directories[side.name].load())
        if snapshot is None:
            assert side.accepted is None
            return
        users = {user.id: user for user in snapshot.roster}
        names = [fold_user_name(user.user_name) for user in snapshot.roster]
        assert names == sorted(set(names))
        assert len(users) == len(names)
        if side.accepted is None:
            self.check_first(side, users)
        elif side.snapshot is not None and snapshot.report == side.snapshot.report:
            assert users == side.accepted, "nothing changes but by a listing"
        else:
            self.check_change(side, side.accepted, users, snapshot.taken_at_s)
        if side.snapshot is None or snapshot.report != side.snapshot.report:
            self.note_seen(side, users, snapshot.taken_at_s)
            side.accepted_elapsed_s = self.elapsed_s
            side.approved = frozenset()
            self.met.update(f"held by {held.held_by.value}" for held in snapshot.guard.withheld)
        side.accepted, side.snapshot = users, snapshot

    def check_first(self, side: Side, users: dict[str, User]) -> None:
        listed = {
            user_id: each for user_id, each in side.listed.items() if fold_user_name(each.name) not in side.contested
        }
        assert {user_id: each.name for user_id, each in listed.items()} == {
            user_id: user.user_name for user_id, user in users.items()
        }

    def note_seen(self, side: Side, users: dict[str, User], now_s: float) -> None:
        seen = side.there if side.answers_look_ups and not side.is_down else side.listed
        for user_id in users:
            if user_id in seen and fold_user_name(seen[user_id].name) not in side.contested:
                side.last_seen_s[user_id] = now_s
        for times in (side.last_seen_s, side.lost_at_s):
            times.update({user_id: min(at_s, now_s) for user_id, at_s in times.items()})

    def check_change(self, side: Side, old: dict[str, User], new: dict[str, User], now_s: float) -> None:
        for user_id, user in new.items():
            if user_id not in old and fold_user_name(side.lost_names.get(user_id, "")) == fold_user_name(
                user.user_name
            ):
                side.lost_at_s.pop(user_id, None)
        losses = {(user_id, kind): was for user_id, was in old.items() for kind in kinds_lost(was, new.get(user_id))}
        is_approved = bool(side.approved) and side.approved - self.blocked_renames(side, new) <= losses.keys()
        for (user_id, kind), was in losses.items():
            self.check_loss(
                side, was, new.get(user_id), kind, is_approved=is_approved and (user_id, kind) in side.approved
            )
            if kind is RemovalKind.MISSING and not (is_approved and (user_id, kind) in side.approved):
                assert now_s - min(side.last_seen_s[user_id], now_s) >= side.policy.grace_s, "grace"
            word = "approved" if is_approved and (user_id, kind) in side.approved else "within the limits"
            self.met[f"{kind.value} {word}"] += 1
        unapproved = {user_id for user_id, kind in losses if not (is_approved and (user_id, kind) in side.approved)}
        self.check_limits(side, unapproved, old, now_s)
        side.lost_names |= {
            user_id: was.user_name for (user_id, kind), was in losses.items() if kind is RemovalKind.MISSING
        }
        self.check_appearance(side, old, new)

    def blocked_renames(self, side: Side, new: dict[str, User]) -> set[tuple[str, RemovalKind]]:
        """Renames that nobody's approval brings about, as somebody else has the name."""
        holders = {fold_user_name(user.user_name): user_id for user_id, user in new.items()}
        return {
            (user_id, RemovalKind.RENAMED)
            for user_id, person in side.there.items()
            if user_id in new and holders.get(fold_user_name(person.name), user_id) != user_id
        }

    def check_loss(self, side: Side, was: User, now: User | None, kind: RemovalKind, *, is_approved: bool) -> None:
        person = side.there.get(was.id)
        if kind is RemovalKind.MISSING:
            if is_approved:
                assert person is None or fold_user_name(person.name) in side.contested or not side.answers_look_ups
            else:
                assert person is None, "somebody was there and left"
                assert side.answers_look_ups, "nobody confirmed it"
            return
        assert person is not None
        assert now is not None
        if kind is RemovalKind.RENAMED:
            assert person.name == now.user_name
            assert not side.policy.keep_user_names
        else:
            left = {address.lower() for address in now.email_addresses}
            assert not {address.lower() for address in person.addresses} - left
            assert {address.lower() for address in person.addresses} == left

    def check_limits(self, side: Side, unapproved: set[str], old: dict[str, User], now_s: float) -> None:
        if not unapproved:
            return
        for user_id in unapproved:
            side.lost_at_s[user_id] = now_s
        recent = {user_id for user_id, at_s in side.lost_at_s.items() if now_s - min(at_s, now_s) < WINDOW_S}
        total_count = len(old.keys() | recent)
        policy = side.policy
        assert len(recent) <= policy.max_count or len(recent) * 100 <= policy.max_percent * total_count, "the limit"
        assert side.listed or policy.allow_empty, "nobody came"

    def check_appearance(self, side: Side, old: dict[str, User], new: dict[str, User]) -> None:
        held = {fold_user_name(user.user_name) for user in new.values()}
        for user_id, person in side.listed.items():
            name = fold_user_name(person.name)
            if user_id not in new:
                assert name in held or name in side.contested, "who is new appears"
                continue
            called = {fold_user_name(old[user_id].user_name)} if user_id in old else {name}
            called |= {name} if not side.policy.keep_user_names or user_id not in old else set()
            called |= {fold_user_name(side.lost_names.get(user_id, name))}
            assert fold_user_name(new[user_id].user_name) in called
            if name not in side.contested:
                got = {address.lower() for address in new[user_id].email_addresses}
                assert {address.lower() for address in person.addresses} <= got, "what is new of a user appears"

    def check_answer(self, path: str, answer: bytes | BridgeError) -> None:
        sides = [self.sides[name] for name in self.endpoints[path]]
        ages_s = [self.ages_s(side) for side in sides]
        if isinstance(answer, BridgeError):
            assert any(most_s >= STALE_S for _, most_s in ages_s) or any(side.policy.refuse for side in sides), answer
            return
        assert all(least_s < STALE_S for least_s, _ in ages_s), "too old"
        self.met["answered stale"] += any(least_s >= TTL_S for least_s, _ in ages_s)
        found: dict[tuple[str, str], str] = {}
        fields: list[dict[str, Any]] = json.loads(answer)
        for each in fields:
            user_id = each["distinguishedName"].removeprefix("cn=").partition(",")[0]
            side = self.sides[user_id.partition("-")[0]]
            assert side.accepted is not None
            user = side.accepted[user_id]
            assert (user.user_name, list(user.email_addresses)) == (each["userName"], each.get("emailAddresses", []))
            found[side.name, user_id] = fold_user_name(user.user_name)
        names = list(found.values())
        assert names == sorted(set(names))
        for side in sides:
            for user_id, user in (side.accepted or {}).items():
                name = fold_user_name(user.user_name)
                if (side.name, user_id) not in found:
                    self.met["hidden behind another directory"] += 1
                    assert name in names, "who is accepted is answered, or somebody else of the name"
                    is_kept = self.answers[path].get((side.name, user_id)) == name and not side.is_reset
                    assert not is_kept, "who had a name keeps it"
            side.is_reset = False
        self.answers[path] = found


def kinds_lost(was: User, now: User | None) -> list[RemovalKind]:
    """What MailStore loses of a user."""
    if now is None:
        return [RemovalKind.MISSING]
    kinds = []
    if not {address.lower() for address in was.email_addresses} <= {address.lower() for address in now.email_addresses}:
        kinds.append(RemovalKind.ADDRESSES)
    if fold_user_name(was.user_name) != fold_user_name(now.user_name):
        kinds.append(RemovalKind.RENAMED)
    return kinds


async def _await(work: Awaitable[Result]) -> Result:
    return await work


@pytest.mark.timeout(120 + STEPS // 10)
def test_no_accepted_user_disappears_without_a_cause() -> None:
    """Whatever happens, in whatever order: who was answered is answered, or has left within the limits, or by approval."""
    NothingLost.step_count, NothingLost.met = 0, Counter()
    while NothingLost.step_count < STEPS:  # some runs end early
        missing_count = STEPS - NothingLost.step_count
        run_state_machine_as_test(
            NothingLost,
            settings=settings(
                max_examples=1 + missing_count // STEPS_OF_ONE_RUN,
                stateful_step_count=STEPS_OF_ONE_RUN,
                deadline=None,
                database=None,
                phases=(Phase.generate,) if os.environ.get("BRIDGE_TEST_NO_SHRINK") else tuple(Phase),
                suppress_health_check=list(HealthCheck),
            ),
        )
    if "BRIDGE_TEST_STEPS" in os.environ:
        sys.stderr.write(f"{NothingLost.step_count} steps: {dict(sorted(NothingLost.met.items()))}\n")
    if STEPS >= 10_000:
        assert {word for word in EVERYTHING if not NothingLost.met[word]} == set()

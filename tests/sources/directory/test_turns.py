"""Nobody is lost between servers that lag, fail and return, driven by chance; the model knows only what each server held."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.directory import Entry
from bridge.errors import BridgeError
from bridge.removals.review import WITNESS_PATIENCE_S
from bridge.snapshots.directory_snapshots import DirectorySnapshots
from tests.support.manual_clock import ManualClock
from tests.support.memory_directory import MemoryDirectory, MemoryServers, make, person

URLS = ("ldap://one", "ldap://two", "ldap://three")
COUNT = 12

servers_of = st.integers(0, len(URLS) - 1)
users_of = st.integers(0, COUNT - 1)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), servers_of, users_of),
        st.tuples(st.just("delete"), servers_of, users_of),
        st.tuples(st.just("delete everywhere"), servers_of, users_of),
        st.tuples(st.just("copy to"), servers_of, servers_of),
        st.tuples(st.just("turn"), servers_of, st.just(0)),
        st.tuples(st.just("empty"), servers_of, st.just(0)),
        st.tuples(st.just("wait"), st.sampled_from((10, 3_600, 50_000, 90_000)), st.just(0)),
        st.tuples(st.just("restore"), st.just(0), st.just(0)),
    ),
    max_size=40,
)


def entry(number: int) -> Entry:
    return person(f"u{number:02}", f"id-{number:02}")


class Model:
    """What stands at each server, who was last shown where, and since when somebody is missing."""

    def __init__(self) -> None:
        self.held = [set(range(COUNT)) for _ in URLS]
        self.members = [MemoryDirectory(url=url) for url in URLS]
        self.servers = MemoryServers(*self.members)
        self.clock = ManualClock()
        made: tuple[DirectorySnapshots, ManualClock, object] = make(
            self.servers, clock=self.clock, max_count=1000, stale_if_error_s=1e9, allow_empty=True
        )
        self.snapshots = made[0]
        self.shown_at: dict[int, int] = {}
        self.missing_since_s: dict[int, float] = {}
        self.answered: set[int] = set()

    def apply(self, what: str, one: int, two: int) -> None:
        if what == "add":
            self.held[one].add(two)
        elif what == "delete":
            self.held[one].discard(two)
        elif what == "delete everywhere":
            for held in self.held:
                held.discard(two)
        elif what == "copy to":
            self.held[two] = set(self.held[one])
        elif what == "turn":
            self.servers.down ^= {URLS[one]}
        elif what == "empty":
            self.held[one] = set()
        elif what == "wait":
            self.clock.advance(one)

    async def step(self, what: str, one: int, two: int) -> None:
        self.apply(what, one, two)
        for member, held in zip(self.members, self.held, strict=True):
            member.entries = [entry(number) for number in sorted(held)]
        if what == "restore":
            await self.servers.restore()
        self.clock.advance(1)
        try:
            snapshot = await self.snapshots.refresh()
        except BridgeError:
            return
        if self.snapshots._checking is not None:
            await self.snapshots._checking
        found = {int(user.user_name[1:]) for user in snapshot.roster}
        self.check(found, URLS.index(snapshot.report.server))

    def check(self, found: set[int], listed: int) -> None:
        """Who has left was missing at the server that has last shown them, or for a day."""
        now_s = self.clock.now_s()
        held = self.held[listed]
        assert held <= found, "who is listed is answered"
        for number in self.answered - found:
            witness = self.shown_at[number]
            is_missing_there = number not in self.held[witness]
            can_be_asked = URLS[witness] not in self.servers.down
            since_s = self.missing_since_s.get(number, now_s)
            assert (is_missing_there and can_be_asked) or now_s - since_s >= WITNESS_PATIENCE_S
        for number in found:
            if number in held:
                self.shown_at[number] = listed
                self.missing_since_s.pop(number, None)
            elif number in self.held[self.shown_at[number]] and URLS[self.shown_at[number]] not in self.servers.down:
                self.missing_since_s.pop(number, None)
            else:
                self.missing_since_s.setdefault(number, now_s)
        self.answered = found


async def run(steps: Sequence[tuple[str, int, int]]) -> None:
    model = Model()
    await model.step("wait", 1, 0)
    assert len(model.answered) == COUNT
    for step in steps:
        await model.step(*step)
    await model.snapshots.aclose()


@settings(max_examples=200)
@given(STEPS)
def test_nobody_leaves_but_by_the_word_of_the_server_that_last_showed_them(
    steps: list[tuple[str, int, int]],
) -> None:
    """Whatever the servers hold, whichever of them answer: or after a day."""
    asyncio.run(run(steps))

from __future__ import annotations

import asyncio
import threading
import time
from ipaddress import ip_network
from pathlib import Path

import argon2
import pytest

from bridge.errors import CallerElsewhere, CallerRejected, TooBusy
from bridge.mailstore import Credentials
from bridge.model import Secret
from bridge.renewal import Look, Renewed
from bridge.web.addresses import AllowedAddresses, Troublemakers
from bridge.web.callers import Callers
from bridge.web.limits import WebLimits

HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("hashed ü")


class Pauses:
    """Counts the pauses that wrong callers are made to take."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def callers(pause: Pauses | None = None, limits: WebLimits | None = None) -> Callers:
    passwords = {"plain": Secret("plain ²".encode()), "hashed": HASH}
    return Callers(passwords, b"k" * 32, limits or WebLimits(), pause or Pauses())


@pytest.mark.parametrize(("username", "password"), [("plain", "plain ²"), ("hashed", "hashed ü")])
async def test_verify_takes_the_right_password_again_and_again(username: str, password: str) -> None:
    """Both kinds of callers are let in, the first time and later."""
    found = callers()
    for _ in range(3):
        await found.verify(Credentials(username, Secret(password.encode())))


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("plain", "plain"),
        ("plain", "hashed ü"),
        ("hashed", "plain ²"),
        ("hashed", ""),
        ("nobody", "plain ²"),
        ("", ""),
        ("plainp", "lain ²"),
    ],
)
async def test_verify_refuses_and_slows_down_the_rest(username: str, password: str) -> None:
    """A wrong password, another's, none, a name that runs into its password: refused, with a pause each time."""
    pause = Pauses()
    found = callers(pause)
    for _ in range(2):
        with pytest.raises(CallerRejected):
            await found.verify(Credentials(username, Secret(password.encode())))
    assert pause.taken == [WebLimits().refused_pause_s, 2 * WebLimits().refused_pause_s]


async def test_verify_computes_the_slow_hash_once_for_each_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """argon2id is for the first time only, for right credentials and for wrong ones."""
    found = callers()
    count = 0
    verify = found._verify_hash

    def counting(credentials: Credentials) -> bool:
        nonlocal count
        count += 1
        return verify(credentials)

    monkeypatch.setattr(found, "_verify_hash", counting)
    for _ in range(3):
        await found.verify(Credentials("hashed", Secret("hashed ü".encode())))
        with pytest.raises(CallerRejected):
            await found.verify(Credentials("hashed", Secret(b"wrong")))
    assert count == 2


def prolong_hashes(found: Callers, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """No hash is done before the event is set: a cheap one may be, before its caller has begun to wait for it."""
    may_go_on, verify = threading.Event(), found._verify_hash

    def prolonged(credentials: Credentials) -> bool:
        may_go_on.wait(10)
        return verify(credentials)

    monkeypatch.setattr(found, "_verify_hash", prolonged)
    return may_go_on


async def test_verify_never_grows_a_queue_and_lets_known_callers_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong callers beyond the limit are turned away; whoever is known doesn't wait for them."""
    found = callers(limits=WebLimits(caller_queue_count=2))
    await found.verify(Credentials("hashed", Secret("hashed ü".encode())))
    may_go_on = prolong_hashes(found, monkeypatch)
    attempts = [found.verify(Credentials("hashed", Secret(b"wrong%d" % number))) for number in range(10)]
    running = asyncio.gather(*attempts, return_exceptions=True)
    await asyncio.sleep(0)
    await found.verify(Credentials("hashed", Secret("hashed ü".encode())))
    may_go_on.set()
    kinds = [type(outcome) for outcome in await running]
    assert kinds.count(CallerRejected) == 2
    assert kinds.count(TooBusy) == 8


async def test_verify_slows_down_only_so_many_at_once() -> None:
    """Those who wait take room, too; beyond the limit they are refused right away."""
    entered, leave = asyncio.Event(), asyncio.Event()

    async def pause(_seconds: float) -> None:
        entered.set()
        await leave.wait()

    found = Callers({"plain": Secret(b"x")}, b"k" * 32, WebLimits(slowed_count=1), pause)
    first = asyncio.create_task(found.verify(Credentials("plain", Secret(b"1"))))
    await entered.wait()
    with pytest.raises(CallerRejected):
        await found.verify(Credentials("plain", Secret(b"2")))
    assert not first.done()
    leave.set()
    with pytest.raises(CallerRejected):
        await first


async def test_refused_credentials_are_remembered_within_bounds() -> None:
    """A million wrong passwords take no more memory than a thousand."""
    found = Callers({"plain": Secret(b"x")}, b"k" * 32, WebLimits(), Pauses())
    for number in range(1100):
        with pytest.raises(CallerRejected):
            await found.verify(Credentials("plain", Secret(b"%d" % number)))
    assert len(found._refused) == 1000


async def test_nothing_of_a_password_is_kept() -> None:
    """Neither passwords nor their hashes without the key stand in memory of the verifier."""
    found = callers()
    await found.verify(Credentials("hashed", Secret("hashed ü".encode())))
    assert "hashed ü" not in repr(vars(found))
    assert "plain ²" not in repr(vars(found))


async def test_wrong_callers_are_slowed_down_by_address_and_forgiven_later() -> None:
    """Each further guess from an address costs twice as much, up to eight seconds; other addresses begin anew."""
    pause, clock = Pauses(), Clock()
    found = Callers({"plain": Secret(b"x")}, b"k" * 32, WebLimits(), pause, troublemakers=Troublemakers(clock))

    async def guess(remote: str | None) -> None:
        with pytest.raises(CallerRejected):
            await found.verify(Credentials("plain", Secret(b"wrong")), remote)

    for _ in range(7):
        await guess("192.0.2.1")
    assert pause.taken == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    for remote in ("192.0.2.2", "2001:db8::1", None, "::ffff:192.0.2.1", "2001:db8::2", "2001:db8:0:1::1"):
        pause.taken.clear()
        await guess(remote)
        expected = {"::ffff:192.0.2.1": 8.0, "2001:db8::2": 1.0}  # the same machine, and the same site
        assert pause.taken == [expected.get(remote or "", 0.5)]
    clock.now_s += 600.0
    pause.taken.clear()
    await guess("192.0.2.1")
    assert pause.taken == [0.5]


async def test_right_caller_is_never_slowed_down_whatever_its_address_has_done() -> None:
    """Also behind the same proxy as somebody who guesses."""
    pause = Pauses()
    found = callers(pause)
    for number in range(20):
        with pytest.raises(CallerRejected):
            await found.verify(Credentials("plain", Secret(b"%d" % number)), "192.0.2.1")
    taken = list(pause.taken)
    await found.verify(Credentials("plain", Secret("plain ²".encode())), "192.0.2.1")
    await found.verify(Credentials("hashed", Secret("hashed ü".encode())), "192.0.2.1")
    assert pause.taken == taken


async def test_guesses_from_one_address_take_no_place_from_callers_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The queue for computing hashes has room for others, however many guesses come from one address."""
    found = callers()
    may_go_on = prolong_hashes(found, monkeypatch)
    guesses = [found.verify(Credentials("hashed", Secret(b"%d" % number)), "192.0.2.1") for number in range(50)]
    running = asyncio.gather(*guesses, return_exceptions=True)
    await asyncio.sleep(0)
    may_go_on.set()
    await found.verify(Credentials("hashed", Secret("hashed ü".encode())), "192.0.2.2")
    kinds = [type(outcome) for outcome in await running]
    assert (kinds.count(CallerRejected), kinds.count(TooBusy)) == (2, 48)


async def test_one_address_holds_few_of_the_waiting_places() -> None:
    """Those beyond are refused right away, and others are still slowed down."""
    leave = asyncio.Event()
    waiting: list[float] = []

    async def pause(seconds: float) -> None:
        waiting.append(seconds)
        await leave.wait()

    found = Callers({"plain": Secret(b"x")}, b"k" * 32, WebLimits(slowed_per_address_count=3), pause)
    guesses = [
        asyncio.create_task(found.verify(Credentials("plain", Secret(b"wrong")), remote))
        for remote in ["192.0.2.1"] * 10 + ["192.0.2.2"]
    ]
    done, pending = await asyncio.wait(guesses, timeout=0.05)
    assert (len(done), len(pending), len(waiting)) == (7, 4, 4)
    leave.set()
    await asyncio.gather(*guesses, return_exceptions=True)


async def test_table_of_addresses_is_bounded() -> None:
    """A million addresses take no more memory than a thousand."""
    troublemakers = Troublemakers()
    found = Callers({"plain": Secret(b"x")}, b"k" * 32, WebLimits(), Pauses(), troublemakers=troublemakers)
    for number in range(1500):
        with pytest.raises(CallerRejected):
            await found.verify(Credentials("plain", Secret(b"x!")), f"10.0.{number // 250}.{number % 250}")
    assert len(troublemakers) == 1000


NETWORKS = (ip_network("192.0.2.0/24"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize(
    ("remote", "unix", "expected"),
    [
        ("192.0.2.1", False, True),
        ("192.0.3.1", False, False),
        ("::ffff:192.0.2.1", False, True),
        ("::ffff:192.0.3.1", False, False),
        ("2001:db8::1", False, True),
        ("2001:db9::1", False, False),
        ("2001:db8::1%eth0", False, True),
        ("", True, True),
        (None, True, True),
        ("/run/client.sock", True, True),
        ("", False, False),
        (None, False, False),
        ("192.0.3.1", True, False),
    ],
)
def test_addresses_are_allowed_by_network_and_unix_sockets_by_name(
    remote: str | None, unix: bool, expected: bool
) -> None:
    """IPv4 in IPv6's clothes is IPv4; what has no address is no network's."""
    found = Callers({}, b"k" * 32, WebLimits(), allowed=AllowedAddresses(NETWORKS, unix=unix))
    if expected:
        found.check_address(remote)
        return
    with pytest.raises(CallerElsewhere, match="allow_from"):
        found.check_address(remote)


class Counting(Renewed[Secret]):
    """A password in a file that counts how often somebody looks."""

    def __init__(self, file: Path) -> None:
        self.look_count = 0
        super().__init__("place", [str(file)], lambda contents: Secret(contents[0]))

    def look(self, *, at_once: bool = False) -> Look:
        self.look_count += 1
        return super().look(at_once=at_once)


async def test_flood_of_wrong_passwords_is_no_flood_of_looks_at_files(tmp_path: Path) -> None:
    """Guessing costs a look every 50 ms at most; the next guess after a change may be right."""
    file = tmp_path / "password"
    file.write_text("old")
    secret = Counting(file)
    found = Callers({"plain": secret}, b"k" * 32, WebLimits(), Pauses())
    before, began_s = secret.look_count, time.monotonic()
    for number in range(2000):
        with pytest.raises(CallerRejected):
            await found.verify(Credentials("plain", Secret(b"%d" % number)))
    assert secret.look_count - before <= 2 + (time.monotonic() - began_s) / 0.05
    file.write_text("new")
    await asyncio.sleep(0.06)
    await found.verify(Credentials("plain", Secret(b"new")))
    with pytest.raises(CallerRejected):
        await found.verify(Credentials("plain", Secret(b"old")))


async def test_file_that_somebody_else_has_looked_at_counts_all_the_same(tmp_path: Path) -> None:
    """A reload takes the file anew, and the callers are told nothing of it."""
    file = tmp_path / "password"
    file.write_text("old")
    secret = Counting(file)
    found = Callers({"plain": secret}, b"k" * 32, WebLimits(), Pauses())
    file.write_text("new")
    assert secret.look() is Look.RENEWED
    with pytest.raises(CallerRejected):
        await found.verify(Credentials("plain", Secret(b"old")))
    await found.verify(Credentials("plain", Secret(b"new")))

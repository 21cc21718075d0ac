from __future__ import annotations

import asyncio

import argon2
import pytest

from bridge.errors import CallerRejected, TooBusy
from bridge.model import Secret
from bridge.protocol import Credentials
from bridge.web.callers import Callers
from bridge.web.limits import WebLimits

HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("hashed ü")


class Pauses:
    """Counts the pauses that wrong callers are made to take."""

    def __init__(self) -> None:
        self.taken: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.taken.append(seconds)


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
    assert pause.taken == [WebLimits().refused_pause_s] * 2


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


async def test_verify_never_grows_a_queue_and_lets_known_callers_pass() -> None:
    """Wrong callers beyond the limit are turned away; whoever is known doesn't wait for them."""
    found = callers(limits=WebLimits(caller_queue_count=2))
    await found.verify(Credentials("hashed", Secret("hashed ü".encode())))
    attempts = [found.verify(Credentials("hashed", Secret(b"wrong%d" % number))) for number in range(10)]
    running = asyncio.gather(*attempts, return_exceptions=True)
    await asyncio.sleep(0)
    await found.verify(Credentials("hashed", Secret("hashed ü".encode())))
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

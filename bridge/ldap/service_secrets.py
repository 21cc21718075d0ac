"""What a refused service bind costs: which server may be sent the account's secret, and when.

A directory locks an account after a few wrong passwords. So a secret that one server has refused is sent to one other
server, as the first may be out of date, and then to none for a long time. One object knows this for the whole process:
directories that bind as the same account with the same secret share what was refused.
Knows nothing of connections and result codes, and keeps no secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, unique
from typing import TYPE_CHECKING

from bridge.syntax.dn import dn_key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.clock import Clock

_DAY_S = 86_400.0
_WITNESSES_COUNT = 2
"""So many servers are asked before a refusal is believed: the first may be out of date."""
_STAGGER = 0.1
"""The part of a pause by which a server has its turn earlier that was not asked yet, and later that was asked last."""
_PATIENCE_S = 1.0
"""How long the answers of other servers to the same secret are waited for; one that hangs must not stop the rest."""


@unique
class Cause(Enum):
    """What a server has against a service bind: the pauses after the first refusal, and at most, in seconds."""

    SECRET = (1_800.0, _DAY_S)
    """The password is wrong, and each try is counted by the directory."""
    ACCOUNT = (300.0, _DAY_S)
    """Locked, disabled, expired: no password is accepted now."""
    TICKET = (30.0, 3_600.0)
    """Kerberos or the certificate was refused."""
    SET_UP = (30.0, 30.0)
    """The server takes no such bind; it says nothing of the account, and nothing for other servers."""

    @property
    def first_pause_s(self) -> float:
        """The pause after the first refusal."""
        return self.value[0]

    @property
    def longest_pause_s(self) -> float:
        """What the pause is doubled up to."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said against a bind."""

    cause: Cause
    said: str
    """The result in words, but for the server's own."""
    remedy: str = ""
    result_code: int | None = None
    diagnostic_message: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The last answer of one server, which was no success."""

    server: str
    """Its URL."""
    answer: Answer
    date_s: float
    """When it came, in seconds since 1970."""
    at_s: float
    """The same moment by the clock that is never set."""
    pause_s: float
    counts: bool
    """Whether it counts for other servers, too; no longer once one of them has accepted the secret."""

    @property
    def due_s(self) -> float:
        """When the pause ends."""
        return self.at_s + self.pause_s


@dataclass(frozen=True, slots=True)
class Withheld:
    """Why a server is not sent a secret now."""

    refusals: tuple[Refusal, ...]
    """What was said, the oldest first; never empty."""
    until_date_s: float
    """When the next try is, here or at another of the servers, in seconds since 1970."""


@dataclass(slots=True)
class _Record:
    """What is known of one secret."""

    witness_count: int = _WITNESSES_COUNT
    """How many servers are asked before a refusal is believed of the rest."""
    accepted: set[str] = field(default_factory=set)
    """The servers that have accepted it, and not refused it since."""
    refusals: dict[str, Refusal] = field(default_factory=dict)
    """By server."""
    is_forgiven: bool = False
    """Whether the operator wants one more try."""
    in_flight: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    """The servers that have not answered yet."""

    def counting(self) -> list[Refusal]:
        """The refusals that count for all servers, the oldest first."""
        return sorted((found for found in self.refusals.values() if found.counts), key=lambda found: found.at_s)

    def due_s(self, server: str) -> float:
        """When the server may be asked; what lies in the past is now."""
        own, counting = self.refusals.get(server), self.counting()
        alone_s = own.due_s if own is not None and not own.counts else 0.0
        if self.is_forgiven:
            return alone_s if own is not None and own.answer.cause is Cause.SET_UP else 0.0
        if len(counting) < self.witness_count and own not in counting:
            return alone_s
        if self.witness_count == 1 and server in self.accepted:
            return 0.0
        last = max(counting, key=lambda found: found.due_s)
        if own is None:
            return last.due_s - _STAGGER * last.pause_s
        return max(alone_s, last.due_s if own is counting[0] else last.due_s + _STAGGER * last.pause_s)

    def next_pause_s(self, server: str, cause: Cause) -> float:
        """How long nothing is sent after a refusal: as long as before for a second opinion, otherwise twice."""
        if cause is Cause.SET_UP:
            return cause.first_pause_s
        before = [found for found in self.refusals.values() if found.counts or found.server == server]
        pauses_s = [found.pause_s for found in before if found.answer.cause is not Cause.SET_UP]
        is_second_opinion = server not in self.refusals and len(pauses_s) < self.witness_count
        factor = 1.0 if is_second_opinion else 2.0
        longest_s = max((factor * pause_s for pause_s in pauses_s), default=0.0)
        return min(max(cause.first_pause_s, longest_s), cause.longest_pause_s)

    async def wait_for_turn(self, server: str) -> None:
        """Return when no more servers are being asked than may refuse."""
        clock = asyncio.get_running_loop().time
        patient_until_s = clock() + _PATIENCE_S
        while True:
            own, left_s = self.in_flight.get(server), patient_until_s - clock()
            room_count = 1 if self.counting() else self.witness_count
            if own is not None:
                await asyncio.wait((own,))
            elif len(self.in_flight) >= room_count and left_s > 0:
                await asyncio.wait(self.in_flight.values(), timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
            else:
                return


class RefusedSecrets:
    """What servers have refused, by account and secret."""

    def __init__(self, clock: Clock, *, witness_count: int = _WITNESSES_COUNT) -> None:
        """`witness_count` 1 is for what is over soon: one refusal is enough, but where the secret was accepted."""
        self._clock = clock
        self._witness_count = witness_count
        # Security: a key that nobody else has, so that a dump of the memory gives nothing to guess passwords by.
        self._hash_key = secrets.token_bytes(32)
        self._records: dict[bytes, _Record] = {}

    def key_of(self, account: str, secret: bytes) -> bytes:
        """What stands for this secret of this account, in every spelling of its name."""
        name = dn_key(account.casefold()).encode(errors="surrogateescape")
        return hashlib.blake2b(len(name).to_bytes(8) + name + secret, key=self._hash_key, digest_size=32).digest()

    def withheld(self, key: bytes, server: str) -> Withheld | None:
        """Why the server must not be sent the secret now, or None where it may."""
        record = self._records.get(key)
        if record is None:
            return None
        now_s = self._clock.monotonic_s()
        due_s = record.due_s(server)
        if due_s <= now_s:
            return None
        own, counting = record.refusals.get(server), record.counting()
        if own is not None and not own.counts and own.due_s > now_s:
            return Withheld((own,), self._clock.now_s() + due_s - now_s)
        # What is told is when the next server is asked, be it another one.
        next_s = max(found.due_s for found in counting)
        return Withheld(tuple(counting), self._clock.now_s() + (next_s if next_s > now_s else due_s) - now_s)

    @asynccontextmanager
    async def turn(self, key: bytes, server: str) -> AsyncIterator[None]:
        """While it lasts, the server is sent the secret; ask `withheld` once more inside.

        Several connections that are opened at once would otherwise each be refused.
        """
        record = self._record(key)
        await record.wait_for_turn(server)
        answered = record.in_flight[server] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            del record.in_flight[server]
            answered.set_result(None)

    def note_refused(self, key: bytes, server: str, answer: Answer) -> None:
        """Remember that the server has refused the secret just now."""
        record = self._record(key)
        counts = answer.cause is not Cause.SET_UP
        record.is_forgiven = record.is_forgiven and not counts
        record.accepted.discard(server)
        date_s, now_s = self._clock.now_s(), self._clock.monotonic_s()
        pause_s = record.next_pause_s(server, answer.cause)
        record.refusals[server] = Refusal(server, answer, date_s, now_s, pause_s, counts=counts)

    def note_accepted(self, key: bytes, server: str) -> None:
        """Forget all refusals if this very server had refused before, or the operator asked: it was put right.

        Otherwise servers that have refused it are out of date: each of them keeps its own pause, or every success here
        would cost the account a failure there.
        """
        record = self._record(key)
        own = record.refusals.pop(server, None)
        if record.is_forgiven or (own is not None and own.answer.cause is not Cause.SET_UP):
            record.refusals.clear()
        record.refusals = {name: replace(found, counts=False) for name, found in record.refusals.items()}
        record.is_forgiven = False
        record.accepted.add(server)

    def forgive(self, key: bytes) -> None:
        """Let the secret be sent once more, to one server: the operator asks for it."""
        record = self._record(key)
        record.is_forgiven = bool(record.refusals)
        record.refusals = {
            name: found for name, found in record.refusals.items() if found.answer.cause is not Cause.SET_UP
        }

    def _record(self, key: bytes) -> _Record:
        return self._records.setdefault(key, _Record(self._witness_count))

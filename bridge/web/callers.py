"""Who may ask: callers are verified once by argon2id, then recognised by a keyed hash.

No password is kept. What is remembered is useless without a key that lives and dies with the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from typing import TYPE_CHECKING

import argon2

from bridge.errors import CallerRejected, TooBusy
from bridge.model import Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bridge.protocol import Credentials
    from bridge.web.limits import WebLimits

_REFUSED_MAX_COUNT = 1000


class Callers:
    """The callers of one endpoint: user names with a password or with an argon2id hash of it."""

    def __init__(
        self,
        passwords: Mapping[str, Secret | str],
        key: bytes,
        limits: WebLimits,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._key = key
        self._limits = limits
        self._pause = pause
        self._hashes = {name: found for name, found in passwords.items() if isinstance(found, str)}
        self._accepted = {
            self._recognise(name, found) for name, found in passwords.items() if isinstance(found, Secret)
        }
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._hasher = argon2.PasswordHasher()
        # Security: unknown names cost what known ones cost, so that time doesn't tell who exists.
        self._nobodys_hash = self._hasher.hash(key.hex()) if self._hashes else None
        self._one_at_a_time = asyncio.Lock()
        self._queue_count = 0
        self._slowed_count = 0

    async def verify(self, credentials: Credentials) -> None:
        """Returns if the caller is one of ours.

        Raises `CallerRejected`, or `TooBusy` where too many are being checked.
        """
        digest = self._recognise(credentials.username, credentials.password)
        if self._is_accepted(digest):
            return
        if digest not in self._refused and await self._matches_hash(credentials):
            self._accepted.add(digest)
            return
        self._remember_refused(digest)
        await self._slow_down()
        raise CallerRejected(remedy="Enter the user name and the password of `callers` in MailStore.")

    def _recognise(self, username: str, password: Secret) -> bytes:
        """A keyed hash of both, the lengths included, so that no two pairs run into each other."""
        name = username.encode()
        digest = hashlib.blake2b(len(name).to_bytes(8, "big") + name, key=self._key)
        digest.update(password.reveal())
        return digest.digest()

    def _is_accepted(self, digest: bytes) -> bool:
        found = False
        for known in self._accepted:
            found |= hmac.compare_digest(known, digest)
        return found

    async def _matches_hash(self, credentials: Credentials) -> bool:
        if self._nobodys_hash is None:
            return False
        if self._queue_count >= self._limits.caller_queue_count:
            raise TooBusy("too many callers are being checked", remedy="Try again in a moment.")
        self._queue_count += 1
        try:
            async with self._one_at_a_time:
                return await asyncio.to_thread(self._verify_hash, credentials)
        finally:
            self._queue_count -= 1

    def _verify_hash(self, credentials: Credentials) -> bool:
        known = self._hashes.get(credentials.username)
        try:
            self._hasher.verify(known or self._nobodys_hash or "", credentials.password.reveal())
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return known is not None

    def _remember_refused(self, digest: bytes) -> None:
        self._refused[digest] = None
        self._refused.move_to_end(digest)
        if len(self._refused) > _REFUSED_MAX_COUNT:
            self._refused.popitem(last=False)

    async def _slow_down(self) -> None:
        if self._slowed_count >= self._limits.slowed_count:
            return
        self._slowed_count += 1
        try:
            await self._pause(self._limits.refused_pause_s)
        finally:
            self._slowed_count -= 1

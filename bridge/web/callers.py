"""Who may ask: callers are verified once by argon2id, then recognised by a keyed hash.

No password is kept here. What is remembered is useless without a key that lives and dies with the process. Passwords in
files are looked at again where a caller comes, so that a changed file counts from the next request on.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

import argon2

from bridge.errors import CallerElsewhere, CallerRejected, TooBusy
from bridge.model import Secret
from bridge.renewal import Renewed
from bridge.web.addresses import Troublemakers, parse_address
from bridge.web.places import trust_caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bridge.mailstore import Credentials
    from bridge.web.addresses import AllowedAddresses, Trouble
    from bridge.web.limits import WebLimits

_REFUSED_MAX_COUNT = 1000
_LOOK_PAUSE_S = 0.05
"""How often the files are read at most for those who come with a password that is unknown."""


class Callers:
    """The callers of one endpoint: user names with a password or with an argon2id hash of it."""

    def __init__(
        self,
        passwords: Mapping[str, Secret | Renewed[Secret] | str],
        key: bytes,
        limits: WebLimits,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        allowed: AllowedAddresses | None = None,
        troublemakers: Troublemakers | None = None,
    ) -> None:
        """`allowed` None takes callers from everywhere."""
        self._key = key
        self._limits = limits
        self._pause = pause
        self._allowed = allowed
        self._troublemakers = Troublemakers() if troublemakers is None else troublemakers
        self._hashes = {name: found for name, found in passwords.items() if isinstance(found, str)}
        self._accepted = {
            self._recognise(name, found) for name, found in passwords.items() if isinstance(found, Secret)
        }
        self._files = {name: found for name, found in passwords.items() if isinstance(found, Renewed)}
        self._seen: dict[str, tuple[bytes, ...]] = {}
        """Of what content of its file each digest was made: others look at the files, too."""
        self._of_files: dict[str, bytes] = {}
        self._next_look_s = 0.0
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._hasher = argon2.PasswordHasher()
        # Security: unknown names cost what known ones cost, so that time doesn't tell who exists.
        self._nobodys_hash = self._hasher.hash(key.hex()) if self._hashes else None
        self._one_at_a_time = asyncio.Lock()
        self._queue_count = 0
        self._slowed_count = 0
        self._look_at_files()

    def check_address(self, remote: str | None) -> None:
        """Returns if the endpoint may be asked from there. Raises `CallerElsewhere`."""
        if self._allowed is None or self._allowed.allows(remote):
            return
        address = parse_address(remote)
        if address is None:
            raise CallerElsewhere(
                "the request came through a Unix socket", remedy="Add `unix` to allow_from of this endpoint."
            )
        raise CallerElsewhere(
            f"the request came from {address}",
            remedy="Add the address of MailStore, or of the proxy in between, to allow_from of this endpoint.",
        )

    async def verify(self, credentials: Credentials, remote: str | None = None) -> None:
        """Returns if the caller is one of ours, at once where it is known, whatever others do.

        Raises `CallerRejected`, or `TooBusy` where too many are being checked.
        """
        digest = self._recognise(credentials.username, credentials.password)
        if self._is_accepted(digest):
            # What is known and right may cost a stat(2) each time: an old password ends with its file.
            self._look_at_files()
            if self._is_accepted(digest):
                trust_caller()
                return
        elif self._may_look() and self._is_accepted(digest):
            trust_caller()
            return
        trouble = self._troublemakers.of(remote)
        if digest not in self._refused and await self._matches_hash(credentials, trouble):
            self._accepted.add(digest)
            trust_caller()
            return
        self._remember_refused(digest)
        await self._slow_down(trouble)
        raise CallerRejected(remedy="Enter the user name and the password of `callers` in MailStore.")

    def _recognise(self, username: str, password: Secret) -> bytes:
        """A keyed hash of both, the lengths included, so that no two pairs run into each other."""
        name = username.encode()
        digest = hashlib.blake2b(len(name).to_bytes(8, "big") + name, key=self._key)
        digest.update(password.reveal())
        return digest.digest()

    def _may_look(self) -> bool:
        """Look at the files for a password that is unknown, so often at most that guessing costs nothing; True then."""
        now_s = time.monotonic()
        if not self._files or now_s < self._next_look_s:
            return False
        self._next_look_s = now_s + _LOOK_PAUSE_S
        for file in self._files.values():
            file.suspect()
        self._look_at_files()
        return True

    def _look_at_files(self) -> None:
        for name, file in self._files.items():
            secret = file.read()
            if file.fingerprints != self._seen.get(name):
                digest = self._of_files[name] = self._recognise(name, secret)
                self._seen[name] = file.fingerprints
                self._refused.pop(digest, None)

    def _is_accepted(self, digest: bytes) -> bool:
        found = False
        for known in (*self._accepted, *self._of_files.values()):
            found |= hmac.compare_digest(known, digest)
        return found

    async def _matches_hash(self, credentials: Credentials, trouble: Trouble) -> bool:
        if self._nobodys_hash is None:
            return False
        limits = self._limits
        if (
            self._queue_count >= limits.caller_queue_count
            or trouble.hashing_count >= limits.caller_queue_per_address_count
        ):
            raise TooBusy("too many callers are being checked", remedy="Try again in a moment.")
        self._queue_count += 1
        trouble.hashing_count += 1
        try:
            async with self._one_at_a_time:
                return await asyncio.to_thread(self._verify_hash, credentials)
        finally:
            self._queue_count -= 1
            trouble.hashing_count -= 1

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

    async def _slow_down(self, trouble: Trouble) -> None:
        limits, doubling_count = self._limits, self._troublemakers.doublings(trouble)
        if self._slowed_count >= limits.slowed_count or trouble.waiting_count >= limits.slowed_per_address_count:
            return
        self._slowed_count += 1
        trouble.waiting_count += 1
        try:
            await self._pause(limits.refused_pause_s * 2**doubling_count)
        finally:
            self._slowed_count -= 1
            trouble.waiting_count -= 1

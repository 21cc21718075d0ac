"""Values that are made of files and made anew when the files change: passwords, certificates, keys.

A file that is gone, empty or half-written for a moment breaks nothing: the last good value stays. Looking costs one
stat(2) for each file, and a small read where something has changed, so that it may be done wherever a value is used.
Knows nothing of what the values are for.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, unique
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

FINGERPRINT_KEY = secrets.token_bytes(32)
"""Security: new in each process, so that a fingerprint says nothing to whoever has not got the key."""
_YOUNG_NS = 2_000_000_000
"""So soon after a change another one may leave no trace: time stamps go in steps, of two seconds at worst."""
_RETRY_S = 1.0
"""How often files that can't be used are tried again although nothing shows that they have changed."""
_PATIENCE_COUNT = 3
"""How often files are read that are written meanwhile."""


@unique
class Look(Enum):
    """What came of a look at the files."""

    UNCHANGED = "unchanged"
    RENEWED = "renewed"
    FAILED = "failed"


class FileState(NamedTuple):
    """What tells one content of a path from the next, also where a link or a folder on the way was exchanged."""

    device: int
    inode: int
    modified_ns: int
    changed_ns: int
    size_bytes: int
    is_regular: bool


_Observe = Callable[["Renewed[T]", Exception | None], None]


@dataclass(frozen=True, slots=True)
class _Taken(Generic[T]):
    """What is in use."""

    value: T
    fingerprints: tuple[bytes, ...]
    at_s: float
    """When it was taken, in seconds since 1970."""


class Renewed(Generic[T]):
    """A value made of some files; without files it never changes."""

    def __init__(
        self, place: str, files: Sequence[str], make: Callable[[tuple[bytes, ...]], T], *, max_bytes: int = 1 << 24
    ) -> None:
        """`make` gets what the files hold, in their order; what it raises says that they can't be used.

        `place` tells where the configuration names the files. No file may hold more than `max_bytes`.
        """
        self.place = place
        self.files = tuple(files)
        self.failure: Exception | None = None
        """Why the files can't be used now; the value is that of before."""
        self.failing_since_s = 0.0
        """Since when, in seconds since 1970."""
        self.observe: _Observe[T] | None = None
        """Called after each renewal, and once when a failure begins, with the error."""
        self._make = make
        self._max_bytes = max_bytes
        self._taken: _Taken[T] | None = None
        self._seen: tuple[FileState, ...] | None = None
        """The state of the files when they were last read."""
        self._is_suspect = True
        self._retry_at_s = 0.0

    def read(self) -> T:
        """The value of the files as they are, or the last good one. Raises what `make` raises if there was none."""
        self.look()
        if self._taken is None:
            assert self.failure is not None  # noqa: S101 - there is one of the two
            raise self.failure
        return self._taken.value

    def suspect(self) -> None:
        """Have the next look read the files, whatever their time stamps say: what they hold was refused."""
        self._is_suspect = True

    def look(self, *, at_once: bool = False) -> Look:
        """Take the files anew if they have changed; `at_once` tries also what has failed a moment ago."""
        try:
            if not self._must_read(at_once=at_once):
                return Look.FAILED if self.failure is not None else Look.UNCHANGED
            taken = self._take()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the files, what runs goes on
            self._note_failure(error)
            return Look.FAILED
        was_first, had_failed = self._taken is None, self.failure is not None
        is_same = self._taken is not None and taken.fingerprints == self._taken.fingerprints
        self.failure = None
        if is_same:
            return Look.UNCHANGED
        self._taken = taken
        if self.observe is not None and (not was_first or had_failed):
            self.observe(self, None)
        return Look.RENEWED

    @property
    def fingerprints(self) -> tuple[bytes, ...]:
        """A keyed hash of what is used of each file; empty before the first reading."""
        return self._taken.fingerprints if self._taken is not None else ()

    @property
    def why_failed(self) -> str:
        """Why the files can't be used now, with the name of the one at fault where there are several; else nothing."""
        if self.failure is None:
            return ""
        file = self.failure.filename if isinstance(self.failure, OSError) else None
        return f"{file} {explain(self.failure)}" if file and len(self.files) > 1 else explain(self.failure)

    @property
    def taken_at_s(self) -> float | None:
        """When that was taken, in seconds since 1970."""
        return self._taken.at_s if self._taken is not None else None

    def _must_read(self, *, at_once: bool) -> bool:
        if self._taken is not None and not self.files:
            return False
        seen, self._seen = self._seen, None  # what is gone for a moment is read when it is back
        states = tuple(map(_state, self.files))
        self._seen = seen
        if self._taken is not None and not all(state.is_regular for state in states):
            return False  # what comes out of a pipe comes once
        if at_once or self._is_suspect or states != self._seen:
            return True
        if self.failure is not None:
            return time.monotonic() >= self._retry_at_s
        return any(time.time_ns() - state.changed_ns < _YOUNG_NS for state in states)

    def _take(self) -> _Taken[T]:
        """Read the files, and again where somebody was writing meanwhile."""
        for _ in range(_PATIENCE_COUNT):
            before = tuple(map(_state, self.files))
            contents = tuple(_read(file, self._max_bytes) for file in self.files)
            fingerprints = tuple(map(fingerprint, contents))
            self._seen, self._is_suspect = before, False
            if self._taken is not None and fingerprints == self._taken.fingerprints:
                return self._taken
            value = self._make(contents)
            if tuple(map(_state, self.files)) == before or not all(state.is_regular for state in before):
                return _Taken(value, fingerprints, time.time())
        raise ValueError("is being written just now")

    def _note_failure(self, error: Exception) -> None:
        self._retry_at_s = time.monotonic() + _RETRY_S
        is_news, self.failure = self.failure is None, error
        if is_news:
            self.failing_since_s = time.time()
        if is_news and self.observe is not None:
            self.observe(self, error)

    def __repr__(self) -> str:
        return f"Renewed({self.place})"


def explain(error: Exception) -> str:
    """Why a file can't be used, as it goes on after the file's name."""
    if isinstance(error, OSError) and type(error).__module__ == "builtins" and error.strerror is not None:
        return f"can't be read: {error.strerror}; let the service's user read the file"
    return str(error)


def current(value: T | Renewed[T]) -> T:
    """The value itself, or what its files hold now."""
    return value.read() if isinstance(value, Renewed) else value


def fingerprint(content: bytes, key: bytes = FINGERPRINT_KEY) -> bytes:
    """A keyed hash by which two contents of a file can be compared."""
    return hashlib.blake2b(content, key=key, digest_size=32).digest()


def _state(file: str) -> FileState:
    found = os.stat(file)  # noqa: PTH116 - a path as it was configured
    is_regular = stat.S_ISREG(found.st_mode)
    return FileState(found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size, is_regular)


def _read(file: str, max_bytes: int) -> bytes:
    with open(file, "rb") as opened:  # noqa: PTH123 - as above
        content = opened.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"holds more than {max_bytes} bytes, which is too much")
    return content

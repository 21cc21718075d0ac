"""The store of snapshots in an SQLite database, which outlives the process, a kill and a power cut.

Everything that touches the disk runs in one thread of its own, one call after the other. The connection is opened by
the first call that needs it, and anew after every failure: a disk that fails for a while, or is full when the service
starts, costs errors and no restart. Where a load or a save finds damage, the database is set aside at once.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, Self, TypeVar

from bridge.errors import BridgeError, StateUnavailable
from bridge.state import records
from bridge.state.failures import is_damage, lost, unavailable
from bridge.state.opening import DATABASE_NAME, StateFiles, lock_folder
from bridge.state.rows import Known, delete_snapshot, read_snapshot, verify_rows, write_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bridge.model import Report
    from bridge.snapshots.store import Snapshot

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


class SqliteSnapshotStore:
    """Snapshots in the database of a state directory; made by `open` or `open_read_only`."""

    def __init__(self, files: StateFiles, lock: int | None) -> None:
        self._files = files
        self._lock = lock
        """A descriptor of the locked folder; None where nothing is written."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="state")
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None
        self._may_write = False
        self._known: dict[str, Known] = {}
        self._closed = False

    @classmethod
    def open(cls, folder: Path, clock: Callable[[], float] = time.time) -> Self:
        """The store of the folder, which is made where it is missing; no other one has it open for writing.

        A database that is missing, damaged or unreadable shows with the first call of a method, and is no error here.
        Raises `ConfigurationError` where another process has the folder, or it can't be used at all.
        """
        return cls(StateFiles(folder, clock), lock_folder(folder))

    @classmethod
    def open_read_only(cls, folder: Path, clock: Callable[[], float] = time.time) -> Self:
        """What is kept in the folder, beside a service that may run; nothing is written, made or set aside.

        Where there is no database, the store is empty. Methods that write raise `StateUnavailable`. Not for a process
        that has the folder open for writing: closing a file ends every lock that the process has on it.
        """
        return cls(StateFiles(folder, clock), None)

    async def load(self, directory: str) -> Snapshot | None:
        """The snapshot that was saved last, or None where none ever was, or it was forgotten.

        Raises `StateLost` where the database was damaged, since when nobody said that the directory may be forgotten.
        """
        return await self._in_thread(self._load, directory)

    async def save(self, snapshot: Snapshot) -> None:
        """The snapshot is on the disk; only what differs from the one before was written. Raises like `load`."""
        await self._in_thread(self._save, snapshot)

    async def forget(self, directory: str) -> None:
        """Nothing is known of the directory any more, and nothing is missed either."""
        await self._in_thread(self._forget, directory)

    async def directories(self) -> tuple[str, ...]:
        """The names of all directories of which a snapshot is kept, sorted."""
        return await self._in_thread(self._transact, records.read_directories)

    async def reports(self, directory: str) -> tuple[Report, ...]:
        """The reports of the last snapshots, the newest first."""
        return await self._in_thread(self._transact, partial(records.read_reports, directory=directory))

    async def load_holders(self, endpoint: str) -> Mapping[str, str]:
        """Which directory holds each contested name; none where the database was lost."""
        return await self._in_thread(self._transact, partial(records.read_holders, endpoint=endpoint))

    async def save_holders(self, endpoint: str, holders: Mapping[str, str]) -> None:
        """The holders take the place of those before."""
        work = partial(records.write_holders, endpoint=endpoint, holders=dict(holders))
        await self._in_thread(self._transact, work, writes=True)

    async def aclose(self) -> None:
        """The thread and the connection have ended, and the folder is free for another process."""
        if not self._closed:
            self._closed = True
            await self._in_thread(self._disconnect)
            self._thread.shutdown()
            if self._lock is not None:
                os.close(self._lock)

    async def _in_thread(
        self, call: Callable[Arguments, Result], *arguments: Arguments.args, **options: Arguments.kwargs
    ) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, partial(call, *arguments, **options))

    # What follows runs in the thread.

    def _load(self, directory: str) -> Snapshot | None:
        found = self._transact(partial(_read, directory=directory))
        if found is None:
            return None
        snapshot, known = found
        if known is None:
            self._known.pop(directory, None)
        else:
            self._known[directory] = known
        return snapshot

    def _save(self, snapshot: Snapshot) -> None:
        known = self._known.get(snapshot.directory)
        self._known[snapshot.directory] = self._transact(partial(_write, snapshot=snapshot, known=known), writes=True)

    def _forget(self, directory: str) -> None:
        self._transact(partial(_delete, directory=directory), writes=True)
        self._known.pop(directory, None)

    def _transact(self, work: Callable[[sqlite3.Connection], Result], *, writes: bool = False) -> Result:
        """What the work returns, in one transaction that takes effect as a whole or not at all."""
        if writes and self._lock is None:
            raise StateUnavailable(f"{self._files.folder} was opened for reading only")
        try:
            connection = self._connect(writes=writes)
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException as error:
            # A connection that failed is not used again: what it left unfinished is played back by the next one.
            self._disconnect()
            if isinstance(error, Exception) and (failure := self._failure(error)) is not None:
                raise failure from error
            raise
        return result

    def _failure(self, error: Exception) -> BridgeError | None:
        """What to raise for an error, with a damaged database set aside; None for the error itself."""
        if not is_damage(error):
            return unavailable(error, self._files.folder)
        if self._lock is None:
            return lost(DATABASE_NAME)
        try:
            return lost(self._files.replace(error))
        except (sqlite3.Error, OSError) as another:
            return unavailable(another, self._files.folder)

    def _connect(self, *, writes: bool) -> sqlite3.Connection:
        """The connection to what stands under the database's name now: it may have been put back from a copy."""
        is_current = self._files.identity == self._identity and (self._may_write or not writes)
        if self._connection is None or not is_current:
            self._disconnect()
            self._connection = self._files.open() if self._lock is not None else self._files.open_read_only()
            self._identity, self._may_write = self._files.identity, self._files.may_be_written
            verify_rows(self._connection)
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.rollback()
            connection.close()


def _read(connection: sqlite3.Connection, directory: str) -> tuple[Snapshot, Known | None] | None:
    records.refuse_if_lost(connection, directory)
    return read_snapshot(connection, directory)


def _write(connection: sqlite3.Connection, snapshot: Snapshot, known: Known | None) -> Known:
    records.refuse_if_lost(connection, snapshot.directory)
    written = write_snapshot(connection, snapshot, known)
    records.add_report(connection, snapshot.report, snapshot.directory)
    return written


def _delete(connection: sqlite3.Connection, directory: str) -> None:
    delete_snapshot(connection, directory)
    records.note_forgotten(connection, directory)

"""The file of the database: found, made, opened, and set aside where it is damaged.

At every moment, whatever ends the process, the file under the database's name is a whole database or was one, and a
database that is set aside leaves a trace: nobody takes its absence for "nothing was ever kept". Knows no snapshot.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

from bridge.errors import ConfigurationError, StateUnavailable
from bridge.state.failures import SIGNS_OF_DAMAGE, Damaged, is_damage, lost
from bridge.state.schema import APPLICATION_ID, SCHEMA, Schema, create, identify, verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DATABASE_NAME = "state.sqlite3"
_BESIDE = ("-journal", "-wal", "-shm")
"""What SQLite puts beside a database; the last two belong to databases of other programs alone."""
_SET_ASIDE = ".damaged-"
_BUSY_TIMEOUT_S = 10.0  # a command that reads 100,000 users holds up a save for less than a second
_CACHE_KIB = 1024  # what a save has in memory at most, beside the roster


def lock_folder(folder: Path) -> int:
    """A descriptor of the folder; as long as it is open, no other one can be had in this way.

    The folder itself is locked: that works where nothing can be written, leaves no file, and ends with the process.
    Raises `ConfigurationError`.
    """
    try:
        _make_folder(folder)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        problem = f"state.directory: {folder} can't be used: {error.strerror}; make the folder for the service's user"
        raise ConfigurationError((problem,)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        problem = (
            f"state.directory: {folder} is in use by another service; end that one, or give each a folder of its own"
        )
        raise ConfigurationError((problem,)) from error
    return descriptor


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    _sync(folder.parent)


@dataclass(frozen=True, slots=True)
class StateFiles:
    """The files of one state directory; only the holder of its lock calls what writes."""

    folder: Path
    clock: Callable[[], float]
    schema: Schema = SCHEMA

    @property
    def database(self) -> Path:
        """The database, whether or not it is there."""
        return self.folder / DATABASE_NAME

    @property
    def identity(self) -> tuple[int, int] | None:
        """What another file under the same name would not have; None where there is none."""
        try:
            found = self.database.lstat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    @property
    def may_be_written(self) -> bool:
        """Whether a connection that is opened now could write: SQLite opens what it can't write to for reading."""
        return os.access(self.database, os.W_OK, effective_ids=True)

    def open(self) -> sqlite3.Connection:
        """A connection to a whole database, which is new where there was none or a damaged one.

        Raises `StateLost` where a damaged one can't be set aside, `StateUnavailable`, `OSError`, `sqlite3.Error`.
        """
        if self.identity is None:
            self._make(self._lost_before())
        try:
            return self._connect("rw")
        except SIGNS_OF_DAMAGE as error:
            if not is_damage(error):
                raise
            self.replace(error)
        return self._connect("rw")

    def open_read_only(self) -> sqlite3.Connection:
        """A connection that never writes: to the database, or to an empty one in memory where there is none.

        That one says where the database was lost.
        """
        if self.identity is None:
            return self._in_memory(self._newest_set_aside())
        try:
            return self._connect("ro")
        except SIGNS_OF_DAMAGE as error:
            if not is_damage(error):
                raise
            return self._in_memory(DATABASE_NAME)

    def replace(self, damage: Exception) -> str:
        """The damaged database stands under another name, which is returned; a new one tells that it was lost."""
        set_aside = f"{DATABASE_NAME}{_SET_ASIDE}{datetime.fromtimestamp(self.clock(), UTC):%Y%m%dT%H%M%SZ}"
        while os.path.lexists(self.folder / set_aside):
            set_aside += "+"
        try:
            self.database.rename(self.folder / set_aside)
        except OSError as error:
            words = damage if isinstance(damage, Damaged) else type(damage).__name__  # sqlite3 quotes what it found
            raise lost(f"{self.database} ({words}); it can't be renamed: {error.strerror}") from damage
        # A kill from here on leaves no database but one that was set aside: the next opening goes on from there.
        self._set_rest_aside(set_aside)
        self._make(set_aside)
        return set_aside

    def _lost_before(self) -> str | None:
        """The name of what was set aside by a process that was killed before it had made a new database."""
        return self._set_rest_aside(self._newest_set_aside())

    def _newest_set_aside(self) -> str | None:
        try:
            names = [file.name for file in self.folder.iterdir()]
        except FileNotFoundError:
            return None
        found = [name for name in names if name.startswith(DATABASE_NAME + _SET_ASIDE) and not name.endswith(_BESIDE)]
        orphans = [name for name in names if name in {DATABASE_NAME + ending for ending in _BESIDE}]
        return max(found or orphans, default=None)

    def _set_rest_aside(self, set_aside: str | None) -> str | None:
        """Nothing is there that SQLite would play back into a new database; it stands beside its own."""
        for ending in _BESIDE:
            rest = self.folder / (DATABASE_NAME + ending)
            if os.path.lexists(rest):
                if set_aside is None or set_aside.endswith(_BESIDE):
                    set_aside = f"{DATABASE_NAME}{_SET_ASIDE}unknown"
                rest.rename(self.folder / (set_aside + ending))
        _sync(self.folder)
        return set_aside

    def _make(self, set_aside: str | None) -> None:
        """A database without snapshots is there, which was whole and on the disk before it got its name."""
        unfinished = self.folder / f"{DATABASE_NAME}.new"
        for ending in ("", *_BESIDE):
            (self.folder / (unfinished.name + ending)).unlink(missing_ok=True)
        try:
            _make_file(unfinished, self.folder.stat())
            with closing(_connect(unfinished, "rw")) as connection:
                _make_durable(connection)
                create(connection, self.schema, set_aside)
            _sync(unfinished)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        unfinished.rename(self.database)
        _sync(self.folder)

    def _connect(self, mode: str) -> sqlite3.Connection:
        found = self.database.stat()
        if not stat.S_ISREG(found.st_mode):
            raise Damaged("it is no file")
        if found.st_size == 0:  # SQLite would take it for a new database
            raise Damaged("it is empty")
        if mode == "ro":
            self._check_log()
        connection = _connect(self.database, mode)
        try:
            identify(connection)
            if mode == "rw":
                _make_durable(connection)
            verify(connection, self.schema, may_write=mode == "rw")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_log(self) -> None:
        """The database has no write-ahead log, for which SQLite makes files even where it only reads.

        Ours never has one, unless somebody has changed its mode.
        """
        with self.database.open("rb") as file:
            header = file.read(100)  # sqlite.org/fileformat.html, 1.3: the versions stand at 18, the application at 68
        if header[18:20] == b"\x02\x02" or (self.folder / f"{DATABASE_NAME}-wal").exists():
            if header[68:72] == APPLICATION_ID.to_bytes(4, "big"):
                raise StateUnavailable(
                    "the database has a write-ahead log", remedy="Start the service, which takes it in."
                )
            raise Damaged("it is a database of another program")

    def _in_memory(self, set_aside: str | None) -> sqlite3.Connection:
        connection = sqlite3.connect(":memory:", isolation_level=None)
        create(connection, self.schema, set_aside)
        return connection


def _connect(file: Path, mode: str) -> sqlite3.Connection:
    """A connection that begins no transaction by itself; the file must be there."""
    uri = f"file:{quote(str(file.absolute()))}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
    try:
        for statement in (f"cache_size = -{_CACHE_KIB}", "trusted_schema = OFF", "cell_size_check = ON"):
            connection.execute(f"PRAGMA {statement}")
    except BaseException:
        connection.close()
        raise
    return connection


def _make_durable(connection: sqlite3.Connection) -> None:
    """What is committed outlives a power cut.

    In DELETE mode a transaction is committed by deleting the journal. "EXTRA synchronous is like FULL with the addition
    that the directory containing a rollback journal is synced after that journal is unlinked to commit a transaction in
    DELETE mode" (sqlite.org/pragma.html#pragma_synchronous): with FULL the journal could be back after a power cut, and
    take an accepted listing back that MailStore has seen. A write-ahead log would need two more files beside the
    database, and a folder that even a reader can write to.
    """
    connection.execute("PRAGMA journal_mode = DELETE")
    connection.execute("PRAGMA synchronous = EXTRA")


def _make_file(file: Path, folder: os.stat_result) -> None:
    """An empty file, for its owner alone; what root makes belongs to the folder's owner, who must write to it later."""
    descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    try:
        if os.geteuid() == 0:
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    """What was written to the file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

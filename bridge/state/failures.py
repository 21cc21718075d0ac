"""What goes wrong with a database, told apart: damage, which is for ever, and a disk that fails for now.

Knows no table and no path.
"""

from __future__ import annotations

import errno
import sqlite3
from typing import TYPE_CHECKING

from bridge.errors import BridgeError, StateLost, StateUnavailable

if TYPE_CHECKING:
    from pathlib import Path

RESET_REMEDY = (
    "Check with `mailstore-bridge diff` that the directory shows everybody, then run `mailstore-bridge removals reset`."
)
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DAMAGE_WITHOUT_A_CODE = ("Could not decode to UTF-8", "unsupported file format")
_MAKE_WRITABLE = (
    "The service's user must be able to write to this folder and its files, on a file system that is writable; "
    "commands need the rights of this user, or of root."
)
_REMEDIES = {
    sqlite3.SQLITE_FULL: "Make room on its file system; the next refresh tries again.",
    sqlite3.SQLITE_READONLY: _MAKE_WRITABLE,
    sqlite3.SQLITE_CANTOPEN: _MAKE_WRITABLE,
    sqlite3.SQLITE_READONLY_ROLLBACK: "Start the service: it ended while it was writing, and goes on from there.",
    sqlite3.SQLITE_PERM: _MAKE_WRITABLE,
    sqlite3.SQLITE_BUSY: "End the program that has the database open; the next refresh tries again.",
    sqlite3.SQLITE_LOCKED: "End the program that has the database open; the next refresh tries again.",
}
_READ_ONLY = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MAKE_AGAIN = (
    "Make this folder again, for the service's user alone. Don't restart the service before: it still knows what it "
    "has listed, and keeps it there with the next refresh."
)
_OTHER_REMEDY = "Look for errors of the disk in the system's log; the next refresh tries again."


class Damaged(Exception):
    """The database is not, or not any more, what was written."""


SIGNS_OF_DAMAGE = (Damaged, sqlite3.DatabaseError, UnicodeDecodeError)
"""What `is_damage` looks at."""


def is_damage(error: BaseException) -> bool:
    """Whether the file's content is at fault, rather than the disk, the rights, or this program."""
    if isinstance(error, (Damaged, UnicodeDecodeError)):  # sqlite3 itself quotes what it found, and fails to
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", None)  # Python's own errors have none
    return (code is not None and code & 0xFF in _DAMAGE) or str(error).startswith(_DAMAGE_WITHOUT_A_CODE)


def unavailable(error: Exception, folder: Path) -> BridgeError | None:
    """What to raise for an error of the disk; None where it is a fault of this program."""
    if isinstance(error, OSError):
        return StateUnavailable(f"{folder}: {error.strerror or error}", remedy=_remedy_for(error))
    code = getattr(error, "sqlite_errorcode", None)
    if isinstance(error, sqlite3.OperationalError) and code is not None and code & 0xFF != sqlite3.SQLITE_ERROR:
        remedy = _REMEDIES.get(code) or _REMEDIES.get(code & 0xFF, _OTHER_REMEDY)
        return StateUnavailable(f"{folder}: {error}", remedy=remedy)
    return None


def _remedy_for(error: OSError) -> str:
    if error.errno in _FULL:
        return _REMEDIES[sqlite3.SQLITE_FULL]
    if error.errno == errno.ENOENT:
        return _MAKE_AGAIN
    return _MAKE_WRITABLE if error.errno in _READ_ONLY else _OTHER_REMEDY


def lost(set_aside: str) -> StateLost:
    """What to raise while nobody knows what stood in a database."""
    return StateLost(f"the database was damaged and is kept as {set_aside}", remedy=RESET_REMEDY)

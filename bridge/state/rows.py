"""A snapshot as rows, so that a save writes only what has changed, and back; each of them sealed by a checksum.

Whoever calls has begun a transaction, and ends it.
"""

from __future__ import annotations

import struct
from contextlib import closing
from hashlib import blake2b
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from bridge.roster.comparison import differences
from bridge.roster.roster import Roster
from bridge.snapshots.store import Snapshot
from bridge.state.encoding import (
    PARTS,
    parse_guard,
    parse_report,
    render_decisions,
    render_report,
    render_text,
)
from bridge.state.failures import Damaged

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from bridge.removals.model import GuardState
    from bridge.state.encoding import Part, Value

_PORTION_COUNT = 500
_CHECKSUM_BYTES = 16
_FIRST_PARTS_COUNT = 4
"""The parts of the first version; what has come later changes a checksum only where it holds something."""


class Known(NamedTuple):
    """What a directory's rows hold, in the very objects that the program has in memory anyway."""

    roster: Roster
    roster_checksum: bytes
    guard: GuardState
    checksum: bytes
    """Of the rows: they hold something else where theirs is another one."""


_COLUMNS = "key, taken_at_s, report, guard, user_count, checksum, seal"


class _Row(NamedTuple):
    """A row of `directories`."""

    key: int
    taken_at_s: float
    report: str
    guard: str
    user_count: int
    checksum: bytes
    seal: bytes


def write_snapshot(connection: sqlite3.Connection, snapshot: Snapshot, known: Known | None) -> Known:
    """The directory's rows hold the snapshot; `known` is what this returned last, or `read_snapshot` did."""
    row = _find(connection, snapshot.directory)
    if row is None or (known is not None and known.checksum != row.checksum):
        known = None
    key = row.key if row else _free_key(connection)
    if known is None:
        _delete_all(connection, key)
        _insert_users(connection, key, snapshot.roster)
    elif known.roster is not snapshot.roster:
        _change_users(connection, key, known.roster, snapshot.roster)
    for part in PARTS:
        _write_part(connection, key, part, (known.guard if known else None, snapshot.guard))
    same = known is not None and known.roster is snapshot.roster
    roster_checksum = known.roster_checksum if known and same else _checksum_of(snapshot.roster)
    checksum = _checksum(roster_checksum, _rendered_parts(snapshot.guard))
    _write_row(connection, key, snapshot, checksum)
    return Known(snapshot.roster, roster_checksum, snapshot.guard, checksum)


def read_snapshot(connection: sqlite3.Connection, directory: str) -> tuple[Snapshot, Known | None] | None:
    """The directory's snapshot, or None where there is none; without `Known`, the next save has to write it whole.

    Raises `Damaged`.
    """
    row = _find(connection, directory)
    if row is None:
        return None
    try:
        with closing(_read_portions(connection, row.key)) as portions:
            roster = Roster(portions)
        parts = tuple(_read_part(connection, row.key, part) for part in PARTS)
        roster_checksum = _checksum_of(roster)
        checksum = _checksum(roster_checksum, parts)
    except (TypeError, struct.error) as error:  # a value is of another kind
        raise Damaged(f"the users of the directory {directory} can't be read: {type(error).__name__}") from error
    if len(roster) != row.user_count or checksum != row.checksum:
        raise Damaged(f"the users of the directory {directory} are not those that were written")
    guard = parse_guard(row.guard, parts)
    snapshot = Snapshot(directory, roster, row.taken_at_s, parse_report(row.report), guard)
    if _checksum(roster_checksum, _rendered_parts(guard)) != checksum:
        return snapshot, None  # another version of the program wrote it, in other words
    return snapshot, Known(roster, roster_checksum, guard, checksum)


def verify_rows(connection: sqlite3.Connection) -> None:
    """Every row of `directories` is what was written, above all its name. Raises `Damaged`."""
    for (directory,) in connection.execute("SELECT name FROM directories").fetchall():
        _find(connection, directory)


def delete_snapshot(connection: sqlite3.Connection, directory: str) -> None:
    """No row of the directory is left."""
    found = connection.execute("SELECT key FROM directories WHERE name = ?", (directory,)).fetchone()
    if found is not None:
        _delete_all(connection, found[0])
        connection.execute("DELETE FROM reports WHERE directory = ?", found)
        connection.execute("DELETE FROM directories WHERE name = ?", (directory,))


def _find(connection: sqlite3.Connection, directory: str) -> _Row | None:
    found = connection.execute(
        "SELECT key, taken_at_s, report, guard, user_count, checksum, seal FROM directories WHERE name = ?",
        (directory,),
    ).fetchone()
    if found is None:
        return None
    row = _Row(*found)
    try:
        seal = _seal(directory, row)
    except (TypeError, AttributeError, ValueError, struct.error):  # a value is of another kind
        seal = None
    if seal != row.seal:
        raise Damaged(f"what is noted of the directory {directory} is not what was written")
    return row


def _free_key(connection: sqlite3.Connection) -> int:
    (key,) = connection.execute("SELECT coalesce(max(key), 0) + 1 FROM directories").fetchone()
    return int(key)


def _write_row(connection: sqlite3.Connection, key: int, snapshot: Snapshot, checksum: bytes) -> None:
    report, decisions = render_report(snapshot.report), render_decisions(snapshot.guard)
    row = _Row(key, snapshot.taken_at_s, report, decisions, len(snapshot.roster), checksum, b"")
    connection.execute(
        f"INSERT OR REPLACE INTO directories (name, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (snapshot.directory, *row[:-1], _seal(snapshot.directory, row)),
    )


def _delete_all(connection: sqlite3.Connection, key: int) -> None:
    for table in ("users", *(part.table for part in PARTS)):
        connection.execute(f"DELETE FROM {table} WHERE directory = ?", (key,))  # noqa: S608 - our own tables' names


def _insert_users(connection: sqlite3.Connection, key: int, roster: Roster) -> None:
    connection.executemany(
        "INSERT INTO users (directory, name, id, json) VALUES (?, ?, ?, ?)",
        ((key, name.encode(), roster.id_of(position), roster.json_of(position)) for name, position in roster.rows()),
    )


def _change_users(connection: sqlite3.Connection, key: int, earlier: Roster, later: Roster) -> None:
    """What differs is told by names, which are the rows' keys: an id may have moved to another name."""
    for position, other in differences(earlier, later):
        if other is not None:
            connection.execute(
                "INSERT OR REPLACE INTO users (directory, name, id, json) VALUES (?, ?, ?, ?)",
                (key, later.name_of(other).encode(), later.id_of(other), later.json_of(other)),
            )
        elif position is not None:
            name = earlier.name_of(position).encode()
            connection.execute("DELETE FROM users WHERE directory = ? AND name = ?", (key, name))


def _read_portions(connection: sqlite3.Connection, key: int) -> Generator[tuple[list[bytes], list[bytes]]]:
    with closing(connection.execute("SELECT id, json FROM users WHERE directory = ? ORDER BY name", (key,))) as rows:
        while portion := rows.fetchmany(_PORTION_COUNT):
            yield [row[0] for row in portion], [row[1] for row in portion]


def _write_part(
    connection: sqlite3.Connection, key: int, part: Part, guards: tuple[GuardState | None, GuardState]
) -> None:
    before = part.of(guards[0]) if guards[0] is not None else {}
    after = part.of(guards[1])
    if before is after:
        return
    connection.executemany(
        f"DELETE FROM {part.table} WHERE directory = ? AND key = ?",  # noqa: S608 - our own tables' names
        ((key, render_text(gone)) for gone in before if gone not in after),
    )
    connection.executemany(
        f"INSERT OR REPLACE INTO {part.table} (directory, key, value) VALUES (?, ?, ?)",  # noqa: S608
        (
            (key, render_text(name), part.render(value))
            for name, value in after.items()
            if name not in before or before[name] != value
        ),
    )


def _read_part(connection: sqlite3.Connection, key: int, part: Part) -> dict[bytes, Value]:
    statement = f"SELECT key, value FROM {part.table} WHERE directory = ? ORDER BY key"  # noqa: S608
    return dict(connection.execute(statement, (key,)))


def _checksum_of(roster: Roster) -> bytes:
    """What any change of a user or an id would change."""
    digest = blake2b(roster.json, digest_size=_CHECKSUM_BYTES)
    positions = iter(range(len(roster)))
    while portion := [roster.id_of(position) for position in islice(positions, _PORTION_COUNT)]:
        digest.update(b"".join(struct.pack(">I", len(user_id)) + user_id for user_id in portion))
    return digest.digest()


def _checksum(roster_checksum: bytes, parts: Iterable[Mapping[bytes, Value]]) -> bytes:
    """What any change of a roster, or of what the guard remembers of its users, would change."""
    digest = blake2b(roster_checksum, digest_size=_CHECKSUM_BYTES)
    for number, rows in enumerate(parts):
        if number >= _FIRST_PARTS_COUNT and not rows:
            continue
        digest.update(struct.pack(">I", len(rows)))
        for key, value in rows.items():
            _update(digest, key, value)
    return digest.digest()


def _rendered_parts(guard: GuardState) -> Iterator[dict[bytes, Value]]:
    """The rows of each part, in order of their keys; one part at a time is in memory."""
    for part in PARTS:
        found = part.of(guard)
        yield {render_text(name): part.render(found[name]) for name in sorted(found)}


def _seal(directory: str, row: _Row) -> bytes:
    digest = blake2b(digest_size=_CHECKSUM_BYTES)
    _update(digest, render_text(directory), float(row.key), row.taken_at_s, float(row.user_count), row.checksum)
    _update(digest, render_text(row.report), render_text(row.guard))
    return digest.digest()


def _update(digest: blake2b, *values: Value) -> None:
    for value in values:
        # SQLite gives the negative zero back as zero, and so does adding zero to it.
        data = value if isinstance(value, bytes) else struct.pack(">d", value + 0.0)
        digest.update(struct.pack(">I", len(data)) + data)

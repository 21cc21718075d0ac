"""The tables in which snapshots are kept, how a file is told to be ours, and how older ones are brought up to date.

Knows no path: whoever calls has a connection.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from bridge.errors import StateUnavailable
from bridge.state.failures import Damaged

APPLICATION_ID = 0x4D_4C_42_31  # "MLB1"; a signed 32-bit number that no other program is known to use


@dataclass(frozen=True, slots=True)
class Schema:
    """The tables of the newest version, and what leads there from version 1."""

    statements: tuple[str, ...]
    migrations: tuple[tuple[str, ...], ...] = ()
    """The first one leads from version 1 to version 2, and so on."""

    @property
    def version(self) -> int:
        """The newest version."""
        return 1 + len(self.migrations)


_LAST_SEEN_AT = """CREATE TABLE last_seen_at (
            directory INTEGER NOT NULL,
            key BLOB NOT NULL,
            value NOT NULL,
            PRIMARY KEY (directory, key)
        ) WITHOUT ROWID"""

# Names and ids are octets: they are compared as such, and an id may hold anything. A table without rowid is one tree,
# ordered by its key, so that a roster is read in its order and needs no index beside it.
SCHEMA = Schema(
    (
        """CREATE TABLE directories (
            name TEXT NOT NULL PRIMARY KEY,
            key INTEGER NOT NULL,
            taken_at_s REAL NOT NULL,
            report TEXT NOT NULL,
            guard TEXT NOT NULL,
            user_count INTEGER NOT NULL,
            checksum BLOB NOT NULL,
            seal BLOB NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE users (
            directory INTEGER NOT NULL,
            name BLOB NOT NULL,
            id BLOB NOT NULL,
            json BLOB NOT NULL,
            PRIMARY KEY (directory, name)
        ) WITHOUT ROWID""",
        *(
            f"""CREATE TABLE {table} (
            directory INTEGER NOT NULL,
            key BLOB NOT NULL,
            value NOT NULL,
            PRIMARY KEY (directory, key)
        ) WITHOUT ROWID"""
            for table in ("withheld", "last_seen", "recent_removals", "former_names")
        ),
        _LAST_SEEN_AT,
        """CREATE TABLE reports (
            directory INTEGER NOT NULL,
            number INTEGER NOT NULL,
            report TEXT NOT NULL,
            PRIMARY KEY (directory, number)
        ) WITHOUT ROWID""",
        """CREATE TABLE holders (
            endpoint TEXT NOT NULL,
            name TEXT NOT NULL,
            directory TEXT NOT NULL,
            PRIMARY KEY (endpoint, name)
        ) WITHOUT ROWID""",
        # One row says that an earlier database was lost; then, `forgotten` has the directories that nobody misses.
        "CREATE TABLE lost (set_aside TEXT NOT NULL)",
        "CREATE TABLE forgotten (directory TEXT NOT NULL PRIMARY KEY) WITHOUT ROWID",
    ),
    migrations=((_LAST_SEEN_AT,),),
)


def create(connection: sqlite3.Connection, schema: Schema, set_aside: str | None) -> None:
    """An empty database has the tables, and the mark that an earlier one was lost where there was one."""
    connection.execute("BEGIN EXCLUSIVE")
    for statement in schema.statements:
        connection.execute(statement)
    if set_aside is not None:
        connection.execute("INSERT INTO lost VALUES (?)", (set_aside,))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {schema.version}")
    connection.execute("COMMIT")


def identify(connection: sqlite3.Connection) -> None:
    """The database was made by this program. Raises `Damaged`."""
    if _read(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise Damaged("it is not a database of this program")


def verify(connection: sqlite3.Connection, schema: Schema, *, may_write: bool) -> None:
    """The database is whole and of the newest version.

    Raises `Damaged`, or `StateUnavailable` where another version of the program has to do with it.
    """
    version = int(_read(connection, "PRAGMA user_version"))
    if version > schema.version:
        raise StateUnavailable(
            f"the database has version {version}, and this program knows versions up to {schema.version}",
            remedy="Install the newer version of the program again; the database was left as it is.",
        )
    finding = _read(connection, "PRAGMA integrity_check(1)")
    if finding != "ok":
        raise Damaged(finding)
    if version < schema.version and version > 0:
        _migrate(connection, schema, version, may_write=may_write)
    if version < 1 or _describe(connection) != _expected(schema):
        raise Damaged("it has other tables than those of this program")


def _migrate(connection: sqlite3.Connection, schema: Schema, version: int, *, may_write: bool) -> None:
    """The database has the newest version, or, after a failure, the one that it had."""
    if not may_write:
        raise StateUnavailable(
            f"the database has version {version}, and this program reads version {schema.version}",
            remedy="Start the service, which brings it up to date.",
        )
    connection.execute("BEGIN EXCLUSIVE")
    try:
        for statements in schema.migrations[version - 1 :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {schema.version}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _read(connection: sqlite3.Connection, pragma: str) -> Any:
    """The one value of a pragma."""
    (value,) = connection.execute(pragma).fetchone()
    return value


def _describe(connection: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    """The columns of each table."""
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {name: connection.execute("SELECT * FROM pragma_table_info(?)", (name,)).fetchall() for (name,) in tables}


def _expected(schema: Schema) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        create(connection, schema, None)
        return _describe(connection)

"""What is kept beside the snapshots: reports, holders of contested names, and the mark that a database was lost.

Whoever calls has begun a transaction, and ends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.snapshots.store import REPORTS_MAX_COUNT
from bridge.state.encoding import parse_report, render_report
from bridge.state.failures import lost

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from bridge.model import Report


def refuse_if_lost(connection: sqlite3.Connection, directory: str) -> None:
    """The directory was not lost, or the operator has said that it may be forgotten. Raises `StateLost`."""
    mark = connection.execute(
        "SELECT set_aside FROM lost WHERE NOT EXISTS (SELECT 1 FROM forgotten WHERE directory = ?)", (directory,)
    ).fetchone()
    if mark is not None:
        raise lost(mark[0])


def note_forgotten(connection: sqlite3.Connection, directory: str) -> None:
    """The directory is not missed any more, where a database was lost."""
    connection.execute("INSERT OR IGNORE INTO forgotten SELECT ? WHERE EXISTS (SELECT 1 FROM lost)", (directory,))


def read_directories(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The names of all directories, sorted."""
    return tuple(sorted(name for (name,) in connection.execute("SELECT name FROM directories")))


def read_reports(connection: sqlite3.Connection, directory: str) -> tuple[Report, ...]:
    """The reports of a directory, the newest first."""
    rows = connection.execute(
        "SELECT reports.report FROM reports JOIN directories ON reports.directory = directories.key "
        "WHERE name = ? ORDER BY number DESC",
        (directory,),
    )
    return tuple(parse_report(text) for (text,) in rows)


def add_report(connection: sqlite3.Connection, report: Report, directory: str) -> None:
    """The report is the newest one of the directory, and the oldest ones are gone."""
    (key,) = connection.execute("SELECT key FROM directories WHERE name = ?", (directory,)).fetchone()
    newest = connection.execute(
        "SELECT number, report FROM reports WHERE directory = ? ORDER BY number DESC LIMIT 1", (key,)
    ).fetchone()
    if newest is not None and parse_report(newest[1]) == report:
        return
    number = newest[0] + 1 if newest else 1
    connection.execute("INSERT INTO reports VALUES (?, ?, ?)", (key, number, render_report(report)))
    connection.execute("DELETE FROM reports WHERE directory = ? AND number <= ?", (key, number - REPORTS_MAX_COUNT))


def read_holders(connection: sqlite3.Connection, endpoint: str) -> Mapping[str, str]:
    """Which directory holds each contested name of an endpoint."""
    return dict(connection.execute("SELECT name, directory FROM holders WHERE endpoint = ?", (endpoint,)))


def write_holders(connection: sqlite3.Connection, endpoint: str, holders: Mapping[str, str]) -> None:
    """The holders take the place of those before."""
    if read_holders(connection, endpoint) != holders:
        connection.execute("DELETE FROM holders WHERE endpoint = ?", (endpoint,))
        connection.executemany(
            "INSERT INTO holders VALUES (?, ?, ?)", ((endpoint, name, holder) for name, holder in holders.items())
        )

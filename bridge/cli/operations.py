"""What the operator says to the running service, or to what it has left: status, refresh, removals.

With no service running, what concerns removals works on the state directory itself, and no directory is asked.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.errors import ServiceError
from bridge.events import RemovalsApproved, RemovalsReset
from bridge.ops.logs import log_observer, make_logger
from bridge.run import find_control_socket, make_bridge, state_folder
from bridge.state.sqlite_store import SqliteSnapshotStore
from bridge.web.control_client import ask_service
from bridge.web.documents import render_removals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.config.loading import Loaded
    from bridge.events import Event
    from bridge.service import Bridge

    Work = Callable[[Bridge], Awaitable[dict[str, Any]]]

_ROWS_MAX_COUNT = 200
_COLORS = {"ok": "green", "degraded": "yellow", "unavailable": "red"}
_KINDS = {"missing": "the user", "addresses": "addresses", "renamed": "the user name"}


def read_status(loaded: Loaded) -> dict[str, Any]:
    """How the running service fares. Raises `ServiceError` where none runs."""
    return _ask(loaded, "GET", "/status")


def refresh(loaded: Loaded, directory: str | None) -> dict[str, Any]:
    """The reports of the listings that the running service has made now. Raises `ServiceError`."""
    return _ask(loaded, "POST", "/refresh", {"directory": directory} if directory else {})


def read_removals(loaded: Loaded) -> dict[str, Any]:
    """What is withheld."""

    async def read(bridge: Bridge) -> dict[str, Any]:
        loaded_ones = [await snapshots.load() for snapshots in bridge.directories.values()]
        return render_removals(snapshot for snapshot in loaded_ones if snapshot is not None)

    return _ask_or_do(loaded, "GET", "/removals", {}, read)


def approve_removals(loaded: Loaded, digest: str) -> dict[str, Any]:
    """What was approved; `report` is that of the refresh which has carried it out, or None."""

    async def approve(bridge: Bridge) -> dict[str, Any]:
        directory, count = await bridge.approve(digest)
        return {"directory": directory, "digest": digest, "count": count, "report": None}

    return _ask_or_do(loaded, "POST", "/removals/approve", {"digest": digest}, approve)


def reset_removals(loaded: Loaded, directory: str) -> None:
    """The earlier listing of a directory is forgotten."""

    async def reset(bridge: Bridge) -> dict[str, Any]:
        await bridge.reset(directory)
        return {"directory": directory}

    _ask_or_do(loaded, "POST", "/removals/reset", {"directory": directory}, reset)


def read_throttle(loaded: Loaded) -> dict[str, Any]:
    """Who is held back. Raises `ServiceError` where no service runs: nothing of this outlives one."""
    return _ask(loaded, "GET", "/throttle")


def clear_throttle(loaded: Loaded, user: str) -> int:
    """How many users have been freed. Raises `ServiceError` where no service runs."""
    found: int = _ask(loaded, "POST", "/throttle/clear", {"user": user})["released_count"]
    return found


def _ask(loaded: Loaded, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    socket = find_control_socket(loaded, os.environ)
    found = asyncio.run(ask_service(socket, method, path, body))
    if found is None:
        detail = f"No service listens at {socket}. Start it, or name its socket in admin.socket."
        raise ServiceError("not_running", detail, temporary=True)
    return found


def _ask_or_do(loaded: Loaded, method: str, path: str, body: dict[str, Any], work: Work) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        found = await ask_service(find_control_socket(loaded, os.environ), method, path, body)
        return found if found is not None else await _do(loaded, work)

    return asyncio.run(run())


async def _do(loaded: Loaded, work: Work) -> dict[str, Any]:
    """Works on the state directory, which nobody else may have; what happens stands in the log on standard error."""
    log = loaded.configuration.log
    write = log_observer(make_logger(log.level, log.format, sys.stderr, {}), usernames=log.usernames)

    def observe(event: Event) -> None:
        if isinstance(event, RemovalsApproved | RemovalsReset):  # what the operator does, and nothing of servers
            write(event)

    bridge = make_bridge(loaded, observe, SqliteSnapshotStore.open(state_folder(loaded, os.environ)))
    try:
        return await work(bridge)
    finally:
        await bridge.aclose()


def print_json(found: object) -> None:
    """The document on standard output, indented."""
    click.echo(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())


def show_status(found: dict[str, Any]) -> None:
    """Prints how the service fares: endpoints with their problems, directories with their last refresh."""
    console = Console()
    for endpoint in found["endpoints"]:
        status = endpoint["status"]
        console.print(f"{escape(endpoint['path'])}: [{_COLORS[status]}]{status}[/]")
        for problem in endpoint["problems"]:
            text = f"  {problem['directory']}, since {problem['since']}: {problem['message']} {problem['remedy']}"
            console.print(escape(text), soft_wrap=True)
    table = Table("Directory", "Users", "Age", "Withheld", "Last refresh", "New, gone, renamed")
    for directory in found["directories"]:
        report = next(iter(directory["reports"]), None)
        users, age_s = directory["user_count"], directory["age_s"]
        row = [
            directory["directory"],
            "-" if users is None else f"{users:,}",
            "-" if age_s is None else f"{age_s:.0f} s",
            str(directory["withheld_count"]),
        ]
        if report is not None:
            counts = (report[f"{name}_count"] for name in ("added", "removed", "renamed"))
            row += [report["finished_at"], ", ".join(f"{count:,}" for count in counts)]
        table.add_row(*map(escape, row))
    console.print(table)


def show_reports(found: dict[str, Any]) -> None:
    """Prints what a refresh has found, a line for each directory."""
    for report in found["reports"]:
        counts = ", ".join(
            f"{report[f'{name}_count']:,} {name}"
            for name in ("added", "changed", "removed", "renamed", "withheld")
            if report[f"{name}_count"]
        )
        click.echo(
            f"{report['directory']}: {report['user_count']:,} users of {report['entry_count']:,} entries "
            f"from {report['server']} in {report['duration_s']:.1f} s; {counts or 'nothing has changed'}"
        )


def show_removals(found: dict[str, Any]) -> None:
    """Prints what is withheld, why, and the command that approves it."""
    if not found["directories"]:
        click.echo("Nothing is withheld.")
    for directory in found["directories"]:
        show_removal_table(directory["withheld"], f"{directory['directory']}: withheld since {directory['since']}")
        count = len(directory["withheld"])
        click.echo(f"{count} of {directory['user_count']} users. If all of this is right:")
        click.echo(f"  mailstore-bridge removals approve {directory['digest']}")
        if directory["approved"]:
            click.echo("It is approved, and goes through with the next refresh that shows the same.")


def show_held_back(found: dict[str, Any]) -> None:
    """Prints who is held back, and until when."""
    if not found["held_back"]:
        click.echo("Nobody is held back.")
        return
    table = Table("User name, as it was typed last", "Directory", "Wrong passwords", "Held back until")
    for each in found["held_back"]:
        cells = (each["userName"], each["directory"], str(each["failure_count"]), each["until"])
        table.add_row(*map(escape, cells))
    Console().print(table)


def show_removal_table(removals: list[dict[str, Any]], title: str) -> None:
    """Prints removals, the first few hundred of them."""
    table = Table("User name", "What is lost", "Reason", "Detail", title=title, title_justify="left")
    for removal in removals[:_ROWS_MAX_COUNT]:
        lost = ", ".join(removal.get("lost", ())) or _KINDS[removal["kind"]]
        if "newName" in removal:
            lost += f", now {removal['newName']}"
        cells = (removal["userName"], lost, removal["reason"], removal.get("detail", ""))
        table.add_row(*map(escape, cells))
    Console().print(table)
    if len(removals) > _ROWS_MAX_COUNT:
        click.echo(f"… and {len(removals) - _ROWS_MAX_COUNT:,} more; --json has all of them.")

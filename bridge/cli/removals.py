"""`removals`: what is withheld, and the operator's word.

With no service running, the commands work on the state directory itself, and no directory is asked.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.cli.options import config_option, json_option, load_configuration, print_json
from bridge.cli.service_calls import ask_or_do
from bridge.cli.status import show_reports
from bridge.documents import render_removals

if TYPE_CHECKING:
    from bridge.config.loading import Loaded
    from bridge.service import Bridge

_ROWS_MAX_COUNT = 200
_KINDS = {"missing": "the user", "addresses": "addresses", "renamed": "the user name"}


@click.group("removals")
def removals_group() -> None:
    """Look at removals that are withheld, and decide about them.

    Works with the running service; where none runs, on what it has left in the state directory.
    """


@removals_group.command("show")
@config_option
@json_option
def show_command(config_path: str, as_json: bool) -> None:
    """Print what is withheld and why, and what approves it."""
    found = read_removals(load_configuration(config_path))
    (print_json if as_json else show_removals)(found)


@removals_group.command("approve")
@config_option
@json_option
@click.argument("digest")
def approve_command(config_path: str, as_json: bool, digest: str) -> None:
    """Let exactly the removals with this DIGEST happen.

    `removals show` prints it. If others have come or some are gone by then, nothing happens.
    """
    found = approve_removals(load_configuration(config_path), digest)
    if as_json:
        print_json(found)
        return
    click.echo(f"{found['count']} removals of {found['directory']} are approved.")
    if found["report"] is not None:
        show_reports({"reports": [found["report"]]})
    else:
        click.echo(found.get("message") or "They happen with the next refresh that shows the same.")


@removals_group.command("reset")
@config_option
@click.option("--directory", metavar="NAME", help="Only this one, be it configured or not; default: all configured.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def reset_command(config_path: str, directory: str | None, yes: bool) -> None:
    """Forget the earlier listing, and take the next one as it is.

    Whoever is missing from it is gone: look at `diff` and `list` before.
    """
    loaded = load_configuration(config_path)
    names = [directory] if directory else [section.name for section in loaded.configuration.directories]
    if not yes and sys.stdin.isatty():
        click.confirm(f"The next listing of {', '.join(names)} will be believed, however short. Go on?", abort=True)
    for name in names:
        reset_removals(loaded, name)
        click.echo(f"The next listing of {name} counts as the first.")


def read_removals(loaded: Loaded) -> dict[str, Any]:
    """What is withheld."""

    async def read(bridge: Bridge) -> dict[str, Any]:
        loaded_ones = [await snapshots.load() for snapshots in bridge.directories.values()]
        return render_removals(snapshot for snapshot in loaded_ones if snapshot is not None)

    return ask_or_do(loaded, "GET", "/removals", {}, read)


def approve_removals(loaded: Loaded, digest: str) -> dict[str, Any]:
    """What was approved; `report` is that of the refresh which has carried it out, or None."""

    async def approve(bridge: Bridge) -> dict[str, Any]:
        directory, count = await bridge.approve(digest)
        return {"directory": directory, "digest": digest, "count": count, "report": None}

    return ask_or_do(loaded, "POST", "/removals/approve", {"digest": digest}, approve)


def reset_removals(loaded: Loaded, directory: str) -> None:
    """The earlier listing of a directory is forgotten."""

    async def reset(bridge: Bridge) -> dict[str, Any]:
        await bridge.reset(directory)
        return {"directory": directory}

    ask_or_do(loaded, "POST", "/removals/reset", {"directory": directory}, reset)


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


def show_removal_table(removals: list[dict[str, Any]], title: str) -> None:
    """Prints removals, the first few hundred of them."""
    table = Table("User name", "What is lost", "Reason", "Held by", "Detail", title=title, title_justify="left")
    for removal in removals[:_ROWS_MAX_COUNT]:
        lost = ", ".join(removal.get("lost", ())) or _KINDS[removal["kind"]]
        if "newName" in removal:
            lost += f", now {removal['newName']}"
        cells = (removal["userName"], lost, removal["reason"], removal["held_by"], removal.get("detail", ""))
        table.add_row(*map(escape, cells))
    Console().print(table)
    if len(removals) > _ROWS_MAX_COUNT:
        click.echo(f"… and {len(removals) - _ROWS_MAX_COUNT:,} more; --json has all of them.")

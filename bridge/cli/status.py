"""`status` and `refresh`: how the running service fares, and what its directories hold now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bridge.cli.options import FINDINGS, UNAVAILABLE, config_option, json_option, load_configuration, print_json
from bridge.cli.service_calls import ask

if TYPE_CHECKING:
    from bridge.config.loading import Loaded

_COLORS = {"ok": "green", "degraded": "yellow", "unavailable": "red"}


@click.command("status")
@config_option
@json_option
def status_command(config_path: str, as_json: bool) -> None:
    """Tell how the running service fares.

    Ends with 1 where something is wrong, with 69 where an endpoint can't answer or no service runs.
    """
    found = read_status(load_configuration(config_path))
    (print_json if as_json else show_status)(found)
    sys.exit({"ok": 0, "degraded": FINDINGS}.get(found["status"], UNAVAILABLE))


@click.command("refresh")
@config_option
@json_option
@click.option("--directory", metavar="NAME", help="Only this one.")
def refresh_command(config_path: str, as_json: bool, directory: str | None) -> None:
    """Have the running service list the directories now."""
    found = refresh(load_configuration(config_path), directory)
    (print_json if as_json else show_reports)(found)


def read_status(loaded: Loaded) -> dict[str, Any]:
    """How the running service fares. Raises `ServiceError` where none runs."""
    return ask(loaded, "GET", "/status")


def refresh(loaded: Loaded, directory: str | None) -> dict[str, Any]:
    """The reports of the listings that the running service has made now. Raises `ServiceError`."""
    return ask(loaded, "POST", "/refresh", {"directory": directory} if directory else {})


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

"""`status` and `refresh`: how the running service fares, and what its directories hold now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.options import FINDINGS, UNAVAILABLE, check_word, config_option, json_option, load_configuration
from bridge.cli.output import is_terminal, print_json, say, write_record
from bridge.cli.service_calls import ask
from bridge.cli.tables import Column, show_table

if TYPE_CHECKING:
    from bridge.config.loading import Loaded

_COLORS = {"ok": "green", "degraded": "yellow", "unavailable": "red"}
_COLUMNS = (
    Column("Directory"),
    Column("Users"),
    Column("Age"),
    Column("Withheld"),
    Column("Last refresh"),
    Column("New, gone, renamed"),
)


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
@click.option("--directory", metavar="NAME", callback=check_word, help="Only this one.")
def refresh_command(config_path: str, as_json: bool, directory: str | None) -> None:
    """Have the running service list the directories now."""
    found = refresh(load_configuration(config_path), directory)
    (print_json if as_json else show_reports)(found)


def read_status(loaded: Loaded) -> dict[str, Any]:
    """How the running service fares. Raises `ServiceError` where none runs."""
    return ask(loaded, "GET", "/status")


def refresh(loaded: Loaded, directory: str | None) -> dict[str, Any]:
    """The reports of the listings that the running service has made now. Raises `ServiceError`."""
    return ask(loaded, "POST", "/refresh", {"directory": directory} if directory is not None else {})


def show_status(found: dict[str, Any]) -> None:
    """Prints how the service fares: endpoints with their problems, directories with their last refresh."""
    (_say_health if is_terminal() else _write_health)(found["endpoints"])
    show_table(_COLUMNS, list(map(_row, found["directories"])), kind="directory")


def _say_health(endpoints: list[dict[str, Any]]) -> None:
    """Each problem with its remedy, which several may have in common, and which is told once."""
    told = set()
    for endpoint in endpoints:
        say(f"{endpoint['path']}: {endpoint['status']}", _COLORS[endpoint["status"]])
        for problem in endpoint["problems"]:
            place = f"{problem['directory']}, " if problem["directory"] else ""
            say(f"  {place}since {problem['since']}: {_what_happened(problem)}")
            if problem["remedy"] and problem["remedy"] not in told:
                say(f"    {problem['remedy']}")
            told.add(problem["remedy"])


def _write_health(endpoints: list[dict[str, Any]]) -> None:
    for endpoint in endpoints:
        write_record("endpoint", endpoint["path"], endpoint["status"])
        for problem in endpoint["problems"]:
            place = (endpoint["path"], problem["directory"], problem["code"], problem["since"])
            write_record("problem", *place, _what_happened(problem), problem["remedy"])


def _what_happened(problem: dict[str, Any]) -> str:
    """The message without the remedy, with which it ends where it is that of an error."""
    message, remedy = problem["message"], problem["remedy"]
    return str(message.removesuffix(".").removesuffix(remedy.removesuffix(".")).rstrip() if remedy else message)


def _row(directory: dict[str, Any]) -> list[str]:
    users, age_s = directory["user_count"], directory["age_s"]
    row = [
        directory["directory"],
        "-" if users is None else f"{users}",
        "-" if age_s is None else f"{age_s:.0f} s",
        str(directory["withheld_count"]),
    ]
    report = next(iter(directory["reports"]), None)
    if report is None:
        return [*row, "-", "-"]
    counts = (report[f"{name}_count"] for name in ("added", "removed", "renamed"))
    return [*row, report["finished_at"], ", ".join(map(str, counts))]


def show_reports(found: dict[str, Any]) -> None:
    """Prints what a refresh has found, a line for each directory."""
    for report in found["reports"]:
        counts = ", ".join(
            f"{report[f'{name}_count']:,} {name}"
            for name in ("added", "changed", "removed", "renamed", "withheld")
            if report[f"{name}_count"]
        )
        say(
            f"{report['directory']}: {report['user_count']:,} users of {report['entry_count']:,} entries "
            f"from {report['server']} in {report['duration_s']:.1f} s; {counts or 'nothing has changed'}"
        )

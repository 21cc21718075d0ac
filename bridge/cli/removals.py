"""`removals`: what is withheld, and the operator's word.

With no service running, the commands work on the state directory itself, and no directory is asked.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.options import FINDINGS, check_word, config_option, json_option, load_configuration
from bridge.cli.output import is_terminal, note, print_json, say
from bridge.cli.service_calls import ask_or_do, ask_or_look
from bridge.cli.status import show_reports
from bridge.cli.tables import Column, show_table
from bridge.operations import Operations
from bridge.syntax.controls import escape_controls

if TYPE_CHECKING:
    from bridge.config.loading import Loaded

_ROWS_MAX_COUNT = 200
_COLUMNS = (
    Column("User name"),
    Column("What is lost", is_prose=True),
    Column("Reason"),
    Column("Held by"),
    Column("Detail", is_prose=True),
)
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
@click.argument("digest", callback=check_word)
def approve_command(config_path: str, as_json: bool, digest: str) -> None:
    """Let exactly the removals with this DIGEST happen.

    `removals show` prints it. If others have come or some are gone by then, nothing happens.
    """
    found = approve_removals(load_configuration(config_path), digest)
    if as_json:
        print_json(found)
        return
    say(f"{found['count']} removals of {found['directory']} are approved.")
    if found["report"] is not None:
        show_reports({"reports": [found["report"]]})
    else:
        say(found.get("message") or "They happen with the next refresh that shows the same.")


@removals_group.command("reset")
@config_option
@click.option(
    "--directory",
    metavar="NAME",
    callback=check_word,
    help="Only this one, be it configured or not; default: all configured.",
)
@click.option("--yes", is_flag=True, help="Don't ask.")
def reset_command(config_path: str, directory: str | None, yes: bool) -> None:
    """Forget the earlier listing, and take the next one as it is.

    Whoever is missing from it is gone: look at `diff` and `list` before.
    """
    loaded = load_configuration(config_path)
    names = [directory] if directory is not None else [section.name for section in loaded.configuration.directories]
    if not yes and not _is_confirmed(names):
        say("Nothing was changed.")
        sys.exit(FINDINGS)
    for name in names:
        reset_removals(loaded, name)
        say(f"The next listing of {name} counts as the first.")


def _is_confirmed(names: list[str]) -> bool:
    """The operator's answer. Raises `UsageError` where nobody can be asked."""
    if not sys.stdin.isatty():
        raise click.UsageError(
            "Nothing was changed: there is no terminal to ask whether the next listing may be believed, however short. "
            "Look at `diff` and `list`, then say --yes."
        )
    question = f"The next listing of {escape_controls(', '.join(names))} will be believed, however short. Go on?"
    return click.confirm(question, err=True)


def read_removals(loaded: Loaded) -> dict[str, Any]:
    """What is withheld."""
    return ask_or_look(loaded, "/removals", Operations.removals)


def approve_removals(loaded: Loaded, digest: str) -> dict[str, Any]:
    """What was approved; `report` is that of the refresh which has carried it out, or None."""
    return ask_or_do(loaded, "/removals/approve", {"digest": digest}, lambda operations: operations.approve(digest))


def reset_removals(loaded: Loaded, directory: str) -> None:
    """The earlier listing of a directory is forgotten."""
    ask_or_do(loaded, "/removals/reset", {"directory": directory}, lambda operations: operations.reset(directory))


def show_removals(found: dict[str, Any]) -> None:
    """Prints what is withheld, why, and the command that approves it."""
    if not found["directories"]:
        note("Nothing is withheld.")
    for directory in found["directories"]:
        name = directory["directory"]
        show_removal_table(name, directory["withheld"], f"{name}: withheld since {directory['since']}")
        count = len(directory["withheld"])
        note(f"{count} of {directory['user_count']} users. If all of this is right:")
        note(f"  mailstore-bridge removals approve {directory['digest']}")
        if directory["approved"]:
            note("It is approved, and goes through with the next refresh that shows the same.")


def show_removal_table(directory: str, removals: list[dict[str, Any]], title: str) -> None:
    """Prints removals: all of them as records, on a terminal the first few hundred."""
    shown = removals[:_ROWS_MAX_COUNT] if is_terminal() else removals
    show_table(_COLUMNS, [_row(removal) for removal in shown], title=title, kind=directory)
    if len(removals) > len(shown):
        note(f"… and {len(removals) - len(shown):,} more; --json has all of them.")


def _row(removal: dict[str, Any]) -> tuple[str, ...]:
    lost = ", ".join(removal.get("lost", ())) or _KINDS[removal["kind"]]
    if "newName" in removal:
        lost += f", now {removal['newName']}"
    return removal["userName"], lost, removal["reason"], removal["held_by"], removal.get("detail", "")

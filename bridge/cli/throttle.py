"""`throttle`: who is held back by lock-out protection, and who is to be freed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.options import FINDINGS, check_word, config_option, json_option, load_configuration
from bridge.cli.output import note, print_json, say
from bridge.cli.service_calls import ask
from bridge.cli.tables import Column, show_table

if TYPE_CHECKING:
    from bridge.config.loading import Loaded

_COLUMNS = (
    Column("User name"),
    Column("Directory"),
    Column("Failed"),
    Column("Unknown"),
    Column("Refused"),
    Column("Held back"),
    Column("Until"),
)


@click.group("throttle")
def throttle_group() -> None:
    """Look at who is held back by lock-out protection, and free somebody."""


@throttle_group.command("show")
@config_option
@json_option
def show_throttle_command(config_path: str, as_json: bool) -> None:
    """Print whose passwords are not tried for a while, and what else is remembered of failed logins."""
    found = read_throttle(load_configuration(config_path))
    (print_json if as_json else show_throttle)(found)


@throttle_group.command("clear")
@config_option
@click.argument("user", callback=check_word)
def clear_throttle_command(config_path: str, user: str) -> None:
    """Have the passwords of USER tried again.

    USER is the name that was typed, the user name, or the id. Ends with 1 where nobody was held back by it.
    """
    count = clear_throttle(load_configuration(config_path), user)
    say(f"{count} freed." if count else f"Nobody is held back as {user}.")
    sys.exit(0 if count else FINDINGS)


def read_throttle(loaded: Loaded) -> dict[str, Any]:
    """Who is held back. Raises `ServiceError` where no service runs: nothing of this outlives one."""
    return ask(loaded, "GET", "/throttle")


def clear_throttle(loaded: Loaded, user: str) -> int:
    """How many users have been freed. Raises `ServiceError` where no service runs."""
    found: int = ask(loaded, "POST", "/throttle/clear", {"user": user})["released_count"]
    return found


def show_throttle(found: dict[str, Any]) -> None:
    """Print who is held back and until when, and of whom else failures are remembered."""
    if not found["remembered"]:
        note("Nobody is held back, and no failure is remembered.")
        return
    if not found["held_back"]:
        note("Nobody is held back.")
    rows = []
    for each in found["remembered"]:
        counts = (str(each[f"{name}_count"]) for name in ("failure", "unknown", "refused"))
        held = "yes" if each["is_held_back"] else "no"
        rows.append((each["userName"], each["directory"], *counts, held, each["until"]))
    show_table(_COLUMNS, rows)

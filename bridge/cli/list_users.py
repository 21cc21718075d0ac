"""`list`: what MailStore would get, as a table, as JSON, or as CSV."""

from __future__ import annotations

import asyncio
import csv
import io
import sys
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from bridge.cli.drafts import bridge_over, open_draft
from bridge.cli.options import choose_endpoint, config_option, endpoint_option, json_option, load_configuration
from bridge.cli.output import is_terminal, note, print_document, write, write_bytes
from bridge.cli.tables import Column, show_table
from bridge.events import ListingProgressed
from bridge.run.build import require_endpoint
from bridge.syntax.controls import escape_controls

if TYPE_CHECKING:
    from bridge.config.loading import Loaded
    from bridge.events import Event
    from bridge.mailstore import ListAnswer

_TABLE_MAX_COUNT = 1000
_COLUMNS = (Column("User name"), Column("Full name"), Column("E-mail addresses"))
_FIELDS = ("userName", "fullName", "emailAddresses", "distinguishedName")
_FORMULA_BEGINNINGS = ("=", "+", "-", "@")


@click.command("list")
@config_option
@endpoint_option
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), help="Default: table.")
@json_option
def list_command(config_path: str, endpoint: str | None, form: str | None, as_json: bool) -> None:
    """Print what MailStore would get.

    Fresh from the directories, with progress on a terminal. `--json` is `--format json`.
    """
    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} don't go together.")
    loaded = load_configuration(config_path)
    listing = asyncio.run(list_endpoint(loaded, choose_endpoint(loaded, endpoint)))
    show_listing(listing, "json" if as_json else form or "table")


async def list_endpoint(loaded: Loaded, endpoint: str) -> ListAnswer:
    """A fresh listing, with its progress on standard error where that is a terminal."""
    require_endpoint(loaded, endpoint)
    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        tasks = {
            section.name: progress.add_task(f"{escape(section.name)}: connecting", total=None)
            for section in loaded.configuration.directories
        }

        def observe(event: Event) -> None:
            if isinstance(event, ListingProgressed):
                text = f"{escape(event.directory)}: {event.entry_count:,} entries in {event.page_count} pages"
                progress.update(tasks[event.directory], description=text)

        async with bridge_over(open_draft(loaded), loaded, observe) as bridge:
            await bridge.load()
            for name in bridge.directories_of(endpoint):
                await bridge.refresh(name)
            return await bridge.list_users(endpoint, compressed=False)


def show_listing(listing: ListAnswer, form: str) -> None:
    """Prints a listing on standard output; `json` gives exactly the bytes that MailStore would get."""
    if form == "json":
        print_document(listing.body)
        return
    users = orjson.loads(listing.body)
    if form == "csv":
        _show_csv(users)
        return
    rows = [(user["userName"], user.get("fullName", ""), tuple(user.get("emailAddresses", ()))) for user in users]
    if len(rows) > _TABLE_MAX_COUNT and is_terminal():
        _show_long(rows)
    else:
        show_table(_COLUMNS, rows)
    note(f"{listing.user_count} users")


def _show_csv(users: list[dict[str, Any]]) -> None:
    """UTF-8 whatever the locale is: what isn't in it would be another name."""
    lines = io.StringIO()
    writer = csv.writer(lines)
    writer.writerow(_FIELDS)
    for user in users:
        found = {**user, "emailAddresses": " ".join(user.get("emailAddresses", ()))}
        values = [found.get(name, "") for name in _FIELDS]
        writer.writerow(_make_harmless(escape_controls(value)) for value in values)
    write_bytes(lines.getvalue().encode())


def _make_harmless(cell: str) -> str:
    """The cell with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA_BEGINNINGS) else cell


def _show_long(rows: list[tuple[str, str, tuple[str, ...]]]) -> None:
    """A table without frames: rich would take minutes for a hundred thousand rows."""
    cells = [
        (escape_controls(name), escape_controls(full), escape_controls(", ".join(all_))) for name, full, all_ in rows
    ]
    name_width = max(cell_len(name) for name, _, _ in cells)
    full_width = max(cell_len(full_name) for _, full_name, _ in cells)
    for name, full_name, addresses in cells:
        write(f"{set_cell_size(name, name_width)}  {set_cell_size(full_name, full_width)}  {addresses}\n")

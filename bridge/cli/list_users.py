"""`list`: what MailStore would get, as a table, as JSON, or as CSV."""

from __future__ import annotations

import asyncio
import csv
import sys
from typing import TYPE_CHECKING

import click
import orjson
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from bridge.cli.drafts import open_draft
from bridge.cli.options import choose_endpoint, config_option, endpoint_option, load_configuration
from bridge.events import ListingProgressed
from bridge.run.build import make_bridge, require_endpoint

if TYPE_CHECKING:
    from bridge.config.loading import Loaded
    from bridge.events import Event
    from bridge.mailstore import ListAnswer

_TABLE_MAX_COUNT = 1000


@click.command("list")
@config_option
@endpoint_option
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def list_command(config_path: str, endpoint: str | None, form: str) -> None:
    """Print what MailStore would get.

    Fresh from the directories, with progress on a terminal.
    """
    loaded = load_configuration(config_path)
    show_listing(asyncio.run(list_endpoint(loaded, choose_endpoint(loaded, endpoint))), form)


async def list_endpoint(loaded: Loaded, endpoint: str) -> ListAnswer:
    """A fresh listing, with its progress on standard error where that is a terminal."""
    require_endpoint(loaded, endpoint)
    console = Console(stderr=True)
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks = {
            section.name: progress.add_task(f"{section.name}: connecting", total=None)
            for section in loaded.configuration.directories
        }

        def observe(event: Event) -> None:
            if isinstance(event, ListingProgressed):
                text = f"{event.directory}: {event.entry_count:,} entries in {event.page_count} pages"
                progress.update(tasks[event.directory], description=text)

        bridge = make_bridge(loaded, observe, open_draft(loaded))
        try:
            await bridge.load()
            for name in bridge.directories_of(endpoint):
                await bridge.refresh(name)
            return await bridge.list_users(endpoint, compressed=False)
        finally:
            await bridge.aclose()


def show_listing(listing: ListAnswer, form: str) -> None:
    """Prints a listing on standard output; `json` gives exactly the bytes that MailStore would get."""
    if form == "json":
        sys.stdout.buffer.write(listing.body)
        return
    users = orjson.loads(listing.body)
    if form == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(("userName", "fullName", "emailAddresses", "distinguishedName"))
        for user in users:
            addresses = " ".join(user.get("emailAddresses", ()))
            writer.writerow((user["userName"], user.get("fullName", ""), addresses, user["distinguishedName"]))
        return
    rows = [(user["userName"], user.get("fullName", ""), user.get("emailAddresses", ())) for user in users]
    if len(rows) > _TABLE_MAX_COUNT:
        _show_long(rows)
    else:
        table = Table("User name", "Full name", "E-mail addresses")
        for name, full_name, addresses in rows:
            table.add_row(escape(name), escape(full_name), escape("\n".join(addresses)))
        Console().print(table)
    click.echo(f"{listing.user_count} users")


def _show_long(rows: list[tuple[str, str, list[str]]]) -> None:
    """A table without frames: rich would take minutes for a hundred thousand rows."""
    name_width = max(cell_len(name) for name, _, _ in rows)
    full_width = max(cell_len(full_name) for _, full_name, _ in rows)
    for name, full_name, addresses in rows:
        line = f"{set_cell_size(name, name_width)}  {set_cell_size(full_name, full_width)}  {', '.join(addresses)}"
        sys.stdout.write(line + "\n")

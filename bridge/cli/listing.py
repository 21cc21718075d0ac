"""`list`: what MailStore would get, as a table, as JSON, or as CSV."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

import click
import orjson
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bridge.events import Refreshed
from bridge.run import make_bridge

if TYPE_CHECKING:
    from bridge.config.loading import Loaded
    from bridge.events import Event
    from bridge.protocol import Listing


async def list_endpoint(loaded: Loaded, endpoint: str) -> Listing:
    """A fresh listing, with its progress on standard error where that is a terminal."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("Listing …")

        def observe(event: Event) -> None:
            if isinstance(event, Refreshed):
                report = event.report
                progress.update(task, description=f"{report.directory}: {report.user_count} users")

        bridge = make_bridge(loaded, observe)
        try:
            return await bridge.list_users(endpoint, compressed=False)
        finally:
            await bridge.aclose()


def show_listing(listing: Listing, form: str) -> None:
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
    table = Table("User name", "Full name", "E-mail addresses")
    for user in users:
        table.add_row(user["userName"], user.get("fullName", ""), "\n".join(user.get("emailAddresses", ())))
    Console().print(table)
    click.echo(f"{listing.user_count} users")

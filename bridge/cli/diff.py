"""`diff`: a fresh listing beside the last accepted one, and what the guard would make of it; nothing is changed."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.drafts import bridge_over, open_draft
from bridge.cli.options import FINDINGS, config_option, json_option, load_configuration
from bridge.cli.output import is_terminal, note, print_json, say
from bridge.cli.removals import show_removal_table
from bridge.documents import render_removal, render_time
from bridge.run.build import require_directories

if TYPE_CHECKING:
    from bridge.config.loading import Loaded
    from bridge.model import User
    from bridge.snapshots.directory_snapshots import DirectorySnapshots

_LINES_MAX_COUNT = 200
_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "renamed": ("~", "yellow"), "changed": ("~", "cyan")}


@click.command("diff")
@config_option
@json_option
def diff_command(config_path: str, as_json: bool) -> None:
    """Compare the directories with what is answered now.

    Changes nothing. Ends with 1 where removals would be withheld.
    """
    found = asyncio.run(compare_directories(load_configuration(config_path)))
    (print_json if as_json else show_difference)(found)
    sys.exit(FINDINGS if found["would_withhold"] else 0)


async def compare_directories(loaded: Loaded) -> dict[str, Any]:
    """What differs in each directory. Raises a `BridgeError` where one can't be listed, or its state not be read."""
    require_directories(loaded, [section.name for section in loaded.configuration.directories])
    async with bridge_over(open_draft(loaded), loaded) as bridge:
        found = [await _compare(snapshots) for snapshots in bridge.directories.values()]
    return {"would_withhold": any(each["withheld"] for each in found), "directories": found}


async def _compare(snapshots: DirectorySnapshots) -> dict[str, Any]:
    found = await snapshots.compare_now()
    listing, review = found.listing, found.review
    earlier = None
    if found.accepted_at_s is not None:
        earlier = {"user_count": len(found.accepted), "taken_at": render_time(found.accepted_at_s)}
    changed = ((found.accepted[position], listing.roster[other]) for position, other in found.comparison.changed)
    withheld = review.guard.withheld if review is not None else ()
    return {
        "directory": snapshots.source.name,
        "earlier": earlier,
        "fresh": {"user_count": len(listing.roster), "entry_count": listing.report.entry_count},
        "added": [_render_user(listing.roster[position]) for position in found.comparison.added],
        "removed": [render_removal(removal) for removal in (review.removed if review is not None else ())],
        "changed": [
            {"userName": after.user_name, "before": _render_user(before), "after": _render_user(after)}
            for before, after in changed
        ],
        "withheld": [{**render_removal(each.removal), "held_by": each.held_by.value} for each in withheld],
        "inconsistent": list(review.inconsistent) if review is not None else [],
        "server": listing.report.server,
        "server_before": found.server_before,
        "lagging": list(review.lagging) if review is not None else [],
        "in_grace_count": review.in_grace_count if review is not None else 0,
        "collisions": sorted({*listing.contested, *(review.collisions if review is not None else ())}),
    }


def _render_user(user: User) -> dict[str, Any]:
    return {
        "userName": user.user_name,
        "fullName": user.full_name,
        "emailAddresses": list(user.email_addresses),
        "distinguishedName": user.distinguished_name,
    }


def show_difference(found: dict[str, Any]) -> None:
    """Prints what differs, a line for each user, and what would be withheld."""
    for directory in found["directories"]:
        earlier, name = directory["earlier"], directory["directory"]
        since = f"{earlier['user_count']} at {earlier['taken_at']}" if earlier else "no earlier listing"
        say(f"{name}: {directory['fresh']['user_count']} users now, {since}")
        if earlier is not None:  # everybody is new to a directory that was never listed
            _show_lines("added", [user["userName"] for user in directory["added"]])
        _show_lines("removed", [_describe(removal) for removal in directory["removed"]])
        _show_lines("changed", [_describe_change(each) for each in directory["changed"]])
        for user_name in directory["inconsistent"]:
            say(f"  {user_name} is missing from the listing and is there all the same, so the user stays")
        if directory["server_before"] is not None:
            say(f"  listed at {directory['server']}; before that, at {directory['server_before']}")
        for user_name in directory["lagging"]:
            say(f"  {user_name} is shown with less by {directory['server']}, which lags, and stays as before")
        for user_name in directory["collisions"]:
            say(f"  {user_name} is claimed by more than one entry")
        if directory["in_grace_count"]:
            say(f"  {directory['in_grace_count']} missing users would stay for removals.grace")
        if directory["withheld"]:
            show_removal_table(name, directory["withheld"], "These removals would be withheld")
    if not found["would_withhold"]:
        note("Nothing would be withheld.")


def _show_lines(kind: str, lines: list[str]) -> None:
    sign, color = _SIGNS[kind]
    shown = lines[:_LINES_MAX_COUNT] if is_terminal() else lines
    for line in shown:
        say(f"  {sign} {line}", color)
    if len(lines) > len(shown):
        say(f"  … and {len(lines) - len(shown):,} more; --json has all of them")


def _describe(removal: dict[str, Any]) -> str:
    detail = f", {removal['detail']}" if "detail" in removal else ""
    if "newName" in removal:
        return f"{removal['userName']} is {removal['newName']} now"
    if "lost" in removal:
        return f"{removal['userName']} loses {', '.join(removal['lost'])}"
    return f"{removal['userName']} ({removal['reason']}{detail})"


def _describe_change(change: dict[str, Any]) -> str:
    before, after = change["before"], change["after"]
    parts = [f"{key}: {_text(before[key])} → {_text(after[key])}" for key in after if before[key] != after[key]]
    return f"{after['userName']}  {'; '.join(parts)}"


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value or "-")

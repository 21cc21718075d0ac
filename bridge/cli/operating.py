"""The commands of the operator: what differs, how the service fares, what is withheld.

What draws tables is imported by the commands that need it: the service would hold it in memory for nothing.
"""

from __future__ import annotations

import asyncio
import sys

import click

from bridge.cli.options import FINDINGS, UNAVAILABLE, config_option, json_option, load_configuration


@click.command("diff")
@config_option
@json_option
def diff_command(config_path: str, as_json: bool) -> None:
    """Compare the directories with what is answered now.

    Changes nothing. Ends with 1 where removals would be withheld.
    """
    from bridge.cli.diff import compare_directories, show_difference
    from bridge.cli.operations import print_json

    found = asyncio.run(compare_directories(load_configuration(config_path)))
    (print_json if as_json else show_difference)(found)
    sys.exit(FINDINGS if found["would_withhold"] else 0)


@click.command("status")
@config_option
@json_option
def status_command(config_path: str, as_json: bool) -> None:
    """Tell how the running service fares.

    Ends with 1 where something is wrong, with 69 where an endpoint can't answer or no service runs.
    """
    from bridge.cli.operations import print_json, read_status, show_status

    found = read_status(load_configuration(config_path))
    (print_json if as_json else show_status)(found)
    sys.exit({"ok": 0, "degraded": FINDINGS}.get(found["status"], UNAVAILABLE))


@click.command("refresh")
@config_option
@json_option
@click.option("--directory", metavar="NAME", help="Only this one.")
def refresh_command(config_path: str, as_json: bool, directory: str | None) -> None:
    """Have the running service list the directories now."""
    from bridge.cli.operations import print_json, refresh, show_reports

    found = refresh(load_configuration(config_path), directory)
    (print_json if as_json else show_reports)(found)


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
    from bridge.cli.operations import print_json, read_removals, show_removals

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
    from bridge.cli.operations import approve_removals, print_json, show_reports

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
    from bridge.cli.operations import reset_removals

    loaded = load_configuration(config_path)
    names = [directory] if directory else [section.name for section in loaded.configuration.directories]
    if not yes and sys.stdin.isatty():
        click.confirm(f"The next listing of {', '.join(names)} will be believed, however short. Go on?", abort=True)
    for name in names:
        reset_removals(loaded, name)
        click.echo(f"The next listing of {name} counts as the first.")


@click.group("throttle")
def throttle_group() -> None:
    """Look at who is held back by lock-out protection, and free somebody."""


@throttle_group.command("show")
@config_option
@json_option
def show_throttle_command(config_path: str, as_json: bool) -> None:
    """Print whose passwords are not tried any more for a while, and until when."""
    from bridge.cli.operations import print_json, read_throttle, show_held_back

    found = read_throttle(load_configuration(config_path))
    (print_json if as_json else show_held_back)(found)


@throttle_group.command("clear")
@config_option
@click.argument("user")
def clear_throttle_command(config_path: str, user: str) -> None:
    """Have the passwords of USER tried again.

    USER is the name that was typed, the user name, or the id. Ends with 1 where nobody was held back by it.
    """
    from bridge.cli.operations import clear_throttle

    count = clear_throttle(load_configuration(config_path), user)
    click.echo(f"{count} freed." if count else f"Nobody is held back as {user}.")
    sys.exit(0 if count else FINDINGS)

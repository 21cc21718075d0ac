"""`mailstore-bridge`: the commands, and what ends as which exit code.

0 fine, 1 rejected or findings, 2 usage, 69 directory unavailable, 70 bug, 78 configuration (sysexits(3)). What draws
tables and runs the demo is imported by the commands that do so: the service would hold it in memory for nothing.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import sys
import traceback
from typing import TYPE_CHECKING

import argon2
import click

from bridge import __version__
from bridge.cli.drafts import open_draft
from bridge.cli.operating import diff_command, refresh_command, removals_group, status_command, throttle_group
from bridge.cli.options import BUG, CONFIGURATION, FINDINGS, UNAVAILABLE, config_option, json_option, load_configuration
from bridge.config.loading import json_schema, load
from bridge.errors import (
    ApprovalOutdated,
    BridgeError,
    ConfigurationError,
    DirectoryError,
    ServiceError,
    SnapshotMissing,
    StateLost,
    StateUnavailable,
)
from bridge.model import Accepted, Secret
from bridge.run import make_bridge, protect_memory, serve

if TYPE_CHECKING:
    from bridge.config.loading import Loaded
    from bridge.events import Event


def _ignore(_event: Event) -> None:
    """Commands tell what happens themselves."""


def _endpoint(loaded: Loaded, path: str | None) -> str:
    """The endpoint that is meant: the named one, or the only one."""
    paths = [endpoint.path for endpoint in loaded.configuration.endpoints]
    if path is None and len(paths) == 1:
        return paths[0]
    if path not in paths:
        raise click.UsageError(f"--endpoint must be one of {', '.join(paths)}")
    return path


_endpoint_option = click.option("--endpoint", metavar="PATH", help="The endpoint, where there are several.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mailstore-bridge")
def commands() -> None:
    """Lists the users of LDAP directories for MailStore, and checks their passwords."""


@commands.command("serve")
@config_option
def serve_command(config_path: str) -> None:
    """Run the service until SIGTERM."""
    asyncio.run(serve(load_configuration(config_path), sys.stderr))


@commands.command("demo")
@click.option("--users", default=300, show_default=True, type=click.IntRange(1, 1_000_000), help="Sample people.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Of the bridge; 0: any.")
def demo_command(users: int, port: int) -> None:
    """Start a sample directory and a bridge.

    Prints what to try; Ctrl-C ends both.
    """
    from bridge.cli.demo import run_demo

    run_demo(users, port)


@commands.command("check")
@config_option
@click.option("--offline", is_flag=True, help="Only the configuration and its files.")
@json_option
def check_command(config_path: str, offline: bool, as_json: bool) -> None:
    """Check the configuration and what it names."""
    from bridge.cli.check import check_directories, show_checks

    loaded = load(config_path, os.environ)
    found = asyncio.run(check_directories(loaded, offline=offline))
    sys.exit(FINDINGS if show_checks(found, as_json=as_json) else 0)


@commands.command("list")
@config_option
@_endpoint_option
@click.option("--format", "form", type=click.Choice(["table", "json", "csv"]), default="table", show_default=True)
def list_command(config_path: str, endpoint: str | None, form: str) -> None:
    """Print what MailStore would get.

    Fresh from the directories, with progress on a terminal.
    """
    from bridge.cli.listing import list_endpoint, show_listing

    loaded = load_configuration(config_path)
    show_listing(asyncio.run(list_endpoint(loaded, _endpoint(loaded, endpoint))), form)


@commands.command("auth")
@config_option
@_endpoint_option
@click.argument("user")
def auth_command(config_path: str, endpoint: str | None, user: str) -> None:
    """Check the password of USER.

    It is asked for on the terminal, or is the first line of standard input.
    """
    protect_memory()
    loaded = load_configuration(config_path)
    path = _endpoint(loaded, endpoint)
    if sys.stdin.isatty():
        password = getpass.getpass(f"Password of {user}: ").encode()
    else:
        password = sys.stdin.buffer.readline().removesuffix(b"\n")

    async def authenticate() -> bool:
        bridge = make_bridge(loaded, _ignore, open_draft(loaded))
        try:
            verdict = await bridge.authenticate(path, user, Secret(password))
        finally:
            await bridge.aclose()
        if isinstance(verdict, Accepted):
            click.echo(f"accepted (directory {verdict.directory}){f': {verdict.notice}' if verdict.notice else ''}")
            return True
        click.echo(f"rejected: {verdict.reason.value}")
        return False

    sys.exit(0 if asyncio.run(authenticate()) else FINDINGS)


@commands.command("hash-password")
def hash_password_command() -> None:
    """Make the argon2id hash of a password.

    It is for `callers`; the password is asked for on the terminal, or is the first line of standard input.
    """
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Once more: "):
            raise click.UsageError("the two passwords differ")
        data = password.encode()
    else:
        data = sys.stdin.buffer.readline().removesuffix(b"\n")
    if not data:
        raise click.UsageError("an empty password is none")
    click.echo(argon2.PasswordHasher().hash(data))


@commands.command("schema")
def schema_command() -> None:
    """Print the JSON schema of the configuration."""
    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))


for _command in (diff_command, status_command, refresh_command, removals_group, throttle_group):
    commands.add_command(_command)


def main() -> None:
    """Runs the command that was typed, and ends the process with its exit code."""
    try:
        commands(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ConfigurationError as error:
        click.echo(error.message, err=True)
        sys.exit(CONFIGURATION)
    except ServiceError as error:
        click.secho(error.message, fg="red", err=True)
        sys.exit(UNAVAILABLE if error.is_temporary else FINDINGS)
    except ApprovalOutdated as error:
        click.secho(error.message, fg="red", err=True)
        sys.exit(FINDINGS)
    except (DirectoryError, SnapshotMissing, StateLost, StateUnavailable) as error:
        click.secho(error.message, fg="red", err=True)
        sys.exit(UNAVAILABLE)
    except OSError as error:
        message = f"{error.strerror or error}; check the addresses in server.listen and admin.listen"
        click.secho(message, fg="red", err=True)
        sys.exit(CONFIGURATION)
    except BridgeError as error:
        click.secho(error.message, fg="red", err=True)
        sys.exit(BUG)
    except Exception as error:  # noqa: BLE001 - the last place where a bug can be told apart from a refusal
        click.echo("".join(traceback.format_exception(error)), err=True)
        click.secho(f"A bug in mailstore-bridge {__version__}; please report the lines above.", fg="red", err=True)
        sys.exit(BUG)

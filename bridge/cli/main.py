"""`mailstore-bridge`: the commands, and what ends as which exit code.

0 fine, 1 rejected or findings, 2 usage, 69 directory unavailable, 70 bug, 78 configuration (sysexits(3)). Each command
is a module that is imported when it is called: the service would hold what draws tables in memory for nothing.
"""

from __future__ import annotations

import importlib
import sys
import traceback

import click

from bridge import __version__
from bridge.cli.options import BUG, CONFIGURATION, FINDINGS, UNAVAILABLE
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

_COMMANDS = {
    "auth": "auth:auth_command",
    "check": "check:check_command",
    "demo": "demo:demo_command",
    "diff": "diff:diff_command",
    "hash-password": "hash_password:hash_password_command",
    "list": "list_users:list_command",
    "refresh": "status:refresh_command",
    "removals": "removals:removals_group",
    "schema": "schema:schema_command",
    "serve": "serve:serve_command",
    "status": "status:status_command",
    "throttle": "throttle:throttle_group",
}
"""The module in this package and the command in it, by the word that is typed."""


class _Commands(click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - as click calls it
        """The words, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as click calls it
        """The command of that word, or None."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(f"bridge.cli.{module}"), attribute)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mailstore-bridge")
def commands() -> None:
    """Lists the users of LDAP directories for MailStore, and checks their passwords."""


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

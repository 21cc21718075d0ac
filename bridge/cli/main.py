"""`mailstore-bridge`: the commands, each a module that is imported when it is called.

The service would hold what draws tables in memory for nothing. `bridge.cli.endings` says what ends as which exit code.
"""

from __future__ import annotations

import importlib
import itertools
import signal
import sys

import click

from bridge import __version__
from bridge.cli.endings import tell
from bridge.cli.options import INTERRUPTED
from bridge.cli.output import OutputFailed, finish, prepare_streams

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
    prepare_streams()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    exit_code = _run(sys.argv[1:])
    try:
        finish()
    except OutputFailed as error:
        exit_code = tell(error, as_json=False)
    sys.exit(exit_code)


def _run(arguments: list[str]) -> int:
    try:
        returned = commands.main(arguments, prog_name="mailstore-bridge", standalone_mode=False)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:  # of a help page, which click writes itself: a reader who leaves is no error
        return 0
    except Exception as error:  # noqa: BLE001 - the last place where a bug can be told apart from a refusal
        return _tell(error, arguments)
    return returned if isinstance(returned, int) else 0


def _tell(error: Exception, arguments: list[str]) -> int:
    try:
        if isinstance(error, OSError):
            finish()  # which tells whether it was about standard output
        return tell(error, as_json=_wants_json(arguments))
    except OutputFailed as another:
        return tell(another, as_json=False)


def _wants_json(arguments: list[str]) -> bool:
    """Whether a document was asked for, as far as that shows before the arguments are understood."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    is_format = ("--format", "json") in itertools.pairwise(options)
    return "--json" in options or "--format=json" in options or is_format

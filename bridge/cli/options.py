"""What the commands have in common: options, exit codes, the configuration loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from bridge.cli.output import complain
from bridge.config.loading import load
from bridge.run.permissions import permission_warnings

if TYPE_CHECKING:
    from bridge.config.loading import Loaded

FINDINGS, USAGE, UNAVAILABLE, BUG, CONFIGURATION, INTERRUPTED = 1, 2, 69, 70, 78, 130
"""Exit codes beside 0 (sysexits(3); 130 is that of a program which SIGINT has ended)."""
_DEFAULT_CONFIG = "/etc/mailstore-bridge/config.yaml"


def _check_path(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """A path, which is a name of something: one that is empty comes of a variable that isn't set."""
    if not value:
        raise click.BadParameter("is empty")
    return value


config_option = click.option(
    "--config",
    "config_path",
    envvar="MAILSTORE_BRIDGE_CONFIG",
    default=_DEFAULT_CONFIG,
    show_default=True,
    callback=_check_path,
    help="The configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON for scripts.")
endpoint_option = click.option("--endpoint", metavar="PATH", help="The endpoint, where there are several.")


def check_word(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """A name that is typed, which must be text; one that is empty, as of an unset variable, names nothing."""
    if value == "":
        raise click.BadParameter("is empty")
    if value is not None and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise click.BadParameter("is not UTF-8")
    return value


def load_configuration(path: str) -> Loaded:
    """The configuration, with its warnings on standard error. Raises `ConfigurationError`.

    No secret is read yet: what only speaks to the running service needs none.
    """
    loaded = load(path, os.environ, needs=())
    for warning in (*loaded.warnings, *permission_warnings(loaded, os.environ)):
        complain(f"warning: {warning}", "yellow")
    return loaded


def choose_endpoint(loaded: Loaded, path: str | None) -> str:
    """The endpoint that is meant: the named one, or the only one."""
    paths = [endpoint.path for endpoint in loaded.configuration.endpoints]
    if path is None and len(paths) == 1:
        return paths[0]
    if path not in paths:
        raise click.UsageError(f"--endpoint must be one of {', '.join(paths)}.")
    return path

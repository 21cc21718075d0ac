"""What the commands have in common: options, exit codes, the configuration loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from bridge.config.loading import load

if TYPE_CHECKING:
    from bridge.config.loading import Loaded

FINDINGS, UNAVAILABLE, BUG, CONFIGURATION = 1, 69, 70, 78
"""Exit codes beside 0 and click's 2 (sysexits(3))."""
_DEFAULT_CONFIG = "/etc/mailstore-bridge/config.yaml"

config_option = click.option(
    "--config",
    "config_path",
    envvar="MAILSTORE_BRIDGE_CONFIG",
    default=_DEFAULT_CONFIG,
    show_default=True,
    help="The configuration file.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON for scripts.")


def load_configuration(path: str) -> Loaded:
    """The configuration, with its warnings on standard error. Raises `ConfigurationError`."""
    loaded = load(path, os.environ)
    for warning in loaded.warnings:
        click.secho(f"warning: {warning}", fg="yellow", err=True)
    return loaded

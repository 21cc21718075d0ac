"""`serve`: the service."""

from __future__ import annotations

import asyncio
import sys

import click

from bridge.cli.options import config_option, load_configuration
from bridge.run.process import serve


@click.command("serve")
@config_option
def serve_command(config_path: str) -> None:
    """Run the service until SIGTERM."""
    asyncio.run(serve(load_configuration(config_path), sys.stderr))

"""`schema`: the JSON schema of the configuration, for editors."""

from __future__ import annotations

import json

import click

from bridge.cli.output import print_document
from bridge.config.loading import json_schema


@click.command("schema")
def schema_command() -> None:
    """Print the JSON schema of the configuration."""
    print_document(json.dumps(json_schema(), indent=2, ensure_ascii=False).encode() + b"\n")

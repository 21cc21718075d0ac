"""What docs/operations.md names is there: commands, options, events of the log, problems of health."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from bridge.cli.main import commands

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "operations.md").read_text("utf-8")
LINES = sorted(
    set(re.findall(r"mailstore-bridge ((?:[a-z][a-z-]*|--[a-z-]+)(?: (?:[a-z][a-z-]*|--[a-z-]+))*)(?=[`\n])", PAGE))
)
NAMES = sorted(set(re.findall(r"`((?:secret|certificate|account|service|connections)[._][a-z_.]+)`", PAGE)))


def test_page_names_what_is_looked_for() -> None:
    """The two patterns find something."""
    assert {"check", "check --offline", "status", "refresh", "list", "diff", "auth"} <= set(LINES)
    assert {"secret.renewed", "certificate.renewed", "account.warned", "service_password_refused"} <= set(NAMES)


@pytest.mark.parametrize("line", LINES)
def test_command_of_the_page_exists(line: str) -> None:
    """With its options."""
    command: click.Command = commands
    for word in line.split():
        if word.startswith("--"):
            assert any(word in parameter.opts for parameter in command.params), line
            continue
        assert isinstance(command, click.Group), line
        found = command.get_command(click.Context(command), word)
        assert found is not None, line
        command = found


@pytest.mark.parametrize("name", NAMES)
def test_name_of_the_page_stands_in_the_program(name: str) -> None:
    """Events are written by kind: `secret.renewed` is a kind and what became of it."""
    program = "".join(file.read_text("utf-8") for file in (ROOT / "bridge").rglob("*.py"))
    kind, _, ending = name.partition(".")
    assert name in program or (f'"{kind}"' in program and f".{ending}" in program)

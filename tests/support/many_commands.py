"""All commands by their words, and several of them in one process of their own, which takes a tenth of the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import click

from bridge.cli.main import commands

_PROGRAM = """
import contextlib, io, json, sys
from bridge.cli.main import _run
found = []
for arguments in json.load(sys.stdin):
    output, errors = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True), io.StringIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(b"Pass-anna\\n"))
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = _run(arguments)
    found.append([code, output.buffer.getvalue().decode(), errors.getvalue()])
print(json.dumps(found))
"""


def all_commands(group: click.Group = commands, words: str = "") -> Iterator[str]:
    """The words of each command there is."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{words}{name} ")
        else:
            yield f"{words}{name}"


def run_many(
    typed: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None
) -> list[tuple[int, str, str]]:
    """The exit code, the output and the errors of each command; standard input has the password of anna."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(typed),
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, output, errors) for code, output, errors in json.loads(done.stdout)]

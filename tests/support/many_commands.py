"""Several commands in one process of their own, which takes a tenth of the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

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


def run_many(
    commands: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None
) -> list[tuple[int, str, str]]:
    """The exit code, the output and the errors of each command; standard input has the password of anna."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        input=json.dumps(commands),
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [(code, output, errors) for code, output, errors in json.loads(done.stdout)]

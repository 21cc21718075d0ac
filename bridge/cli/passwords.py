"""A password that is typed, or that comes by standard input."""

from __future__ import annotations

import getpass
import sys

import click

from bridge.syntax.controls import escape_controls


def read_password(prompt: str, again: str | None = None) -> bytes:
    r"""The password, asked for on the terminal, or the first line of standard input without its end (`\n`, `\r\n`).

    `again` asks for it once more. Raises `UsageError`.
    """
    if not sys.stdin.isatty():
        return sys.stdin.buffer.readline().removesuffix(b"\n").removesuffix(b"\r")
    try:
        password = getpass.getpass(escape_controls(prompt)).encode()
        is_same = again is None or password == getpass.getpass(again).encode()
    except UnicodeError:
        # Security: from None, as the error holds what was typed.
        sentence = "What was typed is not UTF-8. Set the terminal to UTF-8, or send the password to standard input."
        raise click.UsageError(sentence) from None
    if not is_same:
        raise click.UsageError("The two passwords differ.")
    return password

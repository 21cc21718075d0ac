"""`hash-password`: the hash of a password, for `callers`."""

from __future__ import annotations

import getpass
import sys

import argon2
import click

from bridge.cli.output import say


@click.command("hash-password")
def hash_password_command() -> None:
    """Make the argon2id hash of a password.

    It is for `callers`; the password is asked for on the terminal, or is the first line of standard input.
    """
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if password != getpass.getpass("Once more: "):
            raise click.UsageError("The two passwords differ.")
        data = password.encode()
    else:
        data = sys.stdin.buffer.readline().removesuffix(b"\n")
    if not data:
        raise click.UsageError("The password is empty.")
    say(argon2.PasswordHasher().hash(data))

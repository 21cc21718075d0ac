"""`hash-password`: the hash of a password, for `callers`."""

from __future__ import annotations

import argon2
import click

from bridge.cli.output import say
from bridge.cli.passwords import read_password


@click.command("hash-password")
def hash_password_command() -> None:
    """Make the argon2id hash of a password.

    It is for `callers`; the password is asked for on the terminal, or is the first line of standard input.
    """
    password = read_password("Password: ", again="Once more: ")
    if not password:
        raise click.UsageError("The password is empty.")
    say(argon2.PasswordHasher().hash(password))

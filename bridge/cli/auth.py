"""`auth`: one password checked, as MailStore would have it checked."""

from __future__ import annotations

import asyncio
import sys

import click

from bridge.cli.drafts import bridge_over, open_draft
from bridge.cli.options import (
    FINDINGS,
    check_word,
    choose_endpoint,
    config_option,
    endpoint_option,
    load_configuration,
)
from bridge.cli.output import say
from bridge.cli.passwords import read_password
from bridge.model import Accepted, Secret
from bridge.run.build import require_endpoint
from bridge.run.process import protect_memory


@click.command("auth")
@config_option
@endpoint_option
@click.argument("user", callback=check_word)
def auth_command(config_path: str, endpoint: str | None, user: str) -> None:
    """Check the password of USER.

    It is asked for on the terminal, or is the first line of standard input.
    """
    protect_memory()
    loaded = load_configuration(config_path)
    path = choose_endpoint(loaded, endpoint)
    require_endpoint(loaded, path)  # before anybody types a password for nothing
    password = read_password(f"Password of {user}: ")

    async def authenticate() -> bool:
        async with bridge_over(open_draft(loaded), loaded) as bridge:
            verdict = await bridge.authenticate(path, user, Secret(password))
        if isinstance(verdict, Accepted):
            say(f"accepted (directory {verdict.directory}){f': {verdict.notice}' if verdict.notice else ''}")
            return True
        say(f"rejected: {verdict.reason.value}")
        return False

    sys.exit(0 if asyncio.run(authenticate()) else FINDINGS)

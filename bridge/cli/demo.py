"""`demo`: a sample directory, a bridge in front of it with a real configuration, and lines to paste."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote_plus

import click

from bridge.cli.output import complain, finish, write
from bridge.config.loading import load
from bridge.demo.people import BASE, READER_DN, READER_PASSWORD, SAMPLE_PASSWORD, SAMPLE_USER, sample_directory
from bridge.demo.server import EmbeddedServer
from bridge.run.service import Service

_CALLER = "mailstore"
_CONFIGURATION = """\
server:
  listen: 127.0.0.1:{port}
admin:
  listen: "off"
state:
  directory: {folder}/state
log:
  level: error
endpoints:
  - path: /mailstore
    callers:
      - username: {caller}
        password_file: {folder}/caller.password
directories:
  - name: sample
    preset: openldap
    servers: ["{url}"]
    bind:
      dn: "{reader}"
      password_file: {folder}/reader.password
    users:
      bases: ["ou=people,{base}"]
"""


@click.command("demo")
@click.option("--users", default=300, show_default=True, type=click.IntRange(1, 1_000_000), help="Sample people.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Of the bridge; 0: any.")
def demo_command(users: int, port: int) -> None:
    """Start a sample directory and a bridge.

    Prints what to try; Ctrl-C ends both.
    """
    _run_demo(users, port)


def _run_demo(user_count: int, port: int) -> None:
    """Serves until Ctrl-C, and leaves nothing behind."""
    with tempfile.TemporaryDirectory(prefix="mailstore-bridge-demo-") as folder, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(user_count, port, Path(folder)))


async def _serve(user_count: int, port: int, folder: Path) -> None:
    complain(f"Making {user_count} sample people …")
    store = await asyncio.to_thread(sample_directory, user_count)
    caller_password = secrets.token_urlsafe(9)
    async with EmbeddedServer(store) as server:
        file = _write_configuration(folder, port, server.url, caller_password)
        service = Service(load(str(file), os.environ), sys.stderr, {})
        running = asyncio.create_task(service.run())
        starting = asyncio.create_task(_announce(service, file, caller_password))
        try:
            await asyncio.wait((running, starting), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()  # a demo that nobody can see ends
            await running
        finally:
            starting.cancel()
            running.cancel()
            await asyncio.wait((running,))


def _write_configuration(folder: Path, port: int, url: str, caller_password: str) -> Path:
    for name, text in (("caller", caller_password), ("reader", READER_PASSWORD)):
        secret = folder / f"{name}.password"
        secret.touch(mode=0o600)
        secret.write_text(text, "utf-8")
    file = folder / "config.yaml"
    text = _CONFIGURATION.format(port=port, caller=_CALLER, folder=folder, url=url, reader=READER_DN, base=BASE)
    file.write_text(text, "utf-8")
    return file


async def _announce(service: Service, file: Path, caller_password: str) -> None:
    """Prints the lines as soon as they work."""
    await service.ready.wait()
    await service.bridge.list_users("/mailstore", compressed=False)
    url = f"http://127.0.0.1:{service.listener.addresses[0][1]}/mailstore"
    curl = f"curl -sS -u {_CALLER}:{caller_password} {url}"
    password = quote_plus(SAMPLE_PASSWORD)
    write(
        f"""
The bridge serves {url} with this configuration: {file}

All users:
  {curl} -d cmd=list

A right password ({SAMPLE_USER}, “{SAMPLE_PASSWORD}”):
  {curl} -d 'cmd=auth&user={SAMPLE_USER}&pass={password}'

A wrong password:
  {curl} -d 'cmd=auth&user={SAMPLE_USER}&pass=wrong'

Ctrl-C ends it and leaves nothing behind.
"""
    )
    finish()

"""docs/commands.md, held to the truth: every command stands there, and each exit code is produced."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import configuration, running_bridge
from tests.support.many_commands import all_commands, run_many
from tests.support.terminals import BRIDGE, on_terminal, with_shell

pytestmark = pytest.mark.processes

PAGE = (Path(__file__).parents[2] / "docs" / "commands.md").read_text("utf-8")
NO_CONFIGURATION = {"demo", "hash-password", "schema"}
Produced = dict[str, set[int]]


def documented() -> Produced:
    """The exit codes of each command, by the words of the command without its arguments."""
    found = {}
    for line in PAGE.partition("## Exit codes")[0].splitlines():
        if line.startswith("| `"):
            command, _, codes, _ = (cell.strip() for cell in line.strip("|").split(" | "))
            words = " ".join(word for word in command.strip("`").split() if not word.isupper())
            found[words] = {int(part.split()[0]) for part in codes.split(", ") if part[0].isdigit()}
    return found


def test_every_command_stands_on_the_page() -> None:
    """Neither one that isn't documented nor one that isn't there."""
    assert {name for name in documented() if "--" not in name} == set(all_commands())


def run(produced: Produced, file: Path, *named: tuple[str, ...]) -> list[tuple[int, str, str]]:
    """Run commands, each given as its words and its arguments, and note the exit codes."""
    found = run_many([(*name.split(), *arguments, "--config", str(file)) for name, *arguments in named])
    for (name, *_), (code, _, _) in zip(named, found, strict=True):
        produced[name].add(code)
    return found


async def test_each_exit_code_of_the_page_is_produced_and_no_other(tmp_path: Path) -> None:
    """A service that is well, one that withholds removals, and none at all."""
    produced: Produced = defaultdict(set)
    people = [f"u{number:02}" for number in range(40)]
    async with FaultyServer(small_directory("anna", *people)) as server:
        file = configuration(server.url, tmp_path, more="cache: {ttl: 0s, refresh_ahead: false}")
        async with running_bridge(file) as client:
            await client.list_users()
            await client.auth("anna", "wrong")
            well = (
                ("auth", "anna"),
                ("auth", "nobody"),
                ("check",),
                ("check --offline",),
                ("diff",),
                ("list",),
                ("refresh",),
                ("removals show",),
                ("removals approve", "0123456789abcdef"),
                ("removals reset",),
                ("removals reset", "--yes"),
                ("refresh",),
                ("status",),
                ("throttle show",),
                ("throttle clear", "nobody"),
                ("throttle clear", "anna"),
            )
            await asyncio.to_thread(run, produced, file, *well)
        few = 'users: {bases: ["ou=people,dc=example,dc=com"], filter: "(uid=anna)"}'
        file = configuration(server.url, tmp_path, users=few, more="cache: {ttl: 0s, refresh_ahead: false}")
        async with running_bridge(file) as client:
            await client.list_users()
            found = await asyncio.to_thread(run, produced, file, ("diff",), ("status",), ("removals show",))
            digest = re.findall("removals approve ([0-9a-f]+)", found[2][2])
            await asyncio.to_thread(run, produced, file, ("removals approve", *digest))
            arguments = ("removals", "reset", "--config", str(file))
            produced["removals reset"].add((await asyncio.to_thread(on_terminal, arguments, typed="n\n"))[0])
    await asyncio.to_thread(run_without_anything, produced, tmp_path)
    await serve_and_demo(produced, tmp_path)
    produced["hash-password"].add(with_shell(("hash-password",), "", stdin="secret\n").returncode)
    produced["schema"].add(with_shell(("schema",), "").returncode)
    assert produced == documented()


def run_without_anything(produced: Produced, folder: Path) -> None:
    """No directory answers, and what stands where the control socket should be is no socket."""
    file = configuration("ldap://127.0.0.1:1", folder, more=f"# {folder}")
    text = file.read_text().replace("admin: {", f"admin: {{socket: {file}/control.sock, ")
    file.write_text(text)
    names = ("check", "diff", "list", "refresh", "removals show", "status", "throttle show")
    more = (("auth", "anna"), ("removals approve", "0123"), ("removals reset", "--yes"), ("throttle clear", "anna"))
    run(produced, file, *((name,) for name in names), *more)
    expired = trustme.CA().issue_cert("127.0.0.1", not_after=datetime.now(UTC) - timedelta(days=1))
    (folder / "expired.pem").write_bytes(expired.private_key_and_cert_chain_pem.bytes())
    tls = f'server: {{tls: {{certificate_file: {folder}/expired.pem, key_file: {folder}/expired.pem}}, listen: "'
    file.write_text(text.replace('server: {listen: "', tls))
    run(produced, file, ("check --offline",))


async def serve_and_demo(produced: Produced, folder: Path) -> None:
    """The two that run until they are told to end, and the one address that both would take."""
    file = configuration("ldap://127.0.0.1:1", folder)
    for name, arguments, sign in (
        ("serve", ("--config", str(file)), b"service.started"),
        ("demo", ("--port", "0", "--users", "5"), b"Ctrl-C"),
    ):
        process = await asyncio.create_subprocess_exec(
            *BRIDGE, name, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        assert process.stdout is not None
        async with asyncio.timeout(30):
            while sign not in (line := await process.stdout.readline()):
                assert line, "it has ended"
        process.send_signal(signal.SIGINT)
        await process.communicate()
        produced[name].add(process.returncode or 0)
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f'"127.0.0.1:{taken.getsockname()[1]}"'
        file.write_text(file.read_text().replace('"127.0.0.1:0"', address))
        produced["serve"].add((await asyncio.to_thread(with_shell, ("serve", "--config", str(file)), "")).returncode)


def test_codes_that_every_command_has(tmp_path: Path) -> None:
    """Usage is 2 and an unusable configuration 78, whatever the command."""
    names = [name for name in documented() if name != "demo"]
    usage = run_many([(*name.split(), "--nonsense") for name in names])
    assert [code for code, _, _ in usage] == [2] * len(names)
    names = [name for name in names if name not in NO_CONFIGURATION]
    ending = {"auth": ["anna"], "removals approve": ["0123"], "throttle clear": ["anna"]}
    missing = str(tmp_path / "missing")
    faults = run_many([(*name.split(), *ending.get(name, ()), "--config", missing) for name in names])
    assert [code for code, _, _ in faults] == [78] * len(names)


def test_bug_is_70_with_what_to_report(tmp_path: Path) -> None:
    """A program that does what nobody has foreseen ends as one, in a document, too."""
    program = (
        "import bridge.cli.options as o; o.load = lambda *_, **__: 1 / 0; from bridge.cli.main import main; main()"
    )
    command = [sys.executable, "-c", program, "status", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "ZeroDivisionError" in done.stderr, '"internal"' in done.stdout) == (70, True, True)


def test_page_has_all_exit_codes() -> None:
    """Those of the general table are those that are tested here and in test_incidents.py."""
    table = PAGE.partition("## Exit codes")[2].partition("\n\nEach")[0]
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == ["0", "1", "2", "69", "70", "78", "130"]


@pytest.mark.parametrize("name", sorted(documented()))
def test_page_tells_which_commands_have_json(name: str) -> None:
    """The list in words is the list of those that take the option."""
    sentence = PAGE.partition("`--json` gives")[2].partition(". ")[0]
    help_text = run_many([(*name.split(), "--help")])[0][1]
    assert ("--json" in help_text) is (f"`{name.removesuffix(' --offline')}`" in sentence)

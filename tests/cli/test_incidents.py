"""Commands when something is wrong: streams, users, sockets, files, directories; each says what it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import pytest_asyncio

from bridge.demo import wire
from bridge.demo.server import Session
from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import configuration, running_bridge
from tests.support.slapd import free_port, require
from tests.support.terminals import BRIDGE, inherit, on_terminal, with_shell

pytestmark = pytest.mark.processes

COMMANDS = [
    ("auth", "anna"),
    ("check",),
    ("check", "--json"),
    ("check", "--offline"),
    ("diff",),
    ("diff", "--json"),
    ("hash-password",),
    ("list",),
    ("list", "--json"),
    ("list", "--format", "csv"),
    ("refresh",),
    ("refresh", "--json"),
    ("removals", "show", "--json"),
    ("removals", "reset", "--yes"),
    ("schema",),
    ("status",),
    ("status", "--json"),
    ("throttle", "show", "--json"),
    ("throttle", "clear", "nobody"),
]
WITHOUT_CONFIGURATION = ("hash-password", "schema")
WITH_JSON = [
    ("check", "--json"),
    ("diff", "--json"),
    ("list", "--json"),
    ("list", "--format", "json"),
    ("list", "--format=json"),
    ("refresh", "--json"),
    ("removals", "show", "--json"),
    ("removals", "approve", "0123", "--json"),
    ("status", "--json"),
    ("throttle", "show", "--json"),
]
needs_root = pytest.mark.skipif(os.geteuid() != 0 and "CI" not in os.environ, reason="another user is needed")


def typed(command: tuple[str, ...], file: Path) -> tuple[str, ...]:
    return command if command[0] in WITHOUT_CONFIGURATION else (*command, "--config", str(file))


@pytest_asyncio.fixture
async def file(tmp_path: Path) -> AsyncIterator[Path]:
    """The configuration of a running service."""
    async with FaultyServer(small_directory("anna", "bert")) as server:
        path = configuration(server.url, tmp_path)
        async with running_bridge(path) as client:
            await client.list_users()
            yield path


@pytest.mark.timeout(300)
@pytest.mark.parametrize("redirection", ["> /dev/full", ">&-"])
async def test_output_that_can_not_be_written_is_an_error_of_one_line(file: Path, redirection: str) -> None:
    """Nobody takes a result that is lost for one that was written, and nobody looks at server.listen for it."""
    for command in COMMANDS:
        done = await asyncio.to_thread(with_shell, typed(command, file), redirection, stdin="Pass-anna\n")
        assert (done.returncode, done.stderr.count("\n")) == (69, 1), (command, done.stderr)
        assert "standard output" in done.stderr
        assert "listen" not in done.stderr
    for command in (("--help",), ("--version",), ("list", "--help")):
        done = await asyncio.to_thread(with_shell, command, redirection)
        assert (done.returncode, done.stderr.count("\n")) == (69, 1), done.stderr


@pytest.mark.timeout(300)
async def test_reader_who_leaves_is_no_error(file: Path) -> None:
    """The pipe is closed before the first line: no word, and the exit code that the command has anyway."""
    for command in COMMANDS:
        near, far = os.pipe()
        os.close(near)
        process = await asyncio.create_subprocess_exec(
            *BRIDGE, *typed(command, file), stdin=asyncio.subprocess.PIPE, stdout=far, stderr=asyncio.subprocess.PIPE
        )
        os.close(far)
        _, errors = await process.communicate(b"Pass-anna\n")
        notes = [line for line in errors.decode().splitlines() if not line.endswith((" users", "withheld."))]
        assert (process.returncode, notes) == (1 if command[:2] == ("throttle", "clear") else 0, []), command


@pytest.mark.parametrize("redirection", ["2>&-", "2> /dev/full", "<&-", "<&- 2>&-"])
async def test_other_streams_may_be_missing(file: Path, redirection: str) -> None:
    """The result is the same, and no file of the service gets what was meant for a stream."""
    listed = await asyncio.to_thread(with_shell, typed(("list", "--json"), file), redirection)
    assert (listed.returncode, [user["userName"] for user in json.loads(listed.stdout)]) == (0, ["anna", "bert"])
    checked = await asyncio.to_thread(with_shell, typed(("check", "--offline"), file), redirection)
    assert (checked.returncode, "configuration" in checked.stdout) == (0, True)
    shown = await asyncio.to_thread(with_shell, typed(("removals", "show", "--json"), file), redirection)
    assert (shown.returncode, json.loads(shown.stdout)) == (0, {"directories": []})


def test_failing_command_keeps_its_exit_code_without_standard_error(tmp_path: Path) -> None:
    """Nobody reads why, and the code says it all the same."""
    file = configuration("ldap://127.0.0.1:1", tmp_path)
    for redirection in ("2>&-", "2> /dev/full"):
        assert with_shell(("list", "--config", str(file)), redirection).returncode == 69
        assert with_shell(("status", "--config", str(tmp_path / "missing")), redirection).returncode == 78
        assert with_shell(("nonsense",), redirection).returncode == 2


def test_nothing_typed_gives_the_help() -> None:
    """Which is read as it is, and is usage all the same."""
    done = with_shell((), "")
    assert (done.returncode, "\n  status " in done.stderr) == (2, True)
    done = with_shell(("removals",), "")
    assert (done.returncode, "\n  approve " in done.stderr) == (2, True)


def test_demo_ends_when_nobody_can_see_it(tmp_path: Path) -> None:
    """What it prints is all that it is for."""
    done = with_shell(("demo", "--port", "0", "--users", "5"), "> /dev/full", environment={"TMPDIR": str(tmp_path)})
    assert (done.returncode, "standard output" in done.stderr.splitlines()[-1]) == (69, True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("list",), ("check",), ("diff", "--json"), ("auth", "anna")])
async def test_interrupt_ends_a_command_with_130_and_without_a_traceback(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Ctrl-C while the directory thinks."""
    thinking = asyncio.Event()

    async def on_search(_session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        thinking.set()
        return True

    async with FaultyServer(small_directory("anna"), on_search=on_search) as server:
        file = configuration(server.url, tmp_path)
        process = await asyncio.create_subprocess_exec(
            *("env", "--default-signal=INT"),  # a shell has what it starts in the background ignore it
            *BRIDGE,
            *typed(command, file),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        process.stdin.write(b"Pass-anna\n")
        await asyncio.wait_for(thinking.wait(), 20)
        process.send_signal(signal.SIGINT)
        output, errors = await process.communicate()
    assert (process.returncode, output, errors.strip()) == (130, b"", b"")


@pytest.mark.parametrize("command", WITH_JSON)
def test_failure_is_a_document_for_scripts(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Configuration, usage, a service that doesn't run, a directory that is down: standard output is JSON each time."""
    broken = tmp_path / "broken.yaml"
    broken.write_text("endpoints: 5\n")
    for file, more, code, error in (
        (broken, (), 78, "configuration"),
        (tmp_path / "missing.yaml", (), 78, "configuration"),
        (configuration("ldap://127.0.0.1:1", tmp_path), ("--nonsense",), 2, "usage"),
    ):
        done = with_shell((*command, *more, "--config", str(file)), "")
        found = json.loads(done.stdout)
        assert (done.returncode, found["error"]) == (code, error)
        assert found["message"]
        assert done.stderr
        if error == "configuration":
            assert found["problems"]
            assert "\n".join(found["problems"]) == found["message"]
    done = with_shell(typed(command, tmp_path / "config.yaml"), "")
    found = json.loads(done.stdout)
    if command[0] in ("status", "refresh", "throttle"):
        assert (done.returncode, found["error"]) == (69, "not_running")
    elif command[:2] == ("removals", "approve"):
        assert (done.returncode, found["error"]) == (1, "approval_outdated")
    elif command[0] in ("list", "diff"):
        assert (done.returncode, found["error"]) == (69, "directory_unavailable")


async def test_reset_refuses_where_nobody_can_be_asked(file: Path, tmp_path: Path) -> None:
    """A pipe, a cron job: exit code 2, what to do, and nothing is forgotten; a terminal is asked."""
    database = tmp_path / "state" / "state.sqlite3"
    before = database.read_bytes()
    for command in (("removals", "reset"), ("removals", "reset", "--directory", "company")):
        done = await asyncio.to_thread(with_shell, typed(command, file), "< /dev/null")
        assert (done.returncode, done.stdout, "--yes" in done.stderr) == (2, "", True), done.stderr
        code, output = await asyncio.to_thread(on_terminal, typed(command, file), typed="n\n", stderr=True)
        assert (code, "Nothing was changed." in output) == (1, True), output
    for directory, sentence in (("nowhere", "There is no such directory: nowhere"), ("", "is empty")):
        for command in (("removals", "reset", "--yes"), ("refresh",)):
            arguments = (*typed(command, file), "--directory", directory)
            done = await asyncio.to_thread(with_shell, arguments, "")
            assert (done.returncode, sentence in done.stderr) == (2, True), done.stderr
    assert database.read_bytes() == before
    code, output = await asyncio.to_thread(on_terminal, typed(("removals", "reset"), file), typed="y\n", stderr=True)
    assert (code, "company counts as the first" in output) == (0, True), output
    done = await asyncio.to_thread(with_shell, typed(("removals", "reset", "--yes"), file), "< /dev/null")
    assert (done.returncode, done.stdout) == (0, "The next listing of company counts as the first.\n")


def test_reset_knows_its_directories_without_a_service(tmp_path: Path) -> None:
    """An unknown name is refused, whether or not there is any state."""
    file = configuration("ldap://127.0.0.1:1", tmp_path)
    for _ in range(2):
        done = with_shell((*typed(("removals", "reset", "--yes"), file), "--directory", "nowhere"), "")
        assert (done.returncode, "Known: company." in done.stderr) == (2, True)
        (tmp_path / "state").mkdir(exist_ok=True)


@pytest.mark.parametrize("command", [("auth", "a\udcff"), ("throttle", "clear", "a\udcff"), ("throttle", "clear", "")])
async def test_names_that_are_no_text_are_refused(file: Path, command: tuple[str, ...]) -> None:
    """Bytes that are no UTF-8, or an empty variable, name nobody."""
    arguments = [os.fsencode(word) for word in (*BRIDGE, *typed(command, file))]
    done = await asyncio.to_thread(
        subprocess.run, arguments, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    assert (done.returncode, b"Traceback" in done.stderr, done.stdout) == (2, False, b""), done.stderr


def test_commands_before_the_first_start_leave_nothing(tmp_path: Path) -> None:
    """Whoever runs them, often root, makes nothing that the service could not write to later."""
    file = configuration("ldap://127.0.0.1:1", tmp_path)
    before = sorted(tmp_path.iterdir())
    for command, code in (
        (("removals", "show"), 0),
        (("removals", "show", "--json"), 0),
        (("removals", "approve", "0123"), 1),
        (("removals", "reset", "--yes"), 0),
        (("list",), 69),
        (("diff",), 69),
        (("check",), 1),
        (("check", "--offline"), 0),
        (("status",), 69),
    ):
        assert with_shell(typed(command, file), "").returncode == code, command
        assert sorted(tmp_path.iterdir()) == before, command


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="mailstore-bridge-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(*arguments: str) -> subprocess.CompletedProcess[str]:
    nobody = pwd.getpwnam("nobody")
    # The interpreter may lie where nobody else can read it: what is imported later is imported before.
    program = f"""
import importlib, os, pkgutil, sys
import aiohttp, bridge.cli.main, encodings.idna
for module in pkgutil.iter_modules(bridge.cli.__path__):
    importlib.import_module(f"bridge.cli.{{module.name}}")
if os.access(sys.argv[-1], os.R_OK):
    importlib.import_module("bridge.config.loading").load(sys.argv[-1], os.environ)
os.setgroups([]); os.setgid({nobody.pw_gid}); os.setuid({nobody.pw_uid})
bridge.cli.main.main()
"""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd="/",
        stdin=subprocess.DEVNULL,
        env=inherit(),
        check=False,
    )


@needs_root
def test_state_that_root_makes_belongs_to_the_service(open_folder: Path) -> None:
    """In a folder of the service's user, what a command of root's makes can be written by that user."""
    file = configuration("ldap://127.0.0.1:1", open_folder)
    state = open_folder / "state"
    state.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(state, nobody.pw_uid, nobody.pw_gid)
    for command in (("removals", "show"), ("removals", "approve", "0123"), ("removals", "reset", "--yes")):
        with_shell(typed(command, file), "")
        assert {path.stat().st_uid for path in state.iterdir()} <= {nobody.pw_uid}


def readable_configuration(folder: Path, server: str) -> Path:
    """A configuration and secrets that each user of the test may read."""
    file = configuration(server, folder)
    for path in folder.iterdir():
        path.chmod(0o644)
    return file


@needs_root
async def test_another_user_is_told_as_whom_to_run(open_folder: Path) -> None:
    """The socket and the state are the service's: each command says so, and names no address."""
    async with FaultyServer(small_directory("anna")) as server:
        file = readable_configuration(open_folder, server.url)
        async with running_bridge(file) as client:
            await client.list_users()
            for hidden in (True, False):
                (open_folder / "state").chmod(0o700 if hidden else 0o755)
                for command in (("status",), ("removals", "show"), ("removals", "reset", "--yes"), ("refresh",)):
                    done = await asyncio.to_thread(as_nobody, *typed(command, file))
                    line = done.stderr.splitlines()[-1]
                    assert done.returncode == 69, done.stderr
                    assert line.startswith(f"The control socket {open_folder}/state/control.sock can't be opened by"), (
                        line
                    )
                    assert "root" in line
                    assert "listen" not in line
        (open_folder / "state").chmod(0o700)
        for command, code in ((("list",), 69), (("diff",), 69), (("check",), 1)):
            done = await asyncio.to_thread(as_nobody, *typed(command, file))
            assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
            assert "Permission denied" in done.stdout + done.stderr


@needs_root
def test_owner_of_the_socket_is_named(open_folder: Path) -> None:
    """`sudo -u` with the user whose service it is."""
    file = readable_configuration(open_folder, "ldap://127.0.0.1:1")
    state, daemon = open_folder / "state", pwd.getpwnam("daemon")
    state.mkdir(mode=0o700)
    os.chown(state, daemon.pw_uid, daemon.pw_gid)
    done = as_nobody("status", "--config", str(file))
    assert (done.returncode, "(sudo -u daemon …)" in done.stderr) == (69, True), done.stderr
    state.chmod(0o755)
    done = as_nobody("removals", "reset", "--yes", "--config", str(file))
    assert (done.returncode, "sudo -u daemon" in done.stderr) == (69, True), done.stderr


def test_stale_socket_is_no_service(tmp_path: Path) -> None:
    """What an ended process has left: nobody listens there."""
    file = configuration("ldap://127.0.0.1:1", tmp_path)
    (tmp_path / "state").mkdir()
    path = tmp_path / "state" / "control.sock"
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(path))
    done = with_shell(typed(("status",), file), "")
    assert (done.returncode, f"No service listens at {path}" in done.stderr) == (69, True)
    assert with_shell(typed(("removals", "show"), file), "").returncode == 0


async def test_service_that_listens_elsewhere_is_not_worked_around(file: Path, tmp_path: Path) -> None:
    """Its state is its own: what is withheld can be looked at, and is not changed behind its back."""
    other = tmp_path / "other.yaml"
    text = await asyncio.to_thread(file.read_text)
    other.write_text(text.replace("admin: {", f"admin: {{socket: {tmp_path}/elsewhere.sock, "))
    for command in (("removals", "reset", "--yes"), ("removals", "approve", "0123")):
        done = await asyncio.to_thread(with_shell, typed(command, other), "")
        assert (done.returncode, "a service has" in done.stderr, "admin.socket" in done.stderr) == (69, True, True)
    assert (await asyncio.to_thread(with_shell, typed(("removals", "show"), other), "")).returncode == 0


async def test_something_else_at_the_socket_is_told(tmp_path: Path) -> None:
    """A program that isn't ours, a path that is too long, a folder that is a file."""
    file = configuration("ldap://127.0.0.1:1", tmp_path)
    text = file.read_text()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n[]")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, tmp_path / "other.sock")
    async with server:
        for path, sentence in (
            (tmp_path / "other.sock", "is no mailstore-bridge"),
            (tmp_path / ("x" * 150), "too long"),
            (file / "control.sock", "Not a directory"),
        ):
            file.write_text(text.replace('admin: {listen: "127.0.0.1:0"}', f"admin: {{socket: {path}}}"))
            for command in (("status",), ("removals", "show")):
                done = await asyncio.to_thread(with_shell, typed(command, file), "")
                assert (done.returncode, sentence in done.stderr, str(path) in done.stderr) == (69, True, True), done


@pytest.mark.parametrize("key", ["server", "admin"])
def test_address_that_is_taken_is_named_with_its_key(tmp_path: Path, key: str) -> None:
    """`serve` ends with 78, the key and the address; a socket that can't be made is told alike."""
    file = configuration("ldap://127.0.0.1:1", tmp_path)
    text = file.read_text()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        file.write_text(text.replace(f'{key}: {{listen: "127.0.0.1:0"}}', f"{key}: {{listen: '{address}'}}"))
        done = with_shell(("serve", "--config", str(file)), "")
    assert done.returncode == 78
    assert f"{key}.listen: {address} can't be listened at: Address already in use" in done.stderr
    if key == "server":
        file.write_text(text.replace('server: {listen: "127.0.0.1:0"}', f"server: {{listen: 'unix:{tmp_path}/no/s'}}"))
        done = with_shell(("serve", "--config", str(file)), "")
        assert f"server.listen: unix:{tmp_path}/no/s can't be listened at: No such file or directory" in done.stderr
        assert "name a path in a folder where the service's user may write" in done.stderr
        assert done.returncode == 78


@needs_root
def test_port_that_is_roots_alone_has_a_remedy_of_its_own(tmp_path: Path) -> None:
    """443 is what many would write, and the unit has no right to it."""
    file = configuration("ldap://127.0.0.1:1", tmp_path)
    file.write_text(file.read_text().replace('server: {listen: "127.0.0.1:0"}', 'server: {listen: "127.0.0.1:443"}'))
    rights = ["--inh-caps=-net_bind_service", "--bounding-set=-net_bind_service"]
    command = [require("setpriv"), *rights, *BRIDGE, "serve", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78
    assert done.stderr.splitlines()[-1] == (
        "server.listen: 127.0.0.1:443 can't be listened at: Permission denied; ports below 1024 are not for the "
        "service's user: name a higher one, such as 8443"
    )


def test_configuration_that_is_no_file_is_told(tmp_path: Path) -> None:
    """A folder, nothing, a device: 78 and one line that names it."""
    for path in (tmp_path, Path("/dev/null"), tmp_path / "missing", tmp_path / "missing" / "config.yaml"):
        for command in (("check", "--offline"), ("status",), ("serve",)):
            done = with_shell((*command, "--config", str(path)), "")
            assert (done.returncode, done.stderr.count("\n"), str(path) in done.stderr) == (78, 1, True), done.stderr


@needs_root
def test_configuration_of_another_user_is_told(open_folder: Path) -> None:
    """It can't be read, and that is what is said."""
    file = configuration("ldap://127.0.0.1:1", open_folder)
    file.chmod(0o600)
    done = as_nobody("status", "--config", str(file))
    assert (done.returncode, "Permission denied" in done.stderr) == (78, True)


@pytest.mark.parametrize("command", ["auth", "hash-password"])
def test_password_that_is_typed_in_another_encoding_is_no_bug(tmp_path: Path, command: str) -> None:
    """A terminal that isn't UTF-8: it is told, without a traceback, and nothing of what was typed."""
    file = configuration(f"ldap://127.0.0.1:{free_port()}", tmp_path)
    arguments = ["auth", "anna", "--config", str(file)] if command == "auth" else [command]
    near, far = pty.openpty()
    with subprocess.Popen([*BRIDGE, *arguments], stdin=far, stdout=far, stderr=far, start_new_session=True) as process:
        os.close(far)
        seen = b""
        while b"assword" not in seen:  # what is typed before is dropped
            seen += os.read(near, 4096)
        os.write(near, b"P\xe4ss-canary\n")
        with contextlib.suppress(OSError):  # the end of a terminal
            while part := os.read(near, 4096):
                seen += part
        assert process.wait(timeout=20) == 2, seen
    os.close(near)
    assert b"What was typed is not UTF-8." in seen
    assert b"Traceback" not in seen
    assert b"canary" not in seen


def test_only_the_names_of_values_are_dim_on_a_narrow_terminal(tmp_path: Path) -> None:
    """What they name is what is read."""
    file = configuration(f"ldap://127.0.0.1:{free_port()}", tmp_path)
    _, shown = on_terminal(["check", "--offline", "--config", str(file)], width=40)
    assert "\x1b[2mCheck: \x1b[0mconfiguration" in shown


def test_configuration_without_a_name_is_told_as_such() -> None:
    """Of a variable that isn't set; the empty path would be the current folder."""
    done = with_shell(("status", "--config", ""), "")
    assert (done.returncode, "'--config': is empty" in done.stderr) == (2, True)


def test_password_of_a_closed_input_is_empty(tmp_path: Path) -> None:
    """There is no password, which is told."""
    done = with_shell(("hash-password",), "<&-")
    assert (done.returncode, "The password is empty." in done.stderr) == (2, True)

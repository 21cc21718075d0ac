"""Which command needs which secret, who may read them, and what is said where one can't be had."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bridges import configuration
from tests.support.slapd import free_port

pytestmark = pytest.mark.processes

SERVICE_ID = 65_534
"""Anybody but root; the service runs as the owner of its state directory."""


def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge", *arguments]
    known = {**os.environ, **environment}
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=known)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration for a directory that is down, without a service."""
    return configuration(f"ldap://127.0.0.1:{free_port()}", tmp_path)


def with_credentials(file: Path) -> str:
    """As README has it: both secrets are systemd's."""
    folder = file.parent
    text = file.read_text().replace(f"password_file: {folder}/caller.password", "password_credential: mailstore")
    file.write_text(text.replace(f"password_file: {folder}/reader.password", "password_credential: reader"))
    return str(file)


NEED_NONE = [
    (("status",), 69, "No service listens"),
    (("status", "--json"), 69, ""),
    (("refresh",), 69, "No service listens"),
    (("throttle", "show"), 69, ""),
    (("throttle", "clear", "anna"), 69, ""),
    (("removals", "show"), 0, ""),
    (("removals", "approve", "abc"), 1, "nothing that is withheld"),
    (("removals", "reset", "--yes"), 0, "counts as the first"),
    (("check", "--offline"), 0, "$CREDENTIALS_DIRECTORY"),
]


@pytest.mark.parametrize(
    ("arguments", "code", "words"), NEED_NONE, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_command_that_asks_no_directory_needs_no_secret(
    file: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """Credentials are there in the unit alone, and an administrator's commands work all the same."""
    done = run(*arguments, "--config", with_credentials(file))
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert words in " ".join(said.split())


@pytest.mark.parametrize("arguments", [("list",), ("diff",), ("check",), ("auth", "anna"), ("serve",)], ids=" ".join)
def test_command_that_asks_a_directory_says_which_secret_it_lacks(file: Path, arguments: tuple[str, ...]) -> None:
    """The same sentence everywhere, with the line of the configuration, before anything else is done."""
    done = run(*arguments, "--config", with_credentials(file), stdin="x\n")
    place = (
        f"{file}:11: directories[0].bind.password_credential: reader needs systemd: there is no $CREDENTIALS_DIRECTORY"
    )
    assert done.returncode == 78
    assert place in done.stderr
    assert ("endpoints[0]" in done.stderr) == (arguments == ("serve",))


@pytest.mark.parametrize("arguments", [("list",), ("diff",), ("check",), ("auth", "anna")], ids=" ".join)
def test_command_needs_no_secret_of_callers(file: Path, arguments: tuple[str, ...]) -> None:
    """Who may ask is the service's business; the directory is down, and that is what is told."""
    text = file.read_text().replace(f"password_file: {file.parent}/caller.password", "password_credential: mailstore")
    file.write_text(text)
    done = run(*arguments, "--config", str(file), stdin="x\n")
    assert done.returncode == (1 if arguments == ("check",) else 69), done.stderr
    if arguments == ("check",):
        assert "which the unit alone sees" in run("check", "--json", "--config", str(file)).stdout


def test_command_needs_the_secrets_of_its_endpoint_alone(file: Path) -> None:
    """The other endpoint's directory has a password that isn't there."""
    text = file.read_text()
    section = text[text.index("  - name: company") : text.index("cache:")]
    branch = section.replace("company", "branch").replace("reader.password", "missing.password")
    text = text.replace(section, section + branch)
    callers = text[text.index("    callers:") : text.index("directories:")]
    text = text.replace(
        callers, f"{callers}    directories: company\n  - path: /branch\n{callers}    directories: branch\n"
    )
    file.write_text(text)
    assert run("list", "--endpoint", "/mailstore", "--config", str(file)).returncode == 69
    done = run("list", "--endpoint", "/branch", "--config", str(file))
    assert (done.returncode, "missing.password can't be read" in done.stderr) == (78, True)


def test_serve_tells_every_secret_that_is_missing_at_once(file: Path) -> None:
    """In the order of the lines."""
    for name in ("reader", "caller"):
        (file.parent / f"{name}.password").unlink()
    lines = run("serve", "--config", str(file)).stderr.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "endpoints[0].callers[0].password_file",
        "directories[0].bind.password_file",
    ]


def test_offline_check_tells_what_it_could_not_read(file: Path) -> None:
    """As a finding, which is no failure: perhaps only the service's user may read it."""
    (file.parent / "reader.password").unlink()
    done = run("check", "--offline", "--json", "--config", str(file))
    (found,) = (check for check in json.loads(done.stdout)["checks"] if check["name"] == "file")
    assert (done.returncode, found["result"]) == (0, "warning")
    assert "directories[0].bind.password_file" in found["message"]


@pytest.fixture
def service_file() -> Iterator[Path]:
    """The configuration of a service that runs as somebody else, as its state directory shows.

    Not below pytest's own folder, which each session of pytest closes to others when it starts.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can give files to somebody else")
    with tempfile.TemporaryDirectory(prefix="mailstore-bridge-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        state = folder / "state"
        state.mkdir()
        os.chown(state, SERVICE_ID, SERVICE_ID)
        yield configuration(f"ldap://127.0.0.1:{free_port()}", folder)


def warnings_of(file: Path) -> str:
    return run("check", "--offline", "--config", str(file)).stdout


def warned(file: Path) -> list[str]:
    found = json.loads(run("check", "--offline", "--json", "--config", str(file)).stdout)["checks"]
    return [check["message"] for check in found if check["name"] == "configuration" and check["result"] == "warning"]


@pytest.mark.parametrize(
    ("mode", "group", "words"),
    [
        (0o640, SERVICE_ID, None),
        (0o600, 0, None),
        (0o640, 12, "the group man, which isn't the service's own"),
        (0o644, SERVICE_ID, "can be read by others; run: chmod 640 "),
        (0o644, 0, "can be read by others; run: chgrp nogroup "),
    ],
)
def test_secret_that_somebody_else_may_read_is_warned_of(
    service_file: Path, mode: int, group: int, words: str | None
) -> None:
    """Its own group is the service's, whoever runs the command; the remedy leaves the service its right."""
    secret = service_file.parent / "reader.password"
    os.chown(secret, 0, group)
    secret.chmod(mode)
    found = warned(service_file)
    assert len(found) == (words is not None)
    if words is not None:
        assert words in found[0]
        assert found[0].startswith(f"{service_file}:11: directories[0].bind.password_file: {secret} can be read by ")


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([(0x02, 4, 1)], "can be read by the user daemon (ACL); run: setfacl -x user:daemon "),
        ([(0x08, 6, 12)], "can be read by the group man (ACL); run: setfacl -x group:man "),
        ([(0x02, 4, SERVICE_ID), (0x08, 4, SERVICE_ID)], None),
        ([(0x02, 1, 1)], None),
        ([(0x02, 4, 0)], None),
    ],
)
def test_secret_that_an_access_control_list_opens_to_somebody_is_warned_of(
    service_file: Path, entries: list[tuple[int, int, int]], words: str | None
) -> None:
    """`ls -l` shows no more of it than a plus sign; what the service itself is given is right (acl(5))."""
    secret = service_file.parent / "reader.password"
    secret.chmod(0o600)
    nobody = 0xFFFFFFFF
    rows = [(0x01, 6, nobody), *entries, (0x04, 0, nobody), (0x10, 4, nobody), (0x20, 0, nobody)]
    data = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *row) for row in sorted(rows))
    try:
        os.setxattr(secret, "system.posix_acl_access", data)
    except OSError:
        pytest.skip("the file system has no access control lists")
    os.chown(secret, 0, SERVICE_ID)
    found = warned(service_file)
    assert len(found) == (words is not None)
    if words is not None:
        assert f"{secret} {words}{secret}" in found[0]


@pytest.mark.parametrize("options", [(), ("--offline",)], ids=["online", "offline"])
def test_check_as_root_judges_by_the_services_user(service_file: Path, options: tuple[str, ...]) -> None:
    """Root can read everything; the service's user can't read the secret, nor what lies in a closed folder."""
    folder = service_file.parent

    def failed() -> list[tuple[str, str]]:
        done = run("check", *options, "--json", "--config", str(service_file))
        found = json.loads(done.stdout)["checks"]
        assert done.returncode == any(check["result"] == "failed" for check in found)
        return [
            (check["message"], check["remedy"])
            for check in found
            if check["name"] == "file" and check["result"] == "failed"
        ]

    assert len(failed()) == 2
    for name in ("reader", "caller"):
        os.chown(folder / f"{name}.password", 0, SERVICE_ID)
        (folder / f"{name}.password").chmod(0o640)
    assert failed() == []
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    (folder / "reader.password").rename(closed / "reader.password")
    service_file.write_text(service_file.read_text().replace(f"{folder}/reader.password", f"{closed}/reader.password"))
    ((message, remedy),) = failed()
    assert "can't be read by nobody, as whom the service runs: Permission denied" in message
    assert f"chgrp nogroup {closed}/reader.password" in remedy


def test_offline_check_as_root_only_warns_of_a_secret_that_is_not_there_yet(service_file: Path) -> None:
    """A configuration can be looked at before its secrets are brought."""
    folder = service_file.parent
    os.chown(folder / "caller.password", 0, SERVICE_ID)
    (folder / "caller.password").chmod(0o640)
    (folder / "reader.password").unlink()
    done = run("check", "--offline", "--json", "--config", str(service_file))
    results = [check["result"] for check in json.loads(done.stdout)["checks"] if check["name"] == "file"]
    assert (done.returncode, results) == (0, ["warning"])


def test_hangup_of_the_terminal_still_ends_other_commands(file: Path) -> None:
    """Only the service takes it for something else."""
    command = [sys.executable, "-m", "bridge", "auth", "anna", "--config", str(file)]
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, whatever is started would ignore it
    try:
        started = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    finally:
        signal.signal(signal.SIGHUP, before)
    with started as process:
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=20) == -signal.SIGHUP

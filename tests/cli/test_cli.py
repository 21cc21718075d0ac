"""The commands as an administrator types them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import argon2
import pytest
import trustme

from tests.conftest import StartSlapd
from tests.support.bridges import configuration, url_of
from tests.support.slapd import person, require

pytestmark = pytest.mark.slapd


def run(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bridge", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)


def test_list_prints_table_json_and_csv(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """JSON is exactly what MailStore would get."""
    file = str(configuration(start_slapd().url, tmp_path))
    listed = run("list", "--config", file, "--format", "json")
    assert [user["userName"] for user in json.loads(listed.stdout)] == ["anna", "bert", "carl"]
    assert listed.returncode == 0
    assert run("list", "--config", file, "--json").stdout == listed.stdout
    records = run("list", "--config", file)
    assert records.stdout.splitlines()[0] == "anna\tName of anna\tanna@example.com"
    assert (len(records.stdout.splitlines()), records.stderr) == (3, "3 users\n")
    assert run("list", "--config", file, "--json", "--format", "csv").returncode == 2
    assert run("list", "--config", file, "--format", "csv").stdout.splitlines()[1].startswith("anna,Name of anna,")


def test_list_writes_a_record_for_each_of_many_and_may_be_cut_short(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """However many there are, a line is a user; a reader who leaves early is no error."""
    slapd = start_slapd([person(f"u{number:04}", cn=[f"[bold]{number}"]) for number in range(1200)])
    file = str(configuration(slapd.url, tmp_path))
    lines = run("list", "--config", file).stdout.splitlines()
    assert lines[0] == "u0000\t[bold]0\tu0000@example.com"
    assert len(lines) == 1200
    command = f"{sys.executable} -m bridge list --config {file} --format csv | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout[:8], done.stderr) == ("userName", "")


@pytest.mark.parametrize(
    ("password", "code", "text"),
    [
        ("Pass-anna\n", 0, "accepted"),
        ("Pass-anna\r\n", 0, "accepted"),
        ("wrong\n", 1, "wrong_password"),
        ("", 1, "empty"),
    ],
)
def test_auth_checks_a_password_from_standard_input(
    start_slapd: StartSlapd, tmp_path: Path, password: str, code: int, text: str
) -> None:
    """The verdict is an exit code and a word; the password stands in no argument."""
    file = str(configuration(start_slapd().url, tmp_path))
    done = run("auth", "--config", file, "anna", stdin=password)
    assert (done.returncode, text in done.stdout) == (code, True)


def test_check_takes_a_certificate_by_its_fingerprint(
    start_slapd: StartSlapd, tmp_path: Path, make_certificate: Callable[..., tuple[Path, Path]]
) -> None:
    """Nothing is known then of how long it is good, and nothing is wrong."""
    certificate = make_certificate(signed_by=trustme.CA())
    slapd = start_slapd(certificate=certificate)
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate[0].read_text())).hexdigest()
    lines = f"tls: {{fingerprint_sha256: '{fingerprint}'}}"
    done = run("check", "--json", "--config", str(configuration(url_of(slapd, "ldaps"), tmp_path, directory=lines)))
    found = json.loads(done.stdout)["checks"]
    (tls,) = (check for check in found if check["name"] == "tls")
    assert (tls["result"], "configured fingerprint" in tls["message"]) == ("ok", True)


def test_check_finds_what_is_right_and_what_is_wrong(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Every check with its result; a failure has a remedy and exit code 1."""
    slapd = start_slapd()
    file = str(configuration(slapd.url, tmp_path))
    done = run("check", "--config", file, "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["ok"]) == (0, True)
    assert {"configuration", "server", "tls", "paging", "base", "users", "sample", "attributes"} <= {
        check["name"] for check in found["checks"]
    }
    assert set(found["checks"][0]) == {"name", "directory", "server", "result", "message", "remedy"}
    assert "anna" in run("check", "--config", file).stdout
    slapd.stop()
    done = run("check", "--config", file, "--json")
    failed = [check for check in json.loads(done.stdout)["checks"] if check["result"] == "failed"]
    assert done.returncode == 1
    assert all(check["remedy"] for check in failed)
    assert run("check", "--config", file, "--offline").returncode == 0


def test_errors_have_their_exit_codes(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Usage 2, directory 69, configuration 78; one sentence each and no traceback."""
    slapd = start_slapd()
    file = str(configuration(slapd.url, tmp_path))
    slapd.stop()
    broken = tmp_path / "broken.yaml"
    broken.write_text("endpoints: 5\n")
    for arguments, code in (
        (("list", "--nonsense"), 2),
        (("list", "--config", file, "--endpoint", "/other"), 2),
        (("list", "--config", file), 69),
        (("list", "--config", str(broken)), 78),
        (("serve", "--config", str(tmp_path / "missing.yaml")), 78),
        (("hash-password",), 2),
    ):
        done = run(*arguments)
        assert done.returncode == code, done.stderr
        assert done.stderr
        assert "Traceback" not in done.stderr


def test_hash_password_makes_what_callers_take() -> None:
    """The hash is argon2id, and that of the password."""
    done = run("hash-password", stdin="secret ü\n")
    assert argon2.PasswordHasher().verify(done.stdout.strip(), "secret ü")


def test_schema_is_json() -> None:
    """Editors can read it."""
    assert json.loads(run("schema").stdout)["title"] == "Configuration"


def test_demo_prints_three_lines_that_work_and_leaves_nothing(tmp_path: Path) -> None:
    """Each curl line is run as it stands; Ctrl-C ends the demo and removes its files."""
    require("curl")
    command = [sys.executable, "-m", "bridge", "demo", "--port", "0", "--users", "60"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Ctrl-C"):
                break
        curls = [line.strip() for line in lines if line.startswith("  curl")]
        answers = [
            subprocess.run(curl, shell=True, capture_output=True, text=True, check=True).stdout for curl in curls
        ]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
    assert len(json.loads(answers[0])) == 60
    assert [json.loads(answer) for answer in answers[1:]] == [{"succeeded": True}, {"succeeded": False}]
    assert list(tmp_path.iterdir()) == []


def test_serve_runs_until_sigterm_and_notifies(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Started, ready, stopped: exit code 0, and no secret in what it said."""
    file = configuration(start_slapd().url, tmp_path, more="cache: {refresh_ahead: true}")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(20)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        command = [sys.executable, "-m", "bridge", "serve", "--config", str(file)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
            assert notify.recv(200).startswith(b"READY=1")
            process.send_signal(signal.SIGTERM)
            states = iter(lambda: notify.recv(1000), b"")
            assert any(state.startswith(b"STOPPING=1") for state in states)
            _, log = process.communicate(timeout=20)
        assert process.returncode == 0
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert "service.started" in events
    assert events[-1] == "service.stopped"
    assert not re.search("reads-only|caller ü", log)

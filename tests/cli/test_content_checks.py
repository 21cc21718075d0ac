"""What `check` says of files that can be used, and will make trouble."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.support.bridges import configuration
from tests.support.slapd import free_port

pytestmark = pytest.mark.processes


def check(file: Path) -> tuple[int, list[dict[str, Any]]]:
    """The exit code of `check --offline`, and what isn't ok about files."""
    command = [sys.executable, "-m", "bridge", "check", "--offline", "--json", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["checks"]
    return done.returncode, [row for row in found if row["name"] == "file" and row["result"] != "ok"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration with a listener's certificate yet to be made."""
    found = configuration(f"ldap://127.0.0.1:{free_port()}", tmp_path)
    tls = f"tls: {{certificate_file: {tmp_path}/bridge.pem, key_file: {tmp_path}/bridge.pem}}"
    found.write_text(found.read_text().replace('{listen: "127.0.0.1:0"}', f'{{listen: "127.0.0.1:0", {tls}}}', 1))
    certify(tmp_path, {})
    return found


def certify(folder: Path, dates: dict[str, int]) -> None:
    """Make the certificate; `dates` are days from now."""
    moments = {name: datetime.now(UTC) + timedelta(days=days) for name, days in dates.items()}
    issued = trustme.CA().issue_cert("127.0.0.1", **moments)
    (folder / "bridge.pem").write_bytes(issued.private_key_and_cert_chain_pem.bytes())
    (folder / "bridge.pem").chmod(0o600)


@pytest.mark.parametrize(
    ("dates", "code", "result", "words"),
    [
        ({}, 0, "", ""),
        ({"not_after": 40}, 0, "", ""),
        ({"not_after": 10}, 0, "warning", " ends at "),
        ({"not_after": -1}, 1, "failed", " has expired: it was good until "),
        ({"not_before": 2, "not_after": 90}, 1, "failed", " is not valid yet: it is good from "),
    ],
    ids=str,
)
def test_certificate_of_the_listener_that_ends(
    file: Path, dates: dict[str, int], code: int, result: str, words: str
) -> None:
    """MailStore would refuse it from one day to the next, and every listing and login with it."""
    certify(file.parent, dates)
    returned, rows = check(file)
    assert (returned, [row["result"] for row in rows]) == (code, [result] if result else [])
    if result:
        assert words in rows[0]["message"]
        assert f"server.tls.certificate_file: {file.parent}/bridge.pem: " in rows[0]["message"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"canary\n", ""),
        (b"canary\r\n", ""),
        (b"can ary", ""),
        ("cänary".encode(), ""),
        (b"\xef\xbb\xbfcanary\n", "begins with a byte order mark"),
        ("canary\n".encode("utf-16"), "begins with a byte order mark"),
        (b"canary\n\n", "holds more than one line"),
        (b"user\ncanary\n", "holds more than one line"),
        (b"canary\0", "holds a zero byte"),
        (b" canary\n", "begins or ends with a blank"),
        (b"canary \n", "begins or ends with a blank"),
    ],
)
@pytest.mark.parametrize("name", ["caller", "reader"])
def test_password_file_with_what_few_mean(file: Path, name: str, content: bytes, words: str) -> None:
    """All of it is the password, which is told before it is refused; nothing of the password itself is."""
    (file.parent / f"{name}.password").write_bytes(content)
    code, rows = check(file)
    assert code == 0
    assert len(rows) == bool(words)
    if words:
        message = rows[0]["message"]
        assert message.endswith(f"/{name}.password {words}, which counts as part of the password")
        assert "canary" not in str(rows)

"""`check`, run as root, judges the files by the user as whom the service runs."""

from __future__ import annotations

import json

import pytest

from tests.support.set_up import FOLDER, SetUp

pytestmark = [pytest.mark.slapd, pytest.mark.machine, pytest.mark.timeout(300)]
PUT_RIGHT = (
    "chmod 2750 .; chgrp mailstore-bridge *; chmod 640 config.yaml *.password *.pem bridge.key; chmod 600 ca.key"
)


@pytest.mark.parametrize(
    ("change", "code", "result", "key", "words"),
    [
        ("true", 0, None, "", ""),
        ("chmod 600 reader.password", 1, "failed", "bind.password_file", "can't be read by mailstore-bridge"),
        ("chmod 600 bridge.key", 1, "failed", "server.tls.key_file", "can't be read by mailstore-bridge"),
        ("chmod 700 .", 1, "failed", "server.tls.certificate_file", "can't be read by mailstore-bridge"),
        ("chmod 644 bridge.key", 0, "warning", "server.tls.key_file", "can be read by others"),
        ("chmod 644 mailstore.password", 0, "warning", "password_file", "can be read by others"),
    ],
)
def test_check_of_root_judges_by_the_services_user(
    set_up: SetUp, change: str, code: int, result: str | None, key: str, words: str
) -> None:
    """What the service can't read fails, and a secret that others can read is a warning, with the command that helps."""
    set_up.machine.shell(change, folder=FOLDER)
    try:
        done = set_up.machine.run("mailstore-bridge", "check", "--json")
    finally:
        set_up.machine.shell(PUT_RIGHT, folder=FOLDER)
    assert done.returncode == code, done.stdout + done.stderr
    rows = [row for row in json.loads(done.stdout)["checks"] if row["result"] != "ok"]
    assert bool(rows) is (result is not None), rows
    if result is not None:
        row = next(row for row in rows if key in row["message"])
        assert row["result"] == result
        assert words in row["message"]
        assert "chmod 640 /etc/mailstore-bridge/" in row["message"] + (row["remedy"] or "")


def test_check_tells_what_the_running_service_cannot_use(set_up: SetUp) -> None:
    """Written anew, and without its group's right to read it: the service goes on with what it had."""
    old = set_up.caller_password
    renew = "chmod 600 mailstore.password; echo renewed > mailstore.password; systemctl reload mailstore-bridge"
    set_up.machine.shell(renew, folder=FOLDER)
    try:
        done = set_up.machine.run("mailstore-bridge", "check", "--json")
    finally:
        set_up.machine.run("tee", f"{FOLDER}/mailstore.password", stdin=f"{old}\n")
        set_up.machine.shell(f"{PUT_RIGHT}; systemctl reload mailstore-bridge", folder=FOLDER)
    messages = [row["message"] for row in json.loads(done.stdout)["checks"] if row["name"] == "file"]
    (told,) = [message for message in messages if message.startswith("the running service uses an older")]
    assert "as it can't use what stands there now: can't be read: Permission denied" in told
    assert set_up.user_names() == ["anna", "bert", "carl"]

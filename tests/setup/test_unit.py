"""The unit: how locked down it is, who it runs as, what ends and what restarts it."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.support.machine import ROOT
from tests.support.set_up import FOLDER, UNIT, SetUp
from tests.support.slapd import require

pytestmark = [pytest.mark.slapd, pytest.mark.machine, pytest.mark.timeout(300)]


def test_unit_is_locked_down() -> None:
    """Its exposure is no more than 1.2 of 10."""
    command = [require("systemd-analyze"), "security", "--offline=yes", "--threshold=12"]
    done = subprocess.run([*command, str(ROOT / "systemd" / UNIT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:] + done.stderr


def test_unit_has_no_mistake(set_up: SetUp) -> None:
    """Systemd finds nothing to say about it, nor about the user."""
    done = set_up.machine.run("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = set_up.machine.run("systemd-sysusers", "--dry-run")
    assert "mailstore-bridge" not in done.stdout + done.stderr


def test_service_runs_as_its_static_user(set_up: SetUp) -> None:
    """What it keeps is its own, and nobody else may look."""
    assert (
        set_up.property_of_unit("User"),
        set_up.property_of_unit("Group"),
        set_up.property_of_unit("DynamicUser"),
    ) == (
        *["mailstore-bridge"] * 2,
        "no",
    )
    folders = "/var/lib/mailstore-bridge /run/mailstore-bridge"
    found = set_up.machine.shell(f"find {folders} -printf '%U %G %m %p\\n'; id -u mailstore-bridge").splitlines()
    *rows, own_id = found
    assert {row.rsplit(" ", 2)[0] for row in rows} == {
        f"{own_id} {set_up.machine.shell('id -g mailstore-bridge').strip()}"
    }
    assert {row.split(" ")[2] for row in rows} <= {"700", "600"}


@pytest.mark.parametrize("signal", ["KILL", "TERM"])
def test_service_that_ends_by_itself_is_started_again(set_up: SetUp, signal: str) -> None:
    """Whatever has ended it: only `systemctl stop` means it."""
    machine, pid = set_up.machine, set_up.property_of_unit("MainPID")
    override = f"/run/systemd/system/{UNIT}.d/test-waits-less.conf"
    machine.shell(f"install -D /dev/stdin {override} <<< $'[Service]\\nRestartSec=0'; systemctl daemon-reload")
    try:
        machine.run("systemctl", "kill", "-s", signal, "--kill-who=main", UNIT)
        machine.until(
            lambda: (
                set_up.property_of_unit("MainPID") not in (pid, "0")
                and set_up.property_of_unit("ActiveState") == "active"
            )
        )
        assert set_up.user_names() == ["anna", "bert", "carl"]
    finally:
        machine.shell(f"rm {override}; systemctl daemon-reload; systemctl reset-failed {UNIT}")


def test_wrong_configuration_is_told_once(set_up: SetUp) -> None:
    """78, and no further try: the same file would be as wrong."""
    machine = set_up.machine
    machine.shell("sed -i 's/^endpoints:/endpionts:/' config.yaml", folder=FOLDER)
    try:
        began_s = time.monotonic()
        assert machine.run("systemctl", "restart", UNIT).returncode != 0
        assert time.monotonic() - began_s < 5
        assert (set_up.property_of_unit("ExecMainStatus"), set_up.property_of_unit("SubState")) == ("78", "failed")
        assert 'did you mean "endpoints"?' in machine.journal()
    finally:
        machine.shell(f"sed -i 's/^endpionts:/endpoints:/' config.yaml; systemctl restart {UNIT}", folder=FOLDER)
    assert set_up.user_names() == ["anna", "bert", "carl"]

"""An installation whose unit had `DynamicUser=yes` gets the static user, and loses no accepted listing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.set_up import FOLDER, UNIT, SetUp

pytestmark = [pytest.mark.slapd, pytest.mark.machine, pytest.mark.timeout(300)]
OVERRIDE = f"/etc/systemd/system/{UNIT}.d/dynamic.conf"
DYNAMIC = "[Service]\nDynamicUser=yes\n" + "".join(
    f"LoadCredential={name}:{FOLDER}/{name}.password\n" for name in ("reader", "mailstore")
)


def is_kept(set_up: SetUp) -> bool:
    """Whether the first listing of this run was compared with an accepted one of an earlier run."""
    lines = [json.loads(line) for line in set_up.machine.journal().splitlines() if line.startswith("{")]
    last = next(line for line in reversed(lines) if line["event"] == "refresh.finished")
    return last["is_first"] is False and last["added_count"] == 0


@pytest.fixture
def dynamic(set_up: SetUp) -> Iterator[SetUp]:
    """The service as it was: a user that exists while it runs, secrets as credentials, its state in /var/lib/private."""
    machine = set_up.machine
    machine.shell(
        f"systemctl stop {UNIT}; userdel mailstore-bridge; chmod 755 .; chmod 644 config.yaml *.pem bridge.key\n"
        "cp -p config.yaml /root; sed -Ei 's#password_file: .*/(reader|mailstore).password#password_credential: \\1#'"
        f" config.yaml; chmod 600 *.password\ninstall -D /dev/stdin {OVERRIDE} << 'END'\n{DYNAMIC}END\n"
        f"rm -rf /var/lib/mailstore-bridge; systemctl daemon-reload; systemctl start {UNIT}",
        folder=FOLDER,
    )
    yield set_up
    machine.shell(
        f"systemctl stop {UNIT}; rm -f {OVERRIDE}; systemd-sysusers; cp -p /root/config.yaml .\n"
        "chgrp -R mailstore-bridge .; chmod 2750 .; chmod 640 config.yaml *.pem bridge.key *.password\n"
        f"systemctl daemon-reload; systemctl start {UNIT}",
        folder=FOLDER,
    )


def test_listings_outlive_the_change_of_the_user(dynamic: SetUp) -> None:
    """Systemd takes the state out of /var/lib/private by itself, and gives it to the new user."""
    machine = dynamic.machine
    assert dynamic.user_names() == ["anna", "bert", "carl"]
    assert machine.run("readlink", "/var/lib/mailstore-bridge").stdout == "private/mailstore-bridge\n"
    machine.shell(
        f"systemctl stop {UNIT}; systemd-sysusers; chgrp mailstore-bridge *.password; chmod 640 *.password\n"
        f"rm {OVERRIDE}; cp /root/config.yaml .; systemctl daemon-reload; systemctl start {UNIT}",
        folder=FOLDER,
    )
    assert dynamic.user_names() == ["anna", "bert", "carl"]
    machine.until(lambda: is_kept(dynamic))
    owners = machine.shell("find /var/lib/mailstore-bridge/ -printf '%U\\n'; id -u mailstore-bridge").split()
    assert len(set(owners)) == 1
    assert machine.run("test", "-e", "/var/lib/private/mailstore-bridge").returncode == 1


def test_user_is_not_made_while_the_old_service_runs(dynamic: SetUp) -> None:
    """The dynamic user has the name, so the service must be stopped first."""
    machine = dynamic.machine
    machine.run("systemd-sysusers")
    assert machine.run("grep", "-c", "^mailstore-bridge:", "/etc/passwd").stdout == "0\n"

"""A machine on which README.md was followed, and what MailStore asks of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.machine import Machine
from tests.support.slapd import Slapd

FOLDER = "/etc/mailstore-bridge"
UNIT = "mailstore-bridge.service"
URL = "https://gateway.example.com:8443/mailstore"


@dataclass
class SetUp:
    """What the administrator has before them."""

    machine: Machine
    slapd: Slapd
    ca_file: Path
    """Who has signed the directory's certificate."""
    printed: dict[str, str] = field(default_factory=dict)
    """What each step has printed, by its first line."""
    left_before_start: str = ""
    """What the commands have left, before the service ran, that isn't the service's."""

    @property
    def caller_password(self) -> str:
        """The password of MailStore."""
        return self.machine.run("cat", f"{FOLDER}/mailstore.password").stdout.strip()

    def post(self, body: str) -> Any:
        """What MailStore is answered, over HTTPS with the certificate checked."""
        options = f'user = "mailstore:{self.caller_password}"\ndata = "{body}"\n'
        command = ["curl", "-fsS", "-m", "30", "-K", "-", "--cacert", f"{FOLDER}/ca.pem", URL]
        done = self.machine.run(*command, stdin=options)
        assert done.returncode == 0, done.stderr + self.machine.journal()
        return json.loads(done.stdout)

    def user_names(self) -> list[str]:
        """Who is listed."""
        return [user["userName"] for user in self.post("cmd=list")]

    def property_of_unit(self, name: str) -> str:
        """What systemd says of the service."""
        return self.machine.run("systemctl", "show", "--value", f"--property={name}", UNIT).stdout.strip()

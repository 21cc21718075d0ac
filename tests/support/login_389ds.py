"""389 Directory Server as a server for tests of logins."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tests.support import ds389
from tests.support.bridges import configuration
from tests.support.login_servers import LATER, LONG_AGO, MORE, can_bind, fail, renewed, right
from tests.support.slapd import Entry, require


class Server389:
    """389 Directory Server, where a policy of the branch, which everybody may read, locks after three."""

    kind = "389 DS"
    threshold_count, budget_count = 3, 2

    def __init__(self, server: ds389.DirectoryServer389) -> None:
        self.server = server

    @staticmethod
    def entries() -> list[Entry]:
        reader = {"objectClass": ["device", "simpleSecurityObject"], "cn": ["reader"]}
        return [
            (ds389.READER, {**reader, "userPassword": [ds389.READER_PASSWORD]}),
            (ds389.PEOPLE, {"objectClass": ["organizationalUnit"], "ou": ["people"]}),
        ]

    def set_up(self) -> None:
        """Give the branch of the people its policy (fine-grained, RFC 3672 subentries)."""
        server, container = self.server, f"cn=nsPwPolicyContainer,{ds389.PEOPLE}"
        server.replace(ds389.BASE, aci=ds389.READ_ACCESS)
        server.replace("cn=config", nsslapd_pwpolicy_local="on", passwordTrackUpdateTime="on")
        values = {
            "passwordLockout": "on",
            "passwordMaxFailure": "3",
            "passwordUnlock": "on",
            "passwordLockoutDuration": "3600",
            "passwordResetFailureCount": "600",
            "passwordExp": "on",
            "passwordMaxAge": "8640000",
            "passwordTrackUpdateTime": "on",
        }
        self._policy = f'cn="cn=nsPwPolicyEntry,{ds389.PEOPLE}",{container}'
        policy: dict[str, list[str | bytes]] = {name: [value] for name, value in values.items()}
        classes: list[str | bytes] = ["ldapsubentry", "passwordpolicy"]
        server.add(
            (container, {"objectClass": ["nsContainer"], "cn": ["nsPwPolicyContainer"]}),
            (self._policy, {"objectClass": classes, "cn": [f"cn=nsPwPolicyEntry,{ds389.PEOPLE}"], **policy}),
        )

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server.port

    def configure(self, folder: Path, url: str | None = None, directory: str = "") -> Path:
        return configuration(
            url or self.server.url,
            folder,
            preset="389ds",
            reader=(ds389.READER, ds389.READER_PASSWORD),
            users="users: {}",
            directory=directory,
            more=MORE,
        )

    def dn(self, uid: str) -> str:
        return f"uid={uid},{ds389.PEOPLE}"

    def add(self, people: Iterable[tuple[str, str]]) -> None:
        people = list(people)
        self.server.add(*(self._entry(uid, has_password=state != "no password") for uid, state in people))
        of_state: dict[str, dict[str, str | None]] = {
            "disabled": {"nsAccountLock": "true"},
            "expired": {"passwordExpirationTime": LONG_AGO},
            "stale lock": _counted(LONG_AGO),
        }
        for uid, state in people:
            if state == "marked":
                self.server.replace(self.dn(uid), userPassword=right(uid))
            elif state in of_state:
                self.server.replace(self.dn(uid), **of_state[state])

    def begin(self, uid: str, state: str) -> None:
        if state.startswith("locked by another"):
            fail(self, uid, self.threshold_count)
        elif state == "nearly locked":
            fail(self, uid, self.threshold_count - 1)
        elif state == "must change":
            self.server.replace(self._policy, passwordMustChange="on")
            self.set_password(uid, right(uid))

    def _entry(self, uid: str, *, has_password: bool) -> Entry:
        found: dict[str, list[str | bytes]] = {"objectClass": ["inetOrgPerson"], "uid": [uid], "cn": [uid], "sn": ["S"]}
        found["pwdpolicysubentry"] = [self._policy]
        if has_password:
            found["userPassword"] = [right(uid)]
        return self.dn(uid), found

    def end(self, uid: str, state: str) -> None:
        values: dict[str, dict[str, str | None]] = {
            "disabled": {"nsAccountLock": None},
            "locked by another": {"passwordRetryCount": None, "accountUnlockTime": None},
            "nearly locked": {"passwordRetryCount": None, "accountUnlockTime": None},
        }
        if state in values:
            self.server.replace(self.dn(uid), **values[state])
        elif state in ("expired", "no password", "locked by another, new password"):
            self.set_password(uid, renewed(uid))
        elif state == "must change":
            self.server.replace(self._policy, passwordMustChange="off")
            self.server.replace(self.dn(uid), passwordExpirationTime=LATER)

    def set_password(self, uid: str, password: str) -> None:
        """Sets it in another second than the last one, and waits until that can be seen: it is written afterwards."""
        before = self._read(uid, "pwdUpdateTime")
        while before == datetime.now(UTC).strftime("%Y%m%d%H%M%SZ"):
            time.sleep(0.05)
        self.server.replace(self.dn(uid), userPassword=password)
        while self._read(uid, "pwdUpdateTime") == before:
            time.sleep(0.02)

    def failures(self, uid: str) -> int:
        return int(self._read(uid, "passwordRetryCount") or "0")

    def _read(self, uid: str, attribute: str) -> str:
        manager = ("-x", "-LLL", "-H", self.server.url, "-D", ds389.MANAGER, "-w", ds389.MANAGER_PASSWORD)
        command = [require("ldapsearch"), *manager, "-s", "base", "-b", self.dn(uid), attribute]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        _, sign, value = done.stdout.partition(f"{attribute}: ")
        return value.split()[0] if sign else ""

    def takes(self, uid: str, password: str) -> bool:
        return can_bind("-x", "-H", self.server.url, "-D", self.dn(uid), "-w", password)


def _counted(until: str) -> dict[str, str | None]:
    """What 389 DS leaves when a lock is over and its failures still count."""
    return {"passwordRetryCount": "3", "accountUnlockTime": until, "retryCountResetTime": LATER}

"""Samba as a server for tests of logins."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.support import samba
from tests.support.bridges import configuration
from tests.support.login_servers import MORE, can_bind, fail, renewed, right

_DISABLED, _ENABLED, _NO_PASSWORD_NEEDED = "514", "512", "544"
_LONG_AGO = "130000000000000000"
"""In 2012, in 100 ns since 1601."""


class SambaServer:
    """Samba, where three wrong passwords lock for half an hour."""

    kind = "Samba"
    threshold_count, budget_count = 3, 2

    def __init__(self, server: samba.Samba) -> None:
        self.server = server
        self._added: list[str] = []

    def remove_added(self) -> None:
        """The domain is that of other tests, too."""
        self.server.change(delete=[self.dn(uid) for uid in self._added])

    @property
    def address(self) -> tuple[str, int]:
        return self.server.address, 389

    def configure(self, folder: Path, url: str | None = None, directory: str = "") -> Path:
        return configuration(
            url or self.server.url,
            folder,
            preset="samba",
            reader=(samba.READER, samba.READER_PASSWORD),
            users=f'users: {{bases: ["{samba.PEOPLE}"]}}',
            directory=f"tls: {{ca_file: {self.server.authority}}}\n    {directory}",
            more=MORE,
        )

    def dn(self, uid: str) -> str:
        return f"CN={uid},{samba.PEOPLE}"

    def add(self, people: Iterable[tuple[str, str]]) -> None:
        people = list(people)
        self._added += [uid for uid, _ in people]
        of_state: dict[str, dict[str, Sequence[str | bytes]]] = {
            "disabled": {"userAccountControl": [_DISABLED]},
            "ended": {"accountExpires": [_LONG_AGO]},
            "must change": {"pwdLastSet": ["0"]},
            "expired": {"pwdLastSet": [_LONG_AGO]},
            "not yet": {"logonHours": [bytes(21)]},
            "stale lock": {"lockoutTime": [_LONG_AGO]},
        }
        without = {"userAccountControl": [_NO_PASSWORD_NEEDED]}
        self.server.change(
            add=[
                samba.account(uid, "", **without) if state == "no password" else samba.account(uid, right(uid))
                for uid, state in people
            ]
        )
        self.server.change(modify={self.dn(uid): of_state[state] for uid, state in people if state in of_state})
        for uid, state in people:
            if state == "changed twice":
                self.set_password(uid, f"between-{uid}-1")
                self.set_password(uid, renewed(uid))
            elif state == "changed":
                self.set_password(uid, renewed(uid))

    def begin(self, uid: str, state: str) -> None:
        if state.startswith("locked by another"):
            lock = {"lockoutTime": [_filetime_now()], "badPwdCount": ["3"]}
            self.server.change(modify={self.dn(uid): lock})
        elif state == "nearly locked":
            fail(self, uid, self.threshold_count - 1)

    def end(self, uid: str, state: str) -> None:
        values: dict[str, dict[str, Sequence[str | bytes]]] = {
            "disabled": {"userAccountControl": [_ENABLED]},
            "ended": {"accountExpires": ["0"]},
            "must change": {"pwdLastSet": ["-1"]},
            "not yet": {"logonHours": [b"\xff" * 21]},
            "locked by another": {"lockoutTime": ["0"]},
            "nearly locked": {"lockoutTime": ["0"]},
        }
        if state in values:
            self.server.change(modify={self.dn(uid): values[state]})
        elif state in ("expired", "no password", "locked by another, new password"):
            self.set_password(uid, renewed(uid))

    def set_password(self, uid: str, password: str) -> None:
        self.server.change(modify={self.dn(uid): {"unicodePwd": [f'"{password}"'.encode("utf-16-le")]}})

    def failures(self, uid: str) -> int:
        return int(self.server.read(self.dn(uid), "badPwdCount").get("badPwdCount", ["0"])[0])

    def takes(self, uid: str, password: str) -> bool:
        name = f"{uid}@{samba.REALM}"
        options = ("-x", "-H", f"ldap://{self.server.address}", "-ZZ", "-D", name, "-w", password)
        return can_bind(*options, authority=self.server.authority)


def _filetime_now() -> str:
    return str(int((time.time() + 11_644_473_600) * 10_000_000))

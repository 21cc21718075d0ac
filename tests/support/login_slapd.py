"""slapd with policies of slapo-ppolicy(5), as a server for tests of logins."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.support import slapd
from tests.support.bridges import configuration
from tests.support.login_servers import LATER, LONG_AGO, MORE, can_bind, fail, renewed, right
from tests.support.slapd import Entry, Slapd

FOR_EVER = "000001010000Z"
LOCK_S = 2
"""How long a lock lasts in the state `locked by time`."""


@dataclass(frozen=True)
class Policy:
    """A policy of slapo-ppolicy(5)."""

    name: str
    threshold_count: int
    interval_s: int
    uses_lockout: bool
    """Whether the server says that an account is locked (ppolicy_use_lockout)."""
    max_age_s: int
    """0: passwords don't age, and entries are added without pwdChangedTime."""
    locks: bool = True
    budget_count: int = 4


POLICIES = (
    Policy("3 in 600 s, told, ageing", 3, 600, uses_lockout=True, max_age_s=8_640_000, budget_count=2),
    Policy("3 for ever, not told, no ageing", 3, 0, uses_lockout=False, max_age_s=0, budget_count=2),
    Policy("5 for ever, told, no ageing", 5, 0, uses_lockout=True, max_age_s=0),
    Policy("5 in 600 s, not told, ageing", 5, 600, uses_lockout=False, max_age_s=8_640_000),
    Policy("10 counted, none locks", 10, 0, uses_lockout=False, max_age_s=0, locks=False),
)
_BRANCH = f"ou=policies,{slapd.BASE}"


class SlapdServer:
    """slapd with one policy, and variants of it that differ in what has nothing to do with counting."""

    kind = "slapd"

    def __init__(self, server: Slapd, policy: Policy) -> None:
        self.server, self.policy = server, policy
        self.threshold_count, self.budget_count = policy.threshold_count, policy.budget_count

    @staticmethod
    def options(policy: Policy) -> dict[str, str]:
        told = "\nppolicy_use_lockout" if policy.uses_lockout else ""
        extra = f'overlay ppolicy\nppolicy_default "cn=default,{_BRANCH}"{told}'
        return {"overlays": "moduleload ppolicy", "extra": extra}

    @staticmethod
    def entries(policy: Policy) -> list[Entry]:
        """The policy and its variants."""
        counting = {
            "pwdLockout": "TRUE" if policy.locks else "FALSE",
            "pwdMaxFailure": str(policy.threshold_count),
            "pwdFailureCountInterval": str(policy.interval_s),
        }

        def entry(name: str, **values: str) -> Entry:
            found = {"objectClass": ["device", "pwdPolicy"], "cn": [name], "pwdAttribute": ["userPassword"]}
            values = {"pwdLockoutDuration": "3600", **counting, **values}
            return f"cn={name},{_BRANCH}", {**found, **{key: [value] for key, value in values.items()}}

        return [
            (_BRANCH, {"objectClass": ["organizationalUnit"], "ou": ["policies"]}),
            entry("default", pwdMaxAge=str(policy.max_age_s)),
            entry("short", pwdLockoutDuration=str(LOCK_S)),
            entry("ageing", pwdMaxAge="60"),
            entry("changing", pwdMaxAge="0", pwdMustChange="TRUE"),
            entry("grace", pwdMaxAge="60", pwdGraceAuthNLimit="30"),
        ]

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.server.port

    def configure(self, folder: Path, url: str | None = None, directory: str = "") -> Path:
        return configuration(url or self.server.url, folder, directory=directory, more=MORE)

    def dn(self, uid: str) -> str:
        return f"uid={uid},{slapd.PEOPLE}"

    def add(self, people: Iterable[tuple[str, str]]) -> None:
        """Writes people into the database itself, as no modification may set some of these attributes."""
        people = list(people)
        self.server.stop()
        found = [slapd.person(uid, **self._attributes(uid, state)) for uid, state in people]
        plain = [(dn, {name: value for name, value in each.items() if value}) for dn, each in found]
        self.server._run("slapadd", "-q", "-f", "slapd.conf", stdin=slapd.to_ldif(plain))
        self.server.start()

    def begin(self, uid: str, state: str) -> None:
        if state.startswith("locked by"):
            fail(self, uid, self.threshold_count)
        elif state == "nearly locked":
            fail(self, uid, self.threshold_count - 1)

    def _attributes(self, uid: str, state: str) -> dict[str, list[str | bytes]]:
        variants = {"expired": "ageing", "grace": "grace", "locked by time": "short", "must change": "changing"}
        of_state: dict[str, dict[str, list[str | bytes]]] = {
            "marked": {"pwdChangedTime": [LONG_AGO if self.policy.max_age_s == 0 else _an_hour_ago()]},
            "expired": {"pwdChangedTime": [LONG_AGO]},
            "grace": {"pwdChangedTime": [LONG_AGO]},
            "disabled": {"pwdAccountLockedTime": [FOR_EVER]},
            "stale lock": {"pwdAccountLockedTime": [LONG_AGO]},
            "must change": {"pwdReset": ["TRUE"]},
            "ended": {"pwdEndTime": [LONG_AGO]},
            "not yet": {"pwdStartTime": [LATER]},
            "no password": {"userPassword": []},
        }
        found: dict[str, list[str | bytes]] = {"userPassword": [right(uid)], **of_state.get(state, {})}
        if state in variants:
            found["pwdPolicySubentry"] = [f"cn={variants[state]},{_BRANCH}"]
        return found

    def end(self, uid: str, state: str) -> None:
        if state in ("expired", "no password", "locked by another, new password"):
            self.set_password(uid, renewed(uid))
        elif state == "locked by time":
            time.sleep(LOCK_S + 1.1)  # slapd goes by its own clock, in whole seconds
        elif state in ("disabled", "locked by another", "nearly locked"):
            self.server.replace([self.dn(uid)], "pwdAccountLockedTime")
        elif attribute := {"must change": "pwdReset", "ended": "pwdEndTime", "not yet": "pwdStartTime"}.get(state):
            self.server.replace([self.dn(uid)], attribute)

    def set_password(self, uid: str, password: str) -> None:
        self.server._run("ldappasswd", *self._admin(), "-s", password, self.dn(uid))

    def failures(self, uid: str) -> int:
        options = ("-LLL", "-o", "ldif-wrap=no", "-s", "base", "-b", self.dn(uid), "pwdFailureTime")
        return self.server._run("ldapsearch", *self._admin(), *options).count("pwdFailureTime:")

    def takes(self, uid: str, password: str) -> bool:
        return can_bind("-x", "-H", self.server.url, "-D", self.dn(uid), "-w", password)

    def _admin(self) -> Sequence[str]:
        return ("-x", "-H", self.server.url, "-D", f"cn=admin,{slapd.BASE}", "-w", "admin")


def _an_hour_ago() -> str:
    return datetime.fromtimestamp(time.time() - 3600, UTC).strftime("%Y%m%d%H%M%SZ")

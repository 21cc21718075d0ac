"""Three kinds of real servers for tests of logins, each with a policy that locks accounts, behind one set of words.

A person of a server has a state, which begins when the person is added and ends by `end`. `failures` is the server's own
count, read from its database or as its administrator.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from tests.support import ds389, samba, slapd
from tests.support.bridges import configuration
from tests.support.slapd import Entry, Slapd, require

LONG_AGO, LATER, FOR_EVER = "20200101000000Z", "20990101000000Z", "000001010000Z"
LOCK_S = 2
"""How long a lock lasts in the state `locked shortly`."""
_DISABLED, _ENABLED, _NO_PASSWORD_NEEDED = "514", "512", "544"
_FILETIME_LONG_AGO = "130000000000000000"
_MORE = "cache: {refresh_ahead: false}\nauth: {fast_refusals: true}"
"""max_failures is auto, the default."""


def right(uid: str) -> str:
    return f"Pass-{uid}-1"


def renewed(uid: str) -> str:
    """The password that an administrator sets."""
    return f"Pass-{uid}-2"


class LoginServer(Protocol):
    """One server with its policy."""

    kind: str
    threshold_count: int
    budget_count: int
    """How many binds with wrong passwords `max_failures: auto` makes of that."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port without TLS."""

    def configure(self, folder: Path, url: str | None = None, directory: str = "") -> Path:
        """A configuration of a bridge in front of it, or of the proxy that `url` leads to; `directory`: lines of YAML."""

    def dn(self, uid: str) -> str: ...

    def add(self, people: Iterable[tuple[str, str]]) -> None:
        """Adds people, each with a state; "" is an account in order."""

    def begin(self, uid: str, state: str) -> None:
        """Has another program lock the account where that is the state; other states are there from the beginning."""

    def end(self, uid: str, state: str) -> None:
        """Ends the state as an administrator, or by time."""

    def set_password(self, uid: str, password: str) -> None:
        """As an administrator."""

    def failures(self, uid: str) -> int: ...

    def takes(self, uid: str, password: str) -> bool:
        """Whether a program other than ours can bind."""


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
        return configuration(url or self.server.url, folder, directory=directory, more=_MORE)

    def dn(self, uid: str) -> str:
        return f"uid={uid},{slapd.PEOPLE}"

    def add(self, people: Iterable[tuple[str, str]]) -> None:
        """Writes people into the database itself, as no modification may set some of these attributes."""
        people = list(people)
        self.server.stop()
        found = [
            slapd.person(uid, **{"userPassword": [right(uid)], **self._attributes(state)}) for uid, state in people
        ]
        plain = [(dn, {name: value for name, value in each.items() if value}) for dn, each in found]
        self.server._run("slapadd", "-q", "-f", "slapd.conf", stdin=slapd.to_ldif(plain))
        self.server.start()

    def begin(self, uid: str, state: str) -> None:
        if state.startswith("locked by"):
            fail(self, uid, self.threshold_count)
        elif state == "nearly locked":
            fail(self, uid, self.threshold_count - 1)

    def _attributes(self, state: str) -> dict[str, list[str | bytes]]:
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
        found = dict(of_state.get(state, {}))
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
        return _can_bind("-x", "-H", self.server.url, "-D", self.dn(uid), "-w", password)

    def _admin(self) -> Sequence[str]:
        return ("-x", "-H", self.server.url, "-D", f"cn=admin,{slapd.BASE}", "-w", "admin")


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
            more=_MORE,
        )

    def dn(self, uid: str) -> str:
        return f"CN={uid},{samba.PEOPLE}"

    def add(self, people: Iterable[tuple[str, str]]) -> None:
        people = list(people)
        self._added += [uid for uid, _ in people]
        of_state: dict[str, dict[str, Sequence[str | bytes]]] = {
            "disabled": {"userAccountControl": [_DISABLED]},
            "ended": {"accountExpires": [_FILETIME_LONG_AGO]},
            "must change": {"pwdLastSet": ["0"]},
            "expired": {"pwdLastSet": [_FILETIME_LONG_AGO]},
            "not yet": {"logonHours": [bytes(21)]},
            "stale lock": {"lockoutTime": [_FILETIME_LONG_AGO]},
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
        if state == "locked by another":
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
        elif state in ("expired", "no password"):
            self.set_password(uid, renewed(uid))

    def set_password(self, uid: str, password: str) -> None:
        self.server.change(modify={self.dn(uid): {"unicodePwd": [f'"{password}"'.encode("utf-16-le")]}})

    def failures(self, uid: str) -> int:
        return int(self.server.read(self.dn(uid), "badPwdCount").get("badPwdCount", ["0"])[0])

    def takes(self, uid: str, password: str) -> bool:
        name = f"{uid}@{samba.REALM}"
        options = ("-x", "-H", f"ldap://{self.server.address}", "-ZZ", "-D", name, "-w", password)
        return _can_bind(*options, authority=self.server.authority)


class DirectoryServer389Server:
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
            more=_MORE,
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
        if state == "locked by another":
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
        elif state in ("expired", "no password"):
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
        return _can_bind("-x", "-H", self.server.url, "-D", self.dn(uid), "-w", password)


def fail(server: LoginServer, uid: str, count: int) -> None:
    """Has another program try so many wrong passwords."""
    for number in range(count):
        assert not server.takes(uid, f"another program's {number}")


def _can_bind(*options: str, authority: Path | None = None) -> bool:
    environment = {"LDAPTLS_CACERT": str(authority)} if authority is not None else {}
    command = [require("ldapsearch"), *options, "-b", "", "-s", "base", "1.1"]
    return subprocess.run(command, capture_output=True, check=False, env=environment).returncode == 0


def _counted(until: str) -> dict[str, str | None]:
    """What 389 DS leaves when a lock is over and its failures still count."""
    return {"passwordRetryCount": "3", "accountUnlockTime": until, "retryCountResetTime": LATER}


def _an_hour_ago() -> str:
    return datetime.fromtimestamp(time.time() - 3600, UTC).strftime("%Y%m%d%H%M%SZ")


def _filetime_now() -> str:
    return str(int((time.time() + 11_644_473_600) * 10_000_000))

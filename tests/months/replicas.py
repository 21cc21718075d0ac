"""Two real slapds, a provider and its consumer, which can be kept from hearing of changes and so really lags.

slapd 2.5 sends whole entries: any change of an entry at the provider replaces what ppolicy has written at the consumer,
its count and its lock included; binds at the consumer change nothing at the provider. `keeps_count` leaves the
consumer its own count, and replicates locks all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterable
from typing import NamedTuple

from tests.conftest import StartSlapd
from tests.months.people import THRESHOLD_COUNT, WINDOW_S
from tests.support.ldap_proxy import LdapProxy
from tests.support.slapd import BASE, PEOPLE, Entry, Slapd

_POLICIES = f"ou=policies,{BASE}"
_FOR_EVER_S = 1e6
_CATCH_UP_S = 30.0


class Count(NamedTuple):
    """What a server shows of an account's failures."""

    failures_count: int
    is_locked: bool


class Replicas:
    """The provider, the consumer, and the way between them."""

    def __init__(self, provider: Slapd, consumer: Slapd, link: LdapProxy) -> None:
        self.provider, self.consumer, self.link = provider, consumer, link
        self.servers = (provider, consumer)
        self.is_held = False
        """Whether nothing is replicated."""

    def hold(self, *, cut: bool) -> None:
        """Let the consumer hear nothing: what is sent waits for `let_go`, or the connection is `cut`."""
        self.link.stop_listening()
        if cut:
            self.link.close_existing(rst=False)
        else:
            self.link.delay(_FOR_EVER_S, which="existing")
        self.is_held = True

    def let_go(self) -> None:
        """Let the consumer hear what it has missed."""
        self.link.heal()
        self.link.requests.clear()
        self.is_held = False

    async def catch_up(self) -> None:
        """Wait until the consumer has what the provider has."""
        deadline_s = time.monotonic() + _CATCH_UP_S
        while (found := [await asyncio.to_thread(self._state, each) for each in self.servers])[0] != found[1]:
            assert time.monotonic() < deadline_s, found
            await asyncio.sleep(0.05)

    def _state(self, server: Slapd) -> str:
        # A consumer that begins with nothing knows its own administrator alone.
        with contextlib.suppress(AssertionError):  # result 32
            return server._run("ldapsearch", *_administrator(server), "-LLL", "-b", BASE, "-s", "base", "contextCSN")
        return f"nothing at {server.url}"

    def counts(self, server: int) -> dict[str, Count]:
        """What a server shows of each account, by uid."""
        attributes = ("uid", "pwdFailureTime", "pwdAccountLockedTime")
        found = self.servers[server].ldapsearch("-b", PEOPLE, "(uid=*)", *attributes)
        return {
            entry.partition("uid=")[2].partition(",")[0]: Count(
                entry.count("\npwdFailureTime:"), "\npwdAccountLockedTime:" in entry
            )
            for entry in found.split("\n\n")
            if "uid=" in entry
        }

    def binds(self, server: int, dn: str, passwords: Iterable[str]) -> bool:
        """Whether another program gets in with one of the passwords, which are tried in turn."""
        for password in passwords:
            with contextlib.suppress(AssertionError):  # result 49
                self.servers[server]._run("ldapwhoami", "-x", "-H", self.servers[server].url, "-D", dn, "-w", password)
                return True
        return False

    def lock(self, server: int, dn: str) -> None:
        """Another program fails until the account is locked."""
        assert not self.binds(server, dn, ["fails elsewhere"] * THRESHOLD_COUNT)

    def forget(self, dns: Collection[str]) -> None:
        """Have the provider forget failures, as it would do by itself after a window."""
        ldif = "".join(f"dn: {dn}\nchangetype: modify\nreplace: pwdFailureTime\n\n" for dn in dns)
        self.provider._run("ldapmodify", *_administrator(self.provider), "-e", "relax", stdin=ldif)


def start_provider(start_slapd: StartSlapd, people: list[Entry], *, says_locked: bool) -> Slapd:
    """Slapd with a policy that locks, which tells its consumers of changes."""
    return start_slapd(
        [*_policy_entries(), *people],
        overlays="moduleload ppolicy\nmoduleload syncprov\nserverID 1",
        extra=f"{_ppolicy(says_locked)}\noverlay syncprov",
        log_level="none",
    )


async def start_consumer(start_slapd: StartSlapd, link: LdapProxy, *, says_locked: bool, keeps_count: bool) -> Slapd:
    """Slapd with the same policy that has everything else from its provider, and counts for itself."""
    lines = (
        f'syncrepl rid=1 provider={link.url} type=refreshAndPersist retry="1 +" timeout=2 network-timeout=2',
        f' bindmethod=simple binddn="cn=admin,{BASE}" credentials=admin searchbase="{BASE}"',
        " exattrs=pwdFailureTime" * keeps_count,
        f"\n{_ppolicy(says_locked)}",
    )
    return await asyncio.to_thread(
        start_slapd,
        [],
        skeleton=(),
        overlays="moduleload ppolicy\nserverID 2",
        extra="".join(lines),
        log_level="none",
    )


def _administrator(server: Slapd) -> tuple[str, ...]:
    return "-x", "-H", server.url, "-D", f"cn=admin,{BASE}", "-w", "admin"


def _ppolicy(says_locked: bool) -> str:
    # Without ppolicy_use_lockout, a locked account is refused like one with a wrong password.
    return f'overlay ppolicy\nppolicy_default "cn=default,{_POLICIES}"' + "\nppolicy_use_lockout" * says_locked


def _policy_entries() -> list[Entry]:
    values = {"pwdLockout": "TRUE", "pwdMaxFailure": f"{THRESHOLD_COUNT}", "pwdFailureCountInterval": f"{WINDOW_S:g}"}
    found = {"objectClass": ["device", "pwdPolicy"], "cn": ["default"], "pwdAttribute": ["userPassword"]}
    return [
        (_POLICIES, {"objectClass": ["organizationalUnit"], "ou": ["policies"]}),
        (f"cn=default,{_POLICIES}", {**found, **{key: [value] for key, value in values.items()}}),
    ]

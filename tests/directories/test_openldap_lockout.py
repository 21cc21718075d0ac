"""Logins through a proxy that counts binds, in front of a real slapd whose policy locks accounts."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from bridge.ops.metrics import render_metrics
from tests.conftest import StartSlapd
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.recording_proxy import RecordingProxy
from tests.support.slapd import BASE, PEOPLE, Entry, Slapd, person

pytestmark = pytest.mark.slapd

POLICIES = f"ou=policies,{BASE}"
PPOLICY = {
    "overlays": "moduleload ppolicy",
    "extra": f'overlay ppolicy\nppolicy_default "cn=default,{POLICIES}"\nppolicy_use_lockout',
}


def policy(name: str, **values: str) -> Entry:
    found = {"objectClass": ["device", "pwdPolicy"], "cn": [name], "pwdAttribute": ["userPassword"]}
    return f"cn={name},{POLICIES}", {**found, **{key: [value] for key, value in values.items()}}


POLICY_ENTRIES: list[Entry] = [
    (POLICIES, {"objectClass": ["organizationalUnit"], "ou": ["policies"]}),
    # Locks at the fifth failure, and nothing but a success clears them: the strictest of what is common.
    policy("default", pwdLockout="TRUE", pwdMaxFailure="5", pwdFailureCountInterval="0", pwdMaxAge="864000000"),
    policy("grace", pwdMaxAge="60", pwdGraceAuthNLimit="3"),
]
LONG_AGO = ["20200101000000Z"]
PEOPLE_WITH_STATES: list[Entry] = [
    person("bob"),
    person("anna"),
    person("locked", pwdAccountLockedTime=["000001010000Z"]),
    person("failed", pwdAccountLockedTime=["20260101000000Z"]),
    person("expired", pwdChangedTime=LONG_AGO, pwdPolicySubentry=[f"cn=short,{POLICIES}"]),
    person("reset", pwdReset=["TRUE"]),
    person("ended", pwdEndTime=LONG_AGO),
    person("grace", pwdChangedTime=LONG_AGO, pwdPolicySubentry=[f"cn=grace,{POLICIES}"]),
]


class Setting:
    """A running bridge, the slapd behind it, and the proxies between them."""

    def __init__(self, client: Client, slapd: Slapd, proxies: Sequence[RecordingProxy]) -> None:
        self.client, self.slapd, self.proxies = client, slapd, proxies

    @property
    def binds(self) -> list[tuple[str, bytes]]:
        return [(bind.dn, bind.password) for proxy in self.proxies for bind in proxy.user_binds()]

    def reason(self) -> str:
        """What the log says of the last login."""
        lines = [json.loads(line) for line in self.client.log.getvalue().splitlines()]
        last = next(line for line in reversed(lines) if line["event"].startswith("login."))
        return str(last.get("reason", "accepted"))

    def counted(self, outcome: str) -> float:
        metrics = render_metrics(self.client.service._registry)[0].decode()
        found = re.search(rf'logins_total\{{[^}}]*outcome="{outcome}"\}} (\S+)', metrics)
        return float(found[1]) if found else 0.0


@asynccontextmanager
async def setting(
    start_slapd: StartSlapd, folder: Path, *, server_count: int = 1, more: str = "", directory: str = ""
) -> AsyncIterator[Setting]:
    entries = [*POLICY_ENTRIES, policy("short", pwdMaxAge="60"), *PEOPLE_WITH_STATES]
    slapd = start_slapd(entries, **PPOLICY)
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(RecordingProxy(slapd.port)) for _ in range(server_count)]
        file = configuration(proxies[0].url, folder, directory=directory, more=more)
        servers = ", ".join(f'"{proxy.url}"' for proxy in proxies)
        file.write_text(file.read_text().replace(f'servers: ["{proxies[0].url}"]', f"servers: [{servers}]"))
        client = await stack.enter_async_context(running_bridge(file))
        yield Setting(client, slapd, proxies)


BOB = f"uid=bob,{PEOPLE}"


async def test_each_login_is_one_bind_and_an_empty_password_none(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Right, wrong, unknown: one bind each; without a password nothing is sent at all."""
    async with setting(start_slapd, tmp_path) as found:
        assert await found.client.auth("bob", "Pass-bob")
        assert found.binds == [(BOB, b"Pass-bob")]
        assert not await found.client.auth("bob", "wrong")
        assert found.binds[1:] == [(BOB, b"wrong")]
        assert not await found.client.auth("nobody", "wrong")
        assert len(found.binds) == 3
        before = found.proxies[0].byte_count
        assert not await found.client.auth("bob", "")
        assert found.proxies[0].byte_count == before
        assert found.counted("wrong_password") == found.counted("unknown_user") == 1.0


async def test_wrong_password_repeated_twenty_times_is_one_bind(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The account, which would be locked by the fifth, is not locked; nor does another program's login suffer."""
    async with setting(start_slapd, tmp_path) as found:
        for _ in range(20):
            assert not await found.client.auth("bob", "old password")
        assert found.binds == [(BOB, b"old password")]
        assert await found.client.auth("bob", "Pass-bob")
        assert found.counted("remembered_failure") == 19.0


async def test_different_wrong_passwords_never_lock_the_account(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Four binds at most, and slapd still takes the right password, whatever we say meanwhile."""
    async with setting(start_slapd, tmp_path) as found:
        for number in range(12):
            assert not await found.client.auth("bob", f"wrong{number}")
        assert [password for _, password in found.binds] == [b"wrong%d" % number for number in range(4)]
        assert not await found.client.auth("bob", "Pass-bob")
        assert found.reason() == "held_back"
        who = found.slapd._run("ldapwhoami", "-x", "-H", found.slapd.url, "-D", BOB, "-w", "Pass-bob")
        assert "uid=bob" in who
        (held,) = found.client.service.bridge.remembered()
        assert (held.directory, held.user_name, held.failure_count) == ("company", "bob", 4)
        assert found.client.service.bridge.release("bob") == 1
        assert await found.client.auth("bob", "Pass-bob")


SPELLINGS = ["bob", "Bob", "BOB ", " bob", "\uff42\uff4f\uff42", "\uff22ob"]


async def test_spellings_that_slapd_takes_for_one_user_count_as_one(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Case, blanks at the ends, full-width letters (RFC 4518 §2.2, §2.3, §2.6.1): slapd finds the same entry."""
    async with setting(start_slapd, tmp_path) as found:
        for spelling in SPELLINGS:
            assert await found.client.auth(spelling, "Pass-bob"), spelling
        assert len(found.binds) == len(SPELLINGS)
        for spelling in SPELLINGS * 3:
            assert not await found.client.auth(spelling, "old")
        assert len(found.binds) == len(SPELLINGS) + 1
        for number, spelling in enumerate(SPELLINGS):
            assert not await found.client.auth(spelling, f"wrong{number}")
        assert len(found.binds) == len(SPELLINGS) + 4


async def test_refused_password_is_never_tried_on_another_server(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Result 49 is an answer: with three servers there is one bind in all."""
    async with setting(start_slapd, tmp_path, server_count=3) as found:
        assert not await found.client.auth("bob", "wrong")
        assert found.binds == [(BOB, b"wrong")]
        assert await found.client.auth("bob", "Pass-bob")
        assert len(found.binds) == 2


@pytest.mark.parametrize(
    ("user", "right", "reason", "wrong_reason"),
    [
        ("anna", True, "accepted", "wrong_password"),
        ("grace", True, "accepted", "wrong_password"),
        ("failed", False, "account_locked", "account_locked"),
        ("expired", False, "password_expired", "wrong_password"),
        ("reset", False, "must_change_password", "wrong_password"),
        ("locked", False, "account_disabled", "account_disabled"),
        ("ended", False, "account_expired", "account_expired"),
    ],
)
async def test_policy_states_have_their_verdict_reason_and_metric(
    start_slapd: StartSlapd, tmp_path: Path, user: str, right: bool, reason: str, wrong_reason: str
) -> None:
    """With the right password and with a wrong one: locked, expired, must change, grace logins."""
    async with setting(start_slapd, tmp_path, directory="disabled_accounts: list") as found:
        assert await found.client.auth(user, f"Pass-{user}") is right
        assert found.reason() == reason
        assert found.counted(reason) == 1.0
        assert not await found.client.auth(user, "wrong")
        assert found.reason() == wrong_reason
        assert found.counted(wrong_reason) == (2.0 if wrong_reason == reason else 1.0)
        assert len(found.binds) == 2
        assert ("grace logins remain" in found.client.log.getvalue()) is (user == "grace")


def set_password(slapd: Slapd, dn: str, password: str) -> None:
    admin = ["-x", "-H", slapd.url, "-D", f"cn=admin,{BASE}", "-w", "admin"]
    slapd._run("ldappasswd", *admin, "-s", password, dn)


@pytest.mark.parametrize("more", ["", "auth: {remember_successes: 10m}"])
async def test_new_password_works_at_once_and_the_old_one_no_more(
    start_slapd: StartSlapd, tmp_path: Path, more: str
) -> None:
    """Even if the new one was refused before, if the old one is remembered as right, and if the user was held back."""
    async with setting(start_slapd, tmp_path, more=more) as found:
        assert not await found.client.auth("bob", "brand new")
        assert await found.client.auth("bob", "Pass-bob")
        set_password(found.slapd, BOB, "brand new")
        assert await found.client.auth("bob", "brand new")
        assert not await found.client.auth("bob", "Pass-bob")
        for number in range(4):
            await found.client.auth("anna", f"w{number}")
        assert not await found.client.auth("anna", "Pass-anna")
        set_password(found.slapd, f"uid=anna,{PEOPLE}", "another")
        assert await found.client.auth("anna", "another")
        assert not await found.client.auth("anna", "Pass-anna")


async def test_remembered_success_saves_binds_and_nothing_else(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Where the administrator wants it, a mail program that asks each minute costs one bind in ten."""
    async with setting(start_slapd, tmp_path, more="auth: {remember_successes: 10m}") as found:
        for _ in range(5):
            assert await found.client.auth("bob", "Pass-bob")
        assert len(found.binds) == 1
        assert not await found.client.auth("bob", "pass-bob")
        assert await found.client.auth("bob", "Pass-bob")
        assert len(found.binds) == 3


async def test_states_that_last_take_somebody_out_of_the_list_and_others_do_not(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Disabled and expired accounts are left out; locked ones, expired passwords and those to be changed stay."""
    async with setting(start_slapd, tmp_path) as found:
        users = [user["userName"] for user in await found.client.list_users()]
        assert users == ["anna", "bob", "expired", "failed", "grace", "reset"]


async def test_mail_and_user_name_are_one_user(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """With a login filter for both, failures count together."""
    login_filter = 'login_filter: "(|(uid={user})(mail={user}))"'
    async with setting(start_slapd, tmp_path, directory=login_filter) as found:
        assert await found.client.auth("bob@example.com", "Pass-bob")
        assert not await found.client.auth("bob@example.com", "old")
        assert not await found.client.auth("bob", "old")
        assert len(found.binds) == 2
        for number in range(5):
            assert not await found.client.auth(["bob", "BOB@example.com"][number % 2], f"wrong{number}")
        assert len(found.binds) == 5


@pytest.mark.parametrize("owner_is_last", [True, False])
async def test_owner_of_a_user_name_is_meant_though_others_have_it_as_an_address(
    start_slapd: StartSlapd, tmp_path: Path, *, owner_is_last: bool
) -> None:
    """A look-up is limited to two, and the directory may send the owner last."""
    sharing, owner = (
        [person(f"z{number}", mail=["info"]) for number in range(2)],
        person("info", mail=["i@example.com"]),
    )
    slapd = start_slapd([*sharing, owner] if owner_is_last else [owner, *sharing])
    lines = 'login_filter: "(|(uid={user})(mail={user}))"'
    async with running_bridge(configuration(slapd.url, tmp_path, directory=lines)) as client:
        for _ in range(2):  # before the first listing, and after it
            assert await client.auth("info", "Pass-info")
            assert not await client.auth("info", "Pass-z0")
            assert await client.auth("z0", "Pass-z0")
            assert len(await client.list_users()) == 3


async def test_composed_user_names_count_by_the_user(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Names that are made by a template are found through the last listing; what counts is the entry."""
    lines = 'attributes: {userName: "{uid}.{sn|lower}"}'
    async with setting(start_slapd, tmp_path, directory=lines) as found:
        assert await found.client.auth("Bob.S", "Pass-bob")
        for spelling in ("bob.s", "BOB.S", "Bob.s"):
            assert not await found.client.auth(spelling, "old")
        assert len(found.binds) == 2

"""A service account whose password was changed: real OpenLDAP servers that count, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from bridge.cli.check import Check, check_directories
from bridge.config.loading import load
from bridge.directory import Scope, SearchRequest
from bridge.errors import DirectoryError, DirectoryRefused, SecretWithheld
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.service_secrets import RefusedSecrets
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.model import Secret
from bridge.syntax.filters import Equal
from tests.conftest import StartSlapd
from tests.support.bridges import Client, command, configuration, running_bridge
from tests.support.counting_slapd import failure_count, start_counting
from tests.support.manual_clock import ManualClock
from tests.support.recording_proxy import RecordingProxy
from tests.support.slapd import BASE, READER, READER_PASSWORD, Slapd

pytestmark = pytest.mark.slapd

ANNA = SearchRequest(BASE, Scope.SUBTREE, Equal("uid", b"anna"), ("uid",), 2)
MINUTE_S = 60.0


def address(server: Slapd | RecordingProxy) -> ServerAddress:
    return ServerAddress("ldap", "127.0.0.1", int(server.url.rpartition(":")[2]))


@asynccontextmanager
async def directory(
    *servers: Slapd | RecordingProxy, password: str = "wrong", refused: RefusedSecrets | None = None
) -> AsyncIterator[tuple[LdapDirectory, ManualClock]]:
    """A directory as the service uses it, with a clock of its own."""
    clock = ManualClock()
    account = {"bind_dn": READER, "bind_password": Secret(password.encode())}
    settings = LdapSettings("company", tuple(map(address, servers)), **account)  # type: ignore[arg-type]
    found = LdapDirectory(settings, lambda _event: None, clock, refused=refused)
    try:
        yield found, clock
    finally:
        await found.aclose()


async def test_account_whose_password_was_changed_is_not_locked(start_slapd: StartSlapd) -> None:
    """Logins, listings and probes go on for half an hour; a directory that locks at three failures counts one."""
    slapd = start_counting(start_slapd, locks_after=3)
    async with directory(slapd) as (found, clock):
        for _ in range(55):
            for operation in (found.look_up(ANNA), found.probe(), found._probe_server(address(slapd))):
                with pytest.raises(DirectoryRefused):
                    await operation
            clock.advance(31.0)
    assert failure_count(slapd) == 1
    slapd.ldapsearch("-b", READER, "-s", "base")  # it is not locked


def two_directories(tmp_path: Path, first: str, second: str, *others: str) -> Path:
    """The configuration of two directories with one account, whose password was changed; each has all the servers."""
    file = configuration(first, tmp_path, reader=(READER, "wrong"), more="cache: {refresh_ahead: false, ttl: 0s}")
    text = file.read_text()
    section = text[text.index("  - name: company") : text.index("cache:")]
    urls = [f'"{url}"' for url in (second, first, *others)]
    branch = section.replace("company", "branch").replace(f'["{first}"]', f"[{', '.join(urls)}]")
    branch = branch.replace(READER, READER.replace("cn=", "CN=").replace(",", ", "))
    company = section.replace(f'["{first}"]', f'["{first}", "{second}"]')
    file.write_text(text.replace(section, company + branch))
    return file


async def ask_everything(client: Client) -> None:
    """A login, a listing, and a probe of each server of each directory; all fail."""
    bridge = client.service.bridge
    with pytest.raises(DirectoryRefused):
        await bridge.list_users("/mailstore", compressed=False)
    with pytest.raises(DirectoryError):
        await bridge.authenticate("/mailstore", "anna", Secret(b"Pass-anna"))
    for snapshots in bridge.directories.values():
        found = snapshots.source.directory
        assert isinstance(found, LdapDirectory)
        for server in found._settings.servers:
            with pytest.raises(DirectoryRefused):
                await found._probe_server(server)


async def test_changed_password_costs_two_binds_and_then_fewer_and_fewer(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Two directories of one account at the same two servers: one failure at each, five more within a day."""
    first, second = start_counting(start_slapd), start_counting(start_slapd)
    clock = ManualClock()
    async with running_bridge(two_directories(tmp_path, first.url, second.url), clock) as client:
        for minutes in range(0, 1440, 10):
            await ask_everything(client)
            counts = (failure_count(first), failure_count(second))
            if minutes < 30:
                assert counts == (1, 1), minutes
            assert sum(counts) == 2 + sum(minutes >= due for due in (30, 90, 210, 450, 930)), minutes
            clock.advance(10 * MINUTE_S)
        status, answer = await client.post("cmd=auth&user=anna&pass=Pass-anna")
        assert (status, answer["error"]) == (502, "directory_refused")
        for words in (first.url, second.url, "before 1970-", "mailstore-bridge refresh", "Restart the service"):
            assert words in answer["message"]
        assert "wrong" not in answer["message"]
        assert READER not in answer["message"]


async def test_operator_has_the_account_tried_at_once(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The password is put right in the directory, and `refresh` ends the wait; a `refresh` too early costs one bind."""
    first, second = start_counting(start_slapd), start_counting(start_slapd)
    file = two_directories(tmp_path, first.url, second.url)
    async with running_bridge(file, ManualClock()) as client:
        await ask_everything(client)
        assert (await command(file, "refresh"))[0] != 0
        assert failure_count(first) + failure_count(second) == 3
        for slapd in (first, second):
            slapd.replace([READER], "userPassword", "wrong")
        await ask_everything(client)
        code, output = await command(file, "refresh")
        assert code == 0, output
        assert await client.auth("anna", "Pass-anna")
        assert (await client.list_users())[0]["userName"] == "anna"


async def test_new_configuration_begins_anew(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The service is restarted with the right password, and waits for nothing."""
    first, second = start_counting(start_slapd), start_counting(start_slapd)
    file = two_directories(tmp_path, first.url, second.url)
    async with running_bridge(file) as client:
        await ask_everything(client)
    (tmp_path / "reader.password").write_text(READER_PASSWORD)
    async with running_bridge(file) as client:
        assert await client.auth("anna", "Pass-anna")
    assert (failure_count(first), failure_count(second)) == (0, 0)


async def run_check(file: Path) -> list[Check]:
    return await check_directories(load(str(file), {}), offline=False)


async def test_check_binds_a_refused_account_once(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Two directories, three servers, and their users: one bind for all; the other servers are reached without."""
    first, second, third = (start_counting(start_slapd) for _ in range(3))
    found = await run_check(two_directories(tmp_path, first.url, second.url, third.url))
    assert [failure_count(slapd) for slapd in (first, second, third)] == [1, 0, 0]
    rows = [(check.directory, check.server, check.result) for check in found if check.name == "server"]
    assert rows == [
        ("company", first.url, "failed"),
        ("company", second.url, "warning"),
        ("branch", second.url, "warning"),
        ("branch", first.url, "warning"),
        ("branch", third.url, "warning"),
    ]
    last = next(check for check in found if check.server == third.url)
    assert "reachable; the bind was not tried" in last.message
    assert first.url in last.message
    assert [check.result for check in found if check.name == "users"] == ["failed", "failed"]


async def test_check_asks_every_server_where_the_account_is_taken(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """What one server refuses and others have accepted is that server's fault, and the users are listed."""
    first, second, third = (start_counting(start_slapd) for _ in range(3))
    third.replace([READER], "userPassword", "another")
    file = two_directories(tmp_path, first.url, second.url, third.url)
    (tmp_path / "reader.password").write_text(READER_PASSWORD)
    found = await run_check(file)
    results = {check.server: check.result for check in reversed(found) if check.name == "server"}
    assert results == {first.url: "ok", second.url: "ok", third.url: "failed"}
    assert [check.result for check in found if check.name == "users"] == ["ok", "ok"]
    assert [failure_count(slapd) for slapd in (first, second, third)] == [0, 0, 1]


async def test_account_that_is_locked_is_left_alone_for_a_while(start_slapd: StartSlapd) -> None:
    """An administrator has locked it: one bind, then one after 5, 10 and 20 minutes, and none is counted."""
    slapd = start_counting(start_slapd)
    slapd.replace([READER], "pwdAccountLockedTime", "000001010000Z")
    async with RecordingProxy(slapd.port) as proxy, directory(proxy, password=READER_PASSWORD) as (found, clock):
        for minutes in range(36):
            with pytest.raises(DirectoryRefused) as caught:
                await found.look_up(ANNA)
            assert len(proxy.binds) == 1 + sum(minutes >= due for due in (5, 15, 35)), minutes
            clock.advance(MINUTE_S)
        assert isinstance(caught.value, DirectoryRefused)
        with pytest.raises(SecretWithheld, match="as it would be refused again"):
            await found.look_up(ANNA)
        slapd.replace([READER], "pwdAccountLockedTime")
        assert failure_count(slapd) == 0
        clock.advance(40 * MINUTE_S)
        assert len((await found.look_up(ANNA)).entries) == 1


async def test_wrong_password_does_not_keep_another_account_from_binding(start_slapd: StartSlapd) -> None:
    """The right password is another secret, though everything else is the same."""
    slapd, refused = start_counting(start_slapd), RefusedSecrets(ManualClock())
    async with (
        directory(slapd, refused=refused) as (wrong, _),
        directory(slapd, password=READER_PASSWORD, refused=refused) as (right, _),
    ):
        with suppress(DirectoryRefused):
            await wrong.look_up(ANNA)
        assert len((await right.look_up(ANNA)).entries) == 1

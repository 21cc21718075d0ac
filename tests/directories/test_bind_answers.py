"""What real servers say to user binds beside right and wrong, through a whole bridge."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import StartSlapd
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.ds389 import BASE, PEOPLE, READ_ACCESS, READER, READER_PASSWORD, DirectoryServer389
from tests.support.slapd import Entry, person

ANYBODY_READS = "access to * by * read"


def without_service_bind(url: str, folder: Path, **options: str) -> Path:
    """A configuration whose service account is nobody, since the server takes no password."""
    file = configuration(url, folder, **options)
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join("    bind: {method: anonymous}\n" if "bind: {dn" in line else line for line in lines))
    return file


@pytest.mark.slapd
@pytest.mark.parametrize(
    ("overlays", "extra", "code", "remedy"),
    [
        ("disallow bind_simple", "", "unwillingToPerform (53)", "disallow bind_simple"),
        ("restrict bind", "", "unwillingToPerform (53)", "restrict bind"),
        ("", "restrict bind", "unwillingToPerform (53)", "restrict bind"),
        ("security simple_bind=128", "", "confidentialityRequired (13)", "ldaps://"),
        ("", "security simple_bind=128", "confidentialityRequired (13)", "ldaps://"),
    ],
)
async def test_slapd_that_takes_no_simple_binds_is_502_and_nobody_is_disabled(
    start_slapd: StartSlapd, tmp_path: Path, overlays: str, extra: str, code: str, remedy: str
) -> None:
    """Right, wrong and unknown alike: nothing was said of the account, and the message says what to change."""
    slapd = start_slapd([person("anna")], overlays=overlays, extra=extra)
    slapd.restart_with_access(ANYBODY_READS)
    async with running_bridge(without_service_bind(slapd.url, tmp_path)) as client:
        assert [user["userName"] for user in await client.list_users()] == ["anna"]
        for user, password in (("anna", "Pass-anna"), ("anna", "wrong"), ("nobody", "wrong")):
            status, answer = await client.post(f"cmd=auth&user={user}&pass={password}")
            assert (status, answer["error"]) == (502, "directory_refused"), answer
            assert code in answer["message"]
            assert remedy in answer["message"]


NAMES = ("anna", "bert", "carl")


def inhabitant(uid: str) -> Entry:
    found = {"objectClass": ["inetOrgPerson"], "uid": [uid], "cn": [uid], "sn": ["S"]}
    return f"uid={uid},{PEOPLE}", {**found, "userPassword": [f"Pass-{uid}-1"]}


@pytest.fixture(scope="module")
def ds() -> Iterator[DirectoryServer389]:
    """Three people, the third failure locks, and the newer answers to it."""
    reader = {"objectClass": ["device", "simpleSecurityObject"], "cn": ["reader"], "userPassword": [READER_PASSWORD]}
    entries: list[Entry] = [
        (READER, reader),
        (PEOPLE, {"objectClass": ["organizationalUnit"], "ou": ["people"]}),
        *map(inhabitant, NAMES),
    ]
    with DirectoryServer389(entries) as server:
        server.replace(BASE, aci=READ_ACCESS)
        values = {"passwordLockout": "on", "passwordMaxFailure": "3", "passwordLegacyPolicy": "off"}
        server.replace("cn=config", **values, passwordLockoutDuration="3600")
        server.replace(f"uid=bert,{PEOPLE}", nsAccountLock="true")
        yield server


@asynccontextmanager
async def bridge(ds: DirectoryServer389, folder: Path, url: str = "", directory: str = "") -> AsyncIterator[Client]:
    reader = (READER, READER_PASSWORD)
    more = "cache: {refresh_ahead: false}\nauth: {max_failures: 10}"
    file = configuration(
        url or ds.url, folder, preset="389ds", reader=reader, users="users: {}", directory=directory, more=more
    )
    async with running_bridge(file) as client:
        yield client


@pytest.mark.ds389
async def test_389ds_bare_result_19_is_the_lock_that_this_password_has_made(
    ds: DirectoryServer389, tmp_path: Path
) -> None:
    """With passwordLegacyPolicy off, the third failure says nothing but 19; what comes after it has words."""
    async with bridge(ds, tmp_path) as client:
        found = []
        for number in range(4):
            assert not await client.auth("anna", f"wrong {number}")
            login = client.last_login()
            found.append((login["result_code"], login["reason"], bool(login["diagnostic_message"])))
    assert found[:2] == [(49, "wrong_password", False)] * 2
    assert found[2:] == [(19, "account_locked", False), (19, "account_locked", True)]


@pytest.mark.ds389
async def test_389ds_disabled_account_is_told_by_the_servers_words(ds: DirectoryServer389, tmp_path: Path) -> None:
    """Result 53 with "Account inactivated": refused, whatever the password is."""
    async with bridge(ds, tmp_path) as client:
        for password in ("Pass-bert-1", "wrong"):
            assert not await client.auth("bert", password)
            login = client.last_login()
            assert (login["result_code"], login["reason"]) == (53, "account_disabled")


@pytest.mark.ds389
async def test_389ds_that_wants_more_protection_is_502_with_the_remedy(ds: DirectoryServer389, tmp_path: Path) -> None:
    """Result 53 with "Minimum SSF not met." to the service account already; over TLS all is well."""
    ds.replace("cn=config", nsslapd_minssf="128")
    try:
        async with bridge(ds, tmp_path) as client:
            status, answer = await client.post("cmd=auth&user=carl&pass=Pass-carl-1")
        assert (status, answer["error"]) == (502, "directory_refused")
        assert "Minimum SSF not met" in answer["message"]
        assert "ldaps://" in answer["message"]
        async with bridge(ds, tmp_path, ds.tls_url, f"tls: {{ca_file: {ds.authority}}}") as client:
            assert await client.auth("carl", "Pass-carl-1")
    finally:
        ldif = "dn: cn=config\nchangetype: modify\nreplace: nsslapd-minssf\nnsslapd-minssf: 0\n"
        ds.modify(ldif, over_tls=True)

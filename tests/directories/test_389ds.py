"""The whole service in front of a real 389 Directory Server."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.support.bridges import Client, configuration, running_bridge
from tests.support.ds389 import BASE, PEOPLE, READ_ACCESS, READER, READER_PASSWORD, DirectoryServer389
from tests.support.manual_clock import ManualClock
from tests.support.slapd import Entry, require

pytestmark = pytest.mark.ds389

BULK_COUNT = 6000
LOOK_THROUGH_DN = "cn=config,cn=ldbm database,cn=plugins,cn=config"
LONG_AGO = "20200101000000Z"


def person(uid: str, *, password: bool = True, **attributes: list[str | bytes]) -> Entry:
    found: dict[str, list[str | bytes]] = {
        "objectClass": ["inetOrgPerson", "mailRecipient"],
        "uid": [uid],
        "cn": [f"Name of {uid}"],
        "sn": ["S"],
        "mail": [f"{uid}@example.com"],
    }
    if password:
        found["userPassword"] = [f"Pass-{uid}-1"]
    return f"uid={uid},{PEOPLE}", {**found, **attributes}


NAMES = ("anna", "bert", "carl", "dora", "emil", "fritz", "greta")


@pytest.fixture(scope="module")
def ds() -> Iterator[DirectoryServer389]:
    """6,000 people, three times what the server hands out at once, and some with a state."""
    entries: list[Entry] = [
        (
            READER,
            {"objectClass": ["device", "simpleSecurityObject"], "cn": ["reader"], "userPassword": [READER_PASSWORD]},
        ),
        (PEOPLE, {"objectClass": ["organizationalUnit"], "ou": ["people"]}),
        person("ines", mailAlternateAddress=["second@example.com"], displayName=["Ines I."]),
        *map(person, NAMES),
        *(person(f"u{number:04}", password=False) for number in range(BULK_COUNT)),
    ]
    with DirectoryServer389(entries) as server:
        server.replace(BASE, aci=READ_ACCESS)
        server.replace(
            "cn=config",
            passwordLockout="on",
            passwordMaxFailure="3",
            passwordUnlock="on",
            passwordLockoutDuration="3600",
            passwordMustChange="on",
            passwordExp="on",
            passwordTrackUpdateTime="on",
        )
        server.replace(LOOK_THROUGH_DN, nsslapd_pagedlookthroughlimit="-1")
        server.replace(f"uid=bert,{PEOPLE}", nsAccountLock="true")
        # After it was bound once, since what an administrator sets has to be changed.
        server.replace(f"uid=carl,{PEOPLE}", userPassword="Pass-carl-1")
        server.replace(f"uid=emil,{PEOPLE}", passwordExpirationTime=LONG_AGO)
        yield server


@contextmanager
def changed(ds: DirectoryServer389, dn: str, before: str | None, **values: str | None) -> Iterator[None]:
    """The entry has other values for a while."""
    ds.replace(dn, **values)
    try:
        yield
    finally:
        ds.replace(dn, **dict.fromkeys(values, before))


@asynccontextmanager
async def bridge(
    ds: DirectoryServer389, folder: Path, *, directory: str = "", tls: bool = False
) -> AsyncIterator[Client]:
    lines = f"tls: {{ca_file: {ds.authority}}}\n    {directory}" if tls else directory
    file = configuration(
        ds.tls_url if tls else ds.url,
        folder,
        preset="389ds",
        reader=(READER, READER_PASSWORD),
        users="users: {}",
        directory=lines,
    )
    async with running_bridge(file) as client:
        yield client


@pytest.mark.parametrize(("page_size", "page_count"), [(1000, 7), (500, 13), (6007, 0)])
async def test_list_is_complete_beyond_the_servers_limits(
    ds: DirectoryServer389, tmp_path: Path, page_size: int, page_count: int
) -> None:
    """Pages below its size limit of 2,000 go through, one cookie for all of them; larger ones are an error."""
    async with bridge(ds, tmp_path, directory=f"page_size: {page_size}") as client:
        if not page_count:
            status, answer = await client.post("cmd=list")
            assert (status, answer["error"]) == (503, "search_incomplete")
            assert "sizeLimitExceeded (4)" in answer["message"]
            return
        users = {user["userName"]: user for user in await client.list_users()}
        report = client.last_refresh()
    assert len(users) == BULK_COUNT + len(NAMES)  # Ines, and without Bert, who is disabled
    assert (report["page_count"], report["skipped"]) == (page_count, {"account_disabled": 1})
    assert users["ines"] == {
        "userName": "ines",
        "distinguishedName": f"uid=ines,{PEOPLE}",
        "fullName": "Ines I.",
        "emailAddresses": ["ines@example.com", "second@example.com"],
    }


async def test_list_is_complete_where_some_entries_are_hidden(ds: DirectoryServer389, tmp_path: Path) -> None:
    """Who may not be seen takes no room in a page: the pages are full all the same."""
    hidden = (
        '(target="ldap:///uid=u*9,ou=people,dc=bridge,dc=test")(targetattr="*")'
        f'(version 3.0; acl "hidden"; deny (read,search,compare) userdn="ldap:///{READER}";)'
    )
    with changed(ds, PEOPLE, None, aci=hidden):
        async with bridge(ds, tmp_path, directory="page_size: 100") as client:
            users = await client.list_users()
            assert client.last_refresh()["page_count"] == 55
    assert len(users) == BULK_COUNT * 9 // 10 + len(NAMES)


async def test_list_beyond_the_look_through_limit_is_an_error(ds: DirectoryServer389, tmp_path: Path) -> None:
    """Result 11 comes without anybody, and is 503 with a remedy, never an empty list."""
    with changed(ds, LOOK_THROUGH_DN, "-1", nsslapd_pagedlookthroughlimit="5000"):
        async with bridge(ds, tmp_path) as client:
            status, answer = await client.post("cmd=list")
        assert (status, answer["error"]) == (503, "search_incomplete")
        assert "adminLimitExceeded (11)" in answer["message"]
        assert "nsslapd-pagedlookthroughlimit" in answer["message"]
        # What the message proposes works: a limit of the service account's own.
        with changed(ds, READER, None, nsPagedLookThroughLimit="-1"):
            other = tmp_path / "other"
            other.mkdir()
            async with bridge(ds, other) as client:
                assert len(await client.list_users()) == BULK_COUNT + len(NAMES)


async def test_account_without_rights_sees_nobody_and_that_is_no_list(ds: DirectoryServer389, tmp_path: Path) -> None:
    """Without an earlier listing it is 503; with one, everybody stays in the answer, and the guard says so."""
    with changed(ds, BASE, READ_ACCESS, aci=None):
        async with bridge(ds, tmp_path) as client:
            status, answer = await client.post("cmd=list")
            assert status == 503
            assert "sees nobody" in answer["message"]
    async with bridge(ds, tmp_path) as client:
        known = await client.list_users()
        with changed(ds, BASE, READ_ACCESS, aci=None):
            await client.service.bridge.directories["company"].refresh()
            assert await client.list_users() == known
            assert client.last_refresh()["withheld_count"] == len(known)


@pytest.mark.parametrize(
    ("name", "password", "result_code", "reason"),
    [
        ("anna", "wrong", 49, "wrong_password"),
        ("nobody", "wrong", 49, "unknown_user"),
        ("bert", "Pass-bert-1", 53, "account_disabled"),
        ("carl", "Pass-carl-1", 0, "must_change_password"),
        ("dora", "Pass-dora-1", 19, "account_locked"),
        ("emil", "Pass-emil-1", 49, "password_expired"),
    ],
)
async def test_auth_logs_why_the_server_refuses(
    ds: DirectoryServer389, tmp_path: Path, name: str, password: str, result_code: int, reason: str
) -> None:
    """Result codes and controls of its own: each is refused alike, and told in the log."""
    async with bridge(ds, tmp_path) as client:
        if name == "dora":
            for number in range(3):
                assert not await client.auth(name, f"wrong {number}")
        assert not await client.auth(name, password)
        login = client.last_login()
    assert (login["reason"], login["result_code"]) == (reason, result_code)


async def test_auth_over_tls_with_the_servers_own_authority(ds: DirectoryServer389, tmp_path: Path) -> None:
    """The certificate is checked, and the right password is taken."""
    ds.replace(f"uid=greta,{PEOPLE}", passwordExpirationTime="20990101000000Z")
    async with bridge(ds, tmp_path, tls=True) as client:
        assert await client.auth("greta", "Pass-greta-1")
        assert not await client.auth("greta", "Pass-greta-2")


async def test_new_password_is_taken_at_once_though_it_was_a_wrong_one(ds: DirectoryServer389, tmp_path: Path) -> None:
    """With passwordTrackUpdateTime, pwdUpdateTime shows that a password was set."""
    dn = f"uid=fritz,{PEOPLE}"
    async with bridge(ds, tmp_path) as client:
        assert not await client.auth("fritz", "the new one")
        with changed(ds, "cn=config", "on", passwordMustChange="off"):
            ds.replace(dn, userPassword="the new one")
        assert await client.auth("fritz", "the new one")


async def test_id_stays_when_somebody_is_renamed_and_a_removal_is_confirmed_by_it(
    ds: DirectoryServer389, tmp_path: Path
) -> None:
    """By its nsUniqueId it is the same user; who was deleted is asked for by it, and goes."""
    ds.add(person("paul"), person("quentin"))
    async with bridge(ds, tmp_path) as client:
        assert {"paul", "quentin"} <= {user["userName"] for user in await client.list_users()}
        ds.modify(f"dn: uid=paul,{PEOPLE}\nchangetype: modrdn\nnewrdn: uid=paula\ndeleteoldrdn: 1\n")
        ds.modify(f"dn: uid=quentin,{PEOPLE}\nchangetype: delete\n")
        await client.service.bridge.directories["company"].refresh()
        report = client.last_refresh()
        assert (report["renamed_count"], report["removed_count"], report["withheld_count"]) == (1, 1, 0)
        names = {user["userName"] for user in await client.list_users()}
    assert "paula" in names
    assert not {"paul", "quentin"} & names
    ds.modify(f"dn: uid=paula,{PEOPLE}\nchangetype: delete\n")


async def test_list_is_complete_over_several_databases(ds: DirectoryServer389, tmp_path: Path) -> None:
    """Where a database ends, the server ends a page, full or not, with somebody or without: there is more all the same."""
    for name in ("empty", "branch", "last"):
        suffix = f"ou={name},{BASE}"
        ds.add_database(name, suffix, BASE)
        ds.add((suffix, {"objectClass": ["organizationalUnit"], "ou": [name]}))
        if name != "empty":
            ds.add(*(_moved(person(f"{name}{number}"), suffix) for number in range(7)))
    async with bridge(ds, tmp_path, directory="page_size: 5") as client:
        users = {user["userName"] for user in await client.list_users()}
        assert client.last_refresh()["page_count"] > 1200
    assert {f"{name}{number}" for name in ("branch", "last") for number in range(7)} <= users
    assert len(users) == BULK_COUNT + len(NAMES) + 14


def _moved(entry: Entry, suffix: str) -> Entry:
    return entry[0].replace(PEOPLE, suffix), entry[1]


def search(ds: DirectoryServer389, account: str, password: str, dn: str) -> subprocess.CompletedProcess[str]:
    """A search for the counter of an entry by a program other than ours."""
    options = ("-x", "-LLL", "-H", ds.url, "-D", account, "-w", password, "-s", "base", "-b", dn)
    command = [require("ldapsearch"), *options, "passwordRetryCount"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("name", "before", "counted", "code"), [("fritz", 0, 1, 49), ("greta", 3, 3, 19)])
async def test_service_account_that_is_refused_is_not_locked(
    ds: DirectoryServer389, tmp_path: Path, name: str, before: int, counted: int, code: int
) -> None:
    """Logins and listings go on for half an hour: one wrong password is counted, and none where it is locked (19)."""
    dn, clock = f"uid={name},{PEOPLE}", ManualClock()
    ds.replace(dn, passwordRetryCount=None, accountUnlockTime=None)
    for _ in range(before):
        assert search(ds, dn, "wrong", dn).returncode == 49
    file = configuration(ds.url, tmp_path, preset="389ds", reader=(dn, "wrong"), users="users: {}")
    async with running_bridge(file, clock) as client:
        for _ in range(9):
            for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna-1"):
                status, answer = await client.post(body)
                assert (status, answer["error"]) == (502, "directory_refused")
                assert f"({code})" in answer["message"]
            clock.advance(199.0)
    assert f"passwordRetryCount: {counted}\n" in search(ds, READER, READER_PASSWORD, dn).stdout
    ds.replace(dn, passwordRetryCount=None, accountUnlockTime=None)

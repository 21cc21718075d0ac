"""The whole service in front of a real Samba domain controller, which answers as Active Directory does."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.bridges import Client, configuration, running_bridge
from tests.support.manual_clock import ManualClock
from tests.support.samba import BASE, DOMAIN, PEOPLE, READER, READER_PASSWORD, REALM, Samba, account
from tests.support.slapd import require

pytestmark = pytest.mark.samba

BULK_COUNT = 3000
BULK = f"OU=Bulk,{BASE}"
LONG_AGO = "130000000000000000"
"""In 2012, in 100 ns since 1601."""
COMPATIBLE = "m²-ﬁ-Ⅷ-x1"
"""Letters that SASLprep (RFC 4013) would change, and with them the password."""

STATES = {
    "bert": {"userAccountControl": ["514"]},
    "carl": {"pwdLastSet": ["0"]},
    "dora": {"accountExpires": [LONG_AGO]},
    "emil": {"pwdLastSet": [LONG_AGO]},
    "gina": {"logonHours": [bytes(21)]},
    "hans": {"userWorkstations": ["OTHERPC"]},
    "ivo": {"pwdLastSet": ["0"], "userAccountControl": ["66048"]},
}
NAMES = ("anna", "fritz", "greta", "heinz", "otto", *STATES)


@pytest.fixture(scope="module")
def domain(samba: Samba) -> Samba:
    """The domain with 3,000 people without a password, and some with one and a state."""
    # PASSWD_NOTREQD (MS-ADTS §2.2.16): without a password, an account is disabled otherwise.
    people = [account(f"u{number:05}", "", userAccountControl=["544"]) for number in range(BULK_COUNT)]
    addresses = ["smtp:second@example.com", "X500:/o=example/cn=ines", "sip:ines@example.com", "SMTP:first@example.com"]
    samba.change(
        add=[
            *map(account, NAMES),
            account("compatible", COMPATIBLE),
            account("umlaut", "Paß-wörd-€-1"),
            account("ines", mail=["third@example.com"], proxyAddresses=addresses),
            account("jan", displayName=["Jan Ø"]),
            (BULK, {"objectClass": ["organizationalUnit"]}),
            *((dn.replace(PEOPLE, BULK), values) for dn, values in people),
        ]
    )
    samba.change(modify={f"CN={name},{PEOPLE}": values for name, values in STATES.items()})
    return samba


@asynccontextmanager
async def bridge(
    samba: Samba,
    folder: Path,
    *,
    reader: str = READER,
    url: str | None = None,
    users: str = f'users: {{bases: ["{PEOPLE}"]}}',
    directory: str = "",
) -> AsyncIterator[Client]:
    tls = "" if url else f"tls: {{ca_file: {samba.authority}}}"
    file = configuration(
        url or samba.url,
        folder,
        preset="samba",
        reader=(reader, READER_PASSWORD),
        users=users,
        directory=f"{tls}\n    {directory}",
    )
    async with running_bridge(file) as client:
        yield client


async def bind(samba: Samba, name: str, password: str) -> int:
    """The result of a bind by ldapwhoami, which is a program other than ours."""
    arguments = ("-x", "-H", f"ldap://{samba.address}", "-ZZ", "-D", f"{name}@{REALM}", "-w", password)
    process = await asyncio.create_subprocess_exec(
        require("ldapsearch"),
        *(*arguments, "-b", BASE, "-s", "base", "1.1"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={"LDAPTLS_CACERT": str(samba.authority)},
    )
    return await process.wait()


async def test_list_from_the_domain_root_is_complete(domain: Samba, tmp_path: Path) -> None:
    """3,000 people come page by page; the reference to the configuration's partition is counted, and hinders nothing."""
    async with bridge(domain, tmp_path, users="users: {}") as client:
        users = await client.list_users()
        report = client.last_refresh()
    names = {user["userName"] for user in users}
    assert sum(name.startswith("u0") for name in names) == BULK_COUNT
    assert {"Administrator", "anna", "reader"} <= names
    assert not {"Guest", "krbtgt", "bert", "dora", "DC1$"} & names
    assert report["page_count"] >= 4  # other tests have people of their own there
    assert report["ignored_reference_count"] >= 1
    assert report["skipped"] == {"account_disabled": 3, "account_expired": 1}


async def test_list_tells_names_and_addresses_as_active_directory_has_them(domain: Samba, tmp_path: Path) -> None:
    """The address that is marked SMTP: comes first, other schemes are no addresses, and letters stay as they are."""
    async with bridge(domain, tmp_path) as client:
        users = {user["userName"]: user for user in await client.list_users()}
    assert users["ines"] == {
        "userName": "ines",
        "distinguishedName": f"CN=ines,{PEOPLE}",
        "fullName": "Name of ines",
        "emailAddresses": ["first@example.com", "third@example.com", "second@example.com"],
    }
    assert users["jan"]["fullName"] == "Jan Ø"
    # A lock or a password to be changed takes nobody out of the list; disabled and ended accounts are not in it.
    assert {"carl", "emil", "fritz", "gina", "hans"} <= set(users)
    assert not {"bert", "dora"} & set(users)


@pytest.mark.parametrize(
    ("name", "password", "expected"),
    [
        ("anna", "Pass-anna-1", True),
        ("ANNA", "Pass-anna-1", True),
        ("compatible", COMPATIBLE, True),
        ("compatible", "m2-fi-VIII-x1", False),
        ("umlaut", "Paß-wörd-€-1", True),
        ("jan", "", False),
        ("anna@bridge.test", "Pass-anna-1", False),
        ("anna*", "Pass-anna-1", False),
        ("DC1$", "Pass-anna-1", False),
    ],
)
async def test_auth_says_what_samba_says(
    domain: Samba, tmp_path: Path, name: str, password: str, expected: bool
) -> None:
    """The right password is accepted letter by letter, and nothing else is."""
    async with bridge(domain, tmp_path) as client:
        assert await client.auth(name, password) is expected


@pytest.mark.parametrize(
    ("name", "password", "data", "reason"),
    [
        ("heinz", "wrong", "52e", "wrong_password"),
        ("nobody", "wrong", "52e", "unknown_user"),
        ("gina", "Pass-gina-1", "530", "not_at_this_time"),
        ("hans", "Pass-hans-1", "531", "not_from_this_place"),
        ("emil", "Pass-emil-1", "532", "password_expired"),
        ("bert", "Pass-bert-1", "533", "account_disabled"),
        ("dora", "Pass-dora-1", "701", "account_expired"),
        ("carl", "Pass-carl-1", "773", "must_change_password"),
        ("fritz", "Pass-fritz-1", "775", "account_locked"),
    ],
)
async def test_auth_logs_why_samba_refuses(
    domain: Samba, tmp_path: Path, name: str, password: str, data: str, reason: str
) -> None:
    """Each cause that Samba gives is refused alike, and told in the log, with the number from the server's message."""
    if name == "fritz":
        for _ in range(3):
            assert await bind(domain, name, "wrong") == 49
    async with bridge(domain, tmp_path) as client:
        assert not await client.auth(name, password)
        login = client.last_login()
    assert (login["reason"], login["result_code"]) == (reason, 49)
    assert f"data {data}," in login["diagnostic_message"]


async def test_auth_of_a_locked_account_is_refused_and_its_user_stays_listed(domain: Samba, tmp_path: Path) -> None:
    """The server works out who is locked; lockoutTime alone, which stays when the lock is over, refuses nobody."""
    for _ in range(3):
        assert await bind(domain, "greta", "wrong") == 49
    async with bridge(domain, tmp_path) as client:
        assert not await client.auth("greta", "Pass-greta-1")
        assert client.last_login()["reason"] == "account_locked"
        assert "greta" in {user["userName"] for user in await client.list_users()}
        # The lock is over by its time: as if it had been set a day ago.
        domain.change(modify={f"CN=greta,{PEOPLE}": {"lockoutTime": [LONG_AGO]}})
        assert domain.read(f"CN=greta,{PEOPLE}", "lockoutTime")["lockoutTime"] == [LONG_AGO]
        assert await client.auth("greta", "Pass-greta-1")


async def test_auth_of_somebody_whose_password_never_expires_is_accepted(domain: Samba, tmp_path: Path) -> None:
    """With that flag, a pwdLastSet of 0 means nothing (MS-ADTS §3.1.1.4.5.17)."""
    assert domain.read(f"CN=ivo,{PEOPLE}", "pwdLastSet")["pwdLastSet"] == ["0"]
    async with bridge(domain, tmp_path) as client:
        assert await client.auth("ivo", "Pass-ivo-1")


async def test_disabled_accounts_are_listed_where_that_is_wanted(domain: Samba, tmp_path: Path) -> None:
    """With `disabled_accounts: list` they stay in the list, and can't log in."""
    async with bridge(domain, tmp_path, directory="disabled_accounts: list") as client:
        assert {"bert", "dora"} <= {user["userName"] for user in await client.list_users()}
        assert not await client.auth("bert", "Pass-bert-1")
        assert client.last_login()["reason"] == "account_disabled"


async def test_wrong_password_ten_times_counts_once_at_the_server(domain: Samba, tmp_path: Path) -> None:
    """A mail program with an old password locks nobody: badPwdCount stays at 1, of the 3 that would lock."""
    samba_count = domain.read(f"CN=otto,{PEOPLE}", "badPwdCount").get("badPwdCount", ["0"])
    assert samba_count == ["0"]
    async with bridge(domain, tmp_path, directory="pool: {size: 4}") as client:
        for _ in range(10):
            assert not await client.auth("otto", "the old one")
        assert domain.read(f"CN=otto,{PEOPLE}", "badPwdCount")["badPwdCount"] == ["1"]
        assert await client.auth("otto", "Pass-otto-1")


async def test_new_password_is_taken_at_once_though_it_was_a_wrong_one(domain: Samba, tmp_path: Path) -> None:
    """A new pwdLastSet shows that a password was set, and what was refused before is asked again."""
    domain.change(add=[account("nele")])
    async with bridge(domain, tmp_path) as client:
        assert not await client.auth("nele", "the-new-one-2")
        domain.change(modify={f"CN=nele,{PEOPLE}": {"unicodePwd": ['"the-new-one-2"'.encode("utf-16-le")]}})
        assert await client.auth("nele", "the-new-one-2")


async def test_id_stays_when_somebody_is_renamed_and_moved(domain: Samba, tmp_path: Path) -> None:
    """By its objectGUID it is the same user: a renaming is reported, and nobody is missing."""
    domain.change(add=[account("paul")])
    guid = domain.read(f"CN=paul,{PEOPLE}", "objectGUID")["objectGUID"][0]
    async with bridge(domain, tmp_path, users="users: {}", directory="") as client:
        await client.list_users()
        roster = client.service.bridge.directories["company"].last_good
        assert roster is not None
        before = roster.roster.find("paul")
        assert before is not None
        assert before.id == str(uuid.UUID(guid))
        domain.change(modify={f"CN=paul,{PEOPLE}": {"sAMAccountName": ["paula"]}})
        domain.change(rename={f"CN=paul,{PEOPLE}": f"CN=paula,{BULK}"})
        await client.service.bridge.directories["company"].refresh()
        report = client.last_refresh()
        assert (report["renamed_count"], report["removed_count"]) == (1, 0)
        assert await client.auth("paula", "Pass-paul-1")


async def test_removal_is_confirmed_by_the_binary_id(domain: Samba, tmp_path: Path) -> None:
    """Who was deleted is asked for by objectGUID, from the root of the domain, and goes; who was disabled goes with that reason."""
    domain.change(add=[account("quentin"), account("rosa")])
    async with bridge(domain, tmp_path) as client:
        assert {"quentin", "rosa"} <= {user["userName"] for user in await client.list_users()}
        domain.change(delete=[f"CN=quentin,{PEOPLE}"])
        domain.change(modify={f"CN=rosa,{PEOPLE}": {"userAccountControl": ["514"]}})
        await client.service.bridge.directories["company"].refresh()
        report = client.last_refresh()
        assert (report["removed_count"], report["withheld_count"]) == (2, 0)
        assert not {"quentin", "rosa"} & {user["userName"] for user in await client.list_users()}


@pytest.mark.parametrize(
    "reader", [READER, f"reader@{REALM.lower()}", f"{DOMAIN}\\reader", f"cn=READER,{PEOPLE.lower()}"]
)
async def test_service_account_binds_by_each_of_its_names(domain: Samba, tmp_path: Path, reader: str) -> None:
    """DN, user principal name, domain and account name (MS-ADTS §5.1.1.1.1)."""
    async with bridge(domain, tmp_path, reader=reader) as client:
        assert await client.auth("anna", "Pass-anna-1")


async def test_service_account_over_plain_ldap_is_refused_with_the_remedy(domain: Samba, tmp_path: Path) -> None:
    """Where signing is required, result 8 comes, and the message says what to do about it."""
    async with bridge(domain, tmp_path, url=f"ldap://{domain.address}", directory="starttls: off") as client:
        for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna-1"):
            status, answer = await client.post(body)
            assert (status, answer["error"]) == (502, "directory_refused")
            assert "(8)" in answer["message"]
            assert "signing" in answer["message"]
            assert "ldaps://" in answer["message"]


@pytest.mark.parametrize(("is_locked", "counted", "data"), [(False, ["1"], "52e"), (True, ["0"], "775")])
async def test_service_account_that_is_refused_is_not_locked(
    domain: Samba, tmp_path: Path, is_locked: bool, counted: list[str], data: str
) -> None:
    """Logins and listings go on for half an hour: one wrong password is counted, and none where it is locked."""
    name, clock, now = f"tool{data}", ManualClock(), str(int((time.time() + 11_644_473_600) * 10_000_000))
    domain.change(add=[account(name)])
    if is_locked:
        domain.change(modify={f"CN={name},{PEOPLE}": {"lockoutTime": [now]}})
    tls = f"tls: {{ca_file: {domain.authority}}}"
    file = configuration(domain.url, tmp_path, preset="samba", reader=(f"{name}@{REALM}", "wrong"), directory=tls)
    try:
        async with running_bridge(file, clock) as client:
            for _ in range(9):
                for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna-1"):
                    status, answer = await client.post(body)
                    assert (status, answer["error"]) == (502, "directory_refused")
                    assert f"data {data}" in answer["message"]
                clock.advance(199.0)
        assert domain.read(f"CN={name},{PEOPLE}", "badPwdCount").get("badPwdCount", ["0"]) == counted
    finally:
        domain.change(delete=[f"CN={name},{PEOPLE}"])


@pytest.mark.parametrize(("scheme", "port"), [("ldap", 389), ("ldaps", 3269)])
async def test_starttls_and_the_global_catalogue_serve_the_same(
    domain: Samba, tmp_path: Path, scheme: str, port: int
) -> None:
    """Port 389 with StartTLS, and 3269, where a forest's partial copy is."""
    lines = f"tls: {{ca_file: {domain.authority}}}" + ("\n    starttls: required" if scheme == "ldap" else "")
    url = f"{scheme}://{domain.address}:{port}"
    async with bridge(domain, tmp_path, url=url, directory=lines) as client:
        users = {user["userName"]: user for user in await client.list_users()}
        assert users["ines"]["emailAddresses"][0] == "first@example.com"
        assert await client.auth("anna", "Pass-anna-1")

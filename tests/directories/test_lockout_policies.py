"""What real servers show to an ordinary service account of when they lock accounts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.config.loading import load
from bridge.run.build import make_source
from bridge.sources.directory.lockout import LockoutPolicy, read_lockout
from tests.conftest import StartSlapd
from tests.support import ds389, samba
from tests.support.bridges import command, configuration
from tests.support.slapd import BASE, READER, Entry, person

POLICIES = f"ou=policies,{BASE}"
PPOLICY = {"overlays": "moduleload ppolicy", "extra": f'overlay ppolicy\nppolicy_default "cn=default,{POLICIES}"'}


def policy(name: str, **values: str) -> Entry:
    found = {"objectClass": ["device", "pwdPolicy"], "cn": [name], "pwdAttribute": ["userPassword"]}
    return f"cn={name},{POLICIES}", {**found, **{key: [value] for key, value in values.items()}}


async def shown(file: Path) -> LockoutPolicy | None:
    source = make_source(load(str(file), {}), 0, lambda _event: None)
    try:
        return await read_lockout(source)
    finally:
        await source.directory.aclose()


async def checked(file: Path) -> tuple[str, str]:
    """The result and the message of `check`'s line."""
    _, output = await command(file, "check", "--json")
    (line,) = [line for line in json.loads(output)["checks"] if line["name"] == "lockout"]
    return line["result"], f"{line['message']} {line['remedy']}"


@pytest.mark.slapd
async def test_slapd_shows_its_policies_to_whoever_may_read_the_suffix(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The strictest counts; the default one is not told from others. With narrower rights nothing is known."""
    entries = [
        (POLICIES, {"objectClass": ["organizationalUnit"], "ou": ["policies"]}),
        policy("default", pwdLockout="TRUE", pwdMaxFailure="3", pwdFailureCountInterval="3600"),
        policy("mild", pwdLockout="TRUE", pwdMaxFailure="10", pwdFailureCountInterval="60"),
        policy("off", pwdLockout="FALSE", pwdMaxFailure="2"),
        person("anna"),
    ]
    slapd = start_slapd(entries, **PPOLICY)
    file = configuration(slapd.url, tmp_path)
    assert await shown(file) == LockoutPolicy(3, 3600.0, f"cn=default,{POLICIES}")
    result, message = await checked(file)
    assert result == "ok"
    assert "2 different wrong passwords of a user are tried within 60 minutes" in message
    strict = configuration(slapd.url, tmp_path, more="auth: {max_failures: 3}")
    result, message = await checked(strict)
    assert result == "warning"
    assert "Set auth.max_failures: auto, or 2 at most" in message
    slapd.restart_with_access(
        f'access to dn.subtree="{POLICIES}" by * none\naccess to * by dn.exact="{READER}" read by anonymous auth by * none'
    )
    file = configuration(slapd.url, tmp_path)
    assert await shown(file) is None
    result, message = await checked(file)
    assert (result, "doesn't show" in message) == ("ok", True)


@pytest.mark.samba
async def test_samba_shows_the_domains_policy_to_everybody(samba: samba.Samba, tmp_path: Path) -> None:
    """Three failures within half an hour, as the domain has it, and the strictest of others that can be read."""
    file = configuration(
        samba.url,
        tmp_path,
        preset="samba",
        reader=(READER_OF_SAMBA, PASSWORD_OF_SAMBA),
        users="users: {}",
        directory=f"tls: {{ca_file: {samba.authority}}}",
    )
    assert await shown(file) == LockoutPolicy(3, 1800.0, DOMAIN)


READER_OF_SAMBA, PASSWORD_OF_SAMBA, DOMAIN = samba.READER, samba.READER_PASSWORD, samba.BASE


@pytest.fixture(scope="module")
def ds() -> Iterator[ds389.DirectoryServer389]:
    reader = {
        "objectClass": ["device", "simpleSecurityObject"],
        "cn": ["reader"],
        "userPassword": [ds389.READER_PASSWORD],
    }
    people: Entry = (ds389.PEOPLE, {"objectClass": ["organizationalUnit"], "ou": ["people"]})
    with ds389.DirectoryServer389([(ds389.READER, reader), people]) as server:
        server.replace(ds389.BASE, aci=ds389.READ_ACCESS)
        server.replace("cn=config", passwordLockout="on", passwordMaxFailure="3", passwordResetFailureCount="600")
        yield server


@asynccontextmanager
async def added(server: ds389.DirectoryServer389, *entries: Entry) -> AsyncIterator[None]:
    server.add(*entries)
    try:
        yield
    finally:
        for dn, _ in reversed(entries):
            server.modify(f"dn: {dn}\nchangetype: delete\n")


@pytest.mark.ds389
async def test_389ds_hides_its_global_policy_and_shows_local_ones(ds: ds389.DirectoryServer389, tmp_path: Path) -> None:
    """Nothing of cn=config without an aci; policies of a branch are subentries, which only a filter of their own finds."""
    reader = (ds389.READER, ds389.READER_PASSWORD)
    file = configuration(ds.url, tmp_path, preset="389ds", reader=reader, users="users: {}")
    assert await shown(file) is None
    container = f"cn=nsPwPolicyContainer,{ds389.PEOPLE}"
    local = f"cn=local,{container}"
    limits = {"passwordLockout": ["on"], "passwordMaxFailure": ["2"], "passwordResetFailureCount": ["300"]}
    entries: list[Entry] = [
        (container, {"objectClass": ["nsContainer"], "cn": ["nsPwPolicyContainer"]}),
        (local, {"objectClass": ["ldapsubentry", "passwordpolicy"], "cn": ["local"], **limits}),
    ]
    async with added(ds, *entries):
        assert await shown(file) == LockoutPolicy(2, 300.0, local)
    names = "objectClass || passwordMaxFailure || passwordLockout || passwordResetFailureCount"
    rule = f'(targetattr="{names}")'
    subject = f'(version 3.0; acl "lockout"; allow (read,search,compare) userdn="ldap:///{ds389.READER}";)'
    ds.modify(f"dn: cn=config\nchangetype: modify\nadd: aci\naci: {rule}{subject}\n")
    assert await shown(file) == LockoutPolicy(3, 600.0, "cn=config")

"""What OpenLDAP says of the service account's password when it takes it: it ends, is over, must be changed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartSlapd
from tests.support.bridges import Client, command, configuration, running_bridge
from tests.support.counting_slapd import POLICIES
from tests.support.slapd import READER, READER_PASSWORD, Entry, Slapd, person

pytestmark = pytest.mark.slapd

MORE = "cache: {refresh_ahead: false, ttl: 0s}"


def start(start_slapd: StartSlapd, **rules: str) -> Slapd:
    """A server with a policy for everybody; the reader's password is set now, so that its age is known."""
    policy = {"objectClass": ["device", "pwdPolicy"], "cn": ["default"], "pwdAttribute": ["userPassword"]}
    entries: list[Entry] = [
        (POLICIES, {"objectClass": ["organizationalUnit"], "ou": ["policies"]}),
        (f"cn=default,{POLICIES}", {**policy, **{name: [value] for name, value in rules.items()}}),
        person("anna"),
    ]
    extra = f'overlay ppolicy\nppolicy_default "cn=default,{POLICIES}"'
    slapd = start_slapd(entries, overlays="moduleload ppolicy", extra=extra)
    slapd.replace([READER], "userPassword", READER_PASSWORD)
    return slapd


async def problems(client: Client) -> list[dict[str, Any]]:
    port, client.port = client.port, client.service.admin.addresses[0][1]
    answer = json.loads((await client.curl(path="/status.json"))[1])
    client.port = port
    (endpoint,) = answer["endpoints"]
    assert endpoint["status"] == ("degraded" if endpoint["problems"] else "ok")
    found: list[dict[str, Any]] = endpoint["problems"]
    return found


def warned(client: Client) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in client.log.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "account.warned"]


async def problem_of_three_binds(client: Client) -> dict[str, Any]:
    """The one problem, which stands in the log once, however many binds there are."""
    for _ in range(3):
        await client.list_users()
    (problem,) = await problems(client)
    assert len(warned(client)) == 1
    return problem


async def account_rows(file: Path) -> list[dict[str, Any]]:
    found = json.loads((await command(file, "check", "--json"))[1])
    return [check for check in found["checks"] if check["name"] == "account"]


async def test_password_that_ends_soon_is_told_by_log_health_and_check(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Once in the log, however many binds there are; and not any more when another password was set."""
    slapd = start(start_slapd, pwdMaxAge="86400", pwdExpireWarning="86399")
    file = configuration(slapd.url, tmp_path, more=MORE)
    await asyncio.sleep(2.1)
    async with running_bridge(file) as client:
        problem = await problem_of_three_binds(client)
        assert problem["code"] == "service_password_ends"
        assert "ends at 20" in problem["message"]
        (row,) = await account_rows(file)
        assert (row["result"], row["message"]) == ("warning", problem["message"])
        slapd.replace([f"cn=default,{POLICIES}"], "pwdExpireWarning", "1")
        await client.list_users()
        assert await problems(client) == []
        assert await account_rows(file) == []


async def test_password_that_lives_on_grace_is_told(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The number falls with each bind; a new password ends it."""
    slapd = start(start_slapd, pwdMaxAge="1", pwdGraceAuthNLimit="30")
    file = configuration(slapd.url, tmp_path, more=MORE)
    await asyncio.sleep(2.1)
    async with running_bridge(file) as client:
        problem = await problem_of_three_binds(client)
        assert problem["code"] == "service_password_expired"
        assert "let through all the same: 2" in problem["message"]
        (row,) = await account_rows(file)
        assert "has expired" in row["message"]
        slapd.replace([f"cn=default,{POLICIES}"], "pwdMaxAge", "0")
        slapd.replace([READER], "userPassword", "next")
        (tmp_path / "reader.password").write_text("next")
        await client.list_users()
        assert await problems(client) == []


async def test_password_that_must_be_changed_is_told(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The server takes the bind and refuses every search: the reason is said where nobody would look for it."""
    slapd = start(start_slapd, pwdMustChange="TRUE")
    slapd.replace([READER], "pwdReset", "TRUE")
    file = configuration(slapd.url, tmp_path, more=MORE)
    async with running_bridge(file) as client:
        assert (await client.post("cmd=list"))[0] >= 500
        port, client.port = client.port, client.service.admin.addresses[0][1]
        found = json.loads((await client.curl(path="/status.json"))[1])["endpoints"][0]["problems"]
        client.port = port
        codes = {problem["code"]: problem for problem in found}
        assert "must be changed" in codes["service_password_must_change"]["message"]
        assert len(warned(client)) == 1
        (row,) = await account_rows(file)
        assert "must be changed" in row["message"]
        slapd.replace([READER], "pwdReset")
        await client.list_users()
        assert await problems(client) == []

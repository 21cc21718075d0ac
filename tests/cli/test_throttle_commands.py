"""The commands for who is held back, against a running service and a real slapd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import StartSlapd
from tests.support.bridges import command, configuration, running_bridge
from tests.support.ldap_proxy import LdapProxy
from tests.support.slapd import PEOPLE

pytestmark = pytest.mark.slapd


async def test_throttle_shows_who_is_held_back_and_frees_them(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """After four wrong passwords the right one is refused, too; `throttle clear` ends that, by whatever spelling."""
    more = "cache: {refresh_ahead: false}\nauth: {max_failures: 4, fast_refusals: true}"
    file = configuration(start_slapd().url, tmp_path, more=more)
    async with running_bridge(file) as client:
        code, output = await command(file, "throttle", "show")
        assert (code, output) == (0, "Nobody is held back, and no failure is remembered.\n")
        for number in range(4):
            assert not await client.auth("Anna", f"canary-{number}")
        assert not await client.auth("anna", "Pass-anna")
        code, output = await command(file, "throttle", "show", "--json")
        (held,) = json.loads(output)["held_back"]
        assert (code, held["directory"], held["userName"], held["failure_count"]) == (0, "company", "Anna", 4)
        assert set(held) == {"directory", "id", "userName", "until", "failure_count"}
        code, table = await command(file, "throttle", "show")
        assert "Anna" in table
        assert "canary" not in table + output
        assert await client.auth("bert", "Pass-bert")
        code, output = await command(file, "throttle", "clear", "nobody")
        assert (code, "Nobody is held back as nobody" in output) == (1, True)
        code, output = await command(file, "throttle", "clear", "ANNA")
        assert (code, output) == (0, "1 freed.\n")
        assert await client.auth("anna", "Pass-anna")
    code, output = await command(file, "throttle", "show")
    assert (code, "No service listens" in output) == (69, True)


async def test_throttle_shows_refusals_and_unknown_outcomes_of_those_who_are_not_held_back(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Who wonders why a right password is refused sees that something is remembered, and what."""
    lines = "timeouts: {connect: 500ms, request: 1s}"
    async with LdapProxy(("127.0.0.1", start_slapd().port)) as proxy:
        file = configuration(proxy.url, tmp_path, directory=lines, more="auth: {fast_refusals: true}")
        async with running_bridge(file) as client:
            assert not await client.auth("anna", "canary")
            proxy.swallow_binds(only=f"uid=bert,{PEOPLE}".__eq__)
            status, _ = await client.post("cmd=auth&user=bert&pass=canary")
            assert status == 503
            code, output = await command(file, "throttle", "show", "--json")
            found = json.loads(output)
            assert (code, found["held_back"]) == (0, [])
            counts = {
                each["userName"]: (each["failure_count"], each["unknown_count"], each["refused_count"])
                for each in found["remembered"]
            }
            assert counts == {"anna": (1, 0, 1), "bert": (0, 1, 0)}
            code, table = await command(file, "throttle", "show")
            assert (code, "Nobody is held back." in table) == (0, True)
            rows = [line.split()[:6] for line in table.splitlines() if "company" in line]
            assert sorted(rows) == [["anna", "company", "1", "0", "1", "no"], ["bert", "company", "0", "1", "0", "no"]]
            assert await command(file, "throttle", "clear", "anna") == (0, "1 freed.\n")
            assert [each.user_name for each in client.service.bridge.remembered()] == ["bert"]

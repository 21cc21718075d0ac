"""The commands for who is held back, against a running service and a real slapd."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import StartSlapd
from tests.support.bridges import command, configuration, running_bridge

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

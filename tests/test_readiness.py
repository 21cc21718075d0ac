"""`/readyz` is whether the bridge can answer, found out at the start and never by waiting for a request."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.manual_clock import ManualClock

ON_DEMAND = "cache: {refresh_ahead: false}"
WAYS = [
    ON_DEMAND,
    "cache: {stale_if_error: 0s}",
    "cache: {refresh_ahead: false, stale_if_error: 0s}",
    "cache: {refresh_ahead: true}",
]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Directories are looked at so often that a test needn't wait."""
    monkeypatch.setattr("bridge.service._RETRY_FIRST_S", 0.05)
    monkeypatch.setattr("bridge.service._RETRY_LONGEST_S", 0.1)
    monkeypatch.setattr("bridge.service._FIND_OUT_S", 0.05)


async def readiness(client: Client) -> tuple[int, dict[str, Any]]:
    """The status of `/readyz`, and what it says of the only endpoint."""
    admin = Client(client.service, client.log)
    admin.port = client.service.admin.addresses[0][1]
    status, body = await admin.curl(path="/readyz")
    return status, json.loads(body)["endpoints"][0]


async def until_ready(client: Client, wanted: int) -> dict[str, Any]:
    """What is said of the endpoint as soon as the status is as wanted."""
    deadline_s = time.monotonic() + 20
    while (found := await readiness(client))[0] != wanted:
        assert time.monotonic() < deadline_s, found
    return found[1]


@pytest.mark.parametrize("way", WAYS)
async def test_ready_without_a_request_when_the_directory_answers(tmp_path: Path, way: str) -> None:
    """Nobody has asked for anything, and the bridge knows that it could answer."""
    async with FaultyServer(small_directory("anna")) as server:
        async with running_bridge(configuration(server.url, tmp_path, more=way)) as client:
            found = await until_ready(client, 200)
            assert found == {"path": "/mailstore", "status": "ok", "problems": []}
            assert len(await client.list_users()) == 1


async def test_directory_on_demand_is_not_listed_to_find_out(tmp_path: Path) -> None:
    """One search for one user at the start, and none while nobody asks and the answer is in memory."""
    async with FaultyServer(small_directory("anna", "bert", "carl")) as server:
        async with running_bridge(configuration(server.url, tmp_path, more=ON_DEMAND)) as client:
            await until_ready(client, 200)
            assert {search.size_limit for search in server.searches} == {1}
            await client.list_users()
            count = len(server.searches)
            for _ in range(10):
                await readiness(client)
            assert len(server.searches) == count


@pytest.mark.parametrize("way", WAYS)
async def test_not_ready_while_the_directory_is_down_at_the_start(tmp_path: Path, way: str) -> None:
    """503 with the reason; when the directory comes back, 200 without a request."""
    async with FaultyServer(small_directory("anna")) as server:
        server.refuses = True
        async with running_bridge(configuration(server.url, tmp_path, more=way)) as client:
            deadline_s = time.monotonic() + 20
            while "directory_unavailable" not in str(found := await readiness(client)):
                assert time.monotonic() < deadline_s, found
            assert (found[0], found[1]["status"]) == (503, "unavailable")
            (problem,) = found[1]["problems"]
            assert set(problem) == {"code", "directory", "message", "remedy", "since"}
            assert problem["code"] == "directory_unavailable"
            server.refuses = False
            assert (await until_ready(client, 200))["problems"] == []


async def test_search_base_that_is_missing_is_found_out_at_the_start(tmp_path: Path) -> None:
    """A directory that answers, and could not be listed, is not ready."""
    async with FaultyServer(small_directory("anna")) as server:
        users = 'users: {bases: ["ou=nowhere,dc=example,dc=com"]}'
        async with running_bridge(configuration(server.url, tmp_path, users=users, more=ON_DEMAND)) as client:
            deadline_s = time.monotonic() + 20
            while "search_invalid" not in str(found := await readiness(client)):
                assert time.monotonic() < deadline_s, found
            assert found[0] == 503


@pytest.mark.parametrize("way", WAYS)
async def test_age_alone_is_no_outage(tmp_path: Path, way: str) -> None:
    """However old the listing is, the next request lists anew; when that fails, 503, until it is well again."""
    clock = ManualClock()
    async with FaultyServer(small_directory("anna")) as server:
        async with running_bridge(configuration(server.url, tmp_path, more=way), clock) as client:
            await until_ready(client, 200)
            await client.list_users()
            for _ in range(3):
                clock.advance(100_000)
                assert (await readiness(client))[0] == 200
            server.refuses = True
            assert (await client.post("cmd=list"))[0] == 503
            assert (await readiness(client))[0] == 503
            server.refuses = False
            if "refresh_ahead: false" not in way:
                await client.list_users()  # or after four minutes
            assert (await until_ready(client, 200))["problems"] == []


async def test_directory_that_fails_unasked_is_found_out(tmp_path: Path) -> None:
    """Where nothing could be answered from memory, the directory is looked at again and again."""
    clock = ManualClock()
    async with FaultyServer(small_directory("anna")) as server:
        more = "cache: {refresh_ahead: false, stale_if_error: 0s}"
        async with running_bridge(configuration(server.url, tmp_path, more=more), clock) as client:
            await client.list_users()
            await until_ready(client, 200)
            server.refuses = True
            clock.advance(1000)
            await until_ready(client, 503)
            server.refuses = False
            await until_ready(client, 200)

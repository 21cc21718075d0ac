"""What MailStore is told of a login, and what it can't tell apart; what the administrator sees instead."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from pathlib import Path

import pytest

from bridge.model import Rejection
from bridge.ops.metrics import render_metrics
from tests.faults.server import FaultyServer, OnBind, small_directory
from tests.support.bridges import CALLER, CALLER_PASSWORD, Client, configuration, running_bridge
from tests.support.logins import AD, INACTIVATED, MUST_CHANGE_389, answers, policy
from tests.support.slapd import PEOPLE

REASONS: list[tuple[str, str, OnBind | None, Rejection]] = [
    ("nobody", "x", None, Rejection.UNKNOWN_USER),
    ("anna", "wrong", None, Rejection.WRONG_PASSWORD),
    ("twin", "x", None, Rejection.AMBIGUOUS_USER),
    ("locked", "Pass-locked", None, Rejection.ACCOUNT_DISABLED),
    ("reset", "Pass-reset", None, Rejection.MUST_CHANGE_PASSWORD),
    ("anna", "x", answers(48), Rejection.NO_PASSWORD),
    ("anna", "x", answers(32), Rejection.ENTRY_GONE),
    ("anna", "x", answers(53, INACTIVATED), Rejection.ACCOUNT_DISABLED),
    ("anna", "x", answers(19), Rejection.ACCOUNT_LOCKED),
    ("anna", "x", answers(49, controls=policy(error=0)), Rejection.PASSWORD_EXPIRED),
    ("anna", "x", answers(49, controls=policy(error=1)), Rejection.ACCOUNT_LOCKED),
    ("anna", "x", answers(0, controls=policy(error=2)), Rejection.MUST_CHANGE_PASSWORD),
    ("anna", "x", answers(0, controls=MUST_CHANGE_389), Rejection.MUST_CHANGE_PASSWORD),
    ("anna", "x", answers(49, AD.format("530")), Rejection.NOT_AT_THIS_TIME),
    ("anna", "x", answers(49, AD.format("531")), Rejection.NOT_FROM_THIS_PLACE),
    ("anna", "x", answers(49, AD.format("532")), Rejection.PASSWORD_EXPIRED),
    ("anna", "x", answers(49, AD.format("533")), Rejection.ACCOUNT_DISABLED),
    ("anna", "x", answers(49, AD.format("568")), Rejection.TOO_MANY_GROUPS),
    ("anna", "x", answers(49, AD.format("569")), Rejection.LOGON_NOT_GRANTED),
    ("anna", "x", answers(49, AD.format("701")), Rejection.ACCOUNT_EXPIRED),
    ("anna", "x", answers(49, AD.format("773")), Rejection.MUST_CHANGE_PASSWORD),
    ("anna", "x", answers(49, AD.format("775")), Rejection.ACCOUNT_LOCKED),
]


async def raw_answer(client: Client, user: str, password: str) -> bytes:
    """Every byte of an answer, but for what differs by itself: the request's id and the second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    body = f"cmd=auth&user={user}&pass={password}".encode()
    token = base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode())
    head = b"POST /mailstore HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Basic %b\r\nContent-Length: %d\r\n\r\n"
    writer.write(head % (token, len(body)) + body)
    answer = await reader.read()
    writer.close()
    return re.sub(rb"(X-Request-Id|Date): [^\r]*", rb"\1:", answer)


async def test_every_reason_is_one_answer_one_bind_one_line_and_one_count(tmp_path: Path) -> None:
    """MailStore gets the same bytes, headers included; the log and the metric have the reason."""
    store = small_directory("anna", "twin", "locked", "reset")
    people = {"objectClass": ["inetOrgPerson"], "cn": ["t"], "userPassword": ["x"]}
    store.add(f"cn=t,{PEOPLE}", {**people, "uid": ["twin"]})
    for uid, name, value in (("locked", "pwdAccountLockedTime", b"000001010000Z"), ("reset", "pwdReset", b"TRUE")):
        entry = store.find(f"uid={uid},{PEOPLE}")
        assert entry is not None
        entry.attributes[name.lower()] = [value]  # type: ignore[index]
        entry.names[name.lower()] = name  # type: ignore[index]
    seen: set[bytes] = set()
    async with FaultyServer(store) as server, running_bridge(configuration(server.url, tmp_path)) as client:
        for number, (user, password, on_bind, reason) in enumerate(REASONS, 1):
            server.on_bind = on_bind
            seen.add(await raw_answer(client, user, password))
            assert len(server.user_binds()) == number, reason
            line = json.loads(client.log.getvalue().splitlines()[-2])
            assert (line["event"], line["reason"]) == ("login.rejected", reason.value)
        metrics = render_metrics(client.service._registry)[0].decode()
    (answer,) = seen
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b'\r\n\r\n{"succeeded":false}')
    for reason in {reason for *_, reason in REASONS}:
        count = sum(found is reason for *_, found in REASONS)
        counted = re.findall(rf'mailstore_bridge_logins_total\{{[^}}]*outcome="{reason.value}"\}} (\S+)', metrics)
        assert [float(found) for found in counted] == [count], reason


async def test_refusals_from_memory_are_the_same_answer_without_a_bind(tmp_path: Path) -> None:
    """A remembered failure, a user who is held back, an empty password: told apart by the log alone."""
    async with FaultyServer(small_directory("anna")) as server:
        async with running_bridge(configuration(server.url, tmp_path)) as client:
            seen = {await raw_answer(client, "anna", password) for password in ["1", "1", "2", "3", "4", "5", ""]}
            log = client.log.getvalue()
            metrics = render_metrics(client.service._registry)[0].decode()
        assert len(server.user_binds()) == 4
    assert len(seen) == 1
    for reason in (Rejection.REMEMBERED_FAILURE, Rejection.HELD_BACK, Rejection.EMPTY_PASSWORD):
        assert f'"reason":"{reason.value}"' in log
        assert re.search(rf'logins_total\{{[^}}]*outcome="{reason.value}"\}} 1\.0', metrics)


@pytest.mark.parametrize("user", ["reset"])
async def test_people_who_must_change_their_password_stay_in_the_list(tmp_path: Path, user: str) -> None:
    """MailStore might delete them while they are on holiday with a password that was reset."""
    store = small_directory("anna", user)
    entry = store.find(f"uid={user},{PEOPLE}")
    assert entry is not None
    entry.attributes["pwdreset"] = [b"TRUE"]  # type: ignore[index]
    entry.names["pwdreset"] = "pwdReset"  # type: ignore[index]
    async with FaultyServer(store) as server, running_bridge(configuration(server.url, tmp_path)) as client:
        assert [found["userName"] for found in await client.list_users()] == ["anna", user]
        assert not await client.auth(user, f"Pass-{user}")

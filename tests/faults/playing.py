"""A case played, and what must hold whatever the directory does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp

from tests.faults.cases import Case, Mode
from tests.faults.rig import LISTING_S, REQUEST_S, Answer, Rig, bridge_of, expected_users, set_up
from tests.faults.tls_faults import Contexts

_TOLERANCE_S = 3.0
"""By how much an answer may be late on a busy machine."""
_LOGIN_MAX_S = 2 * REQUEST_S + LISTING_S
"""A look-up, a bind, and groups that are read."""
_ERRORS = frozenset((502, 503))
"""What an answer may be instead of the right one. 500 is a bug."""
_OPEN_MAX_COUNT = 6
"""Connections of one bridge to one server when all is well again: look-ups, binds, one that is being retired."""
_CASE_MAX_S = 60.0


@dataclass
class Outcome:
    """What came of a case."""

    case: Case
    lists: list[bool] = field(default_factory=list)
    """For each list while the directory was in trouble: whether it was complete; otherwise it was an error."""
    verdicts: list[bool] = field(default_factory=list)
    """Likewise for each login: whether it had a verdict."""
    wrong: list[str] = field(default_factory=list)
    """What must never be."""
    late: list[str] = field(default_factory=list)
    """What may be the fault of a machine that has too much to do."""

    @property
    def is_good(self) -> bool:
        return not (self.wrong or self.late)


async def play(case: Case, contexts: Contexts, http: aiohttp.ClientSession) -> Outcome:
    """The outcome of a case on servers and a bridge of its own."""
    outcome = Outcome(case)
    try:
        async with asyncio.timeout(_CASE_MAX_S):
            with TemporaryDirectory(prefix="faults-") as folder:
                await _play(outcome, Path(folder), contexts, http)
    except TimeoutError:
        outcome.late.append(f"it has not ended within {_CASE_MAX_S:g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        outcome.wrong.append(f"no answer over HTTP: {error!r}")
    return outcome


async def _play(outcome: Outcome, folder: Path, contexts: Contexts, http: aiohttp.ClientSession) -> None:
    case = outcome.case
    async with set_up(case, contexts, http) as rig:
        if case.mode is Mode.LIST:
            await rig.begin_fault(keep_connections=False)
        async with bridge_of(rig, folder):
            if case.mode is Mode.LIST:
                _judge_list(outcome, await rig.list_users())
            else:
                await _ask_in_trouble(outcome, rig)
            if not rig.hit_count and case.mode is not Mode.KEPT:
                outcome.late.append("the fault was not met")
            await rig.end_fault()
            await _ask_again(outcome, rig)
        outcome.wrong += rig.find_in_log()
        if rig.referral_count():
            outcome.wrong.append("a referral was followed")


async def _ask_in_trouble(outcome: Outcome, rig: Rig) -> None:
    """Logins and a list, or a list alone, by a bridge that has listed everybody before."""
    if (await rig.list_users()).body != expected_users(rig.case):
        outcome.late.append("the first list is not complete, and the directory was well")
    if rig.case.mode is Mode.KEPT and (await rig.log_in("emil", "Pass-emil")).body != {"succeeded": True}:
        outcome.late.append("the first login is not accepted, and the directory was well")
    await rig.begin_fault(keep_connections=rig.case.mode is Mode.KEPT)
    if rig.case.mode is not Mode.AGAIN:
        await _log_in(outcome, rig, "anna", "Pass-anna", is_right=True)
        await _log_in(outcome, rig, "bert", "wrong", is_right=False)
    _judge_list(outcome, await rig.list_users())


async def _log_in(outcome: Outcome, rig: Rig, user: str, password: str, *, is_right: bool) -> None:
    before = rig.user_bind_counts()
    answer = await rig.log_in(user, password)
    counts = [now - then for now, then in zip(rig.user_bind_counts(), before, strict=True)]
    who = f"the login of {user} with the {'right' if is_right else 'wrong'} password"
    if sum(counts) > 1:
        outcome.wrong.append(f"{who} took {sum(counts)} binds")
    if answer.took_s > _LOGIN_MAX_S + _TOLERANCE_S:
        outcome.late.append(f"{who} took {answer.took_s:.1f} s")
    if answer.status in _ERRORS:
        outcome.verdicts.append(False)
        return
    says = rig.case.says if counts[0] else "truth"
    expected = is_right if says == "truth" else says
    if answer.status == 200 and answer.body == {"succeeded": expected}:
        outcome.verdicts.append(True)
    else:
        outcome.wrong.append(f"{who} was answered with {answer.status} {answer.body}")


def _judge_list(outcome: Outcome, answer: Answer) -> None:
    if answer.took_s > LISTING_S + _TOLERANCE_S:
        outcome.late.append(f"the list took {answer.took_s:.1f} s")
    if answer.status in _ERRORS:
        outcome.lists.append(False)
        if outcome.case.server_count > 1:
            outcome.late.append(f"the list was answered with {answer.status}, and the second server is well")
    elif answer.status == 200 and _is_complete(outcome.case, answer.body):
        outcome.lists.append(True)
    else:
        outcome.wrong.append(f"the list was answered with {answer.status} {str(answer.body)[:1000]}")


def _is_complete(case: Case, body: object) -> bool:
    """Whether everybody is listed once and as they are; strangers that the server has shown may be there, too."""
    if not isinstance(body, list):
        return False
    expected = expected_users(case)
    if case.shows_strangers:
        names = {user["distinguishedName"] for user in expected}
        body = [user for user in body if user["distinguishedName"] in names]
    return sorted(body, key=str) == sorted(expected, key=str)


async def _ask_again(outcome: Outcome, rig: Rig) -> None:
    """The directory is well again, and so is the bridge, at once."""
    if rig.case.is_about_account:
        rig.client.service.bridge.forgive_refusal("company")  # as `mailstore-bridge refresh` does
    answer = await rig.list_users()
    if answer.status != 200 or not _is_complete(rig.case, answer.body):
        outcome.late.append(f"afterwards the list was answered with {answer.status} {str(answer.body)[:1000]}")
    for user, password, expected in (("carl", "Pass-carl", True), ("dora", "wrong", False)):
        answer = await rig.log_in(user, password)
        if answer.status != 200 or answer.body != {"succeeded": expected}:
            outcome.late.append(f"afterwards {user} was answered with {answer.status} {answer.body}")
    for server in rig.servers:
        if server.open_count > _OPEN_MAX_COUNT:
            outcome.late.append(f"afterwards {server.open_count} connections are open")

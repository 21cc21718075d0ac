"""The matrix itself: it finds what it is there to find, in directories whose lies nobody could notice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner

from tests.faults.__main__ import main
from tests.faults.cases import Case, Mode, all_cases, matching, sample
from tests.faults.playing import Outcome, play
from tests.faults.result_faults import end_with
from tests.faults.stages import Stage
from tests.faults.tls_faults import Contexts
from tests.faults.turns import Turn, changing, result
from tests.support.slapd import READER, READER_PASSWORD

LEAVES_OUT = changing(lambda _turn, right: right[1:])
RIGHT = changing(lambda _turn, right: right)


async def accept(turn: Turn) -> None:
    """Whatever the password is."""
    await turn.send(result(turn, 0))


async def play_alone(case: Case, folder: Path) -> Outcome:
    async with aiohttp.ClientSession() as http:
        return await play(case, Contexts(folder), http)


def case_of(mode: Mode, stage: Stage, **changes: object) -> Case:
    return replace(Case("own", "fault", mode, stage, has_groups=False, server_count=1, action=RIGHT), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [Mode.LIST, Mode.AUTH, Mode.KEPT])
async def test_directory_without_faults_is_listed_and_logs_people_in(mode: Mode, tmp_path: Path) -> None:
    """The right answer, given by the script, is one."""
    stage = Stage.MIDDLE_PAGE if mode is Mode.LIST else Stage.USER_BIND
    outcome = await play_alone(case_of(mode, stage), tmp_path)
    assert (outcome.is_good, outcome.lists, all(outcome.verdicts)) == (True, [True], True)


async def test_list_without_somebody_is_found(tmp_path: Path) -> None:
    """An entry that the server leaves out is missing, and the case is wrong."""
    outcome = await play_alone(case_of(Mode.LIST, Stage.LAST_PAGE, action=LEAVES_OUT), tmp_path)
    assert "the list was answered with 200" in outcome.wrong[0]


@pytest.mark.parametrize(("action", "who"), [(accept, "bert with the wrong"), (end_with(49), "anna with the right")])
async def test_wrong_verdict_is_found(action: object, who: str, tmp_path: Path) -> None:
    """A directory that accepts everybody, and one that refuses everybody, where the case says that neither happens."""
    outcome = await play_alone(case_of(Mode.AUTH, Stage.USER_BIND, action=action), tmp_path)
    assert [who in each for each in outcome.wrong] == [True]


async def test_fault_that_is_never_met_is_found(tmp_path: Path) -> None:
    """A stage at which the bridge asks nothing tests nothing."""
    outcome = await play_alone(case_of(Mode.LIST, Stage.USER_BIND), tmp_path)
    assert (outcome.wrong, outcome.late) == ([], ["the fault was not met"])


async def test_second_bind_is_found(tmp_path: Path) -> None:
    """Whoever binds a user twice is seen."""

    async def bind_again(turn: Turn) -> None:
        turn.session.server.binds.append("uid=anna,ou=people,dc=example,dc=com")
        await turn.send(*await turn.right_answer())

    outcome = await play_alone(case_of(Mode.AUTH, Stage.USER_BIND, action=bind_again), tmp_path)
    assert ["took 2 binds" in each for each in outcome.wrong] == [True, True]


async def test_referral_that_is_followed_is_found(tmp_path: Path) -> None:
    """Whoever connects to where a reference leads is seen."""

    async def follow(turn: Turn) -> None:
        port = int(turn.referral_uri.split(":")[2].partition("/")[0])
        async with aiohttp.ClientSession() as http:
            with pytest.raises(TimeoutError):
                await http.get(f"http://127.0.0.1:{port}/", timeout=aiohttp.ClientTimeout(0.1))
        await turn.send(*await turn.right_answer())

    outcome = await play_alone(case_of(Mode.LIST, Stage.ROOT_DSE, action=follow), tmp_path)
    assert outcome.wrong == ["a referral was followed"]


async def test_bridge_that_stays_in_trouble_is_found(tmp_path: Path) -> None:
    """The service account is refused, and not bound again at once: the case must say so."""
    outcome = await play_alone(case_of(Mode.LIST, Stage.SERVICE_BIND, action=end_with(49)), tmp_path)
    assert outcome.late
    assert READER_PASSWORD not in "".join(outcome.late)
    assert READER not in "".join(outcome.late)


def test_sample_has_some_of_every_kind() -> None:
    """And nearly as many as it was asked for."""
    cases = all_cases()
    found = sample(cases, 300)
    assert {case.kind for case in found} == {case.kind for case in cases}
    assert 250 < len(found) < 350


def test_case_is_found_by_its_id_a_part_of_it_and_a_pattern() -> None:
    """What the report names can be given to the script."""
    cases = all_cases()
    one = cases[len(cases) // 2]
    assert one in matching(cases, [one.id])
    assert all(case.stage is Stage.TLS for case in matching(cases, ["tls/*/tls/*"]))
    assert not matching(cases, ["no such case"])


def test_command_plays_what_it_is_told_and_says_what_came_of_it() -> None:
    """Two cases, as a table; and an error where no case has the name."""
    runner = CliRunner()
    played = runner.invoke(main, ["paging/control-missing/list/first-page", "--processes", "1"])
    assert (played.exit_code, "paging" in played.output) == (0, True)
    assert runner.invoke(main, ["--list", "floods/"]).output.startswith("floods/")
    assert 8 <= len(runner.invoke(main, ["--list", "--sample", "10"]).output.splitlines()) <= 12
    assert runner.invoke(main, ["no such case"]).exit_code == 1

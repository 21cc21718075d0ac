"""The fault matrix: whatever a directory does, a list is complete and a verdict right, or the answer is an error."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.faults.cases import Case, all_cases, sample
from tests.faults.running import grouped, play_group

_SAMPLE_COUNT = 300
_ALL = all_cases()


def _chosen() -> list[Case]:
    """A sample that is always the same, of so many cases as BRIDGE_TEST_FAULTS says, or `all` of them."""
    wanted = os.environ.get("BRIDGE_TEST_FAULTS", str(_SAMPLE_COUNT))
    return _ALL if wanted == "all" else sample(_ALL, int(wanted))


def test_ids_are_unique() -> None:
    """An id names one case, which can be played alone by it."""
    assert [found for found, count in Counter(case.id for case in _ALL).items() if count > 1] == []


@pytest.mark.processes
@pytest.mark.parametrize("cases", list(grouped(_chosen())), ids=lambda cases: cases[0].kind)
async def test_faults_cost_nobody_a_list_or_a_verdict(cases: list[Case]) -> None:
    """Never a short list, a wrong verdict, a second bind, a followed referral, or a bridge that stays in trouble."""
    outcomes = await play_group(cases)

    wrong = {f"script/faults '{each.case.id}'": [*each.wrong, *each.late] for each in outcomes if not each.is_good}
    assert wrong == {}

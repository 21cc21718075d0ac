"""Values that stand in a database, and back; what can't be read is damage, and no other error."""

from __future__ import annotations

import json

import pytest

from bridge.removals.model import GuardState
from bridge.state.encoding import PARTS, parse_guard, parse_report, render_decisions, render_report
from bridge.state.failures import Damaged
from tests.contract.test_snapshot_store import FULL_REPORT

DECISIONS = render_decisions(GuardState())


def without(*names: str) -> str:
    """The text of a report that lacks some fields."""
    return json.dumps(
        {name: value for name, value in json.loads(render_report(FULL_REPORT)).items() if name not in names}
    )


def test_report_of_a_later_version_is_read_without_what_is_new() -> None:
    """A field that this program doesn't know is passed over."""
    text = json.dumps({**json.loads(render_report(FULL_REPORT)), "new_field": [1]})
    assert parse_report(text) == FULL_REPORT


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "{}", without("server"), without("skipped"), '{"skipped": [{}]}'])
def test_broken_report_is_damage(text: str) -> None:
    """Whatever stands in place of a report, and whatever it lacks."""
    with pytest.raises(Damaged, match="report"):
        parse_report(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"approved": null}', '{"approved": null, "decided_names": 7}'])
def test_broken_decisions_are_damage(text: str) -> None:
    """Whatever stands in place of what was approved and decided."""
    with pytest.raises(Damaged, match="decisions"):
        parse_guard(text, tuple({} for _ in PARTS))


def held(**fields: object) -> bytes:
    """A removal that is withheld, some of its fields of another kind than they are written."""
    whole = {"user_id": "1", "user_name": "a", "kind": "missing", "reason": "deleted", "detail": "", "lost": []}
    return json.dumps({**whole, "new_name": None, "held_by": "limit", "since_s": 1.0, **fields}).encode()


def test_withheld_removal_is_read() -> None:
    """The twin of the broken ones below."""
    (found,) = parse_guard(DECISIONS, ({b"id": held()}, *({} for _ in PARTS[1:]))).withheld
    assert found.removal.user_id == "1"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        (0, held(lost=[7])),
        (0, held(user_id=7)),
        (0, b"{}"),
        (0, b""),
        (0, b'{"kind": "no kind"}'),
        (1, b"x"),
        (2, b""),
        (3, b"\xff"),
        (3, 7.0),
        (4, b"\xff"),
    ],
)
def test_broken_memory_of_the_guard_is_damage(part: int, value: bytes | float) -> None:
    """Whatever stands in place of a value, in each table."""
    parts: list[dict[bytes, bytes | float]] = [{} for _ in PARTS]
    parts[part][b"id"] = value
    with pytest.raises(Damaged, match="guard remembers"):
        parse_guard(DECISIONS, tuple(parts))

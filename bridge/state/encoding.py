"""Reports and what the guard remembers, as the values that stand in a database, and back.

Each `render_` has its `parse_`; what can't be parsed raises `Damaged`. Knows no table.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from bridge.model import Report, Skipped
from bridge.removals.model import GuardState, HeldBy, Removal, RemovalKind, RemovalReason, Withheld
from bridge.state.failures import Damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_REPORT_FIELDS = frozenset(field.name for field in fields(Report))

Value = bytes | float


def render_text(text: str) -> bytes:
    """The text in UTF-8; an id may hold what is no character."""
    return text.encode("utf-8", "surrogatepass")


def parse_text(data: bytes) -> str:
    """The text of some octets."""
    return data.decode("utf-8", "surrogatepass")


def render_report(report: Report) -> str:
    """The report as JSON, in ASCII."""
    return json.dumps(asdict(report), separators=(",", ":"))


def parse_report(text: str) -> Report:
    """The report, without what a later version of the program may have added."""
    try:
        found = json.loads(text)
        values: dict[str, Any] = {name: _frozen(value) for name, value in found.items() if name in _REPORT_FIELDS}
        values["skipped"] = tuple(
            Skipped(skipped["reason"], skipped["count"], tuple(skipped["examples"])) for skipped in found["skipped"]
        )
        return Report(**values)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise Damaged(f"a report can't be read: {type(error).__name__}") from error


def _frozen(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def render_decisions(guard: GuardState) -> str:
    """What the guard remembers of the whole directory, as JSON."""
    return json.dumps({"approved": guard.approved, "decided_names": sorted(guard.decided_names)}, separators=(",", ":"))


def parse_decisions(text: str) -> tuple[str | None, frozenset[str]]:
    """What is approved, and the decided names."""
    try:
        found = json.loads(text)
        return found["approved"], frozenset(found["decided_names"])
    except (ValueError, TypeError, LookupError) as error:
        raise Damaged(f"the guard's decisions can't be read: {type(error).__name__}") from error


def _render_withheld(withheld: Withheld) -> bytes:
    removal = withheld.removal
    found = {
        "user_id": removal.user_id,
        "user_name": removal.user_name,
        "kind": removal.kind.value,
        "reason": removal.reason.value,
        "detail": removal.detail,
        "lost": removal.lost,
        "new_name": removal.new_name,
        "held_by": withheld.held_by.value,
        "since_s": withheld.since_s,
    }
    return json.dumps(found, separators=(",", ":")).encode()


def _parse_withheld(data: bytes) -> Withheld:
    found = json.loads(data)
    removal = Removal(
        user_id=found["user_id"],
        user_name=found["user_name"],
        kind=RemovalKind(found["kind"]),
        reason=RemovalReason(found["reason"]),
        detail=found["detail"],
        lost=tuple(found["lost"]),
        new_name=found["new_name"],
    )
    return Withheld(removal, HeldBy(found["held_by"]), found["since_s"])


@dataclass(frozen=True, slots=True)
class Part:
    """What the guard remembers of single users: a table of its own, by key."""

    table: str
    of: Callable[[GuardState], Mapping[str, Any]]
    render: Callable[[Any], Value]
    parse: Callable[[Any], Any]


# Later parts come at the end: what was written without them has the checksum of the parts before.
PARTS = (
    Part(
        "withheld",
        lambda guard: {f"{held.removal.kind.value} {held.removal.user_id}": held for held in guard.withheld},
        _render_withheld,
        _parse_withheld,
    ),
    Part("last_seen", lambda guard: guard.last_seen_s, float, float),
    Part("recent_removals", lambda guard: guard.recent, float, float),
    Part("former_names", lambda guard: guard.former_names, render_text, parse_text),
    Part("last_seen_at", lambda guard: guard.last_seen_at, render_text, parse_text),
)


def parse_guard(decisions: str, parts: tuple[Mapping[bytes, Value], ...]) -> GuardState:
    """What the guard remembers, from its decisions and the rows of each of `PARTS`."""
    approved, decided_names = parse_decisions(decisions)
    try:
        withheld, last_seen_s, recent, former_names, last_seen_at = (
            {parse_text(key): part.parse(value) for key, value in rows.items()}
            for part, rows in zip(PARTS, parts, strict=True)
        )
        held = sorted(withheld.values(), key=lambda one: (one.removal.user_id, one.removal.kind.value))
        return GuardState(tuple(held), last_seen_s, recent, former_names, decided_names, approved, last_seen_at)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise Damaged(f"what the guard remembers can't be read: {type(error).__name__}") from error

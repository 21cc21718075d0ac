"""What machines read, in JSON, apart from MailStore: health, reports, withheld removals. The shapes are kept.

A change to a shape is noted in CHANGELOG.md. User names stand only in what the control socket and the command line
give, never in what the admin listener serves.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.authentication.throttle import Remembered
    from bridge.model import Health, Report
    from bridge.removals.model import Removal
    from bridge.snapshots.store import Snapshot


def render_health(health: Health, *, with_names: bool = False) -> dict[str, object]:
    """How each endpoint fares, and what is wrong; names of persons are for the control socket alone."""
    return {
        "status": health.status.value,
        "endpoints": [
            {
                "path": endpoint.path,
                "status": endpoint.status.value,
                "problems": [
                    {
                        "code": problem.code,
                        "directory": problem.directory,
                        "message": (problem.full_message if with_names else "") or problem.message,
                        "remedy": problem.remedy,
                        "since": render_time(problem.since_s),
                    }
                    for problem in endpoint.problems
                ],
            }
            for endpoint in health.endpoints
        ],
    }


def render_removals(snapshots: Iterable[Snapshot]) -> dict[str, object]:
    """What is withheld of each directory; a directory where nothing is withheld is left out."""
    return {"directories": [_render_withheld(each) for each in snapshots if each.guard.withheld]}


def _render_withheld(snapshot: Snapshot) -> dict[str, object]:
    guard = snapshot.guard
    return {
        "directory": snapshot.directory,
        "digest": guard.digest,
        "approved": guard.approved is not None,
        "since": render_time(guard.withheld_since_s or 0),
        "user_count": len(snapshot.roster),
        "withheld": [
            {**render_removal(each.removal), "held_by": each.held_by.value, "since": render_time(each.since_s)}
            for each in guard.withheld
        ],
    }


def render_removal(removal: Removal) -> dict[str, Any]:
    """One removal; `lost` and `newName` only where they mean something."""
    found: dict[str, Any] = {
        "userName": removal.user_name,
        "id": removal.user_id,
        "kind": removal.kind.value,
        "reason": removal.reason.value,
    }
    if removal.detail:
        found["detail"] = removal.detail
    if removal.lost:
        found["lost"] = list(removal.lost)
    if removal.new_name is not None:
        found["newName"] = removal.new_name
    return found


def render_throttle(found: Iterable[Remembered]) -> dict[str, object]:
    """Who is held back, and everybody of whom failures are remembered; who is freed first comes first."""
    ordered = sorted(found, key=lambda each: each.until_s)
    return {
        "held_back": [_render_failures(each) for each in ordered if each.is_held_back],
        "remembered": [
            {
                **_render_failures(each),
                "unknown_count": each.unknown_count,
                "refused_count": each.refused_count,
                "is_held_back": each.is_held_back,
            }
            for each in ordered
        ],
    }


def _render_failures(each: Remembered) -> dict[str, object]:
    return {
        "directory": each.directory,
        "id": each.user_id,
        "userName": each.user_name,
        "until": render_time(each.until_s),
        "failure_count": each.failure_count,
    }


def render_report(report: Report) -> dict[str, Any]:
    """One refresh, with the keys of `bridge.model.Report`."""
    found = asdict(report)
    found["finished_at"] = render_time(found.pop("finished_at_s"))
    return found


def render_time(seconds: float) -> str:
    """A time as RFC 3339 writes it, in UTC; `seconds` since 1970."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

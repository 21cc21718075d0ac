"""Which server is the witness of a user, and what its word means for a removal that another server's listing shows.

Pure; `bridge.sources.directory.witnesses` asks them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.removals.losses import find_alterations
from bridge.removals.model import RemovalKind
from bridge.roster.roster import fold_user_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bridge.model import User
    from bridge.removals.model import Removal, Statement
    from bridge.removals.review import Baseline, Fresh


def witness_of(baseline: Baseline, user_id: str) -> str:
    """The URL of the server that has last shown an accepted user as they are answered."""
    return baseline.guard.last_seen_at.get(user_id, baseline.server)


def find_foreign_losses(baseline: Baseline, fresh: Fresh, *, keeps_name: bool, max_count: int) -> dict[str, list[User]]:
    """Accepted users of whom the fresh listing loses something, by the server that has last shown them.

    Left out are those whom the listed server itself has last shown, or shows after all; `max_count` of the others are
    enough.
    """
    found: dict[str, list[User]] = {}
    if not baseline.guard.last_seen_at and baseline.server == fresh.server:
        return found
    count = 0
    for user in _find_losses(baseline, fresh, keeps_name=keeps_name):
        server = witness_of(baseline, user.id)
        if server != fresh.server:
            found.setdefault(server, []).append(user)
            count += 1
            if count == max_count:
                break
    return found


def _find_losses(baseline: Baseline, fresh: Fresh, *, keeps_name: bool) -> Iterator[User]:
    for position in fresh.comparison.missing:
        user = baseline.roster[position]
        finding = fresh.findings.get(user.id)
        if finding is not None and finding.reason is not None:
            yield user
    for position, other in fresh.comparison.changed:
        old = baseline.roster[position]
        if any(find_alterations(old, fresh.roster[other], keeps_name=keeps_name)):
            yield old


def contradicts(statement: Statement | None, alterations: Iterable[Removal]) -> bool:
    """Whether the witness still shows something of what another server's listing has lost."""
    if statement is None or statement.user is None:
        return False
    shown = statement.user
    addresses = {address.lower() for address in shown.email_addresses}
    for removal in alterations:
        if removal.kind is RemovalKind.RENAMED:
            if fold_user_name(shown.user_name) == fold_user_name(removal.user_name):
                return True
        elif any(address.lower() in addresses for address in removal.lost):
            return True
    return False


def wait_for(removal: Removal, statement: Statement) -> Removal:
    """The removal, with the server that is waited for in its detail."""
    why = f"{statement.server} has last shown the user so, and can't be asked: {statement.detail}"
    return removal._replace(detail=f"{removal.detail}; {why}" if removal.detail else why)

"""What an entry says after a refused bind: whether the server has compared the password at all.

Directories refuse locked and barred accounts with the very result of a wrong password. The entry is read again at the
server that has refused, before anything is remembered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from bridge.authentication.throttle import Outcome
from bridge.directory import Scope, SearchRequest
from bridge.errors import DirectoryError
from bridge.model import Rejection
from bridge.syntax.filters import Present

if TYPE_CHECKING:
    from bridge.sources.directory.login_state import LoginState
    from bridge.sources.directory.source import DirectorySource


class Evidence(NamedTuple):
    """What a refused bind amounts to."""

    outcome: Outcome
    is_lasting: bool = False
    """Whether the password stays wrong until the entry shows that another one was set."""
    reason: Rejection = Rejection.WRONG_PASSWORD
    """For the log."""
    shows_count: bool = False
    """Whether the entry shows that the failure was counted."""


NOTHING_SHOWN = Evidence(Outcome.UNKNOWN)


async def find_evidence(
    source: DirectorySource, dn: str, before: LoginState | None, server: str, *, timeout_s: float
) -> Evidence:
    """What the entry shows at the server that has just refused a password, beside what it showed `before`."""
    search = SearchRequest(dn, Scope.BASE, Present("objectClass"), source.login_attributes, size_limit_count=1)
    try:
        async with asyncio.timeout(timeout_s):
            found = await source.directory.look_up(search, server)
    except (DirectoryError, TimeoutError):
        return NOTHING_SHOWN
    if before is None or not found.entries:
        return NOTHING_SHOWN
    evidence = judge_refusal(before, source.login_state(found.entries[0]), counts_are_shown=source.shows_counts)
    source.shows_counts |= evidence.shows_count
    return evidence


def judge_refusal(before: LoginState, after: LoginState, *, counts_are_shown: bool = False) -> Evidence:
    """What a refusal says of the password, by the entry before and after it.

    `counts_are_shown`: entries of this directory show failures that are counted. Where one doesn't, a server that lags
    has refused under the same name, or the account is barred by what nobody sees: either may be over soon.

    Where an account is barred, nothing is said of the password, unless the server shows that it has counted a failure
    of an account that was barred as it is now: a lock that is over leaves its mark (slapo-ppolicy(5)).
    """
    shows_count = after.failure_marks != before.failure_marks
    is_uncounted = bool(after.failure_marks) and not shows_count
    is_doubtful = is_uncounted or (counts_are_shown and not shows_count)
    if not after.bars:
        if before.bars and (not shows_count or after.is_reset):
            return Evidence(Outcome.UNKNOWN, reason=before.bars[0].rejection)  # unlocked, perhaps after the bind
        is_lasting = bool(after.password_mark) and not is_doubtful
        return Evidence(Outcome.WRONG, is_lasting=is_lasting, shows_count=shows_count)
    reason = after.bars[0].rejection
    if after.bars == before.bars and shows_count:
        return Evidence(Outcome.WRONG, reason=reason, shows_count=True)
    is_uncompared = after.bars == before.bars and after.bars[0].is_uncompared
    return Evidence(Outcome.NOTHING if is_uncounted or is_uncompared else Outcome.UNKNOWN, reason=reason)

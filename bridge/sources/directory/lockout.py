"""When a directory locks accounts, read from what it shows of that itself, and how many wrong passwords may be tried.

Where it shows it is data of the preset. Most directories show it to few: then nothing is known, which is no fault.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.directory import Scope, SearchRequest
from bridge.errors import DirectoryError, DirectoryUnavailable
from bridge.syntax.filters import parse_filter
from bridge.syntax.times import IntervalForm, parse_interval_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.directory import Entry
    from bridge.sources.directory.source import DirectorySource
    from bridge.syntax.filters import Filter

MOST_FAILURES_COUNT = 4
"""How many different wrong passwords of a user are tried where nobody says anything else.

One below the five that many directories lock at. Where one takes more, it stays: other programs fail there, too.
"""
_POLICIES_MAX_COUNT = 1000
_ANYTHING = parse_filter("(objectClass=*)")
_OFF = frozenset((b"false", b"off", b"0", b"no"))
_NUMBER = re.compile(rb"-?[0-9]{1,20}")
_CONTEXT, _USERS = "{context}", "{users}"


@dataclass(frozen=True, slots=True)
class LockoutPolicy:
    """What a directory says of locking accounts; of several policies the smallest threshold and the longest window."""

    threshold_count: int
    """The wrong password that locks the account; 0: none ever does."""
    window_s: float | None
    """How long a failure counts; None where that is not shown, or where only a success clears it."""
    source: str
    """The DN of the entry with this threshold."""


@dataclass(frozen=True, slots=True)
class LockoutRule:
    """Where a vendor's directories show it, and how it is written there."""

    threshold: str
    """The attribute with the number of failures that lock."""
    base: str = _CONTEXT
    """A DN, in which `{context}` is the naming context of the users, and `{users}` alone is each of their bases."""
    scope: Scope = Scope.SUBTREE
    filter: Filter = _ANYTHING
    enabled: str | None = None
    """The attribute that says whether the threshold counts; where it isn't shown, it does."""
    window: str | None = None
    window_form: IntervalForm = IntervalForm.SECONDS

    @property
    def attributes(self) -> tuple[str, ...]:
        """What is asked for."""
        return tuple(name for name in (self.threshold, self.enabled, self.window) if name is not None)

    def read(self, entry: Entry) -> LockoutPolicy | None:
        """What the entry says, or None where it shows no threshold."""
        threshold = _value(entry, self.threshold)
        if threshold is None or _NUMBER.fullmatch(threshold) is None:
            return None
        is_off = (_value(entry, self.enabled) or b"").lower() in _OFF
        window = (_value(entry, self.window) or b"").decode("ascii", "replace")
        return LockoutPolicy(
            threshold_count=0 if is_off else max(0, int(threshold)),
            window_s=parse_interval_s(window, self.window_form),
            source=entry.dn,
        )


async def read_lockout(source: DirectorySource, before: LockoutPolicy | None = None) -> LockoutPolicy | None:
    """What the directory shows of locking accounts, or None where it shows nothing.

    Where it shows nothing any more, or refuses to tell of a part, what it has shown `before` holds on. Raises
    `DirectoryUnavailable`; a directory that refuses to tell, shows nothing.
    """
    shown: list[LockoutPolicy] = []
    is_whole = True
    for rule in source.lockout:
        for base in await _resolve_bases(source, rule):
            entries = await _look_up(source, rule, base, must_find=before is not None)
            is_whole &= entries is not None
            found = (rule.read(entry) for entry in entries or ())
            shown += [policy for policy in found if policy is not None]
    if before is not None and not (shown and is_whole):
        shown.append(before)
    return _combine(shown)


def budget_of(configured: int | None, policy: LockoutPolicy | None) -> int:
    """How many different wrong passwords of a user may be tried; `configured` is None for `auto`.

    One below the directory's threshold, at least 1 and at most `MOST_FAILURES_COUNT`. What an administrator has
    configured counts as it is.
    """
    if configured is not None:
        return configured
    if policy is None or policy.threshold_count == 0:
        return MOST_FAILURES_COUNT
    return min(MOST_FAILURES_COUNT, max(1, policy.threshold_count - 1))


def window_of(configured_s: float, policy: LockoutPolicy | None) -> float:
    """How long wrong passwords count: no shorter than in the directory, where it forgets by time."""
    if policy is None or policy.threshold_count == 0 or policy.window_s is None:
        return configured_s
    return max(configured_s, policy.window_s)


async def _resolve_bases(source: DirectorySource, rule: LockoutRule) -> Sequence[str]:
    if _USERS not in rule.base and _CONTEXT not in rule.base:
        return (rule.base,)
    try:
        if rule.base == _USERS:
            return await source.resolve_bases()
        return [rule.base.replace(_CONTEXT, context) for context in await source.resolve_contexts()]
    except DirectoryUnavailable:
        raise
    except DirectoryError:
        return ()


async def _look_up(source: DirectorySource, rule: LockoutRule, base: str, *, must_find: bool) -> Sequence[Entry] | None:
    """What is found at one place; None where the directory refuses it."""
    search = SearchRequest(base, rule.scope, rule.filter, rule.attributes, size_limit_count=_POLICIES_MAX_COUNT)
    try:
        return (await source.directory.look_up(search, must_find=must_find)).entries
    except DirectoryUnavailable:
        raise
    except DirectoryError:
        return None


def _combine(shown: list[LockoutPolicy]) -> LockoutPolicy | None:
    """The policy that is good for everybody, as nobody can tell which one holds for whom."""
    locking = [policy for policy in shown if policy.threshold_count > 0]
    if not locking:
        return shown[0] if shown else None
    strictest = min(locking, key=lambda policy: policy.threshold_count)
    windows_s = [policy.window_s for policy in locking if policy.window_s is not None]
    return LockoutPolicy(strictest.threshold_count, max(windows_s, default=None), strictest.source)


def _value(entry: Entry, name: str | None) -> bytes | None:
    values = entry.attributes.get(name.lower(), ()) if name is not None else ()
    return values[0] if values else None

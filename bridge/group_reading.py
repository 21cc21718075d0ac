"""Who is in the configured groups, by the way that the rules say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.group_clauses import ClauseMaker
from bridge.group_walking import Walker

if TYPE_CHECKING:
    from bridge.directory import EntryStream
    from bridge.group_entries import LookUp, Place
    from bridge.groups import GroupRules, GroupScope


async def read_groups(rules: GroupRules, stream: EntryStream, place: Place, look_up: LookUp) -> GroupScope:
    """Who is in the groups, now. `look_up` is for questions to which one entry is the answer.

    Raises a `DirectoryError` where a group is missing, or can't be read as a whole.
    """
    if rules.is_walked:
        return await Walker(rules, stream, place, look_up).walk()
    return await ClauseMaker(rules, stream, place, look_up).make()

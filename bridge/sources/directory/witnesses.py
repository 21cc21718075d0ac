"""Servers as witnesses: what the server that last showed a user says of what another one's listing would take away.

A listing comes from one server, and a replica may lag. Knows nothing of how long somebody is waited for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.errors import DirectoryError
from bridge.removals.model import RemovalReason, Statement
from bridge.sources.directory.confirmation import Confirmation

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from bridge.model import User
    from bridge.sources.directory.replicas import Replicas
    from bridge.sources.directory.source import DirectorySource


async def hear_witnesses(
    source: DirectorySource, replicas: Replicas, users: Mapping[str, Sequence[User]], contested: Container[str]
) -> dict[str, Statement]:
    """What each server says of its users, by their ids; `users` are given by the URL of the server that showed them.

    A server that is none of the directory's any more says nothing, and nobody waits for it.
    """
    found: dict[str, Statement] = {}
    for server, shown in users.items():
        if server in source.directory.servers:
            found |= await _hear(source, replicas, server, shown, contested)
    return found


async def _hear(
    source: DirectorySource, replicas: Replicas, server: str, users: Sequence[User], contested: Container[str]
) -> dict[str, Statement]:
    try:
        await replicas.check(server)  # one that was made anew lacks everybody, and knows nothing of it
        groups = await source.read_groups_at(server)
    except DirectoryError as error:
        return {user.id: Statement(server, None, detail=error.full_detail) for user in users}
    asked = Confirmation(source, groups, contested, server)
    findings = await asked.ask(users)
    return {
        user_id: Statement(server, None, detail=finding.detail)
        if finding.reason is RemovalReason.UNCONFIRMED
        else Statement(server, finding, asked.shown.get(user_id))
        for user_id, finding in findings.items()
    }

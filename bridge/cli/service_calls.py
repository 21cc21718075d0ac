"""What commands ask of the running service, or do to what it has left where none runs."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from bridge.errors import ServiceError
from bridge.events import RemovalsApproved, RemovalsReset
from bridge.ops.logs import log_observer, make_logger
from bridge.run.build import make_bridge
from bridge.run.paths import find_control_socket, state_folder
from bridge.state.sqlite_store import SqliteSnapshotStore
from bridge.web.control_client import ask_service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.config.loading import Loaded
    from bridge.events import Event
    from bridge.service import Bridge

    Work = Callable[[Bridge], Awaitable[dict[str, Any]]]


def ask(loaded: Loaded, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the running service answers. Raises `ServiceError` where none runs."""
    socket = find_control_socket(loaded, os.environ)
    found = asyncio.run(ask_service(socket, method, path, body))
    if found is None:
        detail = f"No service listens at {socket}. Start it, or name its socket in admin.socket."
        raise ServiceError("not_running", detail, is_temporary=True)
    return found


def ask_or_do(loaded: Loaded, method: str, path: str, body: dict[str, Any], work: Work) -> dict[str, Any]:
    """What the running service answers or, where none runs, what `work` makes of the state that it has left."""

    async def run() -> dict[str, Any]:
        found = await ask_service(find_control_socket(loaded, os.environ), method, path, body)
        return found if found is not None else await _do(loaded, work)

    return asyncio.run(run())


async def _do(loaded: Loaded, work: Work) -> dict[str, Any]:
    """Works on the state directory, which nobody else may have; what happens stands in the log on standard error."""
    log = loaded.configuration.log
    write = log_observer(make_logger(log.level, log.format, sys.stderr, {}), usernames=log.usernames)

    def observe(event: Event) -> None:
        if isinstance(event, RemovalsApproved | RemovalsReset):  # what the operator does, and nothing of servers
            write(event)

    bridge = make_bridge(loaded, observe, SqliteSnapshotStore.open(state_folder(loaded, os.environ)))
    try:
        return await work(bridge)
    finally:
        await bridge.aclose()

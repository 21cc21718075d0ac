"""What commands ask of the running service, or do to what it has left where none runs."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from bridge.cli.drafts import bridge_over, open_draft
from bridge.errors import ConfigurationError, ServiceError, StateUnavailable
from bridge.events import RemovalsApproved, RemovalsReset
from bridge.operations import Operations
from bridge.ops.logs import log_observer, make_logger
from bridge.run.paths import find_control_socket, owner_of, state_folder
from bridge.state.sqlite_store import SqliteSnapshotStore
from bridge.web.control_client import ask_service

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from bridge.config.loading import Loaded
    from bridge.events import Event
    from bridge.snapshots.store import SnapshotStore

    Work = Callable[[Operations], Awaitable[dict[str, Any]]]


def ask(loaded: Loaded, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the running service answers. Raises `ServiceError` where none runs."""
    socket = find_control_socket(loaded, os.environ)
    found = asyncio.run(_ask(socket, method, path, body))
    if found is None:
        detail = f"No service listens at {socket}. Start it, or name its socket in admin.socket."
        raise ServiceError("not_running", detail, is_temporary=True)
    return found


async def _ask(socket: Path, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the running service answers, or None where none runs. Raises `ServiceError`."""
    try:
        return await ask_service(socket, method, path, body)
    except PermissionError as error:
        detail = f"The control socket {socket} can't be opened by this user: {_as_whom(socket)}."
        raise ServiceError("control_refused", detail, is_temporary=True) from error


def _as_whom(path: Path) -> str:
    """As whom a command is to be run that needs a file of the service."""
    owner = owner_of(path)
    return f"run the command as root, or as the service's user (sudo -u {owner} …)" if owner else "run it as root"


def ask_or_look(loaded: Loaded, path: str, look: Work) -> dict[str, Any]:
    """What the running service answers or, where none runs, what `look` reads in the state that it has left."""
    return asyncio.run(_ask_or(loaded, ("GET", path, {}), lambda: _do(loaded, look, open_draft(loaded))))


def ask_or_do(loaded: Loaded, path: str, body: dict[str, Any], work: Work) -> dict[str, Any]:
    """What the running service answers or, where none runs, what `work` makes of the state that it has left."""
    return asyncio.run(_ask_or(loaded, ("POST", path, body), lambda: _do(loaded, work, _open_kept(loaded))))


async def _ask_or(
    loaded: Loaded, request: tuple[str, str, dict[str, Any]], act: Callable[[], Awaitable[dict[str, Any]]]
) -> dict[str, Any]:
    found = await _ask(find_control_socket(loaded, os.environ), *request)
    return found if found is not None else await act()


def _open_kept(loaded: Loaded) -> SnapshotStore:
    """What a service has left, to be changed. Where none ever ran, nothing is made that it could not write later.

    Raises `StateUnavailable` where this user may not change it, or a service has it open that isn't to be reached.
    """
    folder = state_folder(loaded, os.environ)
    try:
        folder.stat()
    except FileNotFoundError:
        return open_draft(loaded)
    except OSError as error:
        raise StateUnavailable(f"{folder}: {error.strerror}", remedy=f"{_as_whom(folder).capitalize()}.") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise StateUnavailable(f"{folder} is not this user's", remedy=f"{_as_whom(folder).capitalize()}.")
    try:
        return SqliteSnapshotStore.open(folder)
    except ConfigurationError as error:  # the folder can be used, so somebody else has it
        socket = find_control_socket(loaded, os.environ)
        detail = f"a service has {folder} open, and doesn't listen at {socket}"
        remedy = "Name its control socket in admin.socket; where it has none, its log says why (control.unavailable)."
        raise StateUnavailable(detail, remedy=remedy) from error


async def _do(loaded: Loaded, work: Work, store: SnapshotStore) -> dict[str, Any]:
    """Works on what is kept; what happens stands in the log on standard error."""
    log = loaded.configuration.log
    logger = make_logger(log.level, log.format, sys.stderr, os.environ, usernames=log.usernames)
    write = log_observer(logger, usernames=log.usernames)

    def observe(event: Event) -> None:
        if isinstance(event, RemovalsApproved | RemovalsReset):  # what the operator does, and nothing of servers
            write(event)

    async with bridge_over(store, loaded, observe) as bridge:
        return await work(Operations(bridge))

"""The command line's end of the control socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp

from bridge.errors import ServiceError, system_words

if TYPE_CHECKING:
    from pathlib import Path

_TIMEOUT_S = 180.0
"""A refresh of a large directory takes as long as its time-out, twice at the most."""


async def ask_service(
    socket: Path, method: str, path: str, body: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """What the running service answers, or None where no service listens at the socket.

    Raises `ServiceError` with what the service says, or that it said nothing, and `PermissionError` where this user
    may not open the socket.
    """
    connector = aiohttp.UnixConnector(str(socket))
    timeout = aiohttp.ClientTimeout(total=_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.request(method, f"http://service{path}", json=body or {}) as response,
        ):
            found = await response.json()
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, FileNotFoundError | ConnectionRefusedError):
            return None
        if isinstance(error.os_error, PermissionError):
            raise error.os_error from error
        raise ServiceError(
            "control_refused",
            f"The control socket {socket} can't be opened: {error.os_error.strerror or error.os_error}. "
            "Set admin.socket to a path that can.",
            is_temporary=True,
        ) from error
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        detail = f"What listens at {socket} gave no answer: {_explain(error)}."
        raise ServiceError("no_answer", detail, is_temporary=True) from error
    if not isinstance(found, dict):
        raise ServiceError("no_answer", f"What listens at {socket} is no mailstore-bridge.", is_temporary=True)
    if response.status != 200:  # noqa: PLR2004
        is_temporary = response.status in (502, 503)
        raise ServiceError(
            found.get("error", "internal"),
            found.get("message", "The service has met a bug of its own; please report what its log says."),
            is_temporary=is_temporary,
        )
    return found


def _explain(error: Exception) -> str:
    """What was met, in words of our own: those of aiohttp quote whatever listens there."""
    match error:
        case TimeoutError():
            return f"nothing came within {_TIMEOUT_S:g} s"
        case aiohttp.ClientResponseError() | ValueError():
            return "what came is no JSON over HTTP"
        case OSError():
            return system_words(error)
    return "it closed the connection"

"""What the command line asks of the running service: JSON over HTTP on a Unix socket that only its own user may open.

Knows nothing of the terminal. Errors come as `{"error": code, "message": …}` with the HTTP
status of `bridge.mailstore`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from bridge.errors import BridgeError, Malformed, NoEndpoint, TooLarge
from bridge.mailstore import render_error
from bridge.web.bodies import read_body
from bridge.web.limits import WebLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bridge.operations import Operations

    Action = Callable[[dict[str, Any]], Awaitable[dict[str, object]]]

_BODY_MAX_BYTES = 64 * 1024


class ControlHandler:
    """Answers the requests on the control socket."""

    def __init__(
        self,
        operations: Operations,
        report_bug: Callable[[str, BaseException], None],
        describe_files: Callable[[], dict[str, object]] = dict,
        limits: WebLimits | None = None,
    ) -> None:
        self._limits = limits or WebLimits()
        self._operations = operations
        self._describe_files = describe_files
        self._report_bug = report_bug
        self._actions: dict[tuple[str, str], Action] = {
            ("GET", "/status"): self._status,
            ("GET", "/files"): self._files,
            ("POST", "/refresh"): self._refresh,
            ("GET", "/removals"): self._removals,
            ("POST", "/removals/approve"): self._approve,
            ("POST", "/removals/reset"): self._reset,
            ("GET", "/throttle"): self._throttle,
            ("POST", "/throttle/clear"): self._release,
        }

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer."""
        try:
            action = self._find_action(request.method, request.path)
            found = await action(await self._read_body(request))
        except BridgeError as error:
            return _refuse(error)
        except ConnectionError:  # the caller has gone away
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with us, the command line gets an answer
            self._report_bug("control", error)
            return _refuse(BridgeError())
        return web.Response(body=orjson.dumps(found), content_type="application/json")

    async def _read_body(self, request: web.BaseRequest) -> dict[str, Any]:
        """The JSON object in the body; an empty body is an empty object. Raises `Malformed` and `TooLarge`."""
        data = await read_body(request, _BODY_MAX_BYTES, self._limits)
        try:
            found = orjson.loads(data) if data else {}
        except orjson.JSONDecodeError:
            raise Malformed("the body is no JSON") from None  # its words quote the body
        if not isinstance(found, dict):
            raise Malformed("the body is no JSON object")
        return found

    def _find_action(self, method: str, path: str) -> Action:
        action = self._actions.get((method, path))
        if action is None:
            raise NoEndpoint("the service has no such command", remedy="Restart it if it is older than this program.")
        return action

    async def _status(self, _body: dict[str, Any]) -> dict[str, object]:
        return await self._operations.status()

    async def _files(self, _body: dict[str, Any]) -> dict[str, object]:
        return self._describe_files()

    async def _refresh(self, body: dict[str, Any]) -> dict[str, object]:
        return await self._operations.refresh(body.get("directory"))

    async def _removals(self, _body: dict[str, Any]) -> dict[str, object]:
        return await self._operations.removals()

    async def _approve(self, body: dict[str, Any]) -> dict[str, object]:
        return await self._operations.approve_now(_text(body, "digest"))

    async def _reset(self, body: dict[str, Any]) -> dict[str, object]:
        return await self._operations.reset(_text(body, "directory"))

    async def _throttle(self, _body: dict[str, Any]) -> dict[str, object]:
        return self._operations.throttle()

    async def _release(self, body: dict[str, Any]) -> dict[str, object]:
        return self._operations.release(_text(body, "user"))


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name} is missing, or no text")
    return value


def _refuse(error: BridgeError) -> web.Response:
    reply = render_error(error, "")
    response = web.Response(status=reply.status, body=reply.body, content_type="application/json")
    if isinstance(error, Malformed | TooLarge):
        response.force_close()  # what is left of the body is not waited for
    return response

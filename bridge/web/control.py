"""What the command line asks of the running service: JSON over HTTP on a Unix socket that only its own user may open.

Knows nothing of the terminal. Errors come as `{"error": code, "message": …}` with the HTTP
status of `bridge.mailstore`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import orjson
from aiohttp import web

from bridge import __version__
from bridge.documents import render_health, render_removals, render_report, render_throttle
from bridge.errors import BridgeError, Malformed, NoEndpoint, TooLarge, UnknownDirectory
from bridge.mailstore import render_error
from bridge.web.bodies import read_body
from bridge.web.limits import WebLimits

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from bridge.authentication.throttle import Remembered
    from bridge.model import Health, Report
    from bridge.snapshots.directory_snapshots import DirectorySnapshots

    Action = Callable[[dict[str, Any]], Awaitable[dict[str, object]]]

_BODY_MAX_BYTES = 64 * 1024


class Operations(Protocol):
    """What the handler needs of the bridge."""

    @property
    def directories(self) -> Mapping[str, DirectorySnapshots]:
        """The directories by name."""

    def health(self) -> Health:
        """How each endpoint fares."""

    async def refresh(self, directory: str) -> Report:
        """The report of a listing made now."""

    def forgive_refusal(self, directory: str) -> None:
        """The directory's service account is tried once more, though it was refused."""

    async def reports(self, directory: str) -> tuple[Report, ...]:
        """The last reports, the newest first."""

    async def approve(self, digest: str) -> tuple[str, int]:
        """The directory, and how many removals are approved."""

    async def reset(self, directory: str) -> None:
        """Nothing is known any more of a directory."""

    def remembered(self) -> tuple[Remembered, ...]:
        """Of whom failed logins are remembered."""

    def release(self, user_name: str) -> int:
        """How many have been freed."""


class ControlHandler:
    """Answers the requests on the control socket."""

    def __init__(
        self,
        bridge: Operations,
        report_bug: Callable[[str, BaseException], None],
        describe_files: Callable[[], dict[str, object]] = dict,
        limits: WebLimits | None = None,
    ) -> None:
        self._limits = limits or WebLimits()
        self._bridge = bridge
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
        directories = []
        for name, snapshots in self._bridge.directories.items():
            last_good, age_s = snapshots.last_good, snapshots.age_s
            directories.append(
                {
                    "directory": name,
                    "user_count": len(last_good.roster) if last_good is not None else None,
                    "age_s": round(age_s, 1) if age_s is not None else None,
                    "withheld_count": len(last_good.guard.withheld) if last_good is not None else 0,
                    "reports": [render_report(report) for report in await self._bridge.reports(name)],
                }
            )
        return {
            **render_health(self._bridge.health(), with_names=True),
            "version": __version__,
            "directories": directories,
        }

    async def _files(self, _body: dict[str, Any]) -> dict[str, object]:
        return self._describe_files()

    async def _refresh(self, body: dict[str, Any]) -> dict[str, object]:
        names = [self._known(body["directory"])] if "directory" in body else list(self._bridge.directories)
        for name in names:  # of all of them first: several may have one account, and it is tried once
            self._bridge.forgive_refusal(name)
        return {"reports": [render_report(await self._bridge.refresh(name)) for name in names]}

    async def _removals(self, _body: dict[str, Any]) -> dict[str, object]:
        loaded = [await snapshots.load() for snapshots in self._bridge.directories.values()]
        return render_removals(snapshot for snapshot in loaded if snapshot is not None)

    async def _approve(self, body: dict[str, Any]) -> dict[str, object]:
        digest = _text(body, "digest")
        directory, count = await self._bridge.approve(digest)
        found: dict[str, object] = {"directory": directory, "digest": digest, "count": count, "report": None}
        try:
            found["report"] = render_report(await self._bridge.refresh(directory))
        except BridgeError as error:  # the approval stays, and the next refresh that succeeds carries it out
            found["message"] = error.full_message
        return found

    async def _reset(self, body: dict[str, Any]) -> dict[str, object]:
        directory = _text(body, "directory")
        await self._bridge.reset(directory)
        return {"directory": directory}

    async def _throttle(self, _body: dict[str, Any]) -> dict[str, object]:
        return render_throttle(self._bridge.remembered())

    async def _release(self, body: dict[str, Any]) -> dict[str, object]:
        user_name = _text(body, "user")
        return {"user": user_name, "released_count": self._bridge.release(user_name)}

    def _known(self, directory: object) -> str:
        if not isinstance(directory, str) or directory not in self._bridge.directories:
            raise UnknownDirectory(directory, self._bridge.directories)
        return directory


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise Malformed(f"{name} is missing")
    return value


def _refuse(error: BridgeError) -> web.Response:
    reply = render_error(error, "")
    response = web.Response(status=reply.status, body=reply.body, content_type="application/json")
    if isinstance(error, Malformed | TooLarge):
        response.force_close()  # what is left of the body is not waited for
    return response

"""What watches the service: health and metrics, for reading only, without a user name or a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from bridge import __version__
from bridge.documents import render_health
from bridge.model import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.model import Health

_JSON = "application/json"
_PATHS = "/healthz, /readyz, /status.json and /metrics"


class AdminHandler:
    """Answers the requests of the admin listener."""

    def __init__(self, health: Callable[[], Health], render_metrics: Callable[[], tuple[bytes, str]]) -> None:
        self._health = health
        self._render_metrics = render_metrics

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer."""
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="Only GET is answered here.\n", headers={"Allow": "GET, HEAD"})
        match request.path:
            case "/healthz":
                return web.Response(text="ok\n")
            case "/readyz":
                health = self._health()
                status = 503 if health.status is Status.UNAVAILABLE else 200
                return web.Response(status=status, body=orjson.dumps(render_health(health)), content_type=_JSON)
            case "/status.json":
                found = {**render_health(self._health()), "version": __version__}
                return web.Response(body=orjson.dumps(found), content_type=_JSON)
            case "/metrics":
                body, content_type = self._render_metrics()
                return web.Response(body=body, headers={"Content-Type": content_type})
        return web.Response(status=404, text=f"There are {_PATHS}.\n")

"""Verdicts as HTTP answers, written with one call: a login's answer has the same few headers every time.

aiohttp's own response takes some forty steps to put them together. What else is answered goes through it.
"""

from __future__ import annotations

import time
from email.utils import formatdate
from functools import lru_cache
from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, web

from bridge import __version__

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

    from bridge.mailstore import Reply

SERVER_NAME = f"mailstore-ldap-bridge/{__version__}"
"""Who answers, on every listener."""

_CLOSE = "Connection: close\r\n"


class SentAnswer(web.StreamResponse):
    """An answer that is on its way already: aiohttp asks it only whether the connection stays open."""

    def __init__(self, *, keep_alive: bool) -> None:
        # The parent's attributes are made for headers and a body, and there are none.
        self._stays_open = keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow."""
        return self._stays_open

    async def prepare(self, _request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing is left to be prepared."""
        return None

    async def write_eof(self, _data: bytes = b"") -> None:
        """Nothing is left to be written."""


def is_plain(request: web.BaseRequest, reply: Reply) -> bool:
    """Whether the answer has no more than the headers that every answer has."""
    return reply.status == 200 and not reply.headers and request.version == HttpVersion11  # noqa: PLR2004


def write_plain(request: web.BaseRequest, reply: Reply, headers: str, request_id: str) -> web.StreamResponse:
    """The answer, handed to the transport; `headers` are lines that are the same each time."""
    keep_alive = request.keep_alive
    head = (
        f"HTTP/1.1 200 OK\r\n{headers}X-Request-Id: {request_id}\r\nContent-Length: {len(reply.body)}\r\n"
        f"Date: {_format_date(int(time.time()))}\r\n{'' if keep_alive else _CLOSE}\r\n"
    )
    assert request.transport is not None  # noqa: S101 - it has just been seen that it takes the answer at once
    request.transport.write(head.encode("ascii") + reply.body)
    return SentAnswer(keep_alive=keep_alive)


@lru_cache(maxsize=1)
def _format_date(seconds: int) -> str:
    """RFC 9110 §5.6.7."""
    return formatdate(seconds, usegmt=True)

"""What MailStore asks: each request answered within its time, and told to the observer once."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from bridge.deadlines import Deadlines
from bridge.errors import BridgeError, CallerElsewhere, CallerRejected, Malformed, NoEndpoint, TooBusy, TooLarge
from bridge.events import RequestAnswered
from bridge.mailstore import (
    BODY_LIMIT_BYTES,
    ListCommand,
    Reply,
    parse_caller,
    parse_command,
    render_error,
    render_verdict,
)
from bridge.web.answers import SERVER_NAME, is_plain, write_plain
from bridge.web.bodies import read_body

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bridge.events import Observer
    from bridge.mailstore import ListAnswer
    from bridge.model import Secret, Verdict
    from bridge.web.callers import Callers
    from bridge.web.limits import WebLimits

_WHAT_THIS_IS = (
    "This is an Application Integration endpoint for MailStore: it answers POST requests of MailStore, "
    "and there is nothing to see in a browser.\n"
)
_NO_HTTP = Malformed("what came is no HTTP", remedy="Check what stands between MailStore and the bridge.")
_AGAIN = "Ask again in a moment."
_PLAIN_TEXT = "text/plain; charset=utf-8"
_PIECE_BYTES = 256 * 1024
_BUFFERED_BYTES = 32 * 1024
"""Half of what asyncio's transports take before they ask for patience."""


class AnswersCommands(Protocol):
    """What the handlers need of the bridge."""

    async def list_users(self, endpoint: str, *, compressed: bool) -> ListAnswer:
        """The answer to `cmd=list`."""

    async def authenticate(self, endpoint: str, user_name: str, password: Secret) -> Verdict:
        """The answer to `cmd=auth`."""


@dataclass(slots=True)
class _Trace:
    """What is known of a request while it is being answered."""

    request_id: str
    endpoint: str = ""
    command: str = ""
    caller: str | None = None
    challenge: bool = False
    error: BridgeError | None = None


class MailStoreHandler:
    """Answers the requests of one listener, whatever they are."""

    def __init__(
        self,
        service: AnswersCommands,
        callers: Mapping[str, Callers],
        limits: WebLimits,
        *,
        content_type: str,
        make_id: Callable[[], str],
        observe: Observer,
        report_bug: Callable[[str, BaseException], None],
    ) -> None:
        self._service = service
        self._callers = callers
        self._limits = limits
        self._headers = {
            "Server": SERVER_NAME,
            "Cache-Control": "no-store",
            "Content-Type": f"{content_type}; charset=utf-8",
        }
        self._header_lines = "".join(f"{name}: {value}\r\n" for name, value in self._headers.items())
        self._auth_time = Deadlines(limits.auth_timeout_s)
        self._make_id = make_id
        self._observe = observe
        self._report_bug = report_bug

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer, sent."""
        started_s = time.monotonic()
        trace = _Trace(self._make_id())
        reply = await self._answer(request, trace)
        self._tell(request, trace, reply.status, time.monotonic() - started_s)
        return await self._send(request, reply, trace)

    def _tell(self, request: web.BaseRequest, trace: _Trace, status: int, duration_s: float) -> None:
        self._observe(
            RequestAnswered(
                request_id=trace.request_id,
                endpoint=trace.endpoint,
                command=trace.command,
                status=status,
                duration_s=duration_s,
                remote=request.remote or "",
                caller=trace.caller,
                challenge=trace.challenge,
                error=trace.error,
            )
        )

    def refuse(self, request: web.BaseRequest) -> web.Response:
        """The answer to what is no HTTP, or breaks its rules."""
        trace = _Trace(self._make_id(), error=_NO_HTTP)
        reply = render_error(_NO_HTTP, trace.request_id)
        self._tell(request, trace, reply.status, 0.0)
        headers = {**self._headers, "X-Request-Id": trace.request_id}
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    async def _answer(self, request: web.BaseRequest, trace: _Trace) -> Reply:
        try:
            return await self._dispatch(request, trace)
        except BridgeError as error:
            trace.error = error
            return render_error(error, trace.request_id)
        except ConnectionError:  # the caller has gone away
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with us, MailStore gets an answer
            self._report_bug(trace.request_id, error)
            return render_error(BridgeError(), trace.request_id)

    async def _dispatch(self, request: web.BaseRequest, trace: _Trace) -> Reply:
        path = request.path.removesuffix("/")
        callers = self._callers.get(path)
        if callers is None:
            raise NoEndpoint(remedy="Check the path of the address that is entered in MailStore.")
        trace.endpoint = path
        if request.method != "POST":
            return Reply(405, _WHAT_THIS_IS.encode(), (("Allow", "POST"), ("Content-Type", _PLAIN_TEXT)))
        callers.check_address(request.remote)
        body = await read_body(request, BODY_LIMIT_BYTES, self._limits)
        headers = request.headers.getall("Authorization", [])
        if len(headers) > 1:
            raise CallerRejected("the header Authorization stands twice")
        credentials = parse_caller(headers[0] if headers else None)
        if credentials is None:
            trace.challenge = True
            raise CallerRejected(remedy="Enter the user name and the password of `callers` in MailStore.")
        trace.caller = credentials.username
        await callers.verify(credentials, request.remote)
        command = parse_command(body, request.headers.get("Content-Type"))
        del body, credentials  # Security: nothing but the command holds a password while the directory is asked
        if isinstance(command, ListCommand):
            trace.command = "list"
            return await self._list(request, path)
        trace.command = "auth"
        return await self._authenticate(path, command.user_name, command.password)

    async def _list(self, request: web.BaseRequest, path: str) -> Reply:
        compressed = _accepts_gzip(request.headers.get("Accept-Encoding", ""))
        try:
            # What was begun for others goes on where one of them has waited too long.
            async with asyncio.timeout(self._limits.list_timeout_s):
                listing = await self._service.list_users(path, compressed=compressed)
        except TimeoutError as error:
            raise TooBusy("the listing is still being read", remedy=_AGAIN) from error
        headers: tuple[tuple[str, str], ...] = (("Vary", "Accept-Encoding"),)
        if listing.encoding is not None:
            headers += (("Content-Encoding", listing.encoding),)
        return Reply(200, listing.body, headers)

    async def _authenticate(self, path: str, user_name: str, password: Secret) -> Reply:
        try:
            with self._auth_time.begin():
                verdict = await self._service.authenticate(path, user_name, password)
        except TimeoutError as error:
            raise TooBusy("the directory took too long to check a password", remedy=_AGAIN) from error
        return Reply(200, render_verdict(verdict))

    async def _send(self, request: web.BaseRequest, reply: Reply, trace: _Trace) -> web.StreamResponse:
        """The response, taken by the client within its time, or the connection is cut."""
        is_taken_at_once = _is_taken_at_once(request, reply.body)
        if is_taken_at_once and is_plain(request, reply):
            return write_plain(request, reply, self._header_lines, trace.request_id)
        response = _make_response(reply)
        response.headers.update(self._headers)
        response.headers["X-Request-Id"] = trace.request_id
        for name, value in reply.headers:
            response.headers[name] = value
        if isinstance(trace.error, Malformed | TooLarge | CallerElsewhere):
            response.force_close()  # what is left of the body is not waited for
        try:
            if is_taken_at_once:
                await _write(request, response, reply.body)
            else:
                async with asyncio.timeout(self._limits.write_timeout_s):
                    await _write(request, response, reply.body)
        except (ConnectionError, TimeoutError):  # the client has gone away, or takes nothing
            if request.transport is not None:
                request.transport.abort()
            request.protocol.force_close()  # what else it has asked for is not answered
        return response


def _make_response(reply: Reply) -> web.StreamResponse:
    if len(reply.body) <= _PIECE_BYTES:
        return web.Response(status=reply.status, body=reply.body)
    response = web.StreamResponse(status=reply.status)
    response.content_length = len(reply.body)
    return response


def _is_taken_at_once(request: web.BaseRequest, body: bytes) -> bool:
    """Whether the client can't keep us waiting: asyncio buffers this much even if nothing of it is taken."""
    is_idle = request.transport is not None and request.transport.get_write_buffer_size() == 0
    return is_idle and len(body) <= _BUFFERED_BYTES


async def _write(request: web.BaseRequest, response: web.StreamResponse, body: bytes) -> None:
    """Hands over the body, a large one piece by piece as the client takes it, so that no more of it is copied."""
    await response.prepare(request)
    if not isinstance(response, web.Response):
        view = memoryview(body)
        for start in range(0, len(view), _PIECE_BYTES):
            await response.write(view[start : start + _PIECE_BYTES])
    await response.write_eof()


def _accepts_gzip(header: str) -> bool:
    """Whether the caller takes gzip (RFC 9110 §12.5.3)."""
    weights: dict[str, float] = {}
    for piece in header.lower().split(","):
        name, _, parameter = piece.partition(";")
        found = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", parameter)
        weights[name.strip()] = float(found[1]) if found else (0.0 if parameter.strip() else 1.0)
    return weights.get("gzip", weights.get("*", 0.0)) > 0

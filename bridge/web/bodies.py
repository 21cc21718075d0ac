"""The body of a request, whole or an error: within its bounds, in time, and without a word of it in what is raised."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp import ClientPayloadError, HttpVersion11, web
from aiohttp.http import HttpProcessingError

from bridge.errors import Malformed, TooLarge

if TYPE_CHECKING:
    from bridge.web.limits import WebLimits

_BROKEN_BODY = (HttpProcessingError, ClientPayloadError, web.RequestPayloadError, web.PayloadAccessError)


async def read_body(request: web.BaseRequest, limit_bytes: int, limits: WebLimits) -> bytes:
    """The whole body. Raises `TooLarge`, and `Malformed` where it is compressed, broken or doesn't come in time."""
    if any(found.lower() != "identity" for found in request.headers.getall("Content-Encoding", ())):
        raise Malformed("the body is compressed", remedy="Send it as it is, without Content-Encoding.")
    if request.content.is_eof():  # it came with the headers, as a small form does
        body = request.content.read_nowait()
        _check_length(len(body), limit_bytes)
        return body
    _check_length(request.content_length or 0, limit_bytes)
    _invite(request)
    return await _receive(request, limit_bytes, limits.body_timeout_s)


def _invite(request: web.BaseRequest) -> None:
    """Ask for the body where the caller waits for that (RFC 9110 §10.1.1; in HTTP/1.0 there is no such answer)."""
    is_waiting = request.version == HttpVersion11 and request.headers.get("Expect", "").lower() == "100-continue"
    if is_waiting and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _receive(request: web.BaseRequest, limit_bytes: int, timeout_s: float) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.content.iter_any():
                body += chunk
                _check_length(len(body), limit_bytes)
    except TimeoutError as error:
        raise Malformed(f"the body did not come within {timeout_s:g} s") from error
    except _BROKEN_BODY:
        raise Malformed("the body breaks the rules of HTTP") from None  # Security: the cause may quote a password
    return bytes(body)


def _check_length(length_bytes: int, limit_bytes: int) -> None:
    if length_bytes > limit_bytes:
        raise TooLarge(f"more than {limit_bytes} bytes")

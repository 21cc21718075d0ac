"""What the headers of a request decide, apart from its meaning: whether it is HTTP/1, and whether one may follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import HttpVersion10, HttpVersion11

if TYPE_CHECKING:
    from aiohttp.http import RawRequestMessage

_VERSIONS = (HttpVersion10, HttpVersion11)


def is_understood(message: RawRequestMessage) -> bool:
    """Whether the request is of a version that is answered. aiohttp 3.14 takes HTTP/0.9 and HTTP/2.0, too."""
    return message.version in _VERSIONS


def end_with(message: RawRequestMessage) -> RawRequestMessage:
    """The request, as the last one of its connection where it can't be told for certain where the next one begins.

    aiohttp 3.14: fields in the trailer of a chunked body become headers of the next request, and what comes together
    with an offer to upgrade is lost.
    """
    is_last = message.chunked or message.upgrade or message.method == "CONNECT"
    if not is_understood(message):
        return message._replace(version=HttpVersion11, should_close=True)
    return message._replace(should_close=True) if is_last else message

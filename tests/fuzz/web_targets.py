"""What callers send: forms, credentials, headers, and the JSON of the control socket."""

from __future__ import annotations

import asyncio
import base64
import json
from functools import cache
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import BasicAuth, HttpVersion11, StreamReader
from aiohttp.base_protocol import BaseProtocol
from multidict import CIMultiDict

from bridge.errors import BridgeError, CallerRejected, TooBusy, UnknownDirectory
from bridge.mailstore import (
    BODY_LIMIT_BYTES,
    AuthCommand,
    ListCommand,
    parse_caller,
    parse_command,
    render_error,
)
from bridge.model import Health, Secret
from bridge.operations import Operations
from bridge.web.control import ControlHandler
from bridge.web.handlers import _accepts_gzip
from tests.fuzz.inputs import split_off, text_of
from tests.support.web import Web, serving

_CONTENT_TYPES = (
    None,
    "application/x-www-form-urlencoded",
    "application/x-www-form-urlencoded; charset=UTF-8",
    "application/x-www-form-urlencoded;charset=iso-8859-1",
    "text/plain",
)
_REQUESTS = (
    ("POST", "/removals/approve"),
    ("POST", "/removals/reset"),
    ("POST", "/throttle/clear"),
    ("POST", "/refresh"),
    ("GET", "/status"),
    ("GET", "/removals"),
    ("GET", "/throttle"),
    ("GET", "/files"),
    ("DELETE", "/status"),
)
_CANARY = b"canary-7f3a"
"""What stands for a password in the corpus."""
_ANSWER_S = 5.0
_LOOP = asyncio.new_event_loop()


def read_form(data: bytes) -> bool:
    """A command has the fields that urllib reads, each once; an error shows nothing of what was sent."""
    head, body = split_off(data, 1)
    content_type = _CONTENT_TYPES[head[0] % len(_CONTENT_TYPES)]
    try:
        command = parse_command(body, content_type)
    except BridgeError as error:
        reply = render_error(error, "id")
        assert reply.status in (400, 413)
        assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)
        return False
    assert len(body) <= BODY_LIMIT_BYTES
    theirs = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")  # one letter for each octet
    fields = [(name, value.encode("latin-1")) for name, value in theirs if name in ("cmd", "user", "pass")]
    assert len(dict(fields)) == len(fields)
    found = dict(fields)
    if isinstance(command, ListCommand):
        assert found["cmd"] == b"list"
        return True
    assert isinstance(command, AuthCommand) and found["cmd"] == b"auth"
    assert command.user_name.encode() == found["user"]
    assert command.password.reveal() == found["pass"]
    assert repr(command.password) == "Secret(…)"
    return True


def read_form_header(data: bytes) -> bool:
    """A content type is taken or refused by one of our errors, and another charset than UTF-8 is never taken."""
    try:
        parse_command(b"cmd=list", text_of(data))
    except BridgeError as error:
        assert render_error(error, "id").status == 400
        return False
    parameters = text_of(data).lower().replace(" ", "").split(";")[1:]
    assert not any(each.startswith("charset=") and "8859" in each for each in parameters)
    return True


def read_credentials(data: bytes) -> bool:
    """Credentials are those that base64 and RFC 7617 have; aiohttp reads the same where they are UTF-8."""
    header = text_of(data)
    try:
        found = parse_caller(header)
    except CallerRejected as error:
        assert render_error(error, "id").status == 401
        return False
    assert found is not None
    token = header.strip()[len("Basic ") :].strip()
    username, _, password = base64.b64decode(token, validate=True).partition(b":")
    assert (found.username.encode(), found.password) == (username, Secret(password))
    theirs = BasicAuth.decode(f"Basic {token}", encoding="utf-8")
    assert (theirs.login, theirs.password.encode()) == (username.decode(), password)
    assert repr(found) == f"Credentials(username={found.username!r}, password=Secret(…))"
    return True


def read_accepted_encodings(data: bytes) -> bool:
    """Compressed answers are sent to those alone who name it, or everything."""
    header = text_of(data)
    found = _accepts_gzip(header)
    assert not found or "gzip" in header.lower() or "*" in header
    return found


class _Bridge:
    """A bridge with one directory, of which nothing is known yet."""

    def __init__(self) -> None:
        self.directories: dict[str, Any] = {"company": SimpleNamespace(last_good=None, age_s=None, load=self._load)}

    async def _load(self) -> None:
        return None

    def health(self) -> Health:
        return Health()

    async def refresh(self, directory: str) -> None:
        raise TooBusy(directory)

    def forgive_refusal(self, directory: str) -> None:
        assert directory in self.directories

    async def reports(self, directory: str) -> tuple[()]:
        assert directory in self.directories
        return ()

    async def approve(self, digest: str) -> tuple[str, int]:
        return (digest, 0) if digest in self.directories else self._fail(digest)

    async def reset(self, directory: str) -> None:
        if directory not in self.directories:
            self._fail(directory)

    def _fail(self, directory: str) -> Any:
        raise UnknownDirectory(directory, self.directories)

    def remembered(self) -> tuple[()]:
        return ()

    def release(self, user_name: str) -> int:
        return len(user_name.encode())


@cache
def _serve() -> tuple[Web, object]:
    """A listener for the rest of the process, with what would end it."""
    context = serving()
    return _LOOP.run_until_complete(context.__aenter__()), context


def talk_http(data: bytes) -> bool:
    """Whatever comes over a socket is answered in HTTP or not at all, as no bug of ours, and without quoting it."""
    web, _ = _serve()
    web.events.clear()
    web.service.asked.clear()
    found = _LOOP.run_until_complete(_talk(web.port, data))
    assert web.bugs == []
    assert found == b"" or found.startswith(b"HTTP/1.")
    assert _CANARY not in found
    assert _CANARY.decode() not in repr(web.events)
    assert all(asked[1] == "/mailstore" for asked in web.service.asked)
    assert not web.service.asked or b"authorization" in data.lower()
    return bool(web.service.asked)


async def _talk(port: int, data: bytes) -> bytes:
    """Everything that comes back once the caller has sent this and has no more to send."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        writer.write_eof()
        return await asyncio.wait_for(reader.read(), _ANSWER_S)
    except ConnectionError:
        return b""
    finally:
        writer.close()


def answer_control(data: bytes) -> bool:
    """Every request has a JSON object as its answer, however its body is cut; what was taken is JSON for Python, too."""
    head, body = split_off(data, 2)
    status, answer = _ask(head[0], [body])
    assert _ask(head[0], [body[: head[1]], body[head[1] :]]) == (status, answer)
    assert isinstance(json.loads(answer), dict)
    assert status in (200, 400, 404, 413, 503)
    if status == 200 and body:
        assert isinstance(json.loads(body), dict)
    return status == 200


def _ask(number: int, pieces: list[bytes]) -> tuple[int, bytes]:
    return _LOOP.run_until_complete(_ask_in_pieces(*_REQUESTS[number % len(_REQUESTS)], pieces))


async def _ask_in_pieces(method: str, path: str, pieces: list[bytes]) -> tuple[int, bytes]:
    """The status and the body of an answer, where each piece comes in a turn of its own."""
    bugs: list[BaseException] = []
    handler = ControlHandler(Operations(_Bridge()), lambda _id, error: bugs.append(error))  # type: ignore[arg-type]
    protocol = BaseProtocol(_LOOP)
    protocol.connection_made(asyncio.Transport())
    content = StreamReader(protocol, 2**16, loop=_LOOP)
    head = {"method": method, "path": path, "headers": CIMultiDict[str](), "version": HttpVersion11}
    request: Any = SimpleNamespace(**head, content=content, content_length=None, transport=None)
    answering: asyncio.Task[Any] = asyncio.create_task(handler(request))  # type: ignore[arg-type]
    for piece in pieces:
        await asyncio.sleep(0)
        content.feed_data(piece)
    content.feed_eof()
    response = await answering
    assert bugs == []
    return response.status, response.body


TARGETS = {
    "form": read_form,
    "content-type": read_form_header,
    "basic": read_credentials,
    "accept-encoding": read_accepted_encodings,
    "control": answer_control,
    "http": talk_http,
}

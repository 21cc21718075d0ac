"""What callers send: forms, credentials, headers, and the JSON of the control socket."""

from __future__ import annotations

import asyncio
import base64
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import BasicAuth

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
from bridge.web.control import ControlHandler
from bridge.web.handlers import _accepts_gzip
from tests.fuzz.inputs import split_off, text_of

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


class _Operations:
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


class _Content:
    """A body of which a part has come."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    async def read(self, count: int) -> bytes:
        return self._pieces.pop(0)[:count] if self._pieces else b""


def answer_control(data: bytes) -> bool:
    """Every request has a JSON object as its answer, none is a bug of ours, and what was taken is JSON for Python, too."""
    head, body = split_off(data, 1)
    method, path = _REQUESTS[head[0] % len(_REQUESTS)]
    bugs: list[BaseException] = []
    handler = ControlHandler(_Operations(), lambda _id, error: bugs.append(error))  # type: ignore[arg-type]
    request: Any = SimpleNamespace(method=method, path=path, content=_Content(body))
    response: Any = _LOOP.run_until_complete(handler(request))
    assert bugs == []
    assert isinstance(json.loads(response.body), dict)
    assert response.status in (200, 400, 404, 503)
    if response.status == 200 and body:
        assert isinstance(json.loads(body), dict)
    return response.status == 200


TARGETS = {
    "form": read_form,
    "content-type": read_form_header,
    "basic": read_credentials,
    "accept-encoding": read_accepted_encodings,
    "control": answer_control,
}

"""The wire of MailStore's Application Integration without sockets: headers and bodies read, answers written.

Knows nothing of directories, and nothing of the HTTP server that carries it.
"""

from __future__ import annotations

import binascii
import gzip
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from bridge.errors import (
    ApprovalOutdated,
    BridgeError,
    CallerElsewhere,
    CallerRejected,
    DirectoryRefused,
    DirectoryUnavailable,
    Malformed,
    NoEndpoint,
    NoReplica,
    RemovalsRefused,
    SearchIncomplete,
    SearchInvalid,
    SnapshotMissing,
    StateLost,
    StateUnavailable,
    TooBusy,
    TooLarge,
    UnknownCommand,
    UnknownDirectory,
)
from bridge.model import Accepted, Secret
from bridge.syntax.controls import escape_controls

if TYPE_CHECKING:
    from bridge.model import Verdict

BODY_LIMIT_BYTES = 64 * 1024
"""Far more than MailStore sends: a command, a user name and a password."""
RETRY_AFTER_S = 30
CHALLENGE = 'Basic realm="MailStore LDAP bridge", charset="UTF-8"'
"""RFC 7617 §2.1."""

_MESSAGE_LIMIT_CHARACTERS = 2000
_FIELDS = (b"cmd", b"user", b"pass")
_FORM = "application/x-www-form-urlencoded"
_STATUSES: dict[type[BridgeError], int] = {
    CallerRejected: 401,
    CallerElsewhere: 401,
    Malformed: 400,
    UnknownCommand: 400,
    TooLarge: 413,
    ApprovalOutdated: 409,
    NoEndpoint: 404,
    UnknownDirectory: 404,
    TooBusy: 503,
    DirectoryUnavailable: 503,
    SearchIncomplete: 503,
    SnapshotMissing: 503,
    RemovalsRefused: 503,
    StateUnavailable: 503,
    StateLost: 503,
    DirectoryRefused: 502,
    SearchInvalid: 502,
    NoReplica: 502,
}
"""The one table from errors to HTTP, for an error and its kin; what is missing here is a bug, 500."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a caller shows of itself (RFC 7617)."""

    username: str
    password: Secret


@dataclass(frozen=True, slots=True)
class ListCommand:
    """`cmd=list`: all users."""


@dataclass(frozen=True, slots=True)
class AuthCommand:
    """`cmd=auth`: whether this password is right."""

    user_name: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, ready to be sent."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ListAnswer:
    """The answer to `cmd=list`; `encoding` is `gzip`, or None for plain JSON."""

    body: bytes
    user_count: int
    encoding: str | None = None


def parse_caller(header: str | None) -> Credentials | None:
    """The caller's credentials, or None where there is no header, as in the first call of a .NET program.

    Raises `CallerRejected` where there is one that can't be read.
    """
    if header is None:
        return None
    scheme, _, text = header.strip().partition(" ")
    if scheme.lower() != "basic":
        raise CallerRejected("the scheme is not Basic")
    try:
        decoded = binascii.a2b_base64(text.strip(), strict_mode=True)
        username, separator, _ = decoded.decode().partition(":")
    except ValueError as error:
        raise CallerRejected("the credentials are not UTF-8 in Base64") from error
    if not separator:
        raise CallerRejected("the credentials hold no colon")
    return Credentials(username, Secret(decoded.partition(b":")[2]))


def parse_command(body: bytes, content_type: str | None) -> ListCommand | AuthCommand:
    """What the caller wants.

    Raises `Malformed` unless the body is a form that means one thing only, `UnknownCommand`, or `TooLarge`.
    """
    if len(body) > BODY_LIMIT_BYTES:
        raise TooLarge(f"more than {BODY_LIMIT_BYTES} bytes")
    _check_content_type(content_type)
    fields = _parse_form(body)
    command = _text(fields, "cmd") if b"cmd" in fields else None
    if command == "list":
        return ListCommand()
    if command == "auth":
        if b"user" not in fields or b"pass" not in fields:
            raise Malformed("cmd=auth needs the fields user and pass")
        password = fields[b"pass"]
        _check_utf8(password, "pass")
        return AuthCommand(_text(fields, "user"), Secret(password))
    if command is None:
        raise UnknownCommand("the field cmd is missing", remedy="Send cmd=list, or cmd=auth with user and pass.")
    raise UnknownCommand("cmd is neither list nor auth", remedy="Send cmd=list, or cmd=auth with user and pass.")


def render_verdict(verdict: Verdict) -> bytes:
    """The answer to `cmd=auth`, the same bytes whatever the reason of a rejection."""
    return b'{"succeeded":true}' if isinstance(verdict, Accepted) else b'{"succeeded":false}'


def render_error(error: BridgeError, request_id: str) -> Reply:
    """The answer that tells the administrator what is wrong, and about whom, and never a secret.

    It goes to callers who have shown their password, and to the control socket; nobody else makes a directory fail.
    """
    status = next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)
    fields = {"error": error.code, "request_id": request_id}
    if status == 500:  # noqa: PLR2004 - what a bug is about is for the log alone
        fields["error"] = "internal"
    else:
        fields["message"] = escape_controls(error.full_message)[:_MESSAGE_LIMIT_CHARACTERS]
    headers: tuple[tuple[str, str], ...] = ()
    if status == 401:  # noqa: PLR2004
        headers = (("WWW-Authenticate", CHALLENGE),)
    elif status == 503:  # noqa: PLR2004
        headers = (("Retry-After", str(math.ceil(error.retry_after_s or RETRY_AFTER_S))),)
    return Reply(status, orjson.dumps(fields), headers)


def compress(body: bytes) -> bytes:
    """The body for callers who take gzip; the same bytes each time."""
    return gzip.compress(body, compresslevel=6, mtime=0)


def _check_content_type(content_type: str | None) -> None:
    if not content_type or content_type == _FORM:
        return
    kind, *parameters = (piece.strip().lower() for piece in content_type.split(";"))
    if kind != _FORM:
        raise Malformed(f"the content type is not {_FORM}")
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip(' "') not in ("utf-8", "utf8"):
            raise Malformed("the charset of the form is not UTF-8")


def _parse_form(body: bytes) -> dict[bytes, bytes]:
    """The fields that we know, decoded; others are passed over unread."""
    fields: dict[bytes, bytes] = {}
    for pair in body.split(b"&"):
        raw_name, _, raw_value = pair.partition(b"=")
        name = raw_name if raw_name in _FIELDS else _unquote(raw_name)
        if name not in _FIELDS:
            continue
        if name in fields:
            raise Malformed(f"the field {name.decode()} comes twice")
        fields[name] = _unquote(raw_value)
    return fields


def _unquote(raw: bytes) -> bytes:
    """The bytes that a form writes with `+` and `%xx` (WHATWG URL §5.1, but strict about what follows a percent)."""
    if b"%" not in raw and b"+" not in raw:
        return raw
    first, *pieces = raw.replace(b"+", b" ").split(b"%")
    for piece in pieces:
        if re.match(rb"[0-9A-Fa-f]{2}", piece) is None:
            raise Malformed("a percent sign is not followed by two hexadecimal digits")
    return first + b"".join(bytes.fromhex(piece[:2].decode()) + piece[2:] for piece in pieces)


def _text(fields: dict[bytes, bytes], name: str) -> str:
    return _check_utf8(fields[name.encode()], name)


def _check_utf8(value: bytes, name: str) -> str:
    """The text. Refuses what is no UTF-8; the exception holds no byte of it, as it may be a password."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed(f"the field {name} is not UTF-8") from None

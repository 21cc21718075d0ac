"""How a raw case is written: bytes in which a listener's own words are put, pauses and endings, and what must come."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tests.web.raw.words import ANNA, AUTHORIZATION, BERT, WORD


class Listener(Enum):
    """Whom a case is played to."""

    PLAIN = "plain"
    TLS = "tls"
    ADMIN = "admin"
    CONTROL = "control"


MAILSTORE = (Listener.PLAIN, Listener.TLS)
ALL = tuple(Listener)
OTHERS = (Listener.ADMIN, Listener.CONTROL)
READERS = (*MAILSTORE, Listener.CONTROL)
"""Those that read the body of a request before they answer."""


class Ending(Enum):
    """What the server does with the connection once it has said what it has to say."""

    CLOSED = "closed"
    OPEN = "open"
    """The next request on it is answered."""
    WAITING = "waiting"
    """The request has not ended: nothing more is said."""


class Act(Enum):
    """What a caller does beside sending."""

    PAUSE = "pause"
    HALF_CLOSE = "half-close"
    RESET = "reset"


@dataclass(frozen=True)
class Drip:
    """Bytes that are sent one by one."""

    data: bytes


Step = bytes | Drip | Act

OK = 299
"""Stands for the 200 of a request with the body `@BODY@`, which is a login where MailStore's listener has it."""


@dataclass(frozen=True)
class Case:
    """`statuses` are those of all answers; whether the case holds for a listener is said by `listeners`."""

    name: str
    steps: tuple[Step, ...]
    statuses: tuple[int, ...]
    ending: Ending
    listeners: tuple[Listener, ...] = ALL
    bodiless: bool = False
    """Whether the answers have no body, as those to HEAD."""


def open_(name: str, *steps: Step, statuses: tuple[int, ...] = (OK,), listeners: tuple[Listener, ...] = ALL) -> Case:
    """Answered, and the connection stays."""
    return Case(name, steps, statuses, Ending.OPEN, listeners)


def closed(name: str, *steps: Step, statuses: tuple[int, ...] = (400,), listeners: tuple[Listener, ...] = ALL) -> Case:
    """Refused as no HTTP, unless `statuses` say otherwise, and the connection ends."""
    return Case(name, steps, statuses, Ending.CLOSED, listeners)


def waiting(name: str, *steps: Step, statuses: tuple[int, ...] = (), listeners: tuple[Listener, ...] = ALL) -> Case:
    """Not whole yet."""
    return Case(name, steps, statuses, Ending.WAITING, listeners)


@dataclass(frozen=True)
class Voice:
    """The words of one listener's requests."""

    method: bytes
    path: bytes
    authorization: bytes
    body: bytes
    hidden_body: bytes
    probe: bytes
    """A request that is right, whatever else happens, and the last one on its connection."""

    def render(self, text: bytes) -> bytes:
        """The bytes of a step."""
        hidden = b"@LINE@ HTTP/1.1\r\nHost: x\r\n@AUTH@Content-Length: %d\r\n\r\n%b" % (
            len(self.hidden_body),
            self.hidden_body,
        )
        for token, value in (
            (b"@HIDDEN@", hidden),
            (b"@LINE@", self.method + b" " + self.path),
            (b"@METHOD@", self.method),
            (b"@PATH@", self.path),
            (b"@AUTH@", self.authorization),
            (b"@SIZE@", b"%d" % len(self.body)),
            (b"@HEX@", b"%x" % len(self.body)),
            (b"@BODY@", self.body),
            (b"@WORD@", WORD),
        ):
            text = text.replace(token, value)
        return text


_CLOSE = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
_MAILSTORE = Voice(
    b"POST",
    b"/mailstore",
    AUTHORIZATION + b"\r\n",
    b"cmd=auth&user=anna&pass=" + ANNA,
    b"cmd=auth&user=bert&pass=" + BERT,
    b"POST /mailstore" + _CLOSE + AUTHORIZATION + b"\r\nContent-Length: 8\r\n\r\ncmd=list",
)
VOICES = {
    Listener.PLAIN: _MAILSTORE,
    Listener.TLS: _MAILSTORE,
    Listener.ADMIN: Voice(
        b"GET", b"/readyz", b"", b"pass=" + ANNA, b"pass=" + BERT, b"GET /healthz" + _CLOSE + b"\r\n"
    ),
    Listener.CONTROL: Voice(
        b"POST",
        b"/throttle/clear",
        b"",
        b'{"user":"nobody","pass":"%b"}' % ANNA,
        b'{"user":"nobody","pass":"%b"}' % BERT,
        b"GET /throttle" + _CLOSE + b"\r\n",
    ),
}

HEAD = b"@LINE@ HTTP/1.1\r\nHost: x\r\n@AUTH@"
LENGTH = b"Content-Length: @SIZE@\r\n"
GOOD = HEAD + LENGTH + b"\r\n@BODY@"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKS = b"@HEX@\r\n@BODY@\r\n0\r\n\r\n"


def with_header(line: bytes) -> bytes:
    """A request that is right but for one more line among its headers."""
    return HEAD + LENGTH + line + b"\r\n\r\n@BODY@"


def with_target(target: bytes) -> bytes:
    """A request for another target."""
    return b"@METHOD@ " + target + b" HTTP/1.1\r\nHost: x\r\n@AUTH@" + LENGTH + b"\r\n@BODY@"

"""Plays a case to a listener, and reads the answers strictly."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from dataclasses import dataclass

from tests.web.raw.cases import VOICES, Act, Case, Drip, Ending, Listener
from tests.web.raw.site import Site

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3}) [ -~]+\r\n")
_PAUSE_S = 0.005
_QUIET_S = 0.03
_ENDS_WITHIN_S = 5


@dataclass(frozen=True)
class Answer:
    """One answer, taken apart."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Heard:
    """What came back, and whether the server has ended the connection by then."""

    answers: tuple[Answer, ...]
    has_ended: bool
    was_reset: bool
    raw: bytes


def parse_answers(data: bytes, *, bodiless: bool = False) -> tuple[Answer, ...]:
    """Each answer with the length that it tells; raises where something else stands there."""
    found = []
    while data:
        line = _STATUS_LINE.match(data)
        assert line is not None, data
        head, separator, data = (
            data[line.end() :].partition(b"\r\n\r\n")
            if not data[line.end() :].startswith(b"\r\n")
            else (b"", b"x", data[line.end() + 2 :])
        )
        assert separator, data
        pairs = [each.split(": ", 1) for each in head.decode("ascii").split("\r\n") if each]
        headers = {name.lower(): value for name, value in pairs}
        assert len(headers) == len(pairs), head
        status = int(line[1])
        length = 0 if status == 100 or bodiless else int(headers["content-length"])
        assert len(data) >= length, data
        found.append(Answer(status, headers, data[:length]))
        data, bodiless = data[length:], False
    return tuple(found)


class Conversation:
    """A connection on which everything is read as it comes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.raw = bytearray()
        self.was_reset = False
        self._reading = asyncio.create_task(self._read(reader))

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while data := await reader.read(1 << 16):
                self.raw += data
        except (ConnectionError, ssl.SSLError):
            self.was_reset = True

    async def ends(self, within_s: float) -> bool:
        """Whether the server ends the connection in time."""
        done, _ = await asyncio.wait([self._reading], timeout=within_s)
        return bool(done)

    async def say(self, data: bytes) -> None:
        """Send it, unless nobody takes it any more."""
        if self._reading.done():
            return
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    def half_close(self) -> None:
        with contextlib.suppress(OSError):
            if self.writer.can_write_eof():
                self.writer.write_eof()
            else:  # TLS: the socket's own direction, without the words of TLS before it
                self.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        with contextlib.suppress(OSError):
            raw = self.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def leave(self) -> None:
        self.writer.transport.abort()
        await self._reading


async def play(site: Site, listener: Listener, case: Case) -> Heard:
    """Everything that comes back for the steps of the case; where it stays open, for a request more."""
    voice = VOICES[listener]
    talk = Conversation(*await site.connect(listener))
    try:
        for step in case.steps:
            match step:
                case bytes():
                    await talk.say(voice.render(step))
                case Drip(data):
                    for byte in voice.render(data):
                        await talk.say(bytes((byte,)))
                        await asyncio.sleep(0)
                case Act.PAUSE:
                    await asyncio.sleep(_PAUSE_S)
                case Act.HALF_CLOSE:
                    talk.half_close()
                case Act.RESET:
                    talk.reset()
        if case.ending is Ending.OPEN:
            await talk.say(voice.probe)
        has_ended = await talk.ends(_QUIET_S if case.ending is Ending.WAITING else _ENDS_WITHIN_S)
    finally:
        await talk.leave()
    raw = bytes(talk.raw)
    return Heard(parse_answers(raw, bodiless=case.bodiless), has_ended, talk.was_reset, raw)

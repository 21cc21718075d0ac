"""One request that a script answers: what would be right, and what can be sent instead."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bridge.demo import wire
from bridge.syntax import ber
from tests.faults.server import FaultySession
from tests.faults.stages import Stage


@dataclass(frozen=True)
class Turn:
    """A request at a stage; `message` is None where the connection itself has only just come."""

    session: FaultySession
    stage: Stage
    message: wire.Message | None = None
    referral_uri: str = "ldap://127.0.0.1:1/"
    """Where references lead: somebody listens there."""

    @property
    def id(self) -> int:
        return self.message.id if self.message is not None else 0

    @property
    def response_tag(self) -> int:
        """What ends the operation."""
        match self.message.operation if self.message is not None else None:
            case wire.ReceivedBind():
                return wire.BIND_RESPONSE
            case wire.ReceivedExtended():
                return wire.EXTENDED_RESPONSE
        return wire.SEARCH_DONE

    async def right_answer(self) -> list[bytes]:
        """The messages of a server without faults; the last one ends the operation."""
        assert self.message is not None
        if self.stage is Stage.START_TLS:
            return [wire.write_result(self.id, wire.EXTENDED_RESPONSE, 0)]
        return await self.session.right_answer(self.message)

    async def send(self, *messages: bytes) -> None:
        """Send, at once."""
        self.session.writer.write(b"".join(messages))
        await self.session.writer.drain()

    async def send_slowly(self, data: bytes, pause_s: float) -> None:
        """Send byte by byte."""
        for position in range(len(data)):
            await self.send(data[position : position + 1])
            await asyncio.sleep(pause_s)

    def close(self) -> None:
        """End the connection, as programs do."""
        self.session.writer.close()

    def reset(self) -> None:
        """End the connection, as programs that crash do."""
        sock = self.session.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.session.writer.transport.abort()

    async def linger(self) -> None:
        """Say nothing until the client has gone."""
        while await self.session.reader.read(4096):
            pass


Action = Callable[[Turn], Awaitable[None]]
"""Answers a request in its own way."""


def result(turn: Turn, code: int, text: str = "", *, tail: bytes = b"", controls: bytes = b"") -> bytes:
    """The message that ends the operation."""
    return wire.write_result(turn.id, turn.response_tag, code, text, tail=tail, controls=controls)


def message(turn: Turn, *parts: bytes, controls: bytes = b"") -> bytes:
    """A message with the id of the request."""
    return ber.write_element(ber.SEQUENCE, ber.write_integer(turn.id), *parts, controls)


Attributes = Sequence[tuple[str, Sequence[bytes]]]


def read_entry(data: bytes) -> tuple[str, list[tuple[str, list[bytes]]]] | None:
    """The DN and the attributes of an entry's message; None where it is another one."""
    outer = ber.Reader(data).read_inner()
    outer.read_integer()
    if outer.peek_tag() != wire.SEARCH_ENTRY:
        return None
    entry = outer.read_inner(wire.SEARCH_ENTRY)
    dn, attributes, found = entry.read_octets().decode(), entry.read_inner(), []
    while not attributes.at_end:
        attribute = attributes.read_inner()
        name, values, held = attribute.read_octets().decode(), attribute.read_inner(ber.SET), []
        while not values.at_end:
            held.append(values.read_octets())
        found.append((name, held))
    return dn, found


def changing(change: Callable[[Turn, list[bytes]], Sequence[bytes]]) -> Action:
    """Sends what `change` makes of the right answer."""

    async def action(turn: Turn) -> None:
        await turn.send(*change(turn, await turn.right_answer()))

    return action

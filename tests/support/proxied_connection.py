"""One connection through `tests.support.ldap_proxy.LdapProxy`, and the faults that it has.

Messages pass whole: a client or a server that sends half a message is not noticed by the other end before the stream
ends. Bytes that are no LDAP messages (TLS) pass as they come, and are not recorded.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tests.support.ldap_messages import START_TLS, Answer, Kind, MessageSplitter, Request, read_answer, read_request

_READ_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER for no time at all: closing sends RST instead of FIN."""


@dataclass(frozen=True)
class Rule:
    """What happens to the requests to which it applies."""

    applies: Callable[[Request], bool]
    answer: Callable[[Request], bytes] | None = None
    """What the client gets instead of the message that ends the operation; None for no answer at all."""
    is_forwarded: bool = False
    """Whether the server gets the request. The entries of a search reach the client if there is an `answer`."""


@dataclass
class Faults:
    """The faults of one connection, or of those to come."""

    is_black_hole: bool = False
    rules: tuple[Rule, ...] = ()
    """The first one that applies decides."""
    delay_s: float = 0.0
    delayed_kinds: frozenset[Kind] | None = None
    """None for every kind, and for bytes that are no LDAP messages."""

    def delay_of(self, kind: Kind) -> float:
        """How late an answer to a request of this kind is, in seconds."""
        return self.delay_s if self.delayed_kinds is None or kind in self.delayed_kinds else 0.0


class ProxiedConnection:
    """A client's connection, and the one to the server that belongs to it."""

    def __init__(
        self,
        client: socket.socket,
        target: tuple[str, int],
        *,
        number: int,
        faults: Faults,
        on_request: Callable[[Request], None],
    ) -> None:
        self.faults = faults
        self.has_client = True
        """Whether the client has neither ended its stream nor been sent away."""
        self.number = number
        self._target = target
        self._on_request = on_request
        self._socket = client
        self._client: asyncio.StreamWriter | None = None
        self._server: asyncio.StreamWriter | None = None
        self._answering: asyncio.Task[None] | None = None
        self._server_has_ended = False
        self._has_sent_end = asyncio.Event()
        """Set when the client is told that no answer will come any more."""
        self._closing = asyncio.Event()
        self._is_connecting = True
        self._requests, self._answers = MessageSplitter(), MessageSplitter()
        self._instead: dict[int, bytes | None] = {}
        """What replaces the server's answers, by message id; None drops them."""
        self._held: dict[int, deque[tuple[asyncio.TimerHandle, bytes]]] = {}
        """Answers that are late, by message id, in their order."""
        self._start_tls_id: int | None = None
        self.task = asyncio.create_task(self._run())
        self.task.add_done_callback(self._drop_socket)

    def send(self, data: bytes) -> None:
        """Send bytes to the client now, between two messages of the server."""
        if self._client is not None and self._is_passing and not self._has_sent_end.is_set():
            self._client.write(data)

    def close(self, *, rst: bool) -> None:
        """Close both sockets, with RST or else with FIN."""
        self._closing.set()
        self._has_sent_end.set()
        self.has_client = False
        self._cancel_held()
        for writer in (self._client, self._server):
            if writer is not None and rst:
                _reset(writer)
            elif writer is not None:
                writer.close()
        if self._is_connecting and asyncio.current_task() is not self.task:
            self._is_connecting = False
            self.task.cancel()

    def heal(self, *, revives_black_hole: bool) -> None:
        """End the faults, and send what is late. A black hole that stays is not noticed by either end."""
        was_black_hole = self.faults.is_black_hole
        self.faults = Faults(is_black_hole=was_black_hole and not revives_black_hole)
        if was_black_hole and revives_black_hole and (self._server_has_ended or not self.has_client):
            self.close(rst=True)
        for _, message in self._cancel_held():
            self.send(message)
        self._end_answers()

    @property
    def _is_passing(self) -> bool:
        return not self.faults.is_black_hole and not self._closing.is_set()

    async def _run(self) -> None:
        try:
            await self._carry()
            if self.faults.is_black_hole:
                await self._closing.wait()
        finally:
            self.close(rst=False)
            await self._wait_until_closed()

    async def _carry(self) -> None:
        """Carry bytes both ways until both ends have ended, or one has reset the connection."""
        try:
            reader, self._client = await asyncio.open_connection(sock=self._socket)
            if not self.faults.is_black_hole:
                await self._connect()
            self._is_connecting = False
            await self._carry_requests(reader)
            self.has_client = False
            if self._server is not None and self._answering is not None:
                if self._is_passing:
                    self._server.write_eof()
                await self._answering
                await self._has_sent_end.wait()
        except OSError:
            self.has_client = False
            if self._is_passing:
                self.close(rst=True)

    async def _connect(self) -> None:
        self._is_connecting = True
        reader, self._server = await asyncio.open_connection(*self._target)
        self._is_connecting = False
        self._answering = asyncio.create_task(self._carry_answers(reader))

    async def _carry_requests(self, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(_READ_BYTES):
            for message in self._requests.feed(data):
                await self._take_request(message)
        rest = self._requests.take_rest()
        if rest and self._is_passing:
            await self._forward(rest)

    async def _take_request(self, message: bytes) -> None:
        rule = None
        if not self._requests.is_transparent:
            request = read_request(self.number, message)
            self._note(request)
            rule = next((rule for rule in self.faults.rules if rule.applies(request)), None)
        if not self._is_passing:
            return
        if rule is None:
            await self._forward(message)
            return
        answer = rule.answer(request) if rule.answer is not None else None
        if rule.is_forwarded:
            self._instead[request.message_id] = answer
            await self._forward(message)
        elif answer is not None:
            self._answer(Answer(request.message_id, request.kind), answer)
            await self._drain_client()

    def _note(self, request: Request) -> None:
        self._instead.pop(request.message_id, None)
        if request.name == START_TLS:
            self._start_tls_id = request.message_id
        self._on_request(request)

    async def _forward(self, data: bytes) -> None:
        if self._server is None:
            await self._connect()
        assert self._server is not None
        self._server.write(data)
        await self._server.drain()

    async def _carry_answers(self, reader: asyncio.StreamReader) -> None:
        was_reset = False
        try:
            while data := await reader.read(_READ_BYTES):
                for message in self._answers.feed(data):
                    self._take_answer(message)
                await self._drain_client()
            self._answer(Answer(), self._answers.take_rest())
        except OSError:
            was_reset = True
        self._server_has_ended = True
        if was_reset and self._is_passing:
            self.close(rst=True)
        self._end_answers()

    def _take_answer(self, message: bytes) -> None:
        """Pass on a message of the server, or what replaces it."""
        answer = Answer() if self._answers.is_transparent else read_answer(message)
        if answer.message_id == self._start_tls_id and answer.result_code == 0:
            self._requests.is_transparent = self._answers.is_transparent = True
        if answer.message_id in self._instead:
            instead = self._instead[answer.message_id]
            if answer.is_last:
                del self._instead[answer.message_id]
            if instead is None:
                return
            message = instead if answer.is_last else message
        self._answer(answer, message)

    def _answer(self, answer: Answer, message: bytes) -> None:
        """Send a message to the client now or late, but after what is held for the same request."""
        delay_s, queue = self.faults.delay_of(answer.kind), self._held.get(answer.message_id)
        if not message or not self._is_passing:
            return
        if delay_s <= 0 and not queue:
            self.send(message)
            return
        loop = asyncio.get_running_loop()
        due_s = max(loop.time() + delay_s, queue[-1][0].when() if queue else 0.0)
        timer = loop.call_at(due_s, self._release, answer.message_id)
        self._held.setdefault(answer.message_id, deque()).append((timer, message))

    def _release(self, message_id: int) -> None:
        """Send the first message that is held for a request."""
        queue = self._held[message_id]
        _, message = queue.popleft()
        if not queue:
            del self._held[message_id]
        self.send(message)
        self._end_answers()

    def _cancel_held(self) -> list[tuple[asyncio.TimerHandle, bytes]]:
        """Let nothing be sent late any more, and return what would have been."""
        held = [pair for queue in self._held.values() for pair in queue]
        self._held.clear()
        for timer, _ in held:
            timer.cancel()
        return held

    def _end_answers(self) -> None:
        """Tell the client that the server has ended its stream, once nothing is held any more."""
        if self._client is None or not self._server_has_ended or self._held or not self._is_passing:
            return
        self._has_sent_end.set()
        with contextlib.suppress(OSError):
            self._client.write_eof()

    async def _drain_client(self) -> None:
        if self._client is not None and self._is_passing:
            await self._client.drain()

    async def _wait_until_closed(self) -> None:
        if self._answering is not None:
            await self._answering
        for writer in (self._client, self._server):
            if writer is not None:
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def _drop_socket(self, _task: asyncio.Task[None]) -> None:
        """Close the client's socket where the task was cancelled before it had wrapped it."""
        if self._client is None:
            self._socket.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):  # it may be closed already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()


def reset_socket(client: socket.socket) -> None:
    """Close a socket with RST."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    client.close()

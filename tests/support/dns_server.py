"""A small DNS server on loopback that answers what it is given, over TCP too where an answer is truncated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class DnsServer(asyncio.DatagramProtocol):
    """`zone` holds the values of records by name and kind; a name with none of any kind doesn't exist."""

    def __init__(self, *, truncates: bool = False) -> None:
        """`truncates`: UDP brings no records, only the flag that sends the client to TCP (RFC 7766 §5)."""
        self.zone: dict[tuple[str, str], Sequence[str]] = {}
        self.ttl_s = 300
        self.is_silent = False
        self.silent_names: set[str] = set()
        """What is never answered."""
        self.asked: list[tuple[str, str]] = []
        self.port = 0
        self._truncates = truncates
        self._transport: asyncio.DatagramTransport | None = None

    def set_servers(self, name: str, *records: str) -> None:
        """The SRV records of a name, such as "0 0 636 ldap1.example.com."."""
        self.zone[name, "SRV"] = records

    @asynccontextmanager
    async def running(self) -> AsyncIterator[DnsServer]:
        async with AsyncExitStack() as stack:
            if self._truncates:  # first, as fewer ports are free for TCP than for UDP
                over_tcp = await stack.enter_async_context(await asyncio.start_server(self._serve, "127.0.0.1", 0))
                self.port = over_tcp.sockets[0].getsockname()[1]
            transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                lambda: self, local_addr=("127.0.0.1", self.port)
            )
            stack.callback(transport.close)
            self.port = transport.get_extra_info("sockname")[1]
            yield self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # asyncio promises no more than BaseTransport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if (response := self._answer(data)) is None:
            return
        if self._truncates:
            response.flags |= dns.flags.TC
            response.answer.clear()
        assert self._transport is not None
        self._transport.sendto(response.to_wire(), addr)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One question of a client over TCP, where each message follows its length (RFC 1035 §4.2.2)."""
        size = int.from_bytes(await reader.readexactly(2), "big")
        if (response := self._answer(await reader.readexactly(size))) is not None:
            wire = response.to_wire()
            writer.write(len(wire).to_bytes(2, "big") + wire)
        writer.close()

    def _answer(self, data: bytes) -> dns.message.Message | None:
        query = dns.message.from_wire(data)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        if self.is_silent or name in self.silent_names:
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA
        if not any(name == known for known, _ in self.zone):
            response.set_rcode(dns.rcode.NXDOMAIN)
        if records := self.zone.get((name, kind)):
            response.answer.append(dns.rrset.from_text(question.name, self.ttl_s, "IN", kind, *records))
        return response

"""Listening sockets: where to listen, and the sockets that do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import system_words
from bridge.syntax.hosts import join_host_port

_BACKLOG_COUNT = 1024
"""Connections that the kernel keeps until they are accepted; it takes less where net.core.somaxconn is less."""


@dataclass(frozen=True, slots=True)
class SocketAddress:
    """Where to listen: a host and a port (0 for any), or the path of a socket."""

    host: str = "127.0.0.1"
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        return join_host_port(self.host, self.port)


async def open_sockets(addresses: tuple[SocketAddress, ...]) -> list[socket.socket]:
    """Listen at every address, or at none. Raises `OSError` that names the one that can't be had."""
    with contextlib.ExitStack() as opened:
        found: list[socket.socket] = []
        for address in addresses:
            try:
                listening = [_listen_at_path(address.path)] if address.path else await _listen_at_host(address)
            except OSError as error:
                raise _name_address(error, address) from error
            found += map(opened.enter_context, listening)
        opened.pop_all()
    return found


async def _listen_at_host(address: SocketAddress) -> list[socket.socket]:
    """Listen at each address of the host, such as IPv4 and IPv6 of `localhost`."""
    loop = asyncio.get_running_loop()
    infos = await loop.getaddrinfo(address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with contextlib.ExitStack() as opened:
        found: list[socket.socket] = []
        places = dict.fromkeys((info[0], info[4]) for info in infos)
        for family, place in places:
            try:
                each = socket.create_server(place, family=family, backlog=_BACKLOG_COUNT)
            except OSError as error:
                if error.errno == errno.EAFNOSUPPORT and len(places) > 1:  # a system without IPv6 may still name it
                    continue
                raise
            each.setblocking(False)
            found.append(opened.enter_context(each))
        opened.pop_all()
    return found


def _listen_at_path(path: str) -> socket.socket:
    _remove_stale_socket(Path(path))
    with contextlib.ExitStack() as opened:
        found = opened.enter_context(socket.socket(socket.AF_UNIX))
        found.bind(path)
        found.listen(_BACKLOG_COUNT)
        found.setblocking(False)
        opened.pop_all()
    return found


def _name_address(error: OSError, address: SocketAddress) -> OSError:
    """The same kind of error, in the system's own words, about the address as it is configured."""
    return OSError(error.errno, system_words(error), str(address))  # Python does not always name the address


def _remove_stale_socket(path: Path) -> None:
    """What an ended process has left; anything but a socket is left alone, and listening will fail."""
    if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
        path.unlink()

"""Names of hosts resolved by the system, for one directory alone.

`getaddrinfo` knows /etc/hosts, sssd and mDNS, and blocks. Its threads are this directory's own, so that a DNS that is
dead keeps nobody else waiting, and daemons, so that a question without an answer doesn't keep the process from ending.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohappyeyeballs import AddrInfoType

    from bridge.ldap.settings import ServerAddress

_THREADS_MAX_COUNT = 8
_NO_SUCH_NAME = frozenset((socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)))
_RESOLV_CONF = "/etc/resolv.conf"


class HostNames:
    """Asks the system for addresses; questions that are the same and under way are asked once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asking: dict[tuple[str, int, bool], Future[Sequence[AddrInfoType]]] = {}

    async def resolve(self, server: ServerAddress) -> Sequence[AddrInfoType]:
        """The addresses of a server. Raises `socket.gaierror`."""
        # A caller that gives up leaves the question to its thread: nothing ends getaddrinfo.
        return await asyncio.wrap_future(self._ask(server))

    def is_asking(self, server: ServerAddress) -> bool:
        """Whether the system has been asked for this server and has not answered yet."""
        return _key_of(server) in self._asking

    def _ask(self, server: ServerAddress) -> Future[Sequence[AddrInfoType]]:
        key = _key_of(server)
        with self._lock:
            if key in self._asking:
                return self._asking[key]
            if len(self._asking) >= _THREADS_MAX_COUNT:
                raise socket.gaierror(socket.EAI_AGAIN, f"{_THREADS_MAX_COUNT} earlier questions have no answer yet")
            found: Future[Sequence[AddrInfoType]] = Future()
            found.set_running_or_notify_cancel()  # so that whoever gives up doesn't take the others' answer away
            self._asking[key] = found
        threading.Thread(target=self._run, args=(key, found), name=f"resolve {server.host}", daemon=True).start()
        return found

    def _run(self, key: tuple[str, int, bool], found: Future[Sequence[AddrInfoType]]) -> None:
        addresses: Sequence[AddrInfoType] = ()
        failure: OSError | None = None
        try:
            addresses = _look_up(*key)
        except OSError as error:
            failure = error
        with self._lock:
            del self._asking[key]
        if failure is not None:
            found.set_exception(failure)
        else:
            found.set_result(addresses)


def _key_of(server: ServerAddress) -> tuple[str, int, bool]:
    return server.host, server.port, server.is_absolute


def _look_up(host: str, port: int, is_absolute: bool) -> Sequence[AddrInfoType]:  # noqa: FBT001 - a key's third part
    """What the system says, without the domains that it tries behind a name where the name is absolute."""
    if is_absolute:
        try:
            return socket.getaddrinfo(f"{host}.", port, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno not in _NO_SUCH_NAME:
                raise
    # glibc finds nothing with a dot at its end in /etc/hosts.
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


def numeric_addresses(server: ServerAddress) -> Sequence[AddrInfoType]:
    """The addresses of a server where they are known, or where its host is one; otherwise none.

    Asks nobody. Raises `socket.gaierror` where an address names a network interface that this machine doesn't have.
    """
    if server.addresses:
        known: Sequence[str] = server.addresses
    elif server.is_address:
        known = (server.host,)
    else:
        return ()
    found: list[AddrInfoType] = []
    for address in known:
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        found += socket.getaddrinfo(address, server.port, type=socket.SOCK_STREAM, flags=flags)
    return found


def name_servers() -> str:
    """The name servers of this machine, as the end of a sentence about them."""
    try:
        lines = Path(_RESOLV_CONF).read_text("utf-8", "replace").splitlines()
    except OSError:
        return f"there is no {_RESOLV_CONF}"
    found = [words[1] for line in lines if len(words := line.split()) > 1 and words[0] == "nameserver"]
    return f"{_RESOLV_CONF} names {', '.join(found)}" if found else f"{_RESOLV_CONF} names no name server"

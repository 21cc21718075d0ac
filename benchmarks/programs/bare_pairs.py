"""What the directory gives: look-ups and binds in bare sockets, with nothing around them; prints the pairs per second.

PORT PEOPLE CALLERS SECONDS. As the bridge does it, look-ups share one connection and eight others carry a bind each at
a time; so many logins are under way at any moment. Requests are written beforehand, and answers are counted more than
read: what asks the directory for each login can hardly be faster on the same machine, however it is written.
"""

import random
import select
import socket
import sys
import time
from collections import deque

from benchmarks.people import ATTRIBUTES, FILTER, password, user_name
from bridge.directory import Scope, SearchRequest
from bridge.ldap import messages
from bridge.model import Secret
from bridge.syntax.ber import message_size, read_header
from bridge.syntax.filters import parse_filter
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD

BIND_CONNECTION_COUNT, PREPARED_COUNT = 8, 5000


def prepare(people: int) -> list[tuple[bytes, bytes]]:
    """The look-ups and the binds of some people."""
    pairs = []
    for message_id, number in enumerate(random.choices(range(people), k=PREPARED_COUNT), start=2):
        wanted = parse_filter(f"(&{FILTER}(uid={user_name(number)}))")
        search = SearchRequest(PEOPLE, Scope.SUBTREE, wanted, ATTRIBUTES, size_limit_count=2)
        dn, secret = f"uid={user_name(number)},{PEOPLE}", Secret(password(number).encode())
        bind = messages.write_bind(message_id, dn, secret, messages.ASK_FOR_PASSWORD_POLICY)
        pairs.append((messages.write_search(message_id, search), bind))
    return pairs


def connect(port: int) -> socket.socket:
    """A connection to the directory."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


class Logins:
    """Look-ups and binds, as many at a time as the connections take."""

    def __init__(self, port: int, people: int) -> None:
        self._pairs = prepare(people)
        self._lookups = connect(port)
        self._lookups.sendall(messages.write_bind(1, READER, Secret(READER_PASSWORD.encode())))
        self._lookups.recv(4096)
        self._idle = [connect(port) for _ in range(BIND_CONNECTION_COUNT)]
        self._connections = {connection.fileno(): connection for connection in (self._lookups, *self._idle)}
        self._epoll = select.epoll()
        for descriptor in self._connections:
            self._epoll.register(descriptor, select.EPOLLIN)
        self._asked: deque[int] = deque()
        self._found: deque[int] = deque()
        self._next = self.ended_count = 0
        self._rest = b""

    def run(self, callers: int, duration_s: float) -> None:
        """Logs in for so long, so many at a time."""
        self._ask(callers)
        until_s = time.perf_counter() + duration_s
        while time.perf_counter() < until_s:
            ended_count = self.ended_count
            for descriptor, _ in self._epoll.poll():
                connection = self._connections[descriptor]
                if connection is self._lookups:
                    self._read_lookups()
                elif b"\x0a\x01\x00" in connection.recv(4096):
                    self._idle.append(connection)
                    self.ended_count += 1
                else:
                    raise SystemExit("a bind was refused")
            while self._idle and self._found:
                self._idle.pop().sendall(self._pairs[self._found.popleft()][1])
            self._ask(self.ended_count - ended_count)

    def _ask(self, count: int) -> None:
        numbers = [number % PREPARED_COUNT for number in range(self._next, self._next + count)]
        self._next += count
        self._asked += numbers
        self._lookups.sendall(b"".join(self._pairs[number][0] for number in numbers))

    def _read_lookups(self) -> None:
        data, position = self._rest + self._lookups.recv(65536), 0
        while (size := message_size(data, position)) is not None and position + size <= len(data):
            _, start, end = read_header(data, position, position + size)
            if data[read_header(data, start, end)[2]] == messages.SEARCH_DONE:  # what stands behind the message id
                self._found.append(self._asked.popleft())  # slapd answers them in order, or nearly so
            position += size
        self._rest = data[position:]


logins = Logins(int(sys.argv[1]), int(sys.argv[2]))
started_s = time.perf_counter()
logins.run(int(sys.argv[3]), float(sys.argv[4]))
print(logins.ended_count / (time.perf_counter() - started_s))

"""What is measured, a function for each part; every answer is checked where it is measured."""

from __future__ import annotations

import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.figures import Figure, Samples, compare, interleave, median_ratio
from benchmarks.people import ATTRIBUTES, FILTER, password, user_name
from benchmarks.processes import (
    PROGRAMS,
    Caller,
    Served,
    listing_over_and_over,
    load_with_logins,
    program,
    running_bridge,
    running_program,
)
from bridge.directory import Scope, SearchRequest
from bridge.ldap import messages
from bridge.model import Secret
from bridge.syntax.ber import message_size
from bridge.syntax.filters import parse_filter
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD, Slapd

if TYPE_CHECKING:
    from pathlib import Path

_DEBIAN_PYTHON = "/usr/bin/python3"
"""python-ldap and bonsai come from Debian's packages, and so belong to Debian's Python."""


@dataclass
class Run:
    """What every part needs, and what it leaves."""

    folder: Path
    server: Slapd
    authority: Path
    people: int
    rounds: int
    load_s: int
    figures: list[Figure] = field(default_factory=list)
    samples: dict[str, Samples] = field(default_factory=dict)

    @property
    def tls_url(self) -> str:
        """The server under TLS."""
        return f"ldaps://127.0.0.1:{self.server.tls_port}"


def check_listing(answer: bytes, people: int) -> None:
    """Ends the benchmark unless the answer lists everybody, each with name and addresses, as sampled."""
    users = json.loads(answer)
    if len(users) != people or len({user["userName"] for user in users}) != people:
        raise SystemExit(f"{len(users)} users were listed and {people} were there")
    for number in random.Random(1).sample(range(people), min(50, people)):
        user = users[number]
        if user["userName"] != user_name(number) or not user["fullName"]:
            raise SystemExit(f"the user {user['userName']} is not the one that was expected")
        if len(user["emailAddresses"]) != (1 if number % 3 else 2):
            raise SystemExit(f"{user['userName']} has the addresses {user['emailAddresses']}")


def list_cold(served: Served, people: int) -> float:
    """The seconds from a request to the last byte of a listing that the bridge has to read first."""
    caller = Caller(served.port)
    started_s = time.perf_counter()
    answer = caller.post(b"cmd=list")
    took_s = time.perf_counter() - started_s
    caller.close()
    check_listing(answer, people)
    return took_s


def _ldapsearch(run: Run, url: str) -> float:
    command = [
        program("ldapsearch"),
        "-x",
        "-LLL",
        "-o",
        "ldif-wrap=no",
        "-H",
        url,
        "-D",
        READER,
        "-w",
        READER_PASSWORD,
    ]
    command += ["-b", PEOPLE, "-E", "pr=1000/noprompt", FILTER, *ATTRIBUTES]
    environment = {"LDAPTLS_CACERT": str(run.authority)}
    started_s = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=True)
    return time.perf_counter() - started_s


def _library(run: Run, python: str, name: str) -> float:
    """The seconds that a library took by its own clock, the start of Python not counted."""
    command = [python, str(PROGRAMS / name), run.server.url, PEOPLE, READER, READER_PASSWORD, FILTER, *ATTRIBUTES]
    took_s, count = subprocess.run(command, capture_output=True, check=True).stdout.split()
    if int(count) != run.people:
        raise SystemExit(f"{name} saw {int(count)} of {run.people} entries")
    return float(took_s)


def measure_cold_listings(run: Run) -> None:
    """A listing that has to be read, against other programs that read the same entries."""
    with ExitStack() as stack:
        plain = stack.enter_context(running_bridge(run.folder / "plain", run.server.url, ttl="1ms"))
        tls = stack.enter_context(running_bridge(run.folder / "tls", run.tls_url, authority=run.authority, ttl="1ms"))
        samples = interleave(
            run.rounds,
            {
                "bridge": lambda: list_cold(plain, run.people),
                "ldapsearch": lambda: _ldapsearch(run, run.server.url),
                "bridge, ldaps": lambda: list_cold(tls, run.people),
                "ldapsearch, ldaps": lambda: _ldapsearch(run, run.tls_url),
                "python-ldap": lambda: _library(run, _DEBIAN_PYTHON, "python_ldap.py"),
                "bonsai": lambda: _library(run, _DEBIAN_PYTHON, "bonsai_client.py"),
                "ldap3": lambda: _library(run, sys.executable, "ldap3_client.py"),
            },
        )
        run.figures.append(_memory_figure(plain, run.people, 150 if run.people <= 100_000 else 1126))  # noqa: PLR2004
    run.samples["listing, cold, s"] = samples
    others: dict[str, float | None] = {"ldapsearch": 1.25, "python-ldap": None, "bonsai": None, "ldap3": None}
    run.figures[:0] = [
        *compare("listing, cold", samples, "bridge", unit="s", against=others),
        *compare("listing, cold, ldaps", samples, "bridge, ldaps", unit="s", against={"ldapsearch, ldaps": 1.25}),
    ]


def _memory_figure(served: Served, people: int, goal_mib: int) -> Figure:
    detail = "the peak over all listings so far, each beside the one before"
    return Figure(f"memory, {people:,} people", served.peak_bytes / 2**20, "MiB", goal_mib, detail=detail)


def measure_warm_listings(run: Run) -> None:
    """A listing that is there already, against a bare handler that returns the same bytes."""
    with running_bridge(run.folder / "warm", run.server.url) as bridge:
        expected = Caller(bridge.port).post(b"cmd=list")
        check_listing(expected, run.people)
        file = run.folder / "listing.json"
        file.write_bytes(expected)
        with running_program("bare_handler.py", str(file)) as bare:

            def per_second(served: Served) -> float:
                caller, count, started_s = Caller(served.port), 0, time.perf_counter()
                while time.perf_counter() - started_s < run.load_s:
                    if caller.post(b"cmd=list") != expected:
                        raise SystemExit("a warm listing differs")
                    count += 1
                return count / (time.perf_counter() - started_s)

            rounds = 2 * run.rounds
            samples = interleave(
                rounds, {"bridge": lambda: per_second(bridge), "bare handler": lambda: per_second(bare)}
            )
    run.samples["listing, warm, 1/s"] = samples
    run.figures += compare("listing, warm", samples, "bridge", unit="listings/s", against={"bare handler": 0.95})


def measure_logins(run: Run) -> None:
    """Right logins, many at once, against a constant answer and against ldap3 in threads."""
    afternoon = (run.server.url, PEOPLE, READER, READER_PASSWORD)
    with ExitStack() as stack:
        contenders = {
            "bridge": stack.enter_context(running_bridge(run.folder / "plain", run.server.url)),
            "bridge, ldaps": stack.enter_context(
                running_bridge(run.folder / "tls", run.tls_url, authority=run.authority)
            ),
            "bare handler": stack.enter_context(running_program("bare_handler.py")),
            "ldap3 in threads": stack.enter_context(running_program("ldap3_threads.py", *afternoon)),
        }
        for served in (contenders["bridge"], contenders["bridge, ldaps"]):
            _check_refusals(served, run.people)
        for callers in (1, 50, 200):

            def per_second(name: str, callers: int = callers) -> float:
                return load_with_logins(contenders[name], callers, run.load_s, run.people).per_second

            turns = {name: partial(per_second, name) for name in contenders}
            turns["directory alone"] = partial(_pairs_per_second, run, callers)
            samples = interleave(run.rounds, turns)
            title = f"logins, {callers} at once"
            run.samples[f"{title}, 1/s"] = samples
            goal = 0.5 if callers == 50 else None  # noqa: PLR2004
            against = {"bare handler": goal, "ldap3 in threads": None}
            alone = {"directory alone": None}
            run.figures += compare(title, samples, "bridge", unit="logins/s", against={**against, **alone})
            run.figures += compare(f"{title}, ldaps", samples, "bridge, ldaps", unit="logins/s", against=against)


def _pairs_per_second(run: Run, callers: int) -> float:
    """The look-ups with their binds that the directory answers each second, with next to nothing around them."""
    callers = min(callers, 50)  # more look-ups on one connection than the bridge sends, and slapd drops it
    numbers = map(str, (run.server.port, run.people, callers, run.load_s))
    command = [sys.executable, "-m", "benchmarks.programs.bare_pairs", *numbers]
    return float(subprocess.run(command, capture_output=True, check=True).stdout)


def _check_refusals(served: Served, people: int) -> None:
    """Ends the benchmark where a wrong password is taken."""
    caller = Caller(served.port)
    for number in random.Random(2).sample(range(people), 20):
        for text, expected in ((password(number), b"true"), (password(number + 1), b"false")):
            answer = caller.post(f"cmd=auth&user={user_name(number)}&pass={text}".encode())
            if answer != b'{"succeeded":' + expected + b"}":
                raise SystemExit(f"the login of {user_name(number)} was answered {answer!r}")


class _BareSockets:
    """The two operations of a login on two kept connections, with nothing around them."""

    def __init__(self, server: Slapd) -> None:
        self._lookup, self._bind = (socket.create_connection(("127.0.0.1", server.port)) for _ in range(2))
        self._id = 1
        for connection in (self._lookup, self._bind):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ask(self._lookup, messages.write_bind(1, READER, Secret(READER_PASSWORD.encode())), 1)

    def log_in(self, number: int) -> None:
        """One look-up and one bind."""
        self._id += 1
        wanted = parse_filter(f"(&{FILTER}(uid={user_name(number)}))")
        search = SearchRequest(PEOPLE, Scope.SUBTREE, wanted, ATTRIBUTES, size_limit_count=2)
        self._ask(self._lookup, messages.write_search(self._id, search), 2)
        secret = Secret(password(number).encode())
        answer = self._ask(self._bind, messages.write_bind(self._id, f"uid={user_name(number)},{PEOPLE}", secret), 1)
        if b"\x0a\x01\x00" not in answer:
            raise SystemExit("a bind was refused")

    @staticmethod
    def _ask(connection: socket.socket, request: bytes, message_count: int) -> bytes:
        connection.sendall(request)
        answer, position = b"", 0
        while message_count:
            answer += connection.recv(65536)
            while (size := message_size(answer, position)) is not None and position + size <= len(answer):
                position += size
                message_count -= 1
        return answer


def measure_latency(run: Run) -> None:
    """One login at a time, over its two LDAP operations in bare sockets, in turns."""
    with running_bridge(run.folder / "latency", run.server.url) as bridge:
        caller, bare = Caller(bridge.port), _BareSockets(run.server)
        samples: Samples = {"bridge": [], "bare sockets": []}
        for number in range(200 * run.rounds):
            body = f"cmd=auth&user={user_name(number % run.people)}&pass={password(number % run.people)}".encode()
            started_s = time.perf_counter()
            if caller.post(body) != b'{"succeeded":true}':
                raise SystemExit("a right login was refused")
            between_s = time.perf_counter()
            bare.log_in(number % run.people)
            samples["bridge"].append((between_s - started_s) * 1000)
            samples["bare sockets"].append((time.perf_counter() - between_s) * 1000)
    medians = {name: statistics.median(found) for name, found in samples.items()}
    run.samples["login, one at a time, ms"] = samples
    detail = f"{medians['bridge']:.2f} ms against {medians['bare sockets']:.2f}"
    over_ms = medians["bridge"] - medians["bare sockets"]
    run.figures.append(Figure("login, one at a time, over bare sockets", over_ms, "ms", 1.0, detail=detail))


def measure_logins_while_listing(run: Run) -> None:
    """The slowest hundredth of logins while everybody is being listed over and over."""
    with running_bridge(run.folder / "both", run.server.url, ttl="1ms") as bridge:
        ending, latencies_ms = threading.Event(), list[float]()
        list_cold(bridge, run.people)

        def log_in_now_and_then(seed: int) -> None:
            caller, numbers = Caller(bridge.port), random.Random(seed)
            while not ending.is_set():
                number = numbers.randrange(run.people)
                body = f"cmd=auth&user={user_name(number)}&pass={password(number)}".encode()
                started_s = time.perf_counter()
                if caller.post(body) != b'{"succeeded":true}':
                    raise SystemExit("a right login was refused")
                latencies_ms.append((time.perf_counter() - started_s) * 1000)
                ending.wait(0.01)

        threads = [threading.Thread(target=log_in_now_and_then, args=(seed,)) for seed in range(2)]
        with listing_over_and_over(bridge, run.people) as listings_s:
            for thread in threads:
                thread.start()
            time.sleep(3 * run.load_s + 2)
            ending.set()
            for thread in threads:
                thread.join()
        memory = _memory_figure(bridge, run.people, 150 if run.people <= 100_000 else 1126)  # noqa: PLR2004
    run.samples["login while listing, ms"] = {"bridge": latencies_ms}
    quantiles = statistics.quantiles(latencies_ms, n=100)
    detail = f"median {quantiles[49]:.1f} ms of {len(latencies_ms)} logins during {len(listings_s)} listings"
    run.figures.append(Figure("login, p99 while listing", quantiles[98], "ms", 15.0, detail=detail))
    run.figures.append(Figure(f"{memory.name}, logins meanwhile", memory.value, "MiB", memory.goal))


def measure_growth(run: Run, smaller: Run) -> None:
    """Ten times the people, and their time and memory."""
    with (
        running_bridge(run.folder / "many", run.server.url, ttl="1ms") as many,
        running_bridge(run.folder / "few", smaller.server.url, ttl="1ms") as few,
    ):
        samples = interleave(
            run.rounds, {"many": lambda: list_cold(many, run.people), "few": lambda: list_cold(few, smaller.people)}
        )
        run.figures.append(_memory_figure(few, smaller.people, 150))
        if run.people > 100_000:  # noqa: PLR2004
            run.figures.append(_memory_figure(many, run.people, 1126))
    run.samples["growth, s"] = samples
    name = f"time for {run.people:,} / {smaller.people:,} people"
    run.figures.append(Figure(name, median_ratio(samples, "many", "few"), "x", 10.5))


def measure_start(run: Run) -> None:
    """From the start of the process until systemd is told that it is ready."""
    taken = []
    for _ in range(run.rounds):
        with running_bridge(run.folder / "start", run.server.url) as bridge:
            taken.append(bridge.ready_s)
    run.samples["start, s"] = {"bridge": taken}
    run.figures.append(Figure("start to ready", statistics.median(taken), "s", 1.0))


def make_folder() -> tempfile.TemporaryDirectory[str]:
    """Where the servers of a run live."""
    return tempfile.TemporaryDirectory(prefix="mailstore-bridge-bench-")

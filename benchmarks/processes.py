"""The programs that are measured, each started as its users start it and ended by its own process id."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.slapd import PEOPLE, READER, READER_PASSWORD, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLER, CALLER_PASSWORD = "mailstore", "caller password"
CREDENTIALS = base64.b64encode(f"{CALLER}:{CALLER_PASSWORD}".encode()).decode()
PROGRAMS = Path(__file__).parent / "programs"
_PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class Served:
    """A program that answers HTTP."""

    port: int
    process: subprocess.Popen[bytes]
    ready_s: float
    """From its start until it took requests."""

    @property
    def peak_bytes(self) -> int:
        """The most memory that it has held (VmHWM, proc_pid_status(5))."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024


def program(name: str) -> str:
    """The path of a program that `script/bench` has installed."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if found is None:
        raise SystemExit(f"{name} is missing; script/bench installs it where it may")
    return found


@contextmanager
def running_bridge(folder: Path, url: str, *, authority: Path | None = None, ttl: str = "1h") -> Iterator[Served]:
    """The bridge as systemd runs it, told ready by `sd_notify`; listings are read when they are asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / "state", ignore_errors=True)  # nothing is known of other directories
    port, notified = free_port(), folder / "notify"
    configuration = _write_configuration(folder, url, port, authority, ttl)
    notified.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener, (folder / "log").open("wb") as log:
        listener.bind(str(notified))
        listener.settimeout(_PATIENCE_S)
        started_s = time.perf_counter()
        command = [str(Path(sys.executable).parent / "mailstore-bridge"), "serve", "--config", str(configuration)]
        process = subprocess.Popen(command, stderr=log, env={**os.environ, "NOTIFY_SOCKET": str(notified)})
        try:
            while b"READY=1" not in listener.recv(4096):
                pass
            yield Served(port, process, time.perf_counter() - started_s)
        finally:
            _end(process)


def _write_configuration(folder: Path, url: str, port: int, authority: Path | None, ttl: str) -> Path:
    for name, text in (("caller", CALLER_PASSWORD), ("reader", READER_PASSWORD)):
        file = folder / name
        file.write_text(text)
        file.chmod(0o600)
    transport = f"tls: {{ca_file: {authority}}}" if authority else "allow_plaintext: true"
    configuration = folder / "config.yaml"
    configuration.write_text(f"""\
server: {{listen: "127.0.0.1:{port}"}}
admin: {{listen: off}}
state: {{directory: {folder}/state}}
cache: {{ttl: {ttl}, refresh_ahead: false}}
endpoints:
  - path: /mailstore
    callers: [{{username: {CALLER}, password_file: {folder}/caller}}]
directories:
  - name: company
    preset: openldap
    servers: ["{url}"]
    {transport}
    bind: {{dn: "{READER}", password_file: {folder}/reader}}
    pool: {{size: 8, queue: 256}}
    users: {{bases: ["{PEOPLE}"]}}
""")
    return configuration


@contextmanager
def running_program(name: str, *arguments: str) -> Iterator[Served]:
    """One of the programs in `benchmarks/programs` that answer HTTP."""
    port, started_s = free_port(), time.perf_counter()
    process = subprocess.Popen([sys.executable, str(PROGRAMS / name), str(port), CREDENTIALS, *arguments])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.perf_counter() - started_s > _PATIENCE_S:
                    raise SystemExit(f"{name} did not start") from None
                time.sleep(0.02)
        yield Served(port, process, time.perf_counter() - started_s)
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def listing_over_and_over(served: Served, people: int) -> Iterator[list[float]]:
    """Everybody is being listed; once it is over, the list holds the seconds of each listing."""
    command = [sys.executable, "-m", "benchmarks.programs.lister", str(served.port), str(people)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    taken_s: list[float] = []
    try:
        yield taken_s
    finally:
        output, _ = process.communicate()  # closes its input, and so ends it
    if process.returncode:
        raise SystemExit("listing over and over failed")
    taken_s += map(float, output.split())


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk has seen."""

    per_second: float
    p50_ms: float
    p99_ms: float


def load_with_logins(served: Served, callers: int, duration_s: int, people: int) -> Load:
    """Right logins by so many callers at once; ends the benchmark where one was answered wrongly."""
    command = ["-t1", f"-c{callers}", f"-d{duration_s}s", "--timeout", "30s", "-s", str(PROGRAMS / "logins.lua")]
    environment = {**os.environ, "CREDENTIALS": CREDENTIALS, "PEOPLE": str(people)}
    done = subprocess.run(
        [program("wrk"), *command, f"http://127.0.0.1:{served.port}"], env=environment, capture_output=True, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    if found["wrong"] or not found["answered"]:
        raise SystemExit(f"{found['wrong']} of {found['answered']} logins were answered wrongly")
    return Load(found["answered"] / found["duration_us"] * 1e6, found["p50_us"] / 1000, found["p99_us"] / 1000)


class Caller:
    """A keep-alive connection to an endpoint, as plain as can be, so that little of what is measured is its own."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)

    def post(self, body: bytes) -> bytes:
        """The body of the answer, which must have the status 200."""
        self._socket.sendall(
            f"POST /mailstore HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Basic {CREDENTIALS}\r\n"
            "Content-Type: application/x-www-form-urlencoded\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        answer = bytearray()
        while (end := answer.find(b"\r\n\r\n")) < 0:
            self._receive(answer)
        head = bytes(answer[:end]).lower()
        if not head.startswith(b"http/1.1 200 "):
            raise SystemExit(f"a request was refused: {head.decode()} {answer[end:].decode()}")
        size = end + 4 + int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        while len(answer) < size:
            self._receive(answer)
        return bytes(answer[end + 4 :])

    def close(self) -> None:
        """The connection is closed."""
        self._socket.close()

    def _receive(self, answer: bytearray) -> None:
        count = self._socket.recv_into(self._buffer)
        if not count:
            raise SystemExit("the connection was closed before the answer had come")
        answer += self._buffer[:count]

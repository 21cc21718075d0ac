"""MailStore at work: lists and logins over HTTPS, one after the other from several threads, with every answer looked at.

`Load` starts this file as a program on the machine's network; each request has a connection of its own, so that each
checks the certificate.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.support.set_up import SetUp

HOST, PORT = "gateway.example.com", 8443
_BODIES = ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna", "cmd=auth&user=bert&pass=Pass-bert")
_THREADS_COUNT = 2
_PAUSE_S = 0.01
_MESSAGES_MAX_COUNT = 20


class Load:
    """Requests, for as long as the context lasts; the test fails where one of them has failed."""

    def __init__(self, set_up: SetUp) -> None:
        self.set_up = set_up
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        folder = f"/proc/{self.set_up.machine.pid}/root/etc/mailstore-bridge"
        command = [*self.set_up.machine.on_its_network, sys.executable, __file__, folder]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.go_on()
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        assert self._process is not None
        try:
            if kind is None:
                self.go_on()
        finally:
            output, _ = self._process.communicate(timeout=60)  # the end of its standard input ends it
        if kind is None:
            assert json.loads(output) == []

    def go_on(self) -> None:
        """Return when each thread has asked everything once more."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "\n"


class _Client:
    """What one thread asks with the files of the folder, as they are at that moment."""

    def __init__(self, folder: Path, ended: threading.Event) -> None:
        self.folder, self.ended = folder, ended
        self.round_count = 0
        self.failures: list[str] = []

    def run(self) -> None:
        while not self.ended.is_set():
            for body in _BODIES:
                try:
                    self._ask(body)
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    self.failures.append(f"{time.strftime('%X')} {body}: {error!r}")
            self.round_count += 1
            time.sleep(_PAUSE_S)

    def _ask(self, body: str) -> None:
        password = self._password()
        status, answer = self._send(body, password)
        if status == 401 and self._password() != password:  # it was replaced while the request was under way
            status, answer = self._send(body, self._password())
        assert status == 200, f"{status} {answer}"
        found = json.loads(answer)
        assert found == {"succeeded": True} or [user["userName"] for user in found] == ["anna", "bert", "carl"], found

    def _password(self) -> str:
        return (self.folder / "mailstore.password").read_text().strip()

    def _send(self, body: str, password: str) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        token = base64.b64encode(f"mailstore:{password}".encode()).decode()
        headers = {"Authorization": f"Basic {token}", "Content-Type": "application/x-www-form-urlencoded"}
        connection = http.client.HTTPSConnection(HOST, PORT, timeout=20, context=context)
        plain = socket.create_connection(("127.0.0.1", PORT), timeout=20)
        connection.sock = context.wrap_socket(plain, server_hostname=HOST)
        try:
            connection.request("POST", "/mailstore", body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


def _main() -> None:
    ended = threading.Event()
    clients = [_Client(Path(sys.argv[1]), ended) for _ in range(_THREADS_COUNT)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for _ in sys.stdin:
        wanted = [client.round_count + 2 for client in clients]  # one may be under way already
        while any(client.round_count < count for client, count in zip(clients, wanted, strict=True)):
            time.sleep(_PAUSE_S)
        sys.stdout.write("\n")
        sys.stdout.flush()
    ended.set()
    for thread in threads:
        thread.join()
    failures = [failure for client in clients for failure in client.failures]
    sys.stdout.write(json.dumps(failures[:_MESSAGES_MAX_COUNT]))


if __name__ == "__main__":
    _main()

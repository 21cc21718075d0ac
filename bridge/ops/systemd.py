"""Word to systemd: ready, stopping, alive (sd_notify(3)); silent where nobody listens."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from bridge.model import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.model import Health, Problem


def describe_health(health: Health) -> str:
    """How the program fares, in words for one line of `systemctl status`."""
    count = len(health.endpoints)
    served = f"Serving {count} endpoint{'s' if count != 1 else ''}: {health.status.value}"
    wrong = []
    for endpoint in health.endpoints:
        problems = list(map(_name, endpoint.problems))
        if endpoint.status is not Status.OK:
            wrong.append(f"{endpoint.path}: {', '.join(problems) or endpoint.status.value}")
    return f"{served}: {'; '.join(wrong)}" if wrong else served


def _name(problem: Problem) -> str:
    code = problem.code.replace("_", " ")
    return f"{code} in {problem.directory}" if problem.directory else code


class Notifier:
    """Sends states to the socket that systemd names in the environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watchdog_us = environment.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(watchdog_us) / 1_000_000 if watchdog_us.isdigit() else None
        """How often systemd wants a sign of life at the least, or None where it wants none."""

    def send(self, *states: str) -> None:
        """Tells the states, such as `READY=1`; a socket that is gone is no reason to stop serving."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.connect(self._address)
            client.sendall("\n".join(states).encode())

"""Word to systemd: ready, stopping, alive (sd_notify(3)); silent where nobody listens."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


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

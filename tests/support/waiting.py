"""Waiting for what another program does, without sleeping longer than it takes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


async def until(is_true: Callable[[], bool], timeout_s: float = 20) -> None:
    """Returns when it is true; asks often, and not for ever."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)


def wait_until_listening(
    process: subprocess.Popen[bytes], addresses: Sequence[tuple[str, int]], log: Path, timeout_s: float = 20
) -> None:
    """Returns when the program takes connections at each address; its log tells why it doesn't."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            for address in addresses:
                socket.create_connection(address, timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"{process.args!r} did not start: {log.read_text()}")

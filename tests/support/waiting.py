"""Waiting for what another program does, without sleeping longer than it takes."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest


async def until(is_true: Callable[[], bool], timeout_s: float = 20, *, pause_s: float = 0.02) -> None:
    """Returns when it is true; asks often, and not for ever."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(pause_s)


def wait_until_listening(
    process: subprocess.Popen[bytes], addresses: Sequence[tuple[str, int] | str], log: Path, timeout_s: float = 20
) -> None:
    """Returns when the program takes connections at each address, a path being one; its log tells why it doesn't."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            for address in addresses:
                _connect(address).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"{process.args!r} did not start: {log.read_text()}")


def _connect(address: tuple[str, int] | str) -> socket.socket:
    if isinstance(address, tuple):
        return socket.create_connection(address, timeout=1)
    found = socket.socket(socket.AF_UNIX)
    try:
        found.connect(address)
    except OSError:
        found.close()
        raise
    return found


def wait_until_stopped(process_id: int, timeout_s: float = 20) -> None:
    """Returns when SIGSTOP has reached every thread: kill(2) comes back before that."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        threads = Path(f"/proc/{process_id}/task").glob("*/stat")
        if all(thread.read_text().rpartition(")")[2].split()[0] == "T" for thread in threads):
            return
        time.sleep(0.001)
    pytest.fail(f"the process {process_id} does not stop")

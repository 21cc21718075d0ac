"""Waiting for what another program does, without sleeping longer than it takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


async def until(is_true: Callable[[], bool], timeout_s: float = 20) -> None:
    """Returns when it is true; asks often, and not for ever."""
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s
        await asyncio.sleep(0.02)

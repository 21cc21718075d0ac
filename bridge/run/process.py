"""What the service sets for its whole process: memory, threads, core dumps."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
from typing import TYPE_CHECKING

from bridge.run.service import Service

if TYPE_CHECKING:
    from typing import TextIO

    from bridge.config.loading import Loaded

_GC_THRESHOLDS = (5_000, 5, 3)
"""New objects for a pass over them; such passes for one over what they left; of these for one over everything."""
_SWITCH_INTERVAL_S = 0.0005
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""The numbers in <malloc.h>."""
_MMAP_THRESHOLD_BYTES = 1024 * 1024
_TLS_BUFFER_BYTES = 64 * 1024
_PR_SET_DUMPABLE = 4
"""The number in <linux/prctl.h>."""


def tune_interpreter() -> None:
    """Sets memory and threads for a service that lists many users and answers logins meanwhile."""
    # What is loaded stays, and needn't be looked through. A listing makes many small objects, none in a cycle; but each
    # connection of asyncio ends in one, and so do most exceptions, with answers and passwords in their frames.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    tune_heap()
    # asyncio 3.11: each TLS connection has a buffer of 256 KiB from its first byte on, and a record has 16 KiB at most.
    asyncio.sslproto.SSLProtocol.max_size = _TLS_BUFFER_BYTES
    # While a roster is sorted in its thread, the event loop waits for this long each time that it wakes up.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def tune_heap() -> None:
    """Has what is freed go back to the system, as far as may be."""
    with contextlib.suppress(AttributeError, OSError):  # musl has no mallopt(3)
        c_library = ctypes.CDLL(None)
        # glibc raises this by itself after the first large block was freed, and the next ones leave holes in the heap:
        # a service that has refreshed three times would hold a third more.
        c_library.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        # Threads that work one after the other need no heap each, with holes of its own.
        c_library.mallopt(_M_ARENA_MAX, 1)


def raise_descriptor_limit() -> None:
    """Allow as many descriptors as the system lets this process have: each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # what is allowed now bounds the connections otherwise
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def protect_memory() -> None:
    """Keeps the memory through which passwords pass out of core dumps, and from other processes of the same user."""
    with contextlib.suppress(OSError, ValueError):  # a unit may forbid the call; ours has LimitCORE=0 then
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(AttributeError, OSError):  # Linux alone has prctl(2)
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


async def serve(loaded: Loaded, stderr: TextIO) -> None:
    """Runs the service until it is told to end; SIGHUP has it read its files anew."""
    protect_memory()
    tune_interpreter()
    raise_descriptor_limit()
    service = Service(loaded, stderr, os.environ)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, service.reload)
    try:
        await service.run()
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the end must not become another one

"""Lines written to a stream that somebody may have stopped reading: nobody waits for it, and what is lost is counted.

A journal that is stalled, or a pager at the other end of a pipe, would otherwise stop the event loop with the first
line that doesn't fit into the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import threading
from collections import deque
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

_PIECE_BYTES = select.PIPE_BUF
"""What can be written without waiting where poll(2) says that there is room."""
_BACKLOG_MAX_BYTES = 1024 * 1024


class LineWriter:
    """Writes lines: those of one turn of the event loop together, when the turn is over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._descriptor = _descriptor_of(stream)
        self._poll = select.poll()
        if self._descriptor is not None:
            self._poll.register(self._descriptor, select.POLLOUT)
        self._gathered: list[str] = []
        self._lock = threading.Lock()
        self._backlog: deque[bytes] = deque()
        """What waits, in pieces; while there is any, a thread waits for the reader."""
        self._backlog_bytes = 0
        self._lost_count = 0
        self.tell_lost: Callable[[int], object] = lambda _: None
        """Writes a line that says how many lines were lost."""

    def msg(self, line: str) -> None:
        """Write the line; at once where no event loop runs."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._write([f"{line}\n"])
            return
        if not self._gathered:
            loop.call_soon(self._write_gathered)
        self._gathered.append(f"{line}\n")

    log = debug = info = warning = error = critical = msg

    def _write_gathered(self) -> None:
        lines, self._gathered = self._gathered, []
        self._write(lines)

    def _write(self, lines: list[str]) -> None:
        if self._descriptor is None:
            with contextlib.suppress(OSError, ValueError):  # where nobody reads the log any more, the service goes on
                self._stream.write("".join(lines))
                self._stream.flush()
            return
        with self._lock:
            is_free, lost_count = not self._backlog, self._lost_count
            if is_free:
                self._lost_count = 0
        if is_free and lost_count:
            self.tell_lost(lost_count)
            said, self._gathered = self._gathered, []  # it comes before what follows the gap
            lines = said + lines
        data = memoryview("".join(lines).encode("utf-8", "backslashreplace"))
        if is_free:
            data = self._write_what_fits(data)
        if data:
            self._queue(bytes(data), len(lines))

    def _write_what_fits(self, data: memoryview) -> memoryview:
        """What is left when the reader takes no more now."""
        assert self._descriptor is not None  # noqa: S101 - it was asked before
        while data and self._poll.poll(0):
            try:
                data = data[os.write(self._descriptor, data[:_PIECE_BYTES]) :]
            except BlockingIOError:
                break
            except OSError:  # nobody reads it any more
                return data[:0]
        return data

    def _queue(self, data: bytes, line_count: int) -> None:
        with self._lock:
            # The first of it may be the rest of a line that has begun. Behind a line that was lost, none comes before
            # the one that says so: a reader would not see where they are missing.
            is_full = self._backlog and self._backlog_bytes + len(data) > _BACKLOG_MAX_BYTES
            if is_full or self._lost_count:
                self._lost_count += line_count
                return
            self._backlog.append(data)
            self._backlog_bytes += len(data)
            if len(self._backlog) > 1:
                return
        # Nobody waits for the thread: where the reader never comes back, the process ends without it.
        threading.Thread(target=self._write_backlog, name="log", daemon=True).start()

    def _write_backlog(self) -> None:
        """Write what waits, however long the reader takes; the thread's own."""
        assert self._descriptor is not None  # noqa: S101 - it was asked before
        while True:
            data = memoryview(self._backlog[0])
            while data:
                try:
                    data = data[os.write(self._descriptor, data) :]
                except BlockingIOError:
                    self._poll.poll()
                except OSError:
                    break
            with self._lock:
                self._backlog_bytes -= len(self._backlog.popleft())
                if not self._backlog:
                    return


def _descriptor_of(stream: TextIO) -> int | None:
    """The file of a stream, or None where it has none, as in memory."""
    try:
        return stream.fileno()
    except (OSError, ValueError, AttributeError):
        return None

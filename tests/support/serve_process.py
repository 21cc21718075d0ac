"""`serve` as a process of its own, as systemd runs it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self


class ServeProcess:
    """An asynchronous context manager: the service of a configuration file, whose log is read as it comes."""

    def __init__(
        self, file: Path, *, before: Sequence[str] = (), take: Callable[[dict[str, Any]], bool] = lambda _line: True
    ) -> None:
        """`before` are the words of a program that starts another one, such as `env`.

        `take` sees each line of the log, and says whether it stays in `lines`; all those of an hour would fill memory.
        """
        self._take = take
        self._command = [*before, sys.executable, "-m", "bridge", "serve", "--config", str(file)]
        self.process: asyncio.subprocess.Process
        self.lines: list[dict[str, Any]] = []
        self._reading: asyncio.Task[None]
        self._news = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self.process = await asyncio.create_subprocess_exec(*self._command, stderr=asyncio.subprocess.PIPE)
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        await self.process.wait()
        await self._reading

    @property
    def is_running(self) -> bool:
        return self.process.returncode is None

    def send(self, number: signal.Signals) -> None:
        """Send a signal; asyncio's own way would reap a process that has ended meanwhile, and lose its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    async def wait_for(self, event: str, count: int = 1) -> dict[str, Any]:
        """The line of an event, as soon as it has been written so many times."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines if line["event"] == event]

        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: len(found()) >= count or self._reading.done())
        assert len(found()) >= count, self.lines
        return found()[count - 1]

    async def port(self) -> int:
        """Where it listens."""
        address = (await self.wait_for("service.started"))["listen"][0]
        return int(str(address).rpartition(",")[2].strip(" )"))

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            async with self._news:
                text = line.decode()
                found = json.loads(text) if text.startswith("{") else {"event": "", "text": text}
                if self._take(found):
                    self.lines.append(found)
                self._news.notify_all()
        async with self._news:
            self._news.notify_all()

"""Callers who are in the right, and who must not notice what others do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Self

from tests.support.floods import RightCaller
from tests.web.raw.site import Site

AT_ONCE_S = 3.0
"""It takes milliseconds on a machine that is not busy."""


class Neighbours:
    """Callers who are in the right, at both of MailStore's listeners: one connection each that is kept, and new ones."""

    def __init__(self, site: Site) -> None:
        self.callers = [RightCaller(site.plain.port), RightCaller(site.tls.port, site.trusted)]
        self.statuses: set[int] = set()
        self.longest_s = 0.0

    async def __aenter__(self) -> Self:
        await self.ask(keep=True)
        return self

    async def __aexit__(self, *exception: object) -> None:
        for caller in self.callers:
            caller.close()

    async def ask(self, *, keep: bool) -> None:
        for caller in self.callers:
            began_s = time.monotonic()
            self.statuses.add(await caller.ask(keep=keep))
            self.longest_s = max(self.longest_s, time.monotonic() - began_s)

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """They ask for as long as this lasts, and once over new connections when it is over."""
        done = asyncio.Event()

        async def keep_asking() -> None:
            while not done.is_set():
                await self.ask(keep=True)
                await asyncio.sleep(0.005)

        task = asyncio.create_task(keep_asking())
        try:
            yield
        finally:
            done.set()
            await task
        await self.ask(keep=False)

    def check(self) -> None:
        """All were answered at once, and nobody has lost a connection."""
        assert self.statuses == {200}
        assert self.longest_s < AT_ONCE_S
        assert [caller.connection_count for caller in self.callers] == [1, 1]

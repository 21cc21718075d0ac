"""A log whose reader is slow, or stops, or goes: nobody waits for it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import threading
import time
from collections.abc import Iterator

import pytest
from structlog.typing import FilteringBoundLogger

from bridge.ops.logs import make_logger
from tests.support.waiting import until

PADDING = "x" * 900


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        os.close(descriptor)


def is_waiting() -> bool:
    """Whether anything waits for the reader yet."""
    return any(thread.name == "log" for thread in threading.enumerate())


def read_lines(reader: int, *, begun: bytes = b"", least: int = 1) -> list[dict[str, object]]:
    """What can be read, behind what was; waits until there are as many lines, and nothing more waits to be written."""
    data, due_s = begun, time.monotonic() + 10
    os.set_blocking(reader, False)
    while time.monotonic() < due_s:
        was_waiting = is_waiting()
        try:
            data += os.read(reader, 1 << 20)
        except BlockingIOError:
            if data.endswith(b"\n") and data.count(b"\n") >= least and not was_waiting:
                break
            time.sleep(0.01)
    return [json.loads(line) for line in data.splitlines()]


async def write_too_much(logger: FilteringBoundLogger) -> None:
    """Three thousand lines, of which a mebibyte waits for a reader who has stopped, and the rest is lost."""
    for number in range(3000):
        logger.info("line", number=number, padding=PADDING)
        await asyncio.sleep(0)


async def test_nobody_waits_for_a_reader_that_has_stopped(pipe: tuple[int, int]) -> None:
    """What fits into a mebibyte is written when it reads again, in order; the rest is counted, in one line."""
    reader, writer = pipe
    with os.fdopen(os.dup(writer), "w") as stream:
        logger = make_logger("info", "json", stream, {})
        await write_too_much(logger)
        found = await asyncio.to_thread(read_lines, reader, least=1000)
        kept = [line["number"] for line in found]
        assert kept == list(range(len(kept)))
        assert 1000 < len(kept) < 1400
        logger.info("line", number=-1)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        last = await asyncio.to_thread(read_lines, reader, least=2)
        (lost,) = (line for line in last if line["event"] == "log.lost")
        assert lost["line_count"] == 3000 - len(kept)
        assert [line["number"] for line in last if line["event"] == "line"] == [-1]


async def test_reader_that_takes_a_little_sees_where_lines_are_lost(pipe: tuple[int, int]) -> None:
    """Once lines are lost, none comes before the line that counts them, though there is room for one meanwhile."""
    reader, writer = pipe
    with os.fdopen(os.dup(writer), "w") as stream:
        logger = make_logger("info", "json", stream, {})
        await write_too_much(logger)
        begun = os.read(reader, 40_000)
        await until(lambda: not select.select([], [writer], [], 0)[1])  # what waits has filled the pipe again
        logger.info("line", number=-1)
        await asyncio.sleep(0)
        found = await asyncio.to_thread(read_lines, reader, begun=begun, least=1000)
        logger.info("line", number=-2)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found += await asyncio.to_thread(read_lines, reader, least=2)
        told = [line.get("number", line["event"]) for line in found]
        kept_count = told.index("log.lost")
        assert told[:kept_count] == list(range(kept_count))
        assert sorted(map(str, told[kept_count:])) == ["-2", "log.lost"]


async def test_slow_reader_gets_every_line_whole_and_in_order(pipe: tuple[int, int]) -> None:
    """Lines longer than a pipe holds, and many of them in one turn."""
    reader, writer = pipe
    with os.fdopen(os.dup(writer), "w") as stream:
        logger = make_logger("info", "json", stream, {})
        lines = asyncio.create_task(asyncio.to_thread(read_lines, reader, least=60))
        for number in range(60):
            logger.info("line", number=number, padding="x" * (5000 * (number % 4)))
            if number % 7 == 0:
                await asyncio.sleep(0.01)
        assert [line["number"] for line in await lines] == list(range(60))


async def test_turn_with_more_lines_than_may_wait_cuts_none(pipe: tuple[int, int]) -> None:
    """A part of them is written already when the pipe is full."""
    reader, writer = pipe
    with os.fdopen(os.dup(writer), "w") as stream:
        logger = make_logger("info", "json", stream, {})
        for number in range(2000):
            logger.info("line", number=number, padding=PADDING)
        await asyncio.sleep(0)
        logger.info("line", number=-1)
        await asyncio.sleep(0)
        found = await asyncio.to_thread(read_lines, reader, least=1000)
        assert [line["number"] for line in found] == list(range(2000))
        logger.info("line", number=-2)
        await asyncio.sleep(0)
        last = await asyncio.to_thread(read_lines, reader)
        assert {line["number"] for line in last if line["event"] == "line"} <= {-1, -2}
        assert -2 in [line.get("number") for line in last]


async def test_letters_that_the_locale_does_not_know_are_written(pipe: tuple[int, int]) -> None:
    """The log is UTF-8 whatever the locale is; half a character is escaped."""
    reader, writer = pipe
    with os.fdopen(os.dup(writer), "w", encoding="ascii") as stream:
        make_logger("info", "json", stream, {}).info("line", user="Jürgen \udc80")
        await asyncio.sleep(0)
        (line,) = await asyncio.to_thread(read_lines, reader)
        assert str(line["user"]).startswith("Jürgen ")

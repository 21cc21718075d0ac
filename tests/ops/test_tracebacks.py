"""What a bug shows of itself in a log in which nobody may be named."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest

from bridge.errors import SearchInvalid
from bridge.ops.logs import make_logger, route_library_logs

NAME = "kanarie"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The logger of all libraries, as it was before afterwards."""
    found = logging.getLogger()
    handlers, level = found.handlers, found.level
    yield found
    found.handlers, found.level = handlers, level


def fail() -> None:
    """A bug behind which lies another one, with a name in the words of each."""
    try:
        {}[NAME]
    except KeyError as error:
        try:
            refuse(error)
        except SearchInvalid as second:
            raise ValueError(f"{NAME} is no user") from second


def refuse(cause: Exception) -> None:
    raise SearchInvalid("an entry shows no id", directory="d", subject=f"uid={NAME}") from cause


@pytest.mark.parametrize("form", ["json", "text"])
def test_bug_is_told_by_its_place_and_kind_alone(form: str) -> None:
    """Enough to find it, and no word that it quotes; with user names everything stands there."""
    for usernames in (False, True):
        stream = io.StringIO()
        logger = make_logger("info", form, stream, {}, usernames=usernames)
        try:
            fail()
        except ValueError as error:
            logger.error("request.failed", exc_info=error)  # noqa: TRY400 - as the service writes it
        text = stream.getvalue()
        assert (NAME in text) is usernames
        for word in ("KeyError", "an entry shows no id", "ValueError", "test_tracebacks.py", "Traceback"):
            assert word in text, (usernames, text)


async def test_words_of_libraries_end_where_they_quote(root: logging.Logger) -> None:
    """Asyncio shows the exception and the arguments of what has failed."""
    stream = io.StringIO()
    logger = make_logger("info", "json", stream, {}, usernames=False)
    route_library_logs(logger, "info")

    def callback(name: str) -> None:
        raise LookupError(name)

    asyncio.get_running_loop().call_soon(callback, NAME)
    await asyncio.sleep(0.01)
    logging.getLogger("aiohttp.server").warning("odd thing of '%s'", NAME)
    root.handlers = []
    await asyncio.sleep(0)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (first["library"], first["message"][:21]) == ("asyncio", "Exception in callback")
    assert "LookupError" in first["exception"]
    assert second["message"] == "odd thing of"
    assert NAME not in stream.getvalue()

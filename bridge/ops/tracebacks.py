"""Tracebacks and libraries' messages for a log in which nobody may be named: where something broke, not with what.

An exception of Python or of a library quotes values: `KeyError: 'anna'`. Our own errors keep names apart.
"""

from __future__ import annotations

import re
import traceback
from typing import TYPE_CHECKING, Any

from structlog.processors import ExceptionRenderer

from bridge.errors import BridgeError

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from structlog.typing import ExcInfo

_QUOTATION = re.compile(r"""[\n<('"`:={\[]""")
"""Where a message may begin to quote."""


def format_without_words(exc_info: ExcInfo) -> str:
    """The kinds of an exception and of its causes, the first cause at the top, each with the lines it has passed."""
    chain = list(_chain(exc_info[1]))[::-1]
    lines = (line for error in chain for line in (*traceback.format_tb(error.__traceback__), f"{_name(error)}\n"))
    return f"Traceback (most recent call last):\n{''.join(lines)}".rstrip("\n")


def drop_words(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A log line without what an exception or a library may have quoted."""
    if event["event"] == "library.logged":
        event["message"] = _QUOTATION.split(event["message"], maxsplit=1)[0].rstrip()
    rendered: MutableMapping[str, Any] = _RENDERER(_logger, _method, event)
    return rendered


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _name(error: BaseException) -> str:
    name = type(error).__qualname__
    return f"{name}: {error}" if isinstance(error, BridgeError) else name


_RENDERER = ExceptionRenderer(format_without_words)

"""How commands print: tables for people, one record a line for pipes, documents for scripts.

No value is ever cut, and no character of a name reaches a terminal that would steer it. docs/commands.md says what is
promised of each form.
"""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from typing import TYPE_CHECKING

import click
import orjson

from bridge.errors import BridgeError

if TYPE_CHECKING:
    from typing import TextIO

_JOINERS = "\u200c\u200d"
"""Parts of words in Persian, of letters in Hindi, and of emoji: invisible, and harmless."""
_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_STANDARD_STREAMS = (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))
"""What takes the place of a stream that was closed: what is written to standard output must fail, not disappear."""


class OutputFailed(BridgeError):
    """The result of a command could not be written: the disk is full, or standard output is closed."""

    code = "output_failed"
    summary = "The output could not be written"


def prepare_streams() -> None:
    """Make the three standard streams usable, whatever the caller has closed and whatever its locale is.

    A file that is opened later must not get the number of a closed stream, or output would be written into it.
    """
    for number, (name, mode) in enumerate(_STANDARD_STREAMS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def is_terminal() -> bool:
    """Whether somebody looks at standard output."""
    return sys.stdout.isatty()


def escape_controls(text: str) -> str:
    r"""Write what is invisible or steers a terminal as Python does (`\n`, `\x1b`, `\u202e`); a space stays."""
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(letter: str) -> str:
    if letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) == "Zs":
        return letter
    code = ord(letter)
    return _SHORT_ESCAPES.get(letter) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004
    )


def write(text: str) -> None:
    """Write text as it is. A reader who has left is no error; raises `OutputFailed` for anything else."""
    try:
        sys.stdout.write(text)
    except OSError as error:
        _lose(error)


def finish() -> None:
    """Have everything that was written arrive. Raises `OutputFailed`."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _lose(error)


def say(text: str, color: str | None = None) -> None:
    """Write a sentence for people as a line of its own, at once."""
    line = escape_controls(text)
    write(f"{click.style(line, fg=color) if color and may_color(sys.stdout) else line}\n")
    finish()


def note(text: str) -> None:
    """Write what isn't part of the result: to the terminal, or beside a pipe to standard error."""
    if is_terminal():
        say(text)
    else:
        finish()
        complain(text)


def complain(text: str, color: str | None = None) -> None:
    """Write a line to standard error; nobody is told where that fails."""
    line = escape_controls(text)
    try:
        sys.stderr.write(f"{click.style(line, fg=color) if color and may_color(sys.stderr) else line}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        _point_to_nothing(2)


def write_record(*values: str) -> None:
    r"""Write values as one line, with tabs between them; a backslash in a value is doubled, a tab in it is `\t`."""
    write("\t".join(escape_controls(value.replace("\\", "\\\\")) for value in values) + "\n")


def print_json(found: object) -> None:
    """Print the document, indented."""
    try:
        text = orjson.dumps(found, option=orjson.OPT_INDENT_2).decode()
    except TypeError:  # text that is no Unicode, such as an argument of other bytes
        text = json.dumps(found, indent=2)
    print_document(text.encode() + b"\n")


def print_document(document: bytes) -> None:
    """Print JSON, which is UTF-8 whatever the locale is (RFC 8259 §8.1), byte by byte where no terminal reads it."""
    if is_terminal():  # a document means the same with characters of its strings escaped
        lines = document.decode().split("\n")
        document = "\n".join("".join(map(_escape_for_json, line)) for line in lines).encode()
    write_bytes(document)


def write_bytes(data: bytes) -> None:
    """Write bytes whatever encoding the locale asks for. Raises `OutputFailed`."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    except OSError as error:
        _lose(error)


def _escape_for_json(letter: str) -> str:
    return letter if _escape(letter) == letter else json.dumps(letter)[1:-1] if letter != "\x7f" else "\\u007f"


def may_color(stream: TextIO) -> bool:
    """Whether colours are wanted: on a terminal that knows them, unless NO_COLOR says otherwise (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


def _lose(error: OSError) -> None:
    """Standard output leads nowhere from now on, so that nothing fails once more when Python ends."""
    _point_to_nothing(1)
    if not isinstance(error, BrokenPipeError):
        detail = f"standard output: {error.strerror or error}"
        raise OutputFailed(detail, remedy="Make room, or send it elsewhere.") from error


def _point_to_nothing(number: int) -> None:
    descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, number)
    os.close(descriptor)

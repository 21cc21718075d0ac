"""Text of others made harmless: what is invisible, or steers a terminal, is written so that it can be seen.

Whoever may edit their own entry in a directory would otherwise write to an administrator's terminal.
"""

from __future__ import annotations

import json
import unicodedata

_JOINERS = "\u200c\u200d"
"""Parts of words in Persian, of letters in Hindi, and of emoji: invisible, and harmless."""
_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def escape_controls(text: str) -> str:
    r"""Write what is invisible or steers a terminal as Python does (`\n`, `\x1b`, `\u202e`); a space stays."""
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def escape_in_json(text: str) -> str:
    r"""Write a line of JSON so that it means the same, with such characters of its strings as `\u009b`."""
    if text.isprintable():
        return text
    return "".join(letter if _escape(letter) == letter else _escape_for_json(letter) for letter in text)


def _escape(letter: str) -> str:
    if letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) == "Zs":
        return letter
    code = ord(letter)
    return _SHORT_ESCAPES.get(letter) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004
    )


def _escape_for_json(letter: str) -> str:
    return "\\u007f" if letter == "\x7f" else json.dumps(letter)[1:-1]

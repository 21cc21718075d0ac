"""Attribute descriptions (RFC 4512 §2.5): `mail`, `cn;lang-de`, `2.5.4.3`."""

from __future__ import annotations

import re

_DESCRIPTION = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9-]*|(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))+)"  # a descr or a numericoid, RFC 4512 §1.4
    r"(?:;[A-Za-z0-9-]+)*",
)


def is_attribute_description(text: str) -> bool:
    """Whether `text` names an attribute, with or without options."""
    return _DESCRIPTION.fullmatch(text) is not None

"""The set-up of README.md, taken out of it as it stands: what an administrator types, and the file that is written."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.support.machine import ROOT


@dataclass(frozen=True)
class Step:
    """A block of the page."""

    kind: str
    """`sh` or `yaml`."""
    text: str


def read_section(title: str) -> str:
    """The section of that title, with its sub-sections."""
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    assert found is not None, title
    return found[1]


def steps_of(section: str) -> list[Step]:
    """Its blocks, in their order."""
    return [Step(*found) for found in re.findall(r"^```(sh|yaml)\n(.*?)^```", section, re.MULTILINE | re.DOTALL)]

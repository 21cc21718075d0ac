"""The corpus of each target: small files of which each reaches something in the bridge that no other one reaches."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import bridge
from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
_BRIDGE = str(Path(bridge.__file__).parent)
_KEPT_MAX_BYTES = 2048

Step = tuple[str, int, int]
"""A file, and two of its lines that were run one after the other."""


def files_of(name: str) -> list[Path]:
    """The inputs of a target."""
    return sorted((CORPUS / name).iterdir())


def keep_new(name: str, found: Path) -> int:
    """Take into the corpus what goes ways that nothing in it goes, small inputs first; return how many there were."""
    reached = set[Step]().union(*(steps_of(name, file.read_bytes()) for file in files_of(name)))
    count = 0
    for data in _small_first(found.iterdir()):
        steps = steps_of(name, data)
        if not steps <= reached:
            reached |= steps
            (CORPUS / name / hashlib.sha256(data).hexdigest()[:12]).write_bytes(data)
            count += 1
    return count


def _small_first(files: Iterable[Path]) -> list[bytes]:
    inputs = (file.read_bytes() for file in files)
    return sorted((data for data in inputs if len(data) <= _KEPT_MAX_BYTES), key=len)


def steps_of(name: str, data: bytes) -> set[Step]:
    """The ways that an input goes through the bridge, line by line."""
    steps: set[Step] = set()

    def trace(frame: FrameType, _event: str, _argument: object) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(_BRIDGE):
            return None
        last = 0

        def trace_lines(frame: FrameType, event: str, _argument: object) -> Any:
            nonlocal last
            if event == "line":
                steps.add((file, last, frame.f_lineno))
                last = frame.f_lineno
            return trace_lines

        return trace_lines

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        TARGETS[name](data)
    finally:
        sys.settrace(before)
    return steps

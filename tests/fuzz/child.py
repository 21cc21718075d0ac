"""One target under atheris: `python -m tests.fuzz.child TARGET [option of libFuzzer …]`.

The bridge's own code is instrumented, and nothing else: what libraries do is not what inputs are made for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import atheris


def _load(name: str) -> Callable[[bytes], bool]:
    with atheris.instrument_imports(include=["bridge"]):
        from tests.fuzz.targets import TARGETS  # noqa: PLC0415 - what is imported here is instrumented

    return TARGETS[name]


def main() -> None:
    """Run until libFuzzer ends the process: its time is over, or something was found."""
    target = _load(sys.argv[1])

    def run(data: bytes) -> None:
        target(data)

    atheris.Setup([sys.argv[0], *sys.argv[2:]], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

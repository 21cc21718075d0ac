"""The tests that the documents name are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "SECURITY.md", ROOT / "docs" / "nothing-lost.md", ROOT / "docs" / "reliability.md")
NAMED = re.compile(r"`((?:\w+/)*\w*/?(?:test_\w+\.py)?)(?:::([\w…]+))?`")


def _tests_of(file: Path) -> set[str]:
    """The names of the test functions of a module."""
    tree = ast.parse(file.read_text("utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def _named_tests(page: Path) -> list[tuple[str, str]]:
    """The files and functions that a page names. A function may be "", and … may stand for a part of it."""
    text = page.read_text("utf-8")
    return sorted({(file, name) for file, name in NAMED.findall(text) if file.endswith(".py")})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    """Each file, and each function in it."""
    named = _named_tests(page)
    assert len(named) > 10
    missing = []
    for file, name in named:
        path = ROOT / "tests" / file
        if not path.is_file():
            missing.append(file)
            continue
        wanted = re.compile(re.escape(name).replace("…", r"\w*") or ".*")
        if not any(wanted.fullmatch(test) for test in _tests_of(path)):
            missing.append(f"{file}::{name}")
    assert missing == []

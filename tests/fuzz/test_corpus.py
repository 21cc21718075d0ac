"""The corpus of script/fuzz, replayed: what was found once is never found again."""

from __future__ import annotations

import pytest

from tests.fuzz.corpus import CORPUS, files_of
from tests.fuzz.targets import TARGETS

FILES_MAX_COUNT = 700
LONGEST_BYTES = 4096


@pytest.mark.parametrize("name", TARGETS)
def test_target_holds_for_each_input_of_its_corpus(name: str) -> None:
    """No input breaks a rule, and among them are some that are taken: a target that refuses everything shows nothing."""
    taken = [TARGETS[name](file.read_bytes()) for file in files_of(name)]
    assert any(taken)


def test_corpus_is_small_and_belongs_to_targets() -> None:
    """Each folder is a target's, and what is kept is what a person can look through."""
    assert {folder.name for folder in CORPUS.iterdir()} == TARGETS.keys()
    files = [file for name in TARGETS for file in files_of(name)]
    assert len(files) <= FILES_MAX_COUNT
    assert all(file.stat().st_size <= LONGEST_BYTES for file in files)

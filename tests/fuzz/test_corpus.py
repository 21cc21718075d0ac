"""The corpus of script/fuzz, replayed: what was found once is never found again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.corpus import CORPUS, files_of, keep_new
from tests.fuzz.targets import TARGETS

FILES_MAX_COUNT = 600
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


def test_keep_new_takes_what_goes_another_way_the_smallest_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is read like one that is there is left out, and so is the longer of two that go one new way."""
    kept, found = tmp_path / "corpus" / "dn", tmp_path / "found"
    kept.mkdir(parents=True)
    found.mkdir()
    monkeypatch.setattr(corpus, "CORPUS", tmp_path / "corpus")
    (kept / "known").write_bytes(b"cn=a")
    for number, data in enumerate((b"cn=b", b"ou=longer\\", b"ou=\\")):
        (found / str(number)).write_bytes(data)
    assert keep_new("dn", found) == 1
    assert {file.read_bytes() for file in kept.iterdir()} == {b"cn=a", b"ou=\\"}

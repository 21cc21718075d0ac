"""Values of files, with real files that are changed in each way in which administrators and programs change them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bridge.renewal
from bridge.renewal import Look, Renewed

Told = list[str | None]


def parse(contents: tuple[bytes, ...]) -> bytes:
    if not all(contents):
        raise ValueError("holds nothing")
    if len(contents) == 2 and contents[0] != contents[1]:
        raise ValueError("don't fit")
    return contents[0]


def renewed(*files: Path) -> tuple[Renewed[bytes], Told]:
    """A value that has been read once, and what it tells from then on."""
    found = Renewed("place", [str(file) for file in files], parse)
    told: Told = []
    found.observe = lambda _found, error: told.append(None if error is None else str(error))
    found.read()
    return found, told


def write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def write_and_keep_the_time(file: Path, content: bytes) -> None:
    """As `rsync --inplace --times` or `cp --preserve` do."""
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(file: Path, content: bytes) -> None:
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


def remove_and_write(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


@pytest.mark.parametrize("change", [write, write_and_keep_the_time, replace, remove_and_write])
@pytest.mark.parametrize("content", [b"bbb", b"longer"])
def test_change_of_a_file_is_seen_at_once(tmp_path: Path, change: object, content: bytes) -> None:
    """In place or by another file, of the same length and with the same date too."""
    file = tmp_path / "file"
    file.write_bytes(b"aaa")
    found, told = renewed(file)
    assert callable(change)
    change(file, content)
    assert found.read() == content
    assert told == [None]
    assert found.look() is Look.UNCHANGED


def test_switched_link_and_switched_folder_are_seen(tmp_path: Path) -> None:
    """As certbot and Kubernetes do it: the path leads elsewhere, and no file has changed."""
    for name, content in (("one", b"1"), ("two", b"2"), ("three", b"3")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(content)
    data, file = tmp_path / "data", tmp_path / "file"
    data.symlink_to("one")
    file.symlink_to("data/file")
    found, _ = renewed(file)
    (tmp_path / "data.new").symlink_to("two")
    (tmp_path / "data.new").replace(data)
    assert found.read() == b"2"
    file.unlink()
    file.symlink_to("three/file")
    assert found.read() == b"3"
    file.unlink()
    (tmp_path / "one").rename(tmp_path / "file")
    (tmp_path / "file").rename(tmp_path / "one")
    shutil.copy(tmp_path / "one" / "file", file)
    assert found.read() == b"1"


def test_many_changes_within_one_tick_of_the_clock_are_all_seen(tmp_path: Path) -> None:
    """Time stamps go in steps: what is young is read again although nothing shows that it has changed."""
    file = tmp_path / "file"
    file.write_bytes(b"000")
    found, _ = renewed(file)
    for number in range(200):
        file.write_bytes(b"%03d" % number)
        assert found.read() == b"%03d" % number


def test_touched_file_is_no_news(tmp_path: Path) -> None:
    """What it holds has not changed, and neither has anything else."""
    file = tmp_path / "file"
    file.write_bytes(b"aaa")
    found, told = renewed(file)
    taken_at_s = found.taken_at_s
    file.touch()
    assert (found.look(), found.read(), told, found.taken_at_s) == (Look.UNCHANGED, b"aaa", [], taken_at_s)


def test_last_good_value_stays_while_a_file_is_gone_or_empty(tmp_path: Path) -> None:
    """Told once, however often it is looked at; and taken as soon as it is good."""
    file = tmp_path / "file"
    file.write_bytes(b"aaa")
    found, told = renewed(file)
    file.unlink()
    for _ in range(3):
        assert found.look() is Look.FAILED
        assert found.read() == b"aaa"
    file.touch()
    assert found.read() == b"aaa"
    assert len(told) == 1
    assert "No such file" in (told[0] or "")
    assert str(found.failure) == "holds nothing"
    file.write_bytes(b"bbb")
    assert (found.read(), found.failure) == (b"bbb", None)
    assert told[1:] == [None]


def test_file_at_fault_is_named_where_there_are_several(tmp_path: Path) -> None:
    """Of a certificate and its key, which of them is missing; of a single file, the reader knows the name."""
    first, second = tmp_path / "first", tmp_path / "second"
    for file in (first, second):
        file.write_bytes(b"old")
    pair, single = renewed(first, second)[0], renewed(second)[0]
    second.unlink()
    for found in (pair, single):
        assert found.why_failed == ""
        found.look()
    why = "can't be read: No such file or directory; let the service's user read the file"
    assert (pair.why_failed, single.why_failed) == (f"{second} {why}", why)


def test_file_that_comes_back_as_it_was_is_well_again(tmp_path: Path) -> None:
    """The very same file, moved away and back."""
    file, away = tmp_path / "file", tmp_path / "away"
    file.write_bytes(b"aaa")
    found, _ = renewed(file)
    file.rename(away)
    assert found.look() is Look.FAILED
    away.rename(file)
    assert (found.look(), found.failure) == (Look.UNCHANGED, None)


def test_pair_that_does_not_fit_yet_is_taken_when_it_does(tmp_path: Path) -> None:
    """A certificate and its key are two files, and one of them is written first."""
    first, second = tmp_path / "first", tmp_path / "second"
    for file in (first, second):
        file.write_bytes(b"old")
    found, told = renewed(first, second)
    first.write_bytes(b"new")
    assert (found.read(), found.read(), told) == (b"old", b"old", ["don't fit"])
    second.write_bytes(b"new")
    assert (found.read(), told[1:]) == (b"new", [None])


def test_first_reading_tells_what_is_wrong_and_the_next_one_is_another(tmp_path: Path) -> None:
    """There is nothing to go on with; later there is."""
    file = tmp_path / "file"
    found = Renewed("place", [str(file)], parse)
    with pytest.raises(FileNotFoundError):
        found.read()
    assert found.fingerprints == ()
    file.write_bytes(b"aaa")
    assert found.read() == b"aaa"


def test_what_was_refused_is_read_again_whatever_its_date_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may show the time stamps of before for a while."""
    file = tmp_path / "file"
    file.write_bytes(b"aaa")
    stale = bridge.renewal._state(str(file))._replace(changed_ns=0)
    monkeypatch.setattr(bridge.renewal, "_state", lambda _file: stale)
    found, _ = renewed(file)
    file.write_bytes(b"bbb")
    assert found.read() == b"aaa"
    found.suspect()
    assert found.read() == b"bbb"


def test_pipe_is_read_once(tmp_path: Path) -> None:
    """What a shell hands over by `<(…)` comes once, and is never waited for again."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(pipe)!r}, 'w').write('secret')"])
    found, told = renewed(pipe)
    writer.wait(timeout=20)
    assert (found.read(), found.look(), told) == (b"secret", Look.UNCHANGED, [])


def test_file_without_end_is_refused(tmp_path: Path) -> None:
    """Nobody's password has a megabyte."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="more than 99 bytes"):
        Renewed("place", [str(file)], parse, max_bytes=99).read()

"""Whole files or none, and one line when the system refuses."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.files import final_path, output_error, partial_path, whole_file, write_bytes, write_text


def test_writes_and_makes_folders(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "härd")
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "härd"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_failure_leaves_the_old_file_and_no_neighbour(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError, match="stop"), whole_file(path) as partial:
        partial.write_bytes(b"half of the new")
        raise RuntimeError("stop")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(OutputError) as caught, whole_file(path):
        Path("/dev/full").write_bytes(b"x" * 10)  # a real ENOSPC
    assert str(caught.value).startswith(f"{path}: the disk is full")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "held").write_text("a file")
    with pytest.raises(OutputError, match=r"held/a\.bin: cannot be written"):
        write_bytes(tmp_path / "held" / "a.bin", b"x")


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "no permission"), (errno.EIO, "Input/output error")],
)
def test_the_reason_is_named(number: int, words: str) -> None:
    import os

    assert words in str(output_error(Path("x"), OSError(number, os.strerror(number))))


def test_messages_use_the_name_a_user_knows() -> None:
    for name in ("walk.mp4", "record.json", "a.b.png", "LICENSE"):
        path = Path("out") / name
        assert final_path(partial_path(path)) == path
    assert final_path(Path("/x/.walk.partial/rgb/rgb.0001.png")) == Path("/x/walk/rgb/rgb.0001.png")
    assert final_path(Path(".hidden/a.png")) == Path(".hidden/a.png")

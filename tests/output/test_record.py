"""record.json: what was written is read back, and inputs are pinned by their bytes."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.files import file_digest
from pipeline.output import Record, input_digests, package_versions, read_record, write_record

RECORD = Record(
    shot="walk",
    digest="ab" * 32,
    num_frames=48,
    fps=Fraction(24000, 1001),
    inputs={"rgb/rgb.0001.png": "cd" * 32},
    settings={"strength": 0.6, "model": Path("mini")},
    outputs=("walk.mp4",),
    seconds={"diffuse": 61.25},
    notes=("no motion in frame 1",),
)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "walk" / "record.json"
    written = write_record(path, RECORD)
    read = read_record(path)
    assert read.settings == {"strength": 0.6, "model": "mini"}  # paths become text
    for name in ("shot", "digest", "num_frames", "fps", "inputs", "outputs", "seconds", "notes"):
        assert getattr(read, name) == getattr(RECORD, name), name
    assert written.created.endswith("+00:00") and read.created == written.created
    assert json.loads(path.read_text(encoding="utf-8"))["fps"] == "24000/1001"
    assert read.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert list(path.parent.iterdir()) == [path]


def test_versions_are_asked_without_importing() -> None:
    code = "import sys; from pipeline.output import package_versions as v; assert v()['torch'] != 'missing'"
    code += "; sys.exit(any(name in sys.modules for name in ('torch', 'diffusers')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert package_versions()["numpy"]


def test_digests_pin_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert file_digest(tmp_path / "a") == known
    assert input_digests([tmp_path / "a"], base=tmp_path) == {"a": known}
    assert input_digests([tmp_path / "a"]) == {(tmp_path / "a").as_posix(): known}
    assert input_digests([tmp_path / "a"], base=tmp_path / "a") == {"a": known}  # a video is its own base
    with pytest.raises(OutputError, match="b: cannot be read for the record"):
        input_digests([tmp_path / "b"])


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"shot": 1}', '{"fps": "1/0"}', '{"fps": 24, "extra": 1}']
)
def test_what_is_no_record_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(OutputError, match=r"record\.json: not a record") as caught:
        read_record(path)
    assert "\n" not in str(caught.value)


def test_a_missing_record(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be read"):
        read_record(tmp_path / "record.json")

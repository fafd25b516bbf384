"""Captions from what is known: only where there are none, with the trigger, without invariants."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest

from pipeline import cli
from samples.stage.datasets import CONCEPTS
from training.curate.lint import lint_dataset
from training.schema import read_dataset_file

IRIS = Path(__file__).resolve().parents[3] / "samples" / CONCEPTS["iris"].folder


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The first three stills of Iris, the first with its caption, the others without."""
    (tmp_path / "images").mkdir()
    for name in ("dataset.toml", "joints.json", "images/0001.txt"):
        shutil.copy(IRIS / name, tmp_path / name)
    for number in (1, 2, 3):
        shutil.copy(IRIS / "images" / f"000{number}.png", tmp_path / "images")
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal
    return tmp_path


def run(folder: Path, *arguments: str) -> int:
    return cli.main(["dataset", "caption", str(folder / "dataset.toml"), *arguments])


def test_what_is_known_is_said_and_agrees_with_the_stage(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (dataset / "images/0001.txt").read_bytes()
    assert run(dataset) == 2
    assert "add --yes" in capsys.readouterr().err and not (dataset / "images/0002.txt").exists()
    assert run(dataset, "--yes") == 0
    assert "2 captions written" in capsys.readouterr().out
    assert (dataset / "images/0001.txt").read_bytes() == before
    for number in (2, 3):
        said = (dataset / "images" / f"000{number}.txt").read_text().strip().split(", ")
        truth = (IRIS / "images" / f"000{number}.txt").read_text()
        assert said[:2] == ["a person", "iris"]
        assert said[2] in truth and said[3] in truth  # framing and view
    path = dataset / "dataset.toml"
    assert lint_dataset(path, read_dataset_file(path), tokens=None) == []
    assert run(dataset) == 0
    assert "every image has its caption" in capsys.readouterr().out


def test_what_is_not_known_is_left_out(dataset: Path) -> None:
    (dataset / "joints.json").unlink()
    assert run(dataset, "--yes", "--template", "{class}, {trigger}, walking, {framing}, {view}") == 0
    assert (dataset / "images/0002.txt").read_text() == "a person, iris, walking\n"


@pytest.mark.parametrize(
    ("template", "part"),
    [
        ("{class}", "the trigger 'iris' is not in the caption"),
        ("{trigger}, steel skull", "names the invariant 'steel skull'"),
        ("{trigger}, {mood}", "'mood' is unknown; fields: {class}, {trigger}"),
        ("{trigger}, {", "is unknown; fields"),
    ],
)
def test_a_wrong_template_is_one_line(
    dataset: Path, template: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset, "--yes", "--template", template) == 2
    said = capsys.readouterr().err
    assert part in said and said.count("\n") == 1
    assert not (dataset / "images/0002.txt").exists()

"""Mending captions by words: what is taken out, what is put in, and never without asking."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import cli
from training.captions import lint
from training.curate.fix import mend
from training.schema import Concept

CONCEPT = Concept.model_validate(
    {"trigger": "zorbik", "class": "woman", "kind": "character", "invariant": ("steel skull", "red coat")}
)
TOML = """
name = "zorb"
[[concept]]
trigger = "zorbik"
class = "woman"
kind = "character"
invariant = ["steel skull"]
"""


@pytest.mark.parametrize(
    ("caption", "mended"),
    [
        ("zorbik, steel skull, standing", "zorbik, standing"),
        ("zorbik woman with a Steel  Skull in a hall", "zorbik woman in a hall"),
        ("zorbik wearing her red coat and a steel skull, at noon", "zorbik, at noon"),
        ("a woman in a hall", "zorbik, a woman in a hall"),
        ("steel skull", "zorbik"),
        ("zorbik in a stainless steel skullcap", "zorbik in a stainless steel skullcap"),
    ],
)
def test_invariants_go_and_the_trigger_comes(caption: str, mended: str) -> None:
    assert mend(caption, CONCEPT) == mended


@given(st.lists(st.sampled_from(["zorbik", "steel skull", "red coat", "with a", ",", "hall", "at noon"])))
def test_what_is_mended_has_no_fault_and_stays_as_it_is(parts: list[str]) -> None:
    mended = mend(" ".join(parts), CONCEPT)
    assert lint(mended, trigger=CONCEPT.trigger, invariant=CONCEPT.invariant) == []
    assert mend(mended, CONCEPT) == mended


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(b"")
    (tmp_path / "images" / "1.txt").write_text("a steel skull, zorbik, standing\n")
    (tmp_path / "dataset.toml").write_text(TOML)
    return tmp_path


def test_the_diff_comes_first_and_nothing_is_written_unasked(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    caption, path = dataset / "images" / "1.txt", str(dataset / "dataset.toml")
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal
    assert cli.main(["dataset", "lint", path, "--fix"]) == 2
    said = capsys.readouterr()
    assert "-a steel skull, zorbik, standing\n+zorbik, standing\n" in said.out
    assert "add --yes" in said.err
    assert caption.read_text() == "a steel skull, zorbik, standing\n"
    assert cli.main(["dataset", "lint", path, "--fix", "--yes"]) == 0
    assert caption.read_text() == "zorbik, standing\n"
    assert "1 captions written" in capsys.readouterr().out
    assert cli.main(["dataset", "lint", path, "--fix"]) == 0
    assert "nothing that words alone can mend" in capsys.readouterr().out

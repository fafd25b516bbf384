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
from training.curate.place import FRONT, common_place
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


@pytest.mark.parametrize(
    ("others", "caption", "mended"),
    [
        # after the words that all begin with
        (
            ["a photo of zorbik, at noon", "A photo of Zorbik"],
            "a photo of a hall",
            "a photo of zorbik, a hall",
        ),
        (["a woman, zorbik, at noon", "a woman, zorbik"], "a woman, in a hall", "a woman, zorbik, in a hall"),
        (["a woman, zorbik, at noon", "a woman, zorbik"], "a woman in a hall", "a woman, zorbik, in a hall"),
        (["a woman, zorbik, at noon", "a woman, zorbik"], "a woman", "a woman, zorbik"),
        # before the class
        (
            ["a photo of zorbik woman", "a photo of zorbik woman, up"],
            "a photo of a woman in a hall",
            "a photo of zorbik woman in a hall",
        ),
        (["zorbik woman, at noon", "zorbik woman in a hall"], "The woman, walking", "zorbik woman, walking"),
        (["zorbik woman, at noon", "zorbik woman"], "womanly, walking", "zorbik, womanly, walking"),
        # last
        (["at noon, zorbik", "in a hall, zorbik."], "by a lake.", "by a lake, zorbik"),
        (["at noon, zorbik woman", "in a hall, zorbik woman"], "by a lake", "by a lake, zorbik"),
        # in front: no words are made up, one caption is no custom, and where they do not agree
        (
            ["a photo of zorbik", "a photo of zorbik, up"],
            "portrait, in a hall",
            "zorbik, portrait, in a hall",
        ),
        (["a photo of zorbik, at noon"], "a photo of a hall", "zorbik, a photo of a hall"),
        (["a zorbik, at noon", "the zorbik, at noon"], "a hall", "zorbik, a hall"),
        ([], "a hall", "zorbik, a hall"),
        (["a photo of zorbik", "a photo of zorbik"], "", "zorbik"),
        # four of five agree
        (["a still of zorbik, up"] * 4 + ["zorbik, up"], "a still of a hall", "a still of zorbik, a hall"),
        (["a still of zorbik, up"] * 3 + ["zorbik, up"], "a still of a hall", "zorbik, a still of a hall"),
        # the invariants go first
        (
            ["a still of zorbik", "a still of zorbik"],
            "a still of a hall, red coat",
            "a still of zorbik, a hall",
        ),
    ],
)
def test_a_missing_trigger_goes_where_the_others_have_it(
    others: list[str], caption: str, mended: str
) -> None:
    assert mend(caption, CONCEPT, common_place(others, CONCEPT)) == mended


PARTS = ["zorbik", "a photo of", "a woman,", "woman", "red coat", "with a", ",", "hall", "."]


@given(st.lists(st.lists(st.sampled_from(PARTS)).map(" ".join), max_size=6), st.lists(st.sampled_from(PARTS)))
def test_wherever_it_goes_nothing_is_lost(others: list[str], parts: list[str]) -> None:
    place = common_place(others, CONCEPT)
    mended = mend(" ".join(parts), CONCEPT, place)
    assert lint(mended, trigger=CONCEPT.trigger, invariant=CONCEPT.invariant) == []
    assert mend(mended, CONCEPT, place) == mended
    plain = mend(" ".join(parts), CONCEPT, FRONT)
    said = [sorted(set(text.replace(",", " ").replace(".", " ").split()) - {"a"}) for text in (mended, plain)]
    assert said[0] == said[1]  # but for an article


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
    assert "1 caption written" in capsys.readouterr().out
    assert cli.main(["dataset", "lint", path, "--fix"]) == 0
    assert "nothing that words alone can mend" in capsys.readouterr().out


def test_the_command_follows_the_other_captions(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, text in enumerate(
        ["a photo of zorbik, up", "a photo of zorbik, down", "a photo of a hall"], 2
    ):
        (dataset / "images" / f"{number}.png").write_bytes(b"")
        (dataset / "images" / f"{number}.txt").write_text(f"{text}\n")
    (dataset / "images" / "1.png").unlink()
    (dataset / "images" / "1.txt").unlink()
    assert cli.main(["dataset", "lint", str(dataset / "dataset.toml"), "--fix", "--yes"]) == 0
    assert "-a photo of a hall\n+a photo of zorbik, a hall\n" in capsys.readouterr().out
    assert (dataset / "images" / "4.txt").read_text() == "a photo of zorbik, a hall\n"

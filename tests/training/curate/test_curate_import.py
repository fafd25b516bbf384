"""kohya's datasets come in whole, and what is not used is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import cli
from pipeline.image import write_png
from training.dataset import load_dataset
from training.schema import read_dataset_file

TOML = """
[general]
caption_extension = ".caption"
flip_aug = true
[[datasets]]
resolution = 512
  [[datasets.subsets]]
  image_dir = "10_zorbik woman"
  num_repeats = 3
  [[datasets.subsets]]
  image_dir = "halls"
  class_tokens = "vaulthall hall"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two images of zorbik with .txt captions, one of a hall with a .caption."""
    root = tmp_path / "kohya"
    for number, (folder, suffix) in enumerate(
        (("10_zorbik woman", ".txt"), ("10_zorbik woman", ".txt"), ("2_vaulthall hall", ".caption")), start=1
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        write_png(root / folder / f"{number}.png", np.full((8, 8, 3), number, np.uint8))
        trigger = folder.split("_")[1].split()[0]
        (root / folder / f"{number}{suffix}").write_text(f"{trigger},  view {number}\n")
    return root


def run(source: Path, *arguments: str) -> int:
    return cli.main(["dataset", "import", str(source), "--out", str(source.parent / "new"), *arguments])


def test_folders_become_concepts_that_train(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert run(source) == 0
    said = capsys.readouterr().out
    assert "trigger 'zorbik', class 'woman', 2 images, 2 captions, repeats 10" in said
    assert "trigger 'vaulthall', class 'hall', 1 images, 1 captions, repeats 2" in said and "note" not in said
    path = source.parent / "new" / "dataset.toml"
    dataset = load_dataset(path, read_dataset_file(path), size=8, control_kinds=())
    assert [(e.caption, int(e.image[0, 0, 0]), e.concept) for e in dataset.examples] == [
        ("zorbik, view 1", 1, 0), ("zorbik, view 2", 2, 0), ("vaulthall, view 3", 3, 1),
    ]  # fmt: skip
    assert [concept.repeats for concept in dataset.file.concept] == [10, 2]
    assert before == {path: path.read_bytes() for path in source.rglob("*") if path.is_file()}
    assert run(source) == 2  # a second time: the folder is taken
    assert "is there already" in capsys.readouterr().err


def test_what_is_not_used_is_said(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = source / "10_zorbik woman"
    (folder / "1.caption").write_text("other")
    (folder / "9.txt").write_text("lost")
    (folder / "2.txt").unlink()
    assert run(folder) == 2
    assert "choose with --caption .txt" in capsys.readouterr().err
    assert run(folder, "--caption", ".txt") == 0
    said = capsys.readouterr().out
    assert "1.caption is not used: captions end in .txt" in said
    assert "9.txt is not used: no image of that name" in said
    assert "2.png has no caption: it gets the folder's words 'zorbik woman'" in said


def test_kohyas_toml_is_read_and_its_other_keys_are_named(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "2_vaulthall hall").rename(source / "halls")
    (source / "dataset.toml").write_text(TOML)
    assert run(source / "dataset.toml", "--name", "both", "--kind", "place") == 0
    said = capsys.readouterr().out
    assert "2 images, 0 captions, repeats 3" in said and "1 images, 1 captions, repeats 1" in said
    assert "1.txt is not used: captions end in .caption" in said
    assert "flip_aug is not read; mirror = true in the concept does it" in said
    assert "resolution is not read" in said
    file = read_dataset_file(source / "new" / "dataset.toml")
    assert file.name == "both" and [c.kind for c in file.concept] == ["place", "place"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("[general", "not readable as TOML"),
        ("[general]", "no [[datasets]] in it"),
        ("[[datasets]]", "no [[datasets.subsets]] in it"),
        ("[[datasets]]\n[[datasets.subsets]]\n", "subsets[1].image_dir: missing"),
        (TOML.replace("halls", "nowhere"), "subsets[2].image_dir: no folder"),
        (TOML.replace("num_repeats = 3", "num_repeats = 0"), "num_repeats: 0; expected"),
        (TOML.replace('".caption"', '".md"'), "caption_extension: '.md'; expected"),
    ],
)
def test_a_broken_toml_is_one_line(
    source: Path, text: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "2_vaulthall hall").rename(source / "halls")
    (source / "k.toml").write_text(text)
    assert run(source / "k.toml") == 2
    said = capsys.readouterr().err
    assert part in said and said.count("\n") == 1
    assert not (source / "new").exists()


def test_two_folders_of_one_trigger_and_two_classes_are_told_before_anything_is_written(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "2_vaulthall hall").rename(source / "2_zorbik girl")
    assert run(source) == 2
    said = capsys.readouterr().err
    assert "has the trigger 'zorbik' of" in said and "('girl', 'woman')" in said and said.count("\n") == 1
    assert not (source.parent / "new").exists()


def test_subsets_of_one_trigger_are_joined_and_what_changes_is_said(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A closeup counted four times and two others once: six exposures of three images become two each."""
    closeups = source / "closeups"
    closeups.mkdir()
    write_png(closeups / "1.png", np.full((8, 8, 3), 77, np.uint8))
    (closeups / "1.caption").write_text("zorbik, closeup")
    (closeups / "1.txt").write_text("not this one")
    for path in (source / "10_zorbik woman").glob("*.txt"):
        path.rename(path.with_suffix(".caption"))
    text = (
        '[[datasets]]\ncaption_extension = ".caption"\n'
        '[[datasets.subsets]]\nimage_dir = "10_zorbik woman"\nnum_repeats = 1\n'
        '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "closeups"\nnum_repeats = 4\n'
        'class_tokens = "zorbik woman"\ncaption_extension = ".caption"\n'
    )
    (source / "k.toml").write_text(text)
    assert run(source / "k.toml") == 0
    said = capsys.readouterr().out
    assert "3 images, 3 captions, repeats 2" in said
    assert "joined: " in said and "repeats 1, 4: every image now counts 2" in said
    assert "1.txt is not used: captions end in .caption" in said
    assert "1.png becomes closeups_1.png: another image has its name" in said
    path = source / "new" / "dataset.toml"
    dataset = load_dataset(path, read_dataset_file(path), size=8, control_kinds=())
    captions = {example.path.name: example.caption for example in dataset.examples}
    assert captions == {
        "1.png": "zorbik, view 1",
        "2.png": "zorbik, view 2",
        "closeups_1.png": "zorbik, closeup",
    }


def test_nothing_is_passed_over_in_silence(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = source / "10_zorbik woman"
    (folder / "9.bmp").write_bytes(b"BM")
    (folder / "more").mkdir()
    (source / "notes").mkdir()
    (source / "readme.md").write_text("x")
    assert run(source) == 0
    said = capsys.readouterr().out
    for part in ("9.bmp is not used: .bmp images are not read", "more is not used: folders inside",
                 "notes is not used: no N_concept folder", "readme.md is not used"):  # fmt: skip
        assert part in said


@pytest.mark.parametrize(
    ("arguments", "part"), [(["--name", "../x"], "expected letters"), (["--kind", "thing"], "'thing'")]
)
def test_a_wrong_option_is_exit_2(
    source: Path, arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(source, *arguments) == 2
    assert part in capsys.readouterr().err


def test_nothing_to_import_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place, part in ((tmp_path / "nowhere", "not there"), (tmp_path, "no folders named like")):
        assert cli.main(["dataset", "import", str(place), "--out", str(tmp_path / "new")]) == 2
        assert part in capsys.readouterr().err
    (tmp_path / "3_x").mkdir()
    assert cli.main(["dataset", "import", str(tmp_path), "--out", str(tmp_path / "new")]) == 2
    assert "no images in it" in capsys.readouterr().err

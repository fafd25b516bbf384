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
REG = """
[[datasets]]
keep_tokens = 1
  [[datasets.subsets]]
  image_dir = "10_zorbik woman"
  num_repeats = 2
  [[datasets.subsets]]
  is_reg = true
  image_dir = "halls"
  class_tokens = "woman"
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
    (source / "dataset.toml").write_text(TOML.replace("[general]", "[general]\nis_reg = true", 1))
    assert run(source / "dataset.toml", "--name", "both", "--kind", "place") == 0
    said = capsys.readouterr().out
    assert "2 images, 0 captions, repeats 3" in said and "1 images, 1 captions, repeats 1" in said
    assert "1.txt is not used: captions end in .caption" in said
    assert "flip_aug is not read; mirror = true in the concept does it" in said
    assert "datasets[1].resolution is not read" in said and said.count("resolution") == 1
    assert "general.flip_aug is not read" in said and "general.is_reg is not read" in said
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
        (TOML.replace("num_repeats = 3", "num_repeats = 0"), "num_repeats: 0 repeats; expected"),
        (TOML.replace("num_repeats = 3", "num_repeats = 5000"), "expected a whole number from 1 to 1000"),
        (REG.replace('"10_zorbik woman"', '"halls"\nis_reg = true'), "nothing but regularisation images"),
        (TOML.replace('".caption"', '".md"'), "caption_extension: '.md'; expected"),
        (REG.replace("is_reg = true", 'is_reg = "no"'), "subsets[2].is_reg: 'no'; expected true or false"),
        (REG.replace('"woman"', "3"), "subsets[2].class_tokens: 3; expected words in quotes"),
        (TOML.replace('"halls"', "3"), "subsets[2].image_dir: 3; expected the folder"),
        ("datasets = [3]", "datasets[1]: 3; expected a [[datasets]] section"),
        ("[[datasets]]\nsubsets = [3]", "datasets[1].subsets: [3]; expected [[datasets.subsets]]"),
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
    (folder / "meta.json").write_text("{}")
    for name in ("1.npz", "2.npz"):
        (folder / name).write_bytes(b"")
    (folder / "1.txt").write_text("\ufeffzorbik, left\nzorbik, right\n", encoding="utf-8")
    (folder / "2.txt").write_text("\n")
    (source / "0_never").mkdir()
    (source / "2_vaulthall hall").rename(source / "2_vaulthall")
    (folder / "1.TXT").write_text("zorbik, lost")
    (source / "notes").mkdir()
    (source / "readme.md").write_text("x")
    assert run(source) == 0
    said = capsys.readouterr().out
    for part in ("9.bmp is not used: .bmp images are not read", "more is not used: folders inside",
                 "notes is not used: no N_concept folder", "readme.md is not used",
                 "meta.json is not used: neither an image nor a caption", "2 files *.npz are not used",
                 "1.txt has 2 lines, of which kohya reads the first", "2.txt is empty; describe",
                 "1.TXT is not used: captions end in .txt, rename it",
                 "0_never is not used: 0 repeats", "'vaulthall' names no class: 'thing'"):  # fmt: skip
        assert part in said
    caption = source.parent / "new" / "zorbik" / "images" / "1.txt"
    assert caption.read_text(encoding="utf-8") == "zorbik, left zorbik, right\n"  # without the editor's mark


def test_a_caption_in_utf_16_is_told(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "10_zorbik woman" / "1.txt").write_bytes("zorbik".encode("utf-16-le"))
    assert run(source) == 2
    assert "1.txt: holds NUL characters, as UTF-16 does" in capsys.readouterr().err


def test_two_images_of_one_stem_keep_a_caption_each(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = source / "10_zorbik woman"
    write_png(folder / "1.jpg.png", np.zeros((8, 8, 3), np.uint8))
    (folder / "1.jpg.png").rename(folder / "1.jpg")
    assert run(folder) == 0
    assert "1.png becomes 1_png.png: another image has its name" in capsys.readouterr().out
    images = source / "new" / "zorbik" / "images"
    names = ["1.jpg", "1.txt", "1_png.png", "1_png.txt", "2.png", "2.txt"]
    assert sorted(path.name for path in images.iterdir()) == names


def test_regularisation_images_become_class_images(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "2_vaulthall hall").rename(source / "halls")
    (source / "k.toml").write_text(REG)
    assert run(source / "k.toml") == 0
    assert "1 regularisation images of 'woman' become its class images" in capsys.readouterr().out
    path = source / "new" / "dataset.toml"
    file = read_dataset_file(path)
    assert [(each.trigger, each.prior_images) for each in file.concept] == [("zorbik", "zorbik/class")]
    assert file.train.prior_weight == 1.0
    assert (path.parent / "zorbik" / "class" / "3.png").is_file()


def test_regularisation_images_of_no_concepts_class_are_said_not_to_be_used(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "2_vaulthall hall").rename(source / "halls")
    (source / "k.toml").write_text(REG.replace('"woman"', '"man"'))
    assert run(source / "k.toml") == 0
    assert (
        "1 regularisation images of 'man' are not used: no concept has this class" in capsys.readouterr().out
    )
    (concept,) = read_dataset_file(source / "new" / "dataset.toml").concept
    assert concept.prior_images is None


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


def test_spaces_in_a_folders_name_and_a_mark_in_front_of_the_toml_are_read_over(source: Path) -> None:
    (source / "10_zorbik woman").rename(source / "10_ zorbik  woman ")
    (source / "a.toml").write_text(
        '\ufeff[[datasets]]\n[[datasets.subsets]]\nimage_dir = "10_ zorbik  woman "\nclass_tokens = " "\n'
    )
    assert run(source / "a.toml") == 0
    (concept,) = read_dataset_file(source / "new" / "dataset.toml").concept
    assert (concept.trigger, concept.class_word) == ("zorbik", "woman")


def test_a_folder_without_a_word_in_its_name_is_one_line(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "10_zorbik woman").rename(source / "10_ ")
    assert run(source) == 2
    assert "10_ : no trigger in its name; expected N_concept" in capsys.readouterr().err


def test_nothing_is_written_among_the_originals(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = source / "10_zorbik woman"
    before = sorted(folder.iterdir())
    assert cli.main(["dataset", "import", str(source), "--out", str(folder / "new")]) == 2
    assert "which stays as it is; choose another" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before


def test_an_image_that_cannot_be_read_is_named_itself(
    source: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read anything
    assert run(source) == 2
    assert f"{source / '10_zorbik woman' / '1.png'}: cannot be read (Permission" in capsys.readouterr().err
    assert not (source.parent / "new" / "dataset.toml").exists()

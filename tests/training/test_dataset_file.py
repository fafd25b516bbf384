"""Every mistake in a dataset file is one line that names file, section and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DatasetError
from samples.stage.datasets import CONCEPTS
from training.schema import read_dataset_file

SAMPLES = Path(__file__).resolve().parents[2] / "samples"

GOOD = """
name = "iris"
[[concept]]
trigger = "irisbot"
class = "woman"
kind = "character"
invariant = ["steel skull"]
[train]
steps = 7
"""


def read(tmp_path: Path, text: str) -> object:
    path = tmp_path / "dataset.toml"
    path.write_text(text, encoding="utf-8")
    return read_dataset_file(path)


def fault(tmp_path: Path, text: str) -> str:
    with pytest.raises(DatasetError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(tmp_path) + "/", "")


def test_reads_what_is_written_and_fills_in_defaults(tmp_path: Path) -> None:
    (tmp_path / "dataset.toml").write_text(GOOD, encoding="utf-8")
    file = read_dataset_file(tmp_path / "dataset.toml")
    assert (file.model, file.name, file.train.steps, file.train.batch) == ("mini", "iris", 7, 8)
    (concept,) = file.concept
    assert (concept.trigger, concept.class_word, concept.images) == ("irisbot", "woman", "images")
    assert concept.invariant == ("steel skull",)
    assert concept.controls is None


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("steps = 7", "stps = 7", "dataset.toml:train.stps: unknown key 'stps'; did you mean 'steps'?"),
        ("class =", "clas =", "dataset.toml:concept[1].clas: unknown key 'clas'; did you mean 'class'?"),
        ("[train]", "[trian]", "dataset.toml:trian: unknown key 'trian'; did you mean 'train'?"),
        ('kind = "character"', 'kind = "person"', "dataset.toml:concept[1].kind: 'person' cannot be used"),
        ("steps = 7", 'steps = "7"', "dataset.toml:train.steps: '7' cannot be used"),
        ("steps = 7", "steps = 0", "dataset.toml:train.steps: 0 cannot be used"),
        ("steps = 7", f"seed = {2**32}", f"dataset.toml:train.seed: {2**32} cannot be used"),
        ("steps = 7", "lr = nan", "dataset.toml:train.lr: nan cannot be used: input should be a finite"),
        (
            "steps = 7",
            "alpha = inf",
            "dataset.toml:train.alpha: inf cannot be used: input should be a finite",
        ),
        ("steps = 7", "steps = true", "dataset.toml:train.steps: True cannot be used"),
        ('name = "iris"', 'name = "../iris"', "dataset.toml:name: '../iris' cannot be used"),
        ('name = "iris"', "", "dataset.toml:name: missing"),
        ("[train]", "[train", "dataset.toml: not valid TOML"),
        ("[train]", 'views = ["side"]\n[train]', "dataset.toml:concept[1].views[1]: 'side' cannot be used"),
        ("[train]", "weight = 0.0\n[train]", "dataset.toml:concept[1].weight: 0.0 cannot be used"),
        (
            "[train]",
            "weight = 2.0\nrepeats = 3\n[train]",
            "dataset.toml: 'irisbot' has a weight and 'irisbot' has repeats; use weight alone",
        ),
        (
            "[train]",
            '[[concept]]\ntrigger = "IrisBot"\nclass = "hall"\nkind = "place"\n[train]',
            "dataset.toml: two concepts share the trigger 'irisbot'; give each its own",
        ),
        ("steps = 7", "steps = 10000000", "dataset.toml:train.steps: 10000000 cannot be used"),
        ('"irisbot"', '" "', "dataset.toml:concept[1].trigger: is blank; write the words"),
        ('"woman"', '""', "dataset.toml:concept[1].class: is blank"),
        (
            '"irisbot"',
            '"iris  bot"',
            "dataset.toml:concept[1].trigger: 'iris  bot' has white space too much; write",
        ),
        ('["steel skull"]', '["bald", ""]', "dataset.toml:concept[1].invariant[2]: is blank"),
        (
            '["steel skull"]',
            '["a", "b "]',
            "dataset.toml:concept[1].invariant[2]: 'b ' has white space too much",
        ),
        ("[train]", 'images = ""\n[train]', "dataset.toml:concept[1].images: '' cannot be used"),
        (
            "[[concept]]",
            "[concept]",
            "dataset.toml:concept: cannot be read like this; write [[concept]] above",
        ),
        (
            "[train]",
            "[[train]]",
            "dataset.toml:train: cannot be read like this; write [train] above its keys",
        ),
        (
            "[train]",
            "rank = 8\n[train]",
            "dataset.toml:concept[1].rank: unknown key 'rank'; it belongs under [train]",
        ),
        (
            'name = "iris"',
            'name = "i"\nviews = []',
            "dataset.toml:views: unknown key 'views'; it belongs under [[con",
        ),
        (
            "steps = 7",
            "invariant = []",
            "dataset.toml:train.invariant: unknown key 'invariant'; it belongs under [[",
        ),
    ],
)
def test_one_line_names_the_place(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert fault(tmp_path, GOOD.replace(old, new)).startswith(expected)


def test_an_unknown_key_without_a_close_match_lists_the_keys(tmp_path: Path) -> None:
    message = fault(tmp_path, GOOD + "zzzz = 1\n")
    assert "known keys: steps, batch, " in message


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (
            GOOD.replace('["steel skull"]', '"bald"'),
            """'bald' cannot be used: input should be a list, like invariant = ["...", "..."]""",
        ),
        (GOOD.replace("trigger", "triger"), "unknown key 'triger'; did you mean 'trigger'? (and 1 more)"),
        (GOOD.replace("[train]", "zzz = 1\nclas = 1\n[train]"), "images, engine"),
        (GOOD.replace('"character"', '"person"'), "'style' or 'object'"),
    ],
)
def test_faults_are_counted_as_they_are_and_said_in_tomls_words(tmp_path: Path, text: str, end: str) -> None:
    message = fault(tmp_path, text)
    assert end in message and ("more)" in message) == ("zzz" in text or "triger" in text)
    assert "tuple" not in message.lower()


@pytest.mark.parametrize("text", ['name = "iris"', 'name = "iris"\nconcept = []'])
def test_a_file_without_a_concept_is_told(tmp_path: Path, text: str) -> None:
    assert fault(tmp_path, text) == "dataset.toml:concept: missing; add a section [[concept]]"


def test_a_mark_in_front_of_the_file_is_read_over(tmp_path: Path) -> None:
    assert read(tmp_path, "\ufeff" + GOOD.replace("\n", "\r\n")) == read(tmp_path, GOOD)


def test_a_path_below_a_file_and_a_link_to_itself_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(GOOD)
    (tmp_path / "b.toml").symlink_to("b.toml")
    for path, why in ((tmp_path / "a.toml" / "x.toml", "Not a directory"), (tmp_path / "b.toml", "Too many")):
        with pytest.raises(DatasetError, match=rf"^{path}: cannot be read \({why}.*\); check the path$"):
            read_dataset_file(path)


def test_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r": is a folder; give the path of the dataset\.toml in it$"):
        read_dataset_file(tmp_path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such dataset file"):
        read_dataset_file(tmp_path / "none.toml")


@pytest.mark.parametrize(("kind", "num_views"), [("character", 5), ("object", 5), ("place", 0), ("style", 0)])
def test_a_figure_must_be_seen_from_all_sides_unless_the_file_says_otherwise(
    tmp_path: Path, kind: str, num_views: int
) -> None:
    text = GOOD.replace('kind = "character"', f'kind = "{kind}"')
    for extra, expected in (("", num_views), ('views = ["front", "back"]\n', 2), ("views = []\n", 0)):
        (tmp_path / "dataset.toml").write_text(text.replace("[train]", f"{extra}[train]"), encoding="utf-8")
        (concept,) = read_dataset_file(tmp_path / "dataset.toml").concept
        assert len(concept.wanted_views) == expected


@pytest.mark.parametrize("name", CONCEPTS)
def test_the_samples_files_are_read_and_train_from_the_engines_renders(name: str) -> None:
    file = read_dataset_file(SAMPLES / CONCEPTS[name].folder / "dataset.toml")
    assert file.name == name
    assert [concept.engine for concept in file.concept] == ["engine"]

"""Captions from what is known: only where there are none, with the trigger, without invariants."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import cli
from pipeline.image import read_image
from samples.stage.datasets import CONCEPTS
from training.captions import lint
from training.curate.describe import adapt, load_captioner, merged
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
        ("{trigger}, {mood}", "{mood} is unknown; fields: {class}, {trigger}"),
        ("{trigger}, {", "a brace without the other one; fields: {class}"),
        ("{trigger.upper}", "{trigger.upper} is unknown; fields: {class}"),
        ("{trigger:>9}", "{trigger:>9} is unknown; fields"),
        ("{0}, {trigger}", "{0} is unknown; fields"),
        (" ", "is empty; fields: {class}"),
    ],
)
def test_a_wrong_template_is_one_line(
    dataset: Path, template: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset, "--yes", "--plain", "--template", template) == 2
    said = capsys.readouterr().err
    assert part in said and said.count("\n") == 1
    assert not (dataset / "images/0002.txt").exists()


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda images: shutil.rmtree(images), "no folder"),
        (lambda images: [path.unlink() for path in images.iterdir()], "no images in"),
        (lambda images: (images / "0002.txt").mkdir(), "0002.txt: is a folder, no file; rename it"),
        (lambda images: (images / "0002.txt").write_text(""), "0002.txt: empty caption"),
        (lambda images: (images / "0002.caption").write_text("iris"), "0002.caption: captions ending in"),
        (lambda images: shutil.copy(images / "0002.png", images / "0002.jpg"), "0002.jpg has the same stem"),
    ],
)
def test_a_folder_with_other_faults_gets_no_captions(
    dataset: Path, spoil: Callable[[Path], object], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(dataset / "images")
    assert run(dataset, "--yes", "--plain") == 2
    said = capsys.readouterr()
    assert part in said.err and said.out == ""
    assert not (dataset / "images/0003.txt").exists()


WORDS = (
    "[PAD] [UNK] [CLS] [SEP] [MASK] [DEC] [ENC] a woman with long hair in red room standing green vest the"
)


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole BLIP of random weights and few words, saved as transformers saves one."""
    import torch
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForConditionalGeneration,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder = tmp_path_factory.mktemp("blip")
    (folder / "vocab.txt").write_text("\n".join(WORDS.split()))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    marks = {"bos_token_id": 5, "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3}
    text = {
        **sizes,
        **marks,
        "vocab_size": len(WORDS.split()),
        "encoder_hidden_size": 16,
        "projection_dim": 16,
    }
    config = BlipConfig(
        text_config=text,
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=16,
        image_text_hidden_size=16,
    )
    torch.manual_seed(0)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    sight = BlipImageProcessor(size={"height": 32, "width": 32})
    BlipProcessor(sight, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


def test_a_captioning_model_is_loaded_heard_and_merged(
    dataset: Path, blip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = load_captioner(blip)(read_image(dataset / "images/0002.png"))
    assert heard and set(heard.split()) <= set(WORDS.split())
    assert heard == load_captioner(blip)(read_image(dataset / "images/0002.png"))
    assert run(dataset, "--yes", "--model", str(blip)) == 0
    file = read_dataset_file(dataset / "dataset.toml")
    said = (dataset / "images/0002.txt").read_text().strip()
    assert said.startswith("a person, iris, ")
    tail = adapt(heard, file.concept[0]).text
    assert tail and said.endswith(tail)
    assert "note: by the template alone" not in capsys.readouterr().err


def test_a_model_that_is_not_there_is_one_line_and_none_is_a_note(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "none"))
    assert run(dataset, "--yes", "--model", str(tmp_path)) == 2
    assert "no config.json there; expected a folder of a captioning model" in capsys.readouterr().err
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "config.json").write_text('{"model_type": "bert"}')
    assert run(dataset, "--yes", "--model", str(tmp_path / "bad")) == 2
    said = capsys.readouterr().err
    assert "is no captioning model that transformers reads" in said and said.count("\n") == 1
    assert not (dataset / "images/0002.txt").exists()
    assert run(dataset, "--yes") == 0
    assert "note: by the template alone" in capsys.readouterr().err
    (dataset / "images/0003.txt").unlink()
    assert run(dataset, "--yes", "--plain") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("said", "left", "noted"),
    [
        (
            "a photo of a man with a brown beard and glasses standing in a red room",
            "standing in a red room",
            0,
        ),
        ("there is a man in a green vest", "", 0),
        ("a young man sitting on a chair with his vest", "sitting on a chair", 0),
        ("a woman with a red vest in a hall", "in a hall", 1),
        ("the the the hall with a lamp", "the hall with a lamp", 0),
        ("a man is clean-shaven, waving", "waving", 1),
    ],
)
def test_what_a_model_says_loses_who_it_is_and_what_the_trigger_carries(
    said: str, left: str, noted: int
) -> None:
    otto = read_dataset_file(IRIS.parent / "otto" / "dataset.toml").concept[0]
    found = adapt(said, otto)
    assert (found.text, len(found.notes)) == (left, noted)
    assert lint(merged("a person, otto", found, otto), trigger="otto", invariant=otto.invariant) == []

"""Whole trainings of each kind, through the files that they read and leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import DatasetError, ModelError
from pipeline.files import file_digest
from pipeline.models import EmbeddingUse, LoraUse, apply_loras, encode_prompts, load_embeddings, load_model
from pipeline.models.lora_file import read_lora
from pipeline.models.lora_info import describe
from training import run, session, sheet

MakeDataset = Callable[[str], Path]
SETTINGS = "steps = 2\nbatch = 1\nrank = 2\nprecision = 'fp32'\nvalidation = 1\n"


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheet, "NUM_SAMPLES", 1)
    monkeypatch.setattr(sheet, "STEPS", 1)


def train(make_dataset: MakeDataset, out: Path, more: str) -> run.TrainResult:
    return run.train_from_file(make_dataset(SETTINGS + more), out=out, progress=False)


def trained_state(out: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(out / "checkpoint.pt", weights_only=True)["trained"]
    return state


def test_an_embedding_is_a_file_named_by_its_trigger_that_a_render_reads(
    make_dataset: MakeDataset, random_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = train(make_dataset, out, 'kind = "embedding"\nvectors = 3\nkeep_every = 1\n')
    assert result.result == out / "embeddings" / "irisbot.safetensors"
    assert (out / "checkpoints" / "embeddings" / "irisbot-000001.safetensors").is_file()
    vectors = load_file(result.result)["emb_params"]
    assert vectors.shape == (3, 128)
    assert torch.equal(vectors, trained_state(out)["irisbot.0"])
    model = load_model(random_model, controls=())
    plain = encode_prompts(model, ["irisbot in a hall", "a hall"]).tokens
    load_embeddings(model, [EmbeddingUse(result.result, "irisbot")])
    said = encode_prompts(model, ["irisbot in a hall", "a hall"]).tokens
    assert not torch.equal(said[0], plain[0]) and torch.equal(said[1], plain[1])


def test_pivotal_leaves_both_files_and_the_lora_names_its_embedding(
    make_dataset: MakeDataset, random_model: Path, tmp_path: Path
) -> None:
    result = train(make_dataset, tmp_path / "out", 'kind = "pivotal"\nlayout = "peft"\nvectors = 2\n')
    lora = read_lora(result.result)
    assert lora.layout == "peft" and result.result.name == "iris.safetensors"
    named = json.loads(lora.metadata["lookdev.embeddings"])
    word = tmp_path / "out" / "embeddings" / named["irisbot"]["file"]
    assert named["irisbot"]["sha256"] == file_digest(word)
    assert ("embedding", "irisbot (belongs to it)") in describe(lora, "mini")
    model = load_model(random_model, controls=())
    apply_loras(model, [LoraUse(result.result)])
    load_embeddings(model, [EmbeddingUse(word, "irisbot")])
    assert "irisbot" in model.embedding_ids
    assert (
        "embeddings irisbot.safetensors" in json.loads((tmp_path / "out" / "iris.json").read_text())["notes"]
    )


def test_full_leaves_a_model_folder_of_the_trained_weights_with_its_controlnets(
    make_dataset: MakeDataset, random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    settings = 'kind = "full"\ntext_lr = 1e-5\nprior_weight = 1.0\n'
    result = train(make_dataset, out, settings)
    assert result.result == out / "iris"
    model, base = load_model(out / "iris", controls=("depth", "pose")), load_model(random_model)
    state = trained_state(out)
    for root in ("unet", "text_encoder"):
        ours = getattr(model, root).state_dict()
        theirs = getattr(base, root).state_dict()
        learned = [name for name in ours if f"{root}.{name}" in state]
        assert learned and all(torch.equal(ours[name], state[f"{root}.{name}"]) for name in learned)
        assert any(not torch.equal(ours[name], theirs[name]) for name in learned)
        frozen = [name for name in ours if f"{root}.{name}" not in state]
        assert all(torch.equal(ours[name], theirs[name]) for name in frozen)
    for ours, theirs in ((model.vae, base.vae), (model.controlnets["pose"], base.controlnets["pose"])):
        a, b = ours.state_dict(), theirs.state_dict()
        assert all(torch.equal(a[name], b[name]) for name in a)
    monkeypatch.setattr(session, "load_model", None)  # nothing is left to do, so no model is loaded
    assert train(make_dataset, out, settings) == result
    (out / "iris" / "unet" / "config.json").unlink()
    with pytest.raises(TypeError):
        train(make_dataset, out, settings)


def test_the_record_says_what_was_trained_how_often_and_what_came_out(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = train(make_dataset, out, 'kind = "lokr"\n')
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["steps"], record["precision"]) == ("lokr", 2, "fp32")
    assert record["settings"]["rank"] == 2 and record["settings"]["min_snr_gamma"] == 5.0
    assert record["concepts"][0]["class"] == "woman"
    shown = record["exposure"]["irisbot"]
    assert shown["shown"] == 2 and shown["share"] == 1.0
    assert len(shown["images"]) == 3 and sum(shown["images"].values()) == 2  # one of four is held out
    assert [point[0] for point in record["losses"]] == [1, 2]
    assert record["validation"][-1]["step"] == 2 and record["validation"][-1]["irisbot"] > 0
    assert set(record["outputs"]) == {"samples.png", "iris.json", "iris.safetensors"}
    assert record["outputs"]["iris.safetensors"] == file_digest(result.result)
    assert record["versions"]["torch"] and record["versions"]["peft"]
    assert record["model"]["family"] == "mini"
    assert read_lora(result.result).metadata["ss_network_module"] == "lycoris.kohya"
    assert json.loads(read_lora(result.result).metadata["ss_network_args"])["algo"] == "lokr"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('kind = "embedding"\nvectors = 30\n', r"0001\.txt: with 30 vectors for the trigger longer"),
        (
            'kind = "full"\nsingle_file = true\n',
            r"train\.single_file: the built-in miniature has no layout of",
        ),
    ],
)
def test_what_cannot_be_trained_or_written_is_told_before_the_first_step(
    make_dataset: MakeDataset, tmp_path: Path, more: str, message: str
) -> None:
    path = make_dataset(SETTINGS + more)
    for text in (path.parent / "images").glob("*.txt"):
        text.write_text(text.read_text() + ", by the big window in the long hall", encoding="utf-8")
    with pytest.raises((DatasetError, ModelError), match=message) as caught:
        run.train_from_file(path, out=tmp_path / "out", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_a_trigger_that_cannot_be_a_files_name_is_told(make_dataset: MakeDataset) -> None:
    path = make_dataset('kind = "embedding"')
    path.write_text(path.read_text().replace('trigger = "irisbot"', 'trigger = "iris/bot"'), encoding="utf-8")
    with pytest.raises(DatasetError, match="kind 'embedding' names a file by the trigger 'iris/bot'"):
        run.train_from_file(path, out=path.parent / "out", progress=False)

"""A whole training, through the files that it reads and leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import DatasetError, ModelError, OutputError
from pipeline.image import read_png
from pipeline.models import LoraUse, apply_loras, load_model, read_lora
from training import run, session, sheet
from training.loop import Trainer

MakeDataset = Callable[[str], Path]
SETTINGS = "steps = 4\nbatch = 1\nrank = 2\nalpha = 2.0\ncheckpoint_every = 3\n"


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw one sample in one step: these tests are about the weights."""
    monkeypatch.setattr(sheet, "NUM_SAMPLES", 1)
    monkeypatch.setattr(sheet, "STEPS", 1)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Press Ctrl-C while this step is being taken."""
    plain = Trainer.take_step

    def take_step(self: Trainer) -> float:
        if self.step == step - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return plain(self)

    monkeypatch.setattr(Trainer, "take_step", take_step)


def test_pictures_for_controls_that_the_model_does_not_have_are_left_alone(
    make_dataset: MakeDataset, random_model: Path, tmp_path: Path
) -> None:
    """Most models' folders come without ControlNets; a depth folder beside the images must not stop them."""
    bare = tmp_path / "bare"
    shutil.copytree(random_model, bare, ignore=shutil.ignore_patterns("controlnet_*"))
    path = make_dataset("steps = 1")
    assert run._read(path, None)[0].control_kinds == ("depth", "pose")
    path.write_text(path.read_text().replace(str(random_model), str(bare)))
    assert run._read(path, None)[0].control_kinds == ()
    path.write_text(path.read_text().replace("[train]", 'controls = ["depth"]\n[train]'))
    with pytest.raises(DatasetError, match=r"concept\[1\]\.controls: the model has no 'depth' control"):
        run._read(path, None)


@pytest.mark.usefixtures("few_samples")
@pytest.mark.parametrize(
    "extra",
    ["prior_weight = 0.5\nprecision = 'fp32'\n", "text_lr = 0.001\nprecision = 'bf16'\n"],
    ids=["prior_fp32", "text_bf16"],
)
def test_an_interrupted_training_ends_with_the_bytes_of_an_uninterrupted_one(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    dataset = make_dataset(SETTINGS + extra)
    whole = run.train_from_file(dataset, out=tmp_path / "whole", progress=False)
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)  # the checkpoint of step 3 is not reached
        with pytest.raises(KeyboardInterrupt):
            run.train_from_file(dataset, out=tmp_path / "cut", progress=False)
    assert torch.load(tmp_path / "cut" / "checkpoint.pt", weights_only=True)["step"] == 2
    assert not (tmp_path / "cut" / "iris.safetensors").exists()
    counted = count_steps(monkeypatch)
    resumed = run.train_from_file(dataset, out=tmp_path / "cut", progress=False)
    assert counted == [2, 3]
    assert resumed.result.read_bytes() == whole.result.read_bytes()
    assert resumed.samples.read_bytes() == whole.samples.read_bytes()


def count_steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The list that every step from now on joins, with its number from 0."""
    taken: list[int] = []
    plain = Trainer.take_step

    def take_step(self: Trainer) -> float:
        taken.append(self.step)
        return plain(self)

    monkeypatch.setattr(Trainer, "take_step", take_step)
    return taken


def refuse(*arguments: object, **keywords: object) -> None:
    raise AssertionError("called, though nothing was left to do")


@pytest.mark.usefixtures("few_samples")
def test_a_finished_training_returns_without_loading_a_model(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(settings: str) -> run.TrainResult:
        return run.train_from_file(make_dataset(settings), out=tmp_path / "out", progress=False)

    short = "steps = 2\nbatch = 1\nrank = 2\n"
    first = train(short)
    lora, sheet_before = first.result.read_bytes(), first.samples.read_bytes()
    weights = read_lora(first.result).metadata["sshs_model_hash"]  # of the tensors alone
    taken = count_steps(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(session, "load_model", refuse)
        again = [train(short), train(short + "checkpoint_every = 1\nsample_every = 1\n")]
        assert again == [first, first]
        assert [each.was_done for each in (first, *again)] == [False, True, True]
    assert (first.result.read_bytes(), first.samples.read_bytes()) == (lora, sheet_before)
    # Other sample prompts need the model, but no step; so does a file that is missing.
    prompts = short + 'samples = ["a woman in a hall"]\n'
    train(prompts)
    assert read_lora(first.result).metadata["sshs_model_hash"] == weights
    assert first.samples.read_bytes() != sheet_before
    drawn = first.samples.read_bytes()
    first.samples.unlink()
    train(prompts)
    assert first.samples.read_bytes() == drawn
    assert taken == []


@pytest.mark.usefixtures("few_samples")
def test_a_changed_training_starts_afresh_and_an_older_lora_does_not_pass_for_its_result(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, out = make_dataset(SETTINGS), tmp_path / "out"
    first = run.train_from_file(dataset, out=out, steps=1, progress=False)
    old = first.result.read_bytes()
    taken = count_steps(monkeypatch)
    (dataset.parent / "images" / "0001.txt").write_text("irisbot woman, seen anew")
    with monkeypatch.context() as patch:  # Ctrl-C after the last step, while the sheet is drawn
        patch.setattr(sheet, "write_sheet", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.train_from_file(dataset, out=out, steps=1, progress=False)
    assert taken == [0]
    assert first.result.read_bytes() == old
    run.train_from_file(dataset, out=out, steps=1, progress=False)
    assert taken == [0]
    assert first.result.read_bytes() != old


def raise_interrupt(*arguments: object) -> None:
    raise KeyboardInterrupt


def test_a_models_digest_follows_every_file_that_is_read(tmp_path: Path) -> None:
    for name in ("unet/w", "vae/w", "text_encoder/w", "tokenizer/w", "scheduler/w", "controlnet_depth/w"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(name)

    def digest() -> str:
        return run.model_digest(tmp_path, ["depth"])

    seen = [digest()]
    (tmp_path / "README.md").write_text("not read")
    (tmp_path / "controlnet_pose").mkdir()
    (tmp_path / "controlnet_pose" / "w").write_text("not asked for")
    assert digest() == seen[0]
    for path in sorted(tmp_path.glob("*/w")):
        if path.parent.name != "controlnet_pose":
            path.write_text("other")
            seen.append(digest())
    (tmp_path / "vae" / "w").rename(tmp_path / "vae" / "v")
    seen.append(digest())
    assert len(set(seen)) == 8


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("train.lr: too high", "train.toml:train.lr: too high"),
        ("train.toml:train.validation: 5", "train.toml:train.validation: 5"),
        ("images/1.png: damaged", "images/1.png: damaged"),
    ],
)
def test_a_fault_that_shows_while_training_names_the_file_once(told: str, expected: str) -> None:
    with pytest.raises(DatasetError) as raised, run._file_named(Path("train.toml")):
        raise DatasetError(told)
    assert str(raised.value) == expected


def test_bad_input_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    """In a fresh interpreter: a missing file, and a dataset whose images are missing."""
    good = 'name = "x"\n[[concept]]\ntrigger = "t"\nclass = "c"\nkind = "style"\n'
    (tmp_path / "dataset.toml").write_text(good, encoding="utf-8")
    code = """
import sys
from pathlib import Path
from pipeline.errors import DatasetError
from training.run import train_from_file
for name in sys.argv[1:]:
    try:
        train_from_file(Path(name))
    except DatasetError as error:
        print(error)
print("torch" in sys.modules)
"""
    names = ["nowhere.toml", str(tmp_path / "dataset.toml")]
    said = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, check=True)
    missing, empty, torch_loaded = said.stdout.splitlines()
    assert missing.startswith("nowhere.toml: no such dataset file")
    assert "no folder" in empty
    assert torch_loaded == "False"


def test_leaves_a_lora_that_the_render_side_reads_and_a_contact_sheet(
    make_dataset: MakeDataset, random_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sheet, "STEPS", 1)
    monkeypatch.setattr(sheet, "NUM_SAMPLES", 2)
    out = tmp_path / "out"
    result = run.train_from_file(make_dataset(SETTINGS + "sample_every = 3"), out=out, progress=False)
    assert result.result == out / "iris.safetensors"
    assert result.steps == 4
    assert result.images_per_second == pytest.approx(4 / result.seconds)
    # 2 rows of 256 pixels; image, depth, pose, without, with
    height, width = read_png(result.samples).shape[:2]
    assert height > 2 * 256 and width > 5 * 256
    assert [path.name for path in (out / "samples").iterdir()] == ["step_000003.png"]
    metadata = read_lora(result.result).metadata
    assert metadata["ss_network_dim"] == "2"
    assert metadata["ss_output_name"] == "iris"
    assert metadata["modelspec.trigger_phrase"] == "irisbot"
    assert metadata["ss_resolution"] == "(128, 128)"
    assert metadata["ss_optimizer"] == "adamw"
    # four steps of one of the four images each: one epoch
    assert metadata["ss_steps"] == metadata["ss_max_train_steps"] == "4"
    assert metadata["ss_epoch"] == metadata["ss_num_epochs"] == "1"
    assert metadata["ss_num_train_images"] == metadata["ss_num_batches_per_epoch"] == "4"
    assert metadata["ss_sd_model_name"] == "model"  # the folder's
    assert metadata["modelspec.prediction_type"] == "v"
    assert json.loads(metadata["ss_bucket_info"])["buckets"] == {"0": {"resolution": [128, 128], "count": 4}}
    tags = json.loads(metadata["ss_tag_frequency"])["1_irisbot woman"]
    assert tags["irisbot woman"] == 4
    sidecar = json.loads((out / "iris.json").read_text(encoding="utf-8"))
    assert sidecar["activation text"] == "irisbot"
    check_same_prediction(random_model, result.result, out / "checkpoint.pt")


def check_same_prediction(model_folder: Path, lora: Path, saved: Path) -> None:
    """The file, merged by the render side, says what the trained adapters said."""
    from pipeline.models import inject_lora, load_lora_state

    trained, merged = load_model(model_folder), load_model(model_folder)
    inject_lora(trained, rank=2, alpha=2.0, text_encoder=False, seed=0)
    load_lora_state(trained, torch.load(saved, weights_only=True)["trained"])
    apply_loras(merged, [LoraUse(lora, unet_weight=1.0, text_weight=1.0)])
    rng = torch.Generator().manual_seed(0)
    inputs: tuple[Any, ...] = (
        torch.randn(1, 4, 32, 32, generator=rng),
        torch.tensor([500]),
        torch.randn(1, 64, 128, generator=rng),
    )
    with torch.no_grad():
        base = load_model(model_folder).unet(*inputs).sample
        ours, theirs = trained.unet(*inputs).sample, merged.unet(*inputs).sample
    # W x + s B A x against (W + s B A) x: float32 rounding, far below what the LoRA changes.
    torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
    assert float((ours - base).abs().max()) > 1e-3


def test_bad_input_is_told_before_anything_is_written(make_dataset: MakeDataset, tmp_path: Path) -> None:
    dataset, out = make_dataset(SETTINGS), tmp_path / "out"
    for steps in (0, 10**20):
        with pytest.raises(DatasetError, match=f"--steps {steps}: expected a number from 1 to 1000000"):
            run.train_from_file(dataset, out=out, steps=steps, progress=False)
    long = "irisbot woman " + "in a hall " * 40
    (tmp_path / "images" / "0002.txt").write_text(long)
    with pytest.raises(DatasetError, match=r"0002\.txt: \d+ tokens, the text encoder reads 64; shorten"):
        run.train_from_file(dataset, out=out, progress=False)
    dataset.write_text(dataset.read_text().replace('model = "', 'model = "/nowhere'))
    with pytest.raises(ModelError, match="nowhere"):
        run.train_from_file(dataset, out=out, progress=False)
    assert not out.exists()


def _link(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("kind", "place", "spoil", "part"),
    [
        ("lora", "out", Path.touch, "/out: is a file; expected a folder to write to"),
        ("lora", "out", _link, "/out: is a link to nothing; expected a folder"),
        ("lora", "out/iris.safetensors", Path.mkdir, "/iris.safetensors: is a folder, where the training"),
        ("lora", "out/iris.json", Path.mkdir, "/iris.json: is a folder, where"),
        ("lora", "out/checkpoint.pt", Path.mkdir, "/checkpoint.pt: is a folder, where"),
        ("embedding", "out/embeddings/irisbot.safetensors", Path.mkdir, "/irisbot.safetensors: is a folder"),
        ("full", "out/iris", Path.mkdir, "/out/iris: is there already and no result of a training"),
        ("full", "out/iris", Path.touch, "/out/iris: is there already and no result of a training"),
    ],
)
def test_a_taken_place_is_told_before_a_model_is_loaded(
    make_dataset: MakeDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    place: str,
    spoil: Callable[[Path], None],
    part: str,
) -> None:
    """The result's own name was found taken only when it was written: after the last step."""
    monkeypatch.setattr(session, "load_model", refuse)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    spoil(tmp_path / place)
    with pytest.raises(OutputError) as raised:
        run.train_from_file(make_dataset(f'kind = "{kind}"\n'), out=tmp_path / "out", progress=False)
    assert part in str(raised.value) and "--out" in str(raised.value)


def test_a_folder_without_permission_is_told_before_a_model_is_loaded(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "load_model", refuse)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(OutputError, match=f"^{tmp_path}: no permission to write there"):
        run.train_from_file(make_dataset(SETTINGS), out=tmp_path / "new" / "out", progress=False)


def test_a_models_fault_names_the_dataset_file(make_dataset: MakeDataset, tmp_path: Path) -> None:
    path = make_dataset(SETTINGS)
    text = path.read_text().split("\n", 1)[1]
    (tmp_path / "old.ckpt").write_bytes(b"PK")
    for model, told in (
        ("sd1.5", f"{path}:model: model '{tmp_path}/sd1.5' is not there"),
        ("sd15", f"{path}:model: model 'sd15': Stable Diffusion 1.5 does not come with lookdev"),
        (
            "old.ckpt",
            f"{path}:model: 'old.ckpt' is a pickle, which can run code; training takes .safetensors",
        ),
    ):
        path.write_text(f'model = "{model}"\n{text}')
        with pytest.raises(ModelError) as raised:
            run.train_from_file(path, out=tmp_path / "out")
        assert str(raised.value).startswith(told)


@pytest.mark.usefixtures("few_samples")
def test_a_damaged_checkpoint_starts_the_training_afresh(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "checkpoint.pt").write_bytes(b"half a file")
    taken = count_steps(monkeypatch)
    run.train_from_file(make_dataset(SETTINGS), out=out, steps=1, progress=False)
    assert taken == [0]

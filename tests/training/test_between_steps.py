"""What happens between steps, through whole trainings: judge, keep, pick, cache, show, and stop in time."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline import cli
from pipeline.errors import DatasetError
from pipeline.models import load_model, read_lora
from training import board, checkpoint, material, run, sheet
from training.adapters.table import build
from training.dataset import Dataset, load_dataset
from training.loop import Trainer
from training.material import prepare
from training.schema import TrainSettings, read_dataset_file
from training.validation import TIMESTEPS, Validation, best, held_out_draw, validate

MakeDataset = Callable[[str], Path]
SHORT = "batch = 1\nrank = 2\nalpha = 2.0\ncontrol_probability = 0.0\nprecision = 'fp32'\n"


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw one sample in one step: these tests are about the weights."""
    monkeypatch.setattr(sheet, "NUM_SAMPLES", 1)
    monkeypatch.setattr(sheet, "STEPS", 1)


def dataset_of(path: Path) -> Dataset:
    return load_dataset(path, read_dataset_file(path), size=128, control_kinds=())


def test_the_same_images_are_held_out_each_time_and_one_is_left(make_dataset: MakeDataset) -> None:
    for validation, count in (("1", 1), ("0.5", 2), ("0.3", 2), ("3", 3), ("0", 0)):
        dataset = dataset_of(make_dataset(f"validation = {validation}"))
        kept, held = dataset.split()
        assert len(held.examples) == count
        assert {e.path for e in kept.examples} | {e.path for e in held.examples} == {
            e.path for e in dataset.examples
        }
        assert len(kept.examples) + count == 4
        assert dataset.split()[1] == held
    by_seed = [dataset_of(make_dataset(f"validation = 1\nseed = {seed}")).split()[1] for seed in range(9)]
    assert len({held.examples[0].path for held in by_seed}) > 1
    with pytest.raises(DatasetError, match=r"train\.validation: 4 holds out 4 of the 4 images of 'irisbot'"):
        dataset_of(make_dataset("validation = 4")).split()


def test_validation_is_the_same_number_each_time_and_touches_nothing(
    make_dataset: MakeDataset, random_model: Path
) -> None:
    path = make_dataset("validation = 2\n" + SHORT)
    kept, held = dataset_of(path).split()
    settings = kept.file.train

    def new() -> tuple[Trainer, material.Material]:
        model = load_model(random_model, controls=())
        parts = prepare(model, kept), prepare(model, held)
        return Trainer(build(model, settings), parts[0], settings, precision="fp32"), parts[1]

    trainer, held_out = new()
    first, again = validate(trainer, held_out), validate(trainer, held_out)
    assert first.losses == again.losses and set(first.losses) == {"irisbot"}
    by_hand = [
        float(trainer.held_out_loss(held_out, held_out_draw(held_out, n, settings.seed, 1000).of([i])))
        for n in range(2)
        for i in range(TIMESTEPS)
    ]
    assert first.mean == pytest.approx(sum(by_hand) / len(by_hand), rel=1e-4)
    trainer.take_step()
    assert validate(trainer, held_out).losses != first.losses
    unwatched, _ = new()
    unwatched.take_step()
    assert all(torch.equal(a, b) for a, b in zip(trainer.parameters, unwatched.parameters, strict=True))


def test_the_best_is_the_lowest_mean_of_the_concepts_and_the_earliest() -> None:
    history = [
        Validation(1, {"a": 1.0, "b": 3.0}),
        Validation(2, {"a": 1.0, "b": 1.0}),
        Validation(3, {"a": 0.0, "b": 2.0}),
    ]
    assert best(history, "validation") is history[1]
    assert best(history, "last") is None
    assert best([], "validation") is None and best([], "likeness") is None
    rendered = [
        replace(each, distances={"a": a, "b": b})
        for each, (a, b) in zip(history, [(0.2, 0.3), (0.3, 0.3), (0.1, 0.4)], strict=True)
    ]
    assert [each.distance for each in rendered] == pytest.approx([0.25, 0.3, 0.25])
    assert best(rendered, "likeness") is rendered[0]
    assert best(rendered, "validation") is rendered[1]
    unknown = [Validation(step, {"a": float("nan")}) for step in (0, 4)]
    assert best([unknown[0], *history, unknown[1]], "validation") is history[1]


@pytest.mark.usefixtures("few_samples")
def test_kept_picked_shown_and_recorded(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second of three judgements is made the best one: its weights are the result."""
    pytest.importorskip("tensorboard")
    from training import steps

    plain = steps.validate

    def judged(trainer: Trainer, held_out: material.Material) -> Validation:
        plain(trainer, held_out)
        return Validation(trainer.step, {"irisbot": 1.0 if trainer.step == 4 else 2.0})

    monkeypatch.setattr(steps, "validate", judged)
    extra = """steps = 6
validation = 1
validate_every = 2
pick = "validation"
keep_every = 2
tensorboard = true
ema = 0.5
"""
    out = tmp_path / "out"
    result = run.train_from_file(make_dataset(SHORT + extra), out=out, progress=False)
    kept = sorted(path.name for path in (out / "checkpoints").glob("*.safetensors"))
    assert kept == ["iris-000002.safetensors", "iris-000004.safetensors", "iris-000006.safetensors"]
    files = {name: load_file(out / "checkpoints" / name) for name in kept}
    final = load_file(result.result)
    assert all(torch.equal(final[key], value) for key, value in files[kept[1]].items())
    assert not all(torch.equal(final[key], value) for key, value in files[kept[2]].items())
    said = [read_lora(out / "checkpoints" / name).metadata for name in kept]
    assert [each["ss_output_name"] for each in said] == ["iris-000002", "iris-000004", "iris-000006"]
    assert [each["ss_steps"] for each in said] == ["2", "4", "6"]
    assert read_lora(result.result).metadata["ss_steps"] == "4"  # the best, not the last
    assert said[0]["ss_num_train_images"] == "3"  # one of four is held out
    assert {len(json.loads(each["ss_dataset_dirs"])) for each in said} == {1}
    assert [step for step, _, _ in checkpoint_of(out).history] == [2, 4, 6]
    assert json.loads((out / "training.json").read_text(encoding="utf-8"))
    tags = tensorboard_tags(out / "tensorboard")
    assert {"loss", "lr/unet", "validation/irisbot"} <= set(tags)
    assert tags["loss"] == [1, 2, 3, 4, 5, 6] and tags["validation/irisbot"] == [2, 4, 6]


def checkpoint_of(out: Path) -> checkpoint.Saved:
    saved = checkpoint.read(out / "checkpoint.pt")
    assert saved is not None
    return saved


def tensorboard_tags(folder: Path) -> dict[str, list[int]]:
    """Tag -> the steps it was written at."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_a_missing_tensorboard_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(DatasetError, match=r"train\.tensorboard: the package tensorboard is not installed"):
        board.check_tensorboard()


@pytest.mark.usefixtures("few_samples")
def test_nothing_is_encoded_twice_unless_it_changed(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    plain = material.encode_images

    def counted(model: object, frames: object) -> object:
        encoded.append(1)
        return plain(model, frames)  # type: ignore[arg-type]

    monkeypatch.setattr(material, "encode_images", counted)
    path, out = make_dataset(SHORT + "steps = 1\n"), tmp_path / "out"
    first = run.train_from_file(path, out=out, progress=False)
    lora = first.result.read_bytes()
    assert len(encoded) == 4
    cache = load_file(out / "cache.safetensors")
    assert sorted({key.partition(".")[0] for key in cache}) == ["latent", "tokens"]
    for leftover in ("checkpoint.pt", "training.json"):
        (out / leftover).unlink()
    again = run.train_from_file(path, out=out, progress=False)
    assert len(encoded) == 4 and again.result.read_bytes() == lora
    shutil.copy(tmp_path / "images/0002.png", tmp_path / "images/0001.png")
    run.train_from_file(path, out=out, progress=False)
    assert len(encoded) == 4  # the same picture under another name
    make_dataset(SHORT + "steps = 2\n")
    (out / "cache.safetensors").write_bytes(b"half a file")
    run.train_from_file(path, out=out, progress=False)
    assert len(encoded) == 8


@pytest.mark.usefixtures("few_samples")
def test_a_loss_that_is_not_a_number_stops_with_one_line_and_the_checkpoint_stays(
    make_dataset: MakeDataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = Trainer.loss

    def loss(self: Trainer, *arguments: object) -> torch.Tensor:
        value = plain(self, *arguments)  # type: ignore[arg-type]
        return value * float("nan") if self.step == 3 else value

    monkeypatch.setattr(Trainer, "loss", loss)
    out = tmp_path / "out"
    path = make_dataset(SHORT + "steps = 6\ncheckpoint_every = 2\n")
    assert cli.main(["train", str(path), "--out", str(out)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{path}:train.lr: the loss is not finite at step 4; lower lr; " in line
    assert line.endswith("checkpoint.pt is of step 2 and intact")
    assert checkpoint_of(out).step == 2
    assert not (out / "iris.safetensors").exists()


@pytest.mark.usefixtures("few_samples")
def test_a_step_that_does_not_fit_into_memory_is_one_line(
    make_dataset: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Trainer.take_step

    def take_step(self: Trainer) -> float:
        if self.step == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")
        return plain(self)

    monkeypatch.setattr(Trainer, "take_step", take_step)
    path = make_dataset(SHORT + "steps = 2\ncheckpoint_every = 1\n")
    with pytest.raises(DatasetError) as told:
        run.train_from_file(path, out=tmp_path / "out", progress=False)
    assert f"{path}:train.batch: step 2 does not fit into the device's memory; set gradient" in str(
        told.value
    )
    assert str(told.value).endswith("checkpoint.pt is of step 1 and intact")
    assert "\n" not in str(told.value)


FULL_DISK = """
import resource, sys
from pathlib import Path
from pipeline import cli
from training import checkpoint
plain = checkpoint.save
def save(path, trainer, **keywords):
    if trainer.step == 4:  # from here on no file may grow beyond 64 kB, as on a disk that is full
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, resource.RLIM_INFINITY))
    plain(path, trainer, **keywords)
checkpoint.save = save
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_disk_that_fills_up_at_a_checkpoint_leaves_the_last_one(
    make_dataset: MakeDataset, tmp_path: Path
) -> None:
    path, out = make_dataset(SHORT + "steps = 6\ncheckpoint_every = 2\n"), tmp_path / "out"
    said = subprocess.run(
        [sys.executable, "-c", FULL_DISK, "train", str(path), "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 2
    assert "Traceback" not in said.stderr
    assert "checkpoint.pt: cannot be written" in said.stderr.strip().splitlines()[-1]
    assert checkpoint_of(out).step == 2
    assert not [path for path in out.iterdir() if "partial" in path.name]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 64 << 10


def test_images_keep_their_shapes_through_a_whole_step(
    make_dataset: MakeDataset, random_model: Path, tmp_path: Path
) -> None:
    """Pictures of two shapes in steps of 64 pixels: latents, controls and sample sheet follow."""
    from pipeline.image import read_png, write_png

    path = make_dataset(SHORT + "steps = 2\n")
    for kind in ("images", "depth"):
        for number in range(1, 5):
            name = tmp_path / kind / f"000{number}.png"
            large = read_png(name).repeat(2, axis=0).repeat(4 if number == 3 else 2, axis=1)
            write_png(name, large[:, :480])  # 256 x 256; the third is 480 wide and 256 high
    file = read_dataset_file(path)
    data = load_dataset(path, file, size=192, control_kinds=("depth",), bucket_step=64)
    assert [one.image.shape[:2] for one in data.examples] == [(192, 192), (192, 192), (128, 256), (192, 192)]
    wide = data.examples[2]
    assert wide.controls["depth"].shape == wide.image.shape
    # 480 x 256 is cut to 480 x 240: 8 rows above, which are 4 once it is reduced to 256 x 128
    assert wide.original == (256, 480) and wide.corner == (4, 0)
    model = load_model(random_model, controls=("depth",))
    settings = TrainSettings(batch=4, steps=1, rank=2, control_probability=1.0)
    trainer = Trainer(build(model, settings), prepare(model, data), settings, precision="fp32")
    assert trainer.material.buckets == (0, 0, 1, 0)
    assert trainer.take_step() > 0.0
    one = sheet.Sample("irisbot", replace(wide, controls={}))
    assert sheet.draw_samples(model, [one], seed=0)[0].shape == (128, 256, 3)

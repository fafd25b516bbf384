"""A checkpoint holds everything, is whole or not there, and a stranger's file is not believed."""

from __future__ import annotations

import pickle
import resource
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_material import small_material

from pipeline.errors import OutputError
from pipeline.models import load_model, lora_state
from training import checkpoint
from training.adapters.table import build
from training.adapters.trained import Job
from training.dataset import load_dataset
from training.loop import Trainer
from training.schema import TrainSettings, read_dataset_file


def new_trainer(folder: Path, *, seed: int) -> Trainer:
    settings = TrainSettings(rank=2, batch=1, steps=4, seed=seed)
    return Trainer(build(load_model(folder), settings), small_material(), settings, precision="fp32")


@pytest.fixture
def small_files_only() -> Iterator[None]:
    """The system refuses to let a file grow beyond 64 kB, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_restores_weights_moments_and_step_bit_for_bit(random_model: Path, tmp_path: Path) -> None:
    trainer = new_trainer(random_model, seed=0)
    trainer.take_step()
    checkpoint.save(tmp_path / "c.pt", trainer, digest="d", seconds=1.5)
    saved = checkpoint.read(tmp_path / "c.pt")
    assert saved is not None
    assert (saved.digest, saved.step, saved.seconds, saved.precision) == ("d", 1, 1.5, "fp32")
    other = new_trainer(random_model, seed=1)  # other weights to begin with
    checkpoint.restore(other, saved)
    assert other.step == 1
    ours, theirs = lora_state(trainer.model), lora_state(other.model)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    for a, b in zip(trainer.parameters, other.parameters, strict=True):
        for key in ("exp_avg", "exp_avg_sq", "step"):
            assert torch.equal(trainer.optimizer.state[a][key], other.optimizer.state[b][key])


@pytest.mark.usefixtures("small_files_only")
def test_a_refused_write_is_one_line_and_leaves_the_old_checkpoint(
    random_model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"c\.pt: cannot be written"):
        checkpoint.save(path, new_trainer(random_model, seed=0), digest="d", seconds=0.0)
    assert [file.name for file in tmp_path.iterdir()] == ["c.pt"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("stood", [False, True], ids=["first", "again"])
def test_a_disk_that_fills_up_leaves_no_lora_without_its_sidecar(
    make_dataset: Callable[[str], Path],
    random_model: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    stood: bool,
) -> None:
    """A LoRA beside another's notes would be used with the wrong words."""
    path = make_dataset("rank = 8")
    data = load_dataset(path, read_dataset_file(path), size=128, control_kinds=())
    trained = build(load_model(random_model, controls=()), data.file.train)
    job = Job(tmp_path / "out", data, random_model, stamp="s")
    if stood:
        trained.export(job)
    before = contents(job.folder)
    assert sorted(before) == (["iris.json", "iris.safetensors"] if stood else [])
    request.getfixturevalue("small_files_only")
    with pytest.raises(OutputError, match=r"iris\.safetensors: cannot be written"):
        trained.export(replace(job, stamp="t", dataset=data.with_steps(3)))
    assert contents(job.folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()} if folder.exists() else {}


class Evil:
    """A pickle that would make a file when it is opened."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.target,)


def test_files_of_others_are_not_believed_and_run_no_code(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "c.pt"
    assert checkpoint.read(path) is None
    assert caplog.messages == []
    for spoil in (
        lambda: path.write_bytes(b"hello"),
        lambda: path.write_bytes(pickle.dumps(Evil(tmp_path / "ran"), protocol=2)),
        lambda: torch.save({"version": checkpoint.VERSION + 1}, path),
        lambda: torch.save({"version": checkpoint.VERSION}, path),
    ):
        caplog.clear()
        spoil()
        assert checkpoint.read(path) is None
        assert "not a checkpoint of this program" in caplog.text
    assert not (tmp_path / "ran").exists()

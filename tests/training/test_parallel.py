"""Several processes that train as one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import accelerate
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline import cli
from pipeline.errors import DatasetError
from training import parallel, run, sheet
from training.parallel import Workers, join, launch


class TwoAlike(Workers):
    """The first of two processes; the other has the same gradients."""

    def sum(self, value: Tensor) -> Tensor:
        return 2.0 * value


def test_summed_gradients_lie_in_memory_as_the_weights_do() -> None:
    """A fused optimizer goes by places in memory: kernels laid out otherwise would take others' gradients."""
    moved = []
    for workers in (Workers(), TwoAlike(count=2)):
        rng = torch.Generator().manual_seed(0)
        net = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parameter in net.parameters():
            nn.init.normal_(parameter, generator=rng)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
        (net(torch.randn(2, 4, 8, 8, generator=rng)).square().sum() / workers.count).backward()
        workers.sum_gradients(list(net.parameters()))
        assert net.weight.grad is not None and net.weight.grad.stride() == net.weight.stride()
        optimizer.step()
        moved.append(net.weight.detach().clone())
    torch.testing.assert_close(*moved)


def test_a_gradient_that_no_process_has_stays_none() -> None:
    """A text encoder that has stopped must not go on by its moments."""
    seen, unseen = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(3))
    seen.grad = torch.full((2, 3), 0.5)
    TwoAlike(count=2).sum_gradients([seen, unseen])
    assert unseen.grad is None
    assert torch.equal(seen.grad, torch.ones(2, 3))


def test_processes_that_are_not_joined_do_not_train_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would all write the same files; the first two-process test compared one process with one."""
    alone = SimpleNamespace(num_processes=1, process_index=0, device="cpu")
    monkeypatch.setattr(accelerate, "PartialState", lambda cpu: alone)
    assert join("cpu") == (Workers(), "cpu")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DatasetError, match="2 processes were launched and accelerate joins 1 of them"):
        join("cpu")


def test_ctrl_c_waits_for_the_processes_to_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher that takes a second to stop; killed before, it would leave its processes alone."""
    launcher = tmp_path / "launcher"
    launcher.write_text(f"#!/bin/sh\nkill -INT $PPID; sleep 1; touch {tmp_path}/saved\n", encoding="utf-8")
    launcher.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(launcher))
    with pytest.raises(KeyboardInterrupt):
        launch(2, ["train"], cpu=True)
    assert (tmp_path / "saved").exists()


def test_a_faulty_dataset_is_told_once_before_processes_start(
    make_dataset: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launched: list[int] = []

    def started(number: int, arguments: object) -> int:
        launched.append(number)
        return 0

    monkeypatch.setattr(parallel, "launch", started)
    path = make_dataset("steps = 1")
    assert cli.main(["train", str(path), "--gpus", "2"]) == 0
    (path.parent / "images" / "0002.txt").unlink()
    assert cli.main(["train", str(path), "--gpus", "2"]) == 2
    assert "0002" in capsys.readouterr().err
    assert launched == [2]


def test_two_processes_train_and_pick_what_one_does(
    make_dataset: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels learn too; at this rate the held-out image is often judged worse after the second step."""
    settings = """batch = 3
steps = 2
rank = 2
conv_rank = 2
lr = 0.3
schedule = "constant"
warmup = 0.0
control_probability = 0.0
precision = "fp32"
validation = 1
validate_every = 1
pick = "validation"
samples = ["irisbot"]
"""
    monkeypatch.setattr(sheet, "STEPS", 1)
    path = make_dataset(settings)
    alone = run.train_from_file(path, out=tmp_path / "one", progress=False)
    code = launch(2, ["train", str(path), "--out", str(tmp_path / "two")], cpu=True)
    assert code == 0
    records = [tmp_path / out / "training.json" for out in ("one", "two")]
    said = [json.loads(record.read_text(encoding="utf-8")) for record in records]
    assert [each["processes"] for each in said] == [1, 2]
    for ours, theirs in zip(*(each["validation"] for each in said), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-2)
    best = min(said[0]["validation"], key=lambda judged: float(judged["irisbot"]))
    assert [each["picked"] for each in said] == [best["step"]] * 2
    assert [file.name for file in (tmp_path / "two").glob("best-*")] == [f"best-{best['step']:06d}.pt"]
    picked = load_file(alone.result), load_file(tmp_path / "two" / "iris.safetensors")
    checkpoints = [torch.load(record.with_name("checkpoint.pt"), weights_only=True) for record in records]
    last = [each["trained"] for each in checkpoints]
    # Float32 sums in another order; where a gradient is next to nothing, Adam makes a whole step of its sign.
    assert share_apart(*picked, by=1e-2) < 0.02
    assert share_apart(*last, by=1e-2) < 0.02  # nine of ten numbers are kernels'
    moved = [float(value.abs().max()) for key, value in picked[1].items() if key.endswith("lora_up.weight")]
    assert min(moved) > 0.0


def share_apart(ours: Mapping[str, torch.Tensor], theirs: Mapping[str, torch.Tensor], *, by: float) -> float:
    """The share of numbers that differ by more than this."""
    assert ours.keys() == theirs.keys()
    off = torch.cat([(ours[key] - theirs[key]).abs().flatten() for key in ours])
    return float((off > by).float().mean())

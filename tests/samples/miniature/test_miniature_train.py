"""The training command for real: two workers, from the committed weights, stopped and resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

from samples.miniature import data


def train(state: Path, minutes: float) -> None:
    options = [
        "--images",
        "8",
        "--batch",
        "2",
        "--workers",
        "2",
        "--report-every",
        "0",
        "--precision",
        "fp32",
    ]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "samples.miniature.train",
            "--minutes",
            str(minutes),
            "--state",
            state,
            *options,
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_training_goes_on_from_the_package_and_from_its_own_state(tmp_path: Path) -> None:
    data.make(tmp_path / "stage", 8, workers=1, shard_size=8)
    train(tmp_path, 0.01)
    first = torch.load(tmp_path / "joint.pt", weights_only=True)
    assert (tmp_path / "from_package").exists() and first["step"] >= 8
    train(tmp_path, first["seconds"] / 60.0 + 0.01)
    second = torch.load(tmp_path / "joint.pt", weights_only=True)
    assert second["step"] > first["step"] and second["seconds"] > first["seconds"]

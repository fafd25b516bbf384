"""The table of LoRA changes: what is counted for a published UNet, and that the miniature's row runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import lora_switch
from benchmarks.lora_switch import milliseconds, without_weights
from pipeline.models.architectures import architecture
from pipeline.models.lora_layers import build


def test_what_is_held_of_sd15_is_its_transformers_in_half_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_switch, "ROUNDS", 1)
    row = without_weights("sd15", tmp_path)
    unet = build(architecture("sd15"))["unet"]
    weights = [p for name, p in unet.named_parameters() if ".attentions." in name and name.endswith("weight")]
    held = sum(2 * p.numel() for p in weights if p.ndim > 1) / 1e6  # norms are vectors
    assert row["layers"] == 192 and row["MB held a set"] == pytest.approx(held)
    assert float(row["held, ms"]) > 0.0


def test_the_fastest_round_counts() -> None:
    calls: list[int] = []
    assert milliseconds(lambda: calls.append(1), 4) >= 0.0 and len(calls) == 4

"""The shot room's benchmarks at a small size: their rows are right, and so is what they measure."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from benchmarks.depth import case, write_encoded
from benchmarks.memory import peak_megabytes, repeat, stream
from benchmarks.motion import scenes, stage
from benchmarks.round_trip import make_card, round_trip
from pipeline.shot import Shot, open_shot


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return stage(scenes()["corridor_walk"], tmp_path_factory.mktemp("stage") / "walk", num_frames=8, size=96)


def test_a_card_comes_back(tmp_path: Path) -> None:
    card = make_card(tmp_path / "card.mp4", Fraction(24000, 1001), size="640x360", num_frames=6)
    row = round_trip(card, tmp_path / "back.mp4")
    assert row["right"] == "yes" and row["tags back"] == "tv, bt709" and row["frames back"] == 6


def test_a_repeated_shot_streams_in_the_same_memory(shot: Shot, tmp_path: Path) -> None:
    short, long = (
        repeat(shot, tmp_path / str(count), count) for count in (64, 256)
    )  # past what the probes look at
    assert open_shot(long).num_frames == 256
    less, more = (peak_megabytes(stream, path) for path in (short, long))
    assert less > 30 and more < 1.1 * less


def test_depth_in_centimetres_is_found(shot: Shot, tmp_path: Path) -> None:
    row = case(shot, write_encoded(shot, "centimetres", tmp_path / "cm"), "linear")
    assert row["right"] == "yes" and float(row["error, %"]) < 0.1

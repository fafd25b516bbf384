"""The figures of `benchmarks.occlusion` and `benchmarks.flow_speed` on very little."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import flow_speed, layers
from benchmarks.occlusion import METHODS, Tally, measure, measure_textured, pairs, row, total_of
from pipeline.steady.warp import in_frame, warp
from samples.stage.shots import SAMPLE_SHOTS


def test_f1_counts_the_class_that_is_named() -> None:
    truth = np.array([True] * 6 + [False] * 4)
    said = np.array([True] * 5 + [False] * 3 + [True] * 2)
    tally = Tally.empty()
    tally.add(said, truth, np.array([True] * 9 + [False]))
    assert tally.hidden.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 2))
    assert tally.hidden_inside.f1 == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert tally.seen.f1 == pytest.approx(2 * 5 / (2 * 5 + 2 + 1))
    assert row("a", "b", tally)["hidden, %"] == "40.00"
    assert total_of([tally, tally]).seen.right == 10


def test_ids_and_depth_are_best_and_the_seen_flatter_all() -> None:
    tallies = measure(pairs(SAMPLE_SHOTS["corridor_walk"], num_pairs=1, size=96))
    best = max(METHODS, key=lambda name: tallies[name].hidden.f1)
    assert best == "ids + depth" and tallies[best].hidden.f1 > 0.8  # at 96 px outlines are most of it
    assert all(tally.seen.f1 > 0.9 for tally in tallies.values())


def test_speed_is_of_pairs_and_of_frames_on_disk(tmp_path: Path) -> None:
    frames = flow_speed.film(3, 48)
    assert frames.shape == (3, 48, 48, 3)
    assert float(flow_speed.flow_row(frames, 1)["frames/s"]) > 0
    shot = flow_speed.written(frames, tmp_path / "film")
    assert float(flow_speed.made_row(shot, 1)["frames/s"]) > 0
    assert list((shot.root / ".lookdev").glob("dis-*/estimate.json"))


def test_the_layers_vectors_carry_one_picture_onto_the_other() -> None:
    """Where the truth says seen, the picture at the vector's end is the same but for grain and edges."""
    shapes = layers.pair(3, size=96)
    for here, there, flow, seen in (
        (shapes.earlier, shapes.later, shapes.forward, shapes.seen_later),
        (shapes.later, shapes.earlier, shapes.backward, shapes.seen_earlier),
    ):
        apart = np.abs(warp(there.astype(np.float32), flow) - here).max(axis=2)
        assert np.median(apart[seen]) < 3 * layers.GRAIN < 0.5 * np.median(apart[~seen & in_frame(flow)])
    assert 0.005 < 1 - shapes.seen_later.mean() < 0.3


def test_pictures_tell_more_than_there_and_back() -> None:
    pictures, round_trip = (
        {row["by"]: float(row["F1 hidden"]) for row in measure_textured(2)}[name]
        for name in ("DIS, pictures", "DIS there and back")
    )
    assert pictures > 0.6 and pictures > round_trip + 0.05

"""A styled film is measured along its shot's motion: what moves with the surface costs nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from small_shot import SIZE, STEP, make_shot, passes

from pipeline.cli import main
from pipeline.errors import ShotError
from pipeline.footage import motion_origin
from pipeline.image import read_png, write_png
from pipeline.score import plot_score, score_video, write_score
from pipeline.shot import FramePasses, Motion, Shot, open_shot, write_shot
from pipeline.steady.visibility import round_trip
from pipeline.steps import film_name, iterate_steps, iterate_ways

NUM_FRAMES = 12


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall", num_frames=NUM_FRAMES)


def frames_folder(root: Path, frames: np.ndarray) -> Path:
    for t, frame in enumerate(frames):
        write_png(root / f"styled.{t + 1:04d}.png", frame)
    return root


def flickering(strength: float) -> np.ndarray:
    """The wall, each frame brighter or darker by `strength` levels in turn."""
    rgb = passes(NUM_FRAMES).rgb.astype(np.float32)
    signs = np.where(np.arange(NUM_FRAMES) % 2 == 0, 1.0, -1.0)[:, None, None, None]
    return np.clip(rgb + signs * strength, 0, 255).astype(np.uint8)


def test_what_moves_with_the_surface_costs_nothing(shot: Shot, tmp_path: Path) -> None:
    score = score_video(frames_folder(tmp_path / "same", passes(NUM_FRAMES).rgb), shot)
    means = score.means()
    assert score.motion == "motion pass"
    assert means["e_warp"] == means["e_warp_long"] == means["drift"] == 0.0
    assert means["luma_deviation"] == pytest.approx(0.0, abs=1e-6)
    assert means["sharpness"] == pytest.approx(1.0)
    assert [frame.frame for frame in score.frames] == list(range(1, NUM_FRAMES + 1))


def test_flicker_is_measured_in_full(shot: Shot, tmp_path: Path) -> None:
    score = score_video(frames_folder(tmp_path / "flicker", flickering(10)), shot)
    expected = (20 / 255) ** 2  # of neighbours; frames 8 apart are alike
    assert score.means()["e_warp"] == pytest.approx(expected, rel=0.01)
    assert score.means()["e_warp_long"] == pytest.approx(0.0, abs=1e-7)
    assert score.means()["source"] == 0.0 and score.means()["ratio"] is None
    assert score.means()["luma_deviation"] == pytest.approx(10 / 255, rel=0.02)
    drifts = [frame.drift for frame in score.frames]
    assert drifts[0] is None
    assert drifts[2:12:2] == [0.0] * 5 and drifts[1] == pytest.approx(expected, rel=0.01)


def test_what_the_last_frames_cannot_have_is_none(shot: Shot, tmp_path: Path) -> None:
    score = score_video(frames_folder(tmp_path / "same", passes(NUM_FRAMES).rgb), shot)
    assert score.frames[-1].e_warp is None and score.frames[-2].e_warp is not None
    whole = [frame.e_warp_long is not None for frame in score.frames]
    assert whole == [True] * (NUM_FRAMES - 8) + [False] * 8
    assert all(frame.depth_edges is None for frame in score.frames)  # a flat wall has no depth edges


def test_another_size_is_measured_at_its_own(shot: Shot, tmp_path: Path) -> None:
    large = passes(NUM_FRAMES).rgb.repeat(2, axis=1).repeat(2, axis=2)
    score = score_video(frames_folder(tmp_path / "large", large), shot)
    assert score.means()["e_warp"] == pytest.approx(0.0, abs=1e-6)


def without(shot: Shot, *names: str) -> Shot:
    return replace(shot, passes={name: each for name, each in shot.passes.items() if name not in names})


@pytest.mark.parametrize(
    ("styled", "name"),
    [("wall", "wall"), ("frames", "wall_frames"), ("wall_frames_steady", "wall_frames_steady")],
)
def test_results_are_named_by_shot_and_film(shot: Shot, styled: str, name: str) -> None:
    assert film_name(replace(shot, name=styled), shot) == name


@pytest.mark.parametrize("missing", [("visible",), ("visible", "ids"), ("visible", "ids", "depth")])
def test_what_is_seen_in_both_comes_from_what_there_is(shot: Shot, missing: tuple[str, ...]) -> None:
    exact = list(iterate_steps(shot, width=SIZE, height=SIZE))
    found = list(iterate_steps(without(shot, *missing), width=SIZE, height=SIZE))
    assert len(found) == len(exact) == NUM_FRAMES - 1
    for one, other in zip(exact, found, strict=True):
        assert np.array_equal(one.flow, other.flow)
        assert not other.seen[:, -STEP:].any()  # leaves the frame
        assert other.seen[:, : -2 * STEP].all()


def test_without_a_motion_pass_it_is_estimated(shot: Shot) -> None:
    plain = without(shot, "motion", "visible", "ids", "depth")
    assert motion_origin(plain) == "estimated (DIS)"
    middle = slice(12, -12)
    for step in iterate_steps(plain, width=SIZE, height=SIZE):
        assert step.seen[middle, middle].mean() > 0.9
        assert np.abs(step.flow[middle, middle] - [STEP, 0]).mean() < 0.5


def test_a_round_trip_tells_what_is_hidden() -> None:
    forward = np.zeros((8, 8, 2), np.float32)
    forward[..., 0] = 2.0
    backward = -forward
    backward[:, 4:] = 0.0  # another surface stands there in the later frame
    assert round_trip(forward, backward)[0].tolist() == [True] * 2 + [False] * 6
    backward[0, 3] = np.nan
    assert not round_trip(forward, backward)[0, 1]


def test_a_fade_to_black_does_not_rule_the_sharpness(tmp_path: Path) -> None:
    rgb = passes(3).rgb.copy()
    rgb[1] //= 100
    root = write_shot(tmp_path / "fade", [replace(passes(3), rgb=rgb)], fps=Fraction(24)).root
    noisy = rgb.copy()
    noisy[1, ::16] += 1
    score = score_video(frames_folder(tmp_path / "styled", noisy), open_shot(root))
    assert score.means()["sharpness"] == pytest.approx(1.0, abs=0.2)


def test_over_a_cut_nothing_is_known_of_estimated_motion(tmp_path: Path) -> None:
    """Two flat pictures: flow and its way back agree everywhere, but nothing of one is seen in the other."""
    rgb = np.full((4, SIZE, SIZE, 3), 230, np.uint8)
    rgb[2:] = 20
    cut = write_shot(tmp_path / "cut", [FramePasses(rgb=rgb)], fps=Fraction(24))
    assert [bool(step.seen.any()) for step in iterate_steps(cut, width=SIZE, height=SIZE)] == [
        True,
        False,
        True,
    ]


def test_both_ways_and_a_later_start(tmp_path: Path) -> None:
    """Frames that move differently: each pair of steps belongs to its own two frames."""
    num = 5
    speeds = np.arange(num, dtype=np.float32)
    forward = np.zeros((num, SIZE, SIZE, 2), np.float32)
    forward[..., 0] = speeds[:, None, None]
    backward = np.zeros_like(forward)
    backward[1:, ..., 0] = -speeds[:-1, None, None]
    backward[0] = forward[-1] = np.nan
    both = replace(passes(num), motion=Motion(forward=forward, backward=backward))
    moving = write_shot(tmp_path / "moving", [both], fps=Fraction(24))
    ways = list(iterate_ways(moving, width=SIZE, height=SIZE, start=1))
    assert [(float(a.flow[0, 0, 0]), float(b.flow[0, 0, 0])) for a, b in ways] == [(1, -1), (2, -2), (3, -3)]


def test_hidden_surfaces_are_told_by_ids_or_depth(tmp_path: Path) -> None:
    """A nearer card slides over a wall that stands still: what it will cover is not seen in both."""
    ids = np.ones((2, SIZE, SIZE), np.uint32)
    ids[0, :, 10:20], ids[1, :, 16:26] = 2, 2
    depth = np.where(ids == 2, 1.0, 3.0).astype(np.float32)
    forward = np.zeros((2, SIZE, SIZE, 2), np.float32)
    forward[0][ids[0] == 2] = (6, 0)
    backward = np.zeros_like(forward)
    backward[1][ids[1] == 2] = (-6, 0)
    every = replace(passes(2), ids=ids, depth=depth, visible=None, motion=Motion(forward, backward))
    card = write_shot(tmp_path / "card", [every], fps=Fraction(24))
    for missing in ("ids", "depth"):
        ((onward, back),) = iterate_ways(without(card, missing), width=SIZE, height=SIZE)
        assert onward.seen[:, 10:20].all() and onward.seen[:, 30:].all() and not onward.seen[:, 20:25].any()
        assert back.seen[:, 16:26].all() and not back.seen[:, 11:16].any()


def test_files_say_the_same(shot: Shot, tmp_path: Path) -> None:
    score = score_video(frames_folder(tmp_path / "flicker", flickering(5)), shot)
    write_score(score, tmp_path / "score.json")
    stored = json.loads((tmp_path / "score.json").read_text())
    assert stored["means"] == score.means() and len(stored["frames"]) == NUM_FRAMES
    plot_score(score, tmp_path / "score.png")
    plot_score(replace(score, name=r"$\frac$"), tmp_path / "dollar.png")
    picture = read_png(tmp_path / "score.png")
    assert picture.shape[1] == 800 and picture.std() > 1.0


def test_the_command(shot: Shot, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    styled = frames_folder(tmp_path / "styled", flickering(5))
    assert main(["score", str(styled), "--shot", str(shot.root), "--out", str(tmp_path / "out")]) == 0
    assert "E_warp" in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "wall_styled_score.json",
        "wall_styled_score.png",
    }


@pytest.mark.parametrize(
    ("frames", "message"),
    [(passes(5).rgb, "has 5 frames"), (passes(NUM_FRAMES).rgb[:, : SIZE // 2], "expected the same shape")],
)
def test_another_shot_is_refused(shot: Shot, tmp_path: Path, frames: np.ndarray, message: str) -> None:
    with pytest.raises(ShotError, match=message):
        score_video(frames_folder(tmp_path / "other", frames), shot)


def test_one_frame_is_refused(tmp_path: Path) -> None:
    single = write_shot(tmp_path / "one", [FramePasses(rgb=passes(1).rgb)], fps=Fraction(24))
    styled = frames_folder(tmp_path / "styled", passes(1).rgb)
    with pytest.raises(ShotError, match="at least two"):
        score_video(styled, open_shot(single.root))

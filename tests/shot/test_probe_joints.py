"""Joints tell how long vectors are and which way in time they point, where the pictures' light does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from turning_shot import make_turning_shot, size

from pipeline.shot import open_shot, probe_motion
from pipeline.shot.encoding import VectorEncoding
from pipeline.shot.probe_joints import (
    ONE_FRAME,
    JointSteps,
    compare_joints,
    joint_arrow,
    joint_steps,
    length_ratio,
)

CORRIDOR = Path(__file__).parents[2] / "samples" / "shots" / "corridor_walk"
CHANNELS = ("R", "G")
PIXELS = VectorEncoding(CHANNELS)


def steps(*, to: int, share: float = 1.0) -> JointSteps:
    """200 joints over 20 frames that speed up; vectors to t-1 (`to` = -1) or, negated, to t+1."""
    rng = np.random.default_rng(0)
    even, speeding = rng.normal(0, 2, (200, 2)), rng.normal(0, 0.3, (200, 2))
    past, future = even + speeding, -even + speeding  # places in t-1 and t+1, less the place in t
    stored = past if to == -1 else -future
    frames = np.repeat(np.arange(20), 10)
    arrays = [np.asarray(each, np.float32) for each in (share * stored, past, future)]
    return JointSteps(frames, *arrays, (64, 64))


@pytest.mark.parametrize("share", [1.0, 0.5, 2.0])
def test_lengths_are_those_of_the_joints(share: float) -> None:
    assert length_ratio(steps(to=-1, share=share), PIXELS, CHANNELS) == pytest.approx(1 / share, rel=0.05)


@pytest.mark.parametrize("to", [-1, 1])
def test_the_way_in_time_is_seen_where_joints_speed_up(to: int) -> None:
    arrow = joint_arrow(steps(to=to), PIXELS, CHANNELS)
    assert arrow.slope == pytest.approx(-to, abs=0.1)
    assert arrow.direction == ("backward" if to == -1 else "forward") and not arrow.even


def test_a_wrong_sign_is_farther_from_the_joints() -> None:
    mirrored = VectorEncoding(CHANNELS, scale=(1.0, -1.0))
    ratio, sigmas = compare_joints(steps(to=-1), PIXELS, mirrored, CHANNELS)
    assert ratio > 3 and sigmas > 3
    assert length_ratio(steps(to=-1), VectorEncoding(CHANNELS, scale=(-1.0, -1.0)), CHANNELS) is None


def test_joints_of_a_shot(tmp_path: Path) -> None:
    corridor = open_shot(CORRIDOR)
    pair = ("backward.X", "backward.Y")
    found = joint_steps(corridor, corridor.passes["motion"], pair)
    assert found is not None and len(found.frames) >= 24
    ratio = length_ratio(found, VectorEncoding(pair), pair)
    assert ratio is not None and ONE_FRAME[0] < ratio < ONE_FRAME[1]
    shutil.copytree(CORRIDOR, tmp_path / "walk")
    (tmp_path / "walk" / "joints.json").unlink()
    bare = open_shot(tmp_path / "walk")
    assert joint_steps(bare, bare.passes["motion"], pair) is None


def test_where_pictures_do_not_show_the_length_the_user_says_it(tmp_path: Path) -> None:
    """Pictures that change by themselves hide how long vectors are, not which way they point."""
    shot = make_turning_shot(
        tmp_path / "noisy", lambda f, b: -b / size() * np.array([1, -1], np.float32), noise=25.0
    )
    found = probe_motion(shot)
    assert found.encoding is None and "--one-frame" in found.reason
    told = probe_motion(shot, one_frame=True).encoding
    assert told is not None and told.name == "unity"

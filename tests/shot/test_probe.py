"""The probe finds how motion was written with the label withheld, and says so when it cannot tell."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from turning_shot import Encode, T, flow, make_turning_shot, size

from pipeline import cli
from pipeline.image import read_image
from pipeline.shot import open_shot, probe_motion, read_motion, write_motion_encoding
from pipeline.shot.arrow import Arrow

UP = np.array([1.0, -1.0], np.float32)
FIELD: dict[str, Encode] = {
    "unity": lambda f, b: -b / size() * UP,
    "unity_y_down": lambda f, b: -b / size(),
    "blender": lambda f, b: np.concatenate([b * UP, -f * UP], axis=2),
    "unreal": lambda f, b: -b / (size() / 2) * UP * 0.499 * 0.5 + 32767 / 65535,
    "pixels": lambda f, b: f,
    "pixels_backward": lambda f, b: b,
}


@pytest.mark.parametrize("name", FIELD)
def test_each_convention_is_found_and_read_back(tmp_path: Path, name: str) -> None:
    shot = make_turning_shot(tmp_path / "turn", FIELD[name])
    found = probe_motion(shot)
    assert found.encoding is not None and found.encoding.name == name, found.reason
    motion = read_motion(replace(shot, motion=found.encoding), 3, 6)
    forward = np.stack([flow(t, t + 1) for t in range(3, 6)])
    backward = np.stack([flow(t, t - 1) for t in range(3, 6)])
    for read, truth in ((motion.forward, forward), (motion.backward, backward)):
        apart = np.abs(read - truth)
        assert np.isfinite(apart).mean() > 0.8  # a derived direction has no vector where it leaves the frame
        assert np.nanmax(apart) < 0.05


def test_swapped_axes_over_a_shutter_interval(tmp_path: Path) -> None:
    """No convention: y before x, and 1 / 2.46 of a frame's motion."""
    shot = make_turning_shot(tmp_path / "turn", lambda f, b: f[..., ::-1] / np.float32(2.46))
    found = probe_motion(shot)
    assert found.encoding is not None and found.encoding.forward is not None, found.reason
    motion = read_motion(replace(shot, motion=found.encoding), 4, 5)
    assert np.nanmax(np.abs(motion.forward[0] - flow(4, 5))) < 0.15  # the factor is fitted, to about 3 %


def test_two_vectors_of_different_size_are_refused(tmp_path: Path) -> None:
    """No renderer writes one vector over a frame and the other over 0.4 of one."""
    shot = make_turning_shot(
        tmp_path / "turn", lambda f, b: np.concatenate([f, np.float32(0.4) * b], axis=2).astype(np.float32)
    )
    found = probe_motion(shot)
    assert found.encoding is None and "different units or factors" in found.reason


@pytest.mark.parametrize(
    ("slope", "coarser", "direction"),
    [(1.0, 0.8, "backward"), (-0.9, -1.3, "forward"), (0.9, 1.8, None), (3.0, 3.1, None), (0.01, 0.0, None)],
)
def test_the_arrow_needs_both_bands(slope: float, coarser: float, direction: str | None) -> None:
    """Light that is left shifts the slope by the detail that is looked at; then neither way is told."""
    assert Arrow(slope, 0.1, 0.5, coarser).direction == direction


def test_a_held_picture_cannot_tell(tmp_path: Path) -> None:
    still = make_turning_shot(tmp_path / "held", FIELD["unity"], held=True)
    assert probe_motion(still).encoding is None
    zero = make_turning_shot(tmp_path / "zero", lambda f, b: np.zeros_like(f), held=True)
    found = probe_motion(zero)
    assert found.encoding is None and "nothing moves" in found.reason


def test_vectors_of_another_shot_are_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    shot = make_turning_shot(tmp_path / "noise", lambda f, b: noise.normal(0, 3, f.shape).astype(np.float32))
    assert probe_motion(shot).encoding is None


def test_the_command_writes_the_sidecar_and_the_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "turn"
    make_turning_shot(root, FIELD["blender"])
    assert cli.main(["shot", "probe", str(root), "--out", str(tmp_path / "out")]) == 0
    assert "blender" in capsys.readouterr().out
    opened = open_shot(root)
    assert opened.motion.name == "blender" and opened.name == "turn" and opened.num_frames == T
    now, warped, difference = np.split(read_image(tmp_path / "out" / "turn_motion.png"), 3, axis=1)
    inner = (slice(8, -8), slice(8, -8))
    assert np.abs(now[inner].astype(int) - warped[inner]).mean() < 4
    assert np.abs(difference[inner].astype(int) - 128).mean() < 16
    text = (root / "shot.toml").read_text()
    write_motion_encoding(opened, opened.motion)
    assert (root / "shot.toml").read_text() == text  # its own section is replaced, not repeated


def test_the_command_says_that_it_cannot_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "held"
    make_turning_shot(root, FIELD["unity"], held=True)
    before = (root / "shot.toml").read_text()
    assert cli.main(["shot", "probe", str(root), "--out", str(tmp_path / "out")]) == 1
    assert "cannot tell" in capsys.readouterr().err
    assert (root / "shot.toml").read_text() == before and not (tmp_path / "out").exists()

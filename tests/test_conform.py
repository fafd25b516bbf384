"""Frames and passes at the rendered size."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from small_shot import SIZE, make_shot, passes

from pipeline.conform import Outline, controls_at, frames_at, masks_at, nearest
from pipeline.controls import canny_map, pose_map, softedge_map
from pipeline.shot import Area, Shot, write_shot


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall")


def test_the_same_size_changes_nothing(shot: Shot) -> None:
    wall = passes(5)
    assert np.array_equal(frames_at(shot, 1, 3, width=SIZE, height=SIZE), wall.rgb[1:3])
    controls = controls_at(shot, ["pose"], start=1, stop=3, width=SIZE, height=SIZE)
    assert np.array_equal(controls["pose"], pose_map(wall.joints[1:3], SIZE, SIZE))


@pytest.mark.parametrize("new", [3, 6, 12])
def test_nearest_takes_the_nearest_centre(new: int) -> None:
    values = np.arange(6, dtype=np.float32)[None, :]
    picked = nearest(values, width=new, height=1)[0]
    centres = (np.arange(new) + 0.5) * 6 / new - 0.5
    # a centre half-way between two pixels may go to either
    assert np.all(np.abs(picked - centres) <= 0.5)


def test_depth_and_pose_are_drawn_at_the_new_size(shot: Shot) -> None:
    controls = controls_at(shot, ["depth", "pose"], start=0, stop=2, width=96, height=128)
    assert controls["depth"].shape == controls["pose"].shape == (2, 128, 96, 3)
    # one flat wall at 3 m: (1/3 - 1/14) / (1/0.7 - 1/14) of 255
    assert np.all(controls["depth"] == round(255 * (1 / 3 - 1 / 14) / (1 / 0.7 - 1 / 14)))


def test_canny_is_found_at_the_new_size(shot: Shot) -> None:
    frames = frames_at(shot, 0, 2, width=96, height=128)
    size = {"start": 0, "stop": 2, "width": 96, "height": 128}
    drawn = controls_at(shot, ["canny"], **size, thresholds=(10.0, 30.0))["canny"]
    assert np.array_equal(drawn, canny_map(frames, low=10, high=30)) and drawn.any()
    assert np.array_equal(controls_at(shot, ["canny"], **size)["canny"], canny_map(frames))


def test_softedge_takes_the_passes_that_are_there(shot: Shot) -> None:
    size = {"start": 0, "stop": 1, "width": 96, "height": 128}
    frames = frames_at(shot, 0, 1, width=96, height=128)
    bare = replace(shot, passes={"rgb": shot.passes["rgb"]})
    assert np.array_equal(controls_at(bare, ["softedge"], **size)["softedge"], softedge_map(frames))


def test_normals_are_drawn_then_averaged(tmp_path: Path) -> None:
    """Left half faces left, right half nothing: the border's pixel lies between the two colours."""
    normal = np.zeros((1, SIZE, SIZE, 3), np.float32)
    normal[:, :, : SIZE // 2] = (-1, 0, 0)
    window = replace(passes(1), normal=normal)
    shot = write_shot(tmp_path / "wall", [window], fps=Fraction(24))
    drawn = controls_at(shot, ["normal"], start=0, stop=1, width=SIZE // 2, height=SIZE)["normal"]
    assert drawn.shape == (1, SIZE, SIZE // 2, 3)
    assert np.all(drawn[0, :, : SIZE // 4] == (255, 127, 127))
    assert np.all(drawn[0, :, SIZE // 4 :] == (127, 127, 255))
    third = controls_at(shot, ["normal"], start=0, stop=1, width=3, height=1)["normal"][0, 0, 1]
    assert np.all(np.abs(third.astype(int) - (191, 127, 191)) <= 1)


def test_joints_scale_about_the_picture_s_corner(shot: Shot) -> None:
    """Sticks drawn at twice the size and averaged down lie where those drawn at once lie."""
    large = controls_at(shot, ["pose"], start=0, stop=1, width=2 * SIZE, height=2 * SIZE)["pose"][0]
    small = controls_at(shot, ["pose"], start=0, stop=1, width=SIZE, height=SIZE)["pose"][0]
    down = large.reshape(SIZE, 2, SIZE, 2, 3).mean(axis=(1, 3))

    def centroid(image: np.ndarray) -> np.ndarray:
        weight = image.astype(np.float64).sum(axis=-1)
        y, x = np.mgrid[:SIZE, :SIZE]
        return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()

    # a mistake of half a pixel in the corner's place would move the centroid by a quarter
    assert np.abs(centroid(down) - centroid(small)).max() < 0.15


def test_pictures_are_averaged_down(shot: Shot) -> None:
    blocks = passes(5).rgb[1:3].reshape(2, 16, SIZE // 16, 32, SIZE // 32, 3).astype(np.float64)
    frames = frames_at(shot, 1, 3, width=32, height=16)
    # each axis rounds once, so up to half a level twice
    assert np.abs(frames - blocks.mean(axis=(2, 4))).max() <= 1.0


def outline(grow: float = 0.0, soft: float = 0.0, **area: object) -> Outline:
    return Outline(Area(**area), grow, soft)


def masks_of(shot: Shot, *outlines: Outline, size: int = SIZE) -> np.ndarray:
    return masks_at(shot, outlines, start=0, stop=2, width=size, height=size)


LEFT, MIDDLE = (0.0, 0.0, 0.5, 1.0), (0.25, 0.25, 0.75, 0.75)


def test_a_later_region_lies_over_an_earlier_one(shot: Shot) -> None:
    left, middle = masks_of(shot, outline(box=LEFT), outline(box=MIDDLE))[:, 1]
    quarter = SIZE // 4
    assert (middle[quarter:-quarter, quarter:-quarter] == 1).all() and middle.sum() == (SIZE / 2) ** 2
    assert (left * middle).max() == 0 and left.sum() == SIZE * SIZE / 2 - (SIZE / 4) * (SIZE / 2)
    assert masks_of(shot).shape == (0, 2, SIZE, SIZE)


def test_a_region_grows_and_fades_over_what_is_nobodys(shot: Shot) -> None:
    hard = masks_of(shot, outline(box=LEFT), outline(box=(0.5, 0.0, 0.75, 1.0)))[:, 0]
    wide = masks_of(shot, outline(0.125, box=LEFT), outline(0.125, box=(0.5, 0.0, 0.75, 1.0)))[:, 0]
    assert (wide[0] == hard[0]).all()  # its only free side is the frame's edge
    assert wide[1].sum() == pytest.approx(hard[1].sum() + SIZE * SIZE // 8) and (wide[1] >= hard[1]).all()
    soft = masks_of(shot, outline(0.0, 0.125, box=LEFT), outline(0.0, 0.125, box=(0.5, 0.0, 0.75, 1.0)))[:, 0]
    assert soft.sum(0).max() <= 1 + 1e-6 and (soft.sum(0)[:, 24:40] > 0.99).all()  # no seam where two meet
    row = soft[1, 0]
    assert row[48] == pytest.approx(0.5, abs=0.06) and (np.diff(row[40:56]) <= 0).all()
    assert row[:23].max() == 0 and row[57:].max() == 0  # the fade ends


def test_masks_come_at_the_rendered_size(shot: Shot) -> None:
    for size in (SIZE // 2, 3 * SIZE):
        (mask,) = masks_of(shot, outline(box=MIDDLE), size=size)
        assert mask.shape == (2, size, size) and mask.dtype == np.float32
        assert mask[0].mean() == pytest.approx(0.25, abs=1e-3) and mask.min() >= 0.0 and mask.max() == 1.0

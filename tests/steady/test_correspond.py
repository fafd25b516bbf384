"""Correspondence between any two frames, against the stage's geometry and against analytic planes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.footage import Footage
from pipeline.shot import open_shot
from pipeline.steady.correspond import (
    LEAST_FACING,
    RIM_TRUST,
    Pinhole,
    Surfaces,
    by_world,
    camera_flow,
    facing,
    read_camera,
    rim,
    stretch,
    trust,
)
from pipeline.steady.metrics import Step, chain

H, W = 24, 32
CAMERA = Pinhole(np.zeros(3), np.eye(3), (40.0, 40.0), ((W - 1) / 2.0, (H - 1) / 2.0))
SAMPLE = Path(__file__).parents[2] / "samples" / "shots" / "corridor_walk"


def moved(x: float) -> Pinhole:
    return replace(CAMERA, position=np.array([x, 0.0, 0.0]))


def surfaces(depth: float, camera: Pinhole, *, still: bool = True) -> Surfaces:
    shape = (H, W)
    return Surfaces(
        np.full(shape, depth, np.float32), np.ones(shape, np.uint32), camera,
        np.zeros(shape, np.float32), np.ones(shape, np.float32), np.full(shape, still),
    )  # fmt: skip


def test_a_wall_moves_by_focal_times_shift_over_depth() -> None:
    flow, depth = camera_flow(np.full((H, W), 4.0, np.float32), CAMERA, moved(0.5))
    np.testing.assert_allclose(flow[..., 0], -40.0 * 0.5 / 4.0, atol=1e-4)  # the camera goes right
    np.testing.assert_allclose(flow[..., 1], 0.0, atol=1e-4)
    np.testing.assert_allclose(depth, 4.0, rtol=1e-6)


def test_nothing_hit_and_behind_the_camera_have_no_way() -> None:
    depth = np.full((H, W), 4.0, np.float32)
    depth[0, 0] = np.inf
    ahead = replace(CAMERA, position=np.array([0.0, 0.0, 9.0]))  # it went past the wall
    assert np.isnan(camera_flow(depth, CAMERA, CAMERA)[0][0, 0]).all()
    assert np.isnan(camera_flow(depth, CAMERA, ahead)[0]).all()


def test_the_stages_vectors_are_its_cameras_where_nothing_moves() -> None:
    """joints.json's camera and the depth pass against the motion pass, both exact to half floats."""
    footage = Footage(open_shot(SAMPLE), width=128, height=128)
    here, ids = footage.surfaces(10), footage.surfaces(10).ids
    assert here.still is not None and ids is not None
    wall = ids < 256
    assert here.still[wall].mean() > 0.99 and here.still[~wall].mean() < 0.5


def test_a_hidden_wall_is_known_again_by_its_place_in_the_world() -> None:
    lost = Step(np.full((H, W, 2), np.nan, np.float32), np.zeros((H, W), bool))
    found = by_world(lost, surfaces(4.0, CAMERA), surfaces(4.0, moved(0.5)))
    assert found.seen[:, 6:].all() and not found.seen[:, :4].any()  # 5 pixels to the left, out of the frame
    np.testing.assert_allclose(found.flow[:, 6:, 0], -5.0, atol=1e-4)


@pytest.mark.parametrize(
    "there", [surfaces(3.0, moved(0.5)), surfaces(4.0, moved(0.5), still=False)], ids=["nearer", "moving"]
)
def test_what_is_another_surface_there_is_not_taken_for_it(there: Surfaces) -> None:
    lost = Step(np.full((H, W, 2), np.nan, np.float32), np.zeros((H, W), bool))
    assert not by_world(lost, surfaces(4.0, CAMERA), there).seen.any()


def test_composed_and_looked_up_agree_on_the_stage() -> None:
    """Twelve composed steps end within half a pixel of the exact place, 19 times of 20."""
    footage = Footage(open_shot(SAMPLE), width=128, height=128)
    way = footage.back(22)
    for t in range(21, 10, -1):
        way = chain(way, footage.back(t))
    here, there = footage.surfaces(22), footage.surfaces(10)
    assert here.depth is not None and here.camera is not None and there.camera is not None
    exact, _ = camera_flow(here.depth, here.camera, there.camera)
    assert here.still is not None
    both = way.seen & here.still
    assert both.mean() > 0.3
    assert np.quantile(np.abs(way.flow - exact)[both], 0.95) < 0.5


def test_stretch_is_the_logarithm_of_the_singular_values() -> None:
    y, x = np.mgrid[0:H, 0:W].astype(np.float32)
    flow = np.stack([0.5 * x, -0.2 * y], axis=-1)  # 1.5 wider, 0.8 as high
    expected = abs(np.log(1.5)) + abs(np.log(0.8))
    np.testing.assert_allclose(stretch(flow)[3:-3, 3:-3], expected, atol=0.01)
    np.testing.assert_allclose(stretch(np.zeros((H, W, 2), np.float32)), 0.0, atol=1e-5)


def test_trust_is_less_beside_an_outline_that_has_gone() -> None:
    link = Step(np.zeros((H, W, 2), np.float32), np.ones((H, W), bool))
    here = surfaces(4.0, CAMERA)
    plain, one = np.zeros((H, W), np.float32), np.ones((H, W), np.float32)
    np.testing.assert_allclose(trust(link, here, rim_there=plain, facing_there=one), 1.0, atol=1e-5)
    np.testing.assert_allclose(trust(link, here, rim_there=one, facing_there=one), RIM_TRUST, atol=1e-5)
    beside = replace(here, rim=one)
    np.testing.assert_allclose(trust(link, beside, rim_there=one, facing_there=one), 1.0, atol=1e-5)
    edge_on = trust(link, here, rim_there=plain, facing_there=np.full((H, W), 0.25, np.float32))
    np.testing.assert_allclose(edge_on, 0.25, atol=1e-5)


def test_outlines_come_from_depth_then_ids_then_motion() -> None:
    half = np.arange(W) < W // 2
    depth = np.where(half, 2.0, 5.0).astype(np.float32) * np.ones((H, 1), np.float32)
    ids = np.where(half, 1, 2).astype(np.uint32) * np.ones((H, 1), np.uint32)
    flow = np.where(half, 0.0, 4.0).astype(np.float32)[None, :, None] * np.ones((H, 1, 2), np.float32)
    for found in (rim(depth, None, None), rim(None, ids, None), rim(None, None, flow)):
        assert found[:, W // 2 - 1 : W // 2 + 1].min() == 1.0 and found[:, [0, -1]].max() == 0.0
    assert not rim(np.full((H, W), 3.0, np.float32), None, None).any()


def test_facing_has_a_floor() -> None:
    normals = np.zeros((H, W, 3), np.float32)
    assert (facing(normals, (H, W)) == np.float32(LEAST_FACING)).all()
    assert (facing(None, (H, W)) == 1.0).all()
    normals[3, 4] = np.nan  # a sky has none
    assert np.isfinite(facing(normals, (H, W))).all()


@pytest.mark.parametrize(
    "broken", [{"focal": "long"}, {"rotation": [1, 2]}, {"width": 0}, {"position": None}]
)
def test_a_camera_that_is_not_all_there_is_none(broken: dict[str, object]) -> None:
    whole = {"position": [0, 0, 0], "rotation": np.eye(3).tolist(), "focal": 80.0, "width": 64, "height": 48}
    camera = read_camera(whole, width=W, height=H)
    assert camera is not None and camera.focal == (40.0, 40.0)
    assert read_camera(whole | broken, width=W, height=H) is None

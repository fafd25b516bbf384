"""Bones keep their lengths, joints lie in their body parts, held-out looks stay out of base training."""

from __future__ import annotations

import itertools

import numpy as np
from stage_truth import Array

from pipeline.shot import JOINT_NAMES
from samples.stage.actions import ACTIONS, Performance
from samples.stage.body import PART, body, materials
from samples.stage.cast import (
    BY_NAME,
    CAST,
    CLOTH,
    GLOW,
    HAIR,
    HAIR_STYLES,
    SKIN,
    TOPS,
    is_held_out,
    random_member,
)
from samples.stage.geometry import WIDTH
from samples.stage.materials import MATERIAL_WIDTH
from samples.stage.render import render
from samples.stage.sampling import random_scene
from samples.stage.skeleton import BONE, BONES, OPENPOSE, Pose, openpose_points, solve

CHAINS = (
    "pelvis spine chest neck head",
    "chest l_shoulder l_elbow l_wrist",
    "chest r_shoulder r_elbow r_wrist",
    "pelvis l_hip l_knee l_ankle",
    "pelvis r_hip r_knee r_ankle",
)
HEAD = {"head"}
MAY_COVER = {
    "nose": HEAD, "l-eye": HEAD, "r-eye": HEAD, "l-ear": HEAD, "r-ear": HEAD,
    "neck": {"neck", "torso", "head"},
    **{f"{s}-shoulder": {f"{s}_upper_arm", "torso", "neck", "head"} for s in "lr"},  # long hair falls on it
    **{f"{s}-elbow": {f"{s}_upper_arm", f"{s}_forearm"} for s in "lr"},
    **{f"{s}-wrist": {f"{s}_forearm", f"{s}_hand"} for s in "lr"},
    **{f"{s}-hip": {"hips", f"{s}_thigh", "torso"} for s in "lr"},
    **{f"{s}-knee": {f"{s}_thigh", f"{s}_shin"} for s in "lr"},
    **{f"{s}-ankle": {f"{s}_shin", f"{s}_foot"} for s in "lr"},
}  # fmt: skip


def lengths(pose: Pose, scale: float) -> Array:
    origins = solve(pose, scale).origins
    pairs = [pair for chain in CHAINS for pair in itertools.pairwise(chain.split())]
    return np.array([np.linalg.norm(origins[BONE[a]] - origins[BONE[b]]) for a, b in pairs])


def test_bones_keep_their_lengths_in_any_pose() -> None:
    assert len(BONES) == 17
    rest = lengths(Pose({}), 1.0)
    assert rest.min() > 0.05 and len(rest) == 16
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = {bone: tuple(rng.uniform(-3, 3, 3)) for bone in BONES}
        pose = Pose(angles, position=tuple(rng.uniform(-2, 2, 3)), yaw=float(rng.uniform(-3, 3)))
        np.testing.assert_allclose(lengths(pose, 1.1), 1.1 * rest, rtol=1e-12)


def test_every_bone_can_be_posed() -> None:
    """Turning a bone turns its own axes; the root's angles and the yaw turn everything."""
    rest = solve(Pose({}), 1.0)
    for bone in BONES:
        turned = solve(Pose({bone: (0.3, 0.2, 0.1)}), 1.0)
        assert not np.allclose(turned.axes[BONE[bone]], rest.axes[BONE[bone]])
        np.testing.assert_allclose(turned.axes[BONE[bone]] @ turned.axes[BONE[bone]].T, np.eye(3), atol=1e-12)


def test_joints_stand_in_openpose_order() -> None:
    """A figure at rest faces +z with its left hand toward +x: each name of the legend is on its side."""
    points = openpose_points(solve(Pose({}), 1.0), 1.0)
    at = dict(zip(JOINT_NAMES, points, strict=True))
    assert len(OPENPOSE) == 18
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "eye", "ear"):
        left, right = at[f"l-{joint}"], at[f"r-{joint}"]
        assert left[0] > 0.03
        np.testing.assert_allclose(left * [-1, 1, 1], right, atol=1e-12)
    down = ["l-eye", "nose", "neck", "l-elbow", "l-hip", "l-knee", "l-ankle"]
    heights = [at[joint][1] for joint in down]
    assert heights == sorted(heights, reverse=True)
    assert at["nose"][2] > at["l-ear"][2] + 0.1
    assert 1.5 < at["nose"][1] < 1.75


def test_joints_lie_in_their_own_body_part() -> None:
    """Where a joint counts as seen, the pixels at it show the figure's own part there.

    The 3 x 3 pixels around are looked at: an ear's or a wrist's outline may pass between two pixels.
    """
    rng = np.random.default_rng(5)
    right = wrong = hidden = 0
    for _ in range(40):
        scene = random_scene(rng, pair_odds=0.3)
        frame = render(scene, int(rng.integers(48)), size=(96, 96))
        for figure, points in enumerate(frame.points, start=1):
            for joint, (x, y, v) in zip(JOINT_NAMES, points, strict=True):
                hidden += v == 1
                if v == 2:
                    row, column = round(float(y)), round(float(x))
                    around = frame.ids[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
                    allowed = [256 * figure + PART[part] for part in MAY_COVER[joint]]
                    ok = np.isin(around, allowed).any()
                    right, wrong = right + ok, wrong + (not ok)
    assert right > 300 and hidden > 30
    # a joint less than _JOINT_SLACK behind another part, an arm say, still counts as seen
    assert wrong <= 0.03 * right


def test_joints_project_with_the_camera() -> None:
    """x and y are the world points seen through the pinhole, written out by hand."""
    frame = render(random_scene(np.random.default_rng(2)), 3, size=(96, 72))
    cam = frame.state.camera
    right, up, forward = cam.rotation
    for (x, y, v), point in zip(frame.points[0], frame.world[0], strict=True):
        ray = point - cam.position
        depth = ray @ forward
        assert abs(x - (47.5 + cam.focal * (ray @ right) / depth)) < 1e-3
        assert abs(y - (35.5 - cam.focal * (ray @ up) / depth)) < 1e-3
        if v > 0:
            assert -0.5 <= x <= 95.5 and -0.5 <= y <= 71.5


def test_actions_move_a_little_and_smoothly() -> None:
    for action in ACTIONS:
        performance = Performance(action)
        path = np.stack([
            openpose_points(solve(performance.pose(n / 24, n / 47), 1.0), 1.0) for n in range(48)
        ])  # fmt: skip
        steps = np.linalg.norm(np.diff(path, axis=0), axis=-1)
        assert steps.max() < 0.15  # metres in a 24th of a second (measured: 0.13, an ankle): no joint jumps
        assert np.ptp(path, axis=0).max() > (0.01 if action == "standing" else 0.05)


def test_the_cast_is_large_and_its_attributes_are_words() -> None:
    assert len(CAST) >= 12 and len(BY_NAME) == len(CAST)
    for member in CAST:
        assert member.skin in SKIN and member.hair in HAIR and member.style in HAIR_STYLES
        assert member.top in TOPS and member.colour in CLOTH and member.trousers in CLOTH
        assert member.glow in ("", *GLOW)
    said = {(m.skin, m.hair, m.style, m.beard, m.glasses, m.top, m.colour, m.trousers, m.glow) for m in CAST}
    assert len(said) == len(CAST)
    assert [member.name for member in CAST if is_held_out(member)] == ["iris", "otto"]


def test_base_training_never_draws_a_sample_character() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_member(rng) for _ in range(10_000)]
    assert not any(m.style == "steel skull" and m.top in ("translucent torso", "mesh") for m in drawn)
    assert not any(m.beard and m.glasses for m in drawn)
    # each half of what makes them is drawn: it is the combination that is held out
    assert any(m.style == "steel skull" for m in drawn) and any(m.top == "translucent torso" for m in drawn)
    assert any(m.beard for m in drawn) and any(m.glasses for m in drawn)


def test_a_body_has_the_same_rows_in_every_pose() -> None:
    """Row k is the same surface at any time: motion rests on it. Sizes and materials do not change."""
    for member in CAST:
        rest = body(member, solve(Pose({}), member.scale), figure=2, first_material=5)
        posed = body(
            member, solve(Performance("walking").pose(0.7, 0.4), member.scale), figure=2, first_material=5
        )
        assert rest.shape == posed.shape and rest.shape[1] == WIDTH
        fixed = [0, *range(13, 20)]
        np.testing.assert_array_equal(rest[:, fixed], posed[:, fixed])
        assert set(rest[:, 19].astype(int) >> 8) == {2}
        assert set(rest[:, 19].astype(int) & 255) == set(range(1, 17))
        assert materials(member).shape == (7, MATERIAL_WIDTH)
        assert rest[:, 18].min() >= 5 and rest[:, 18].max() < 12

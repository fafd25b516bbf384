"""The stage's passes by property: motion carries pixels, depth is the ray's, joints lie on their own part."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from samples.stage.actions import Performance
from samples.stage.body import PARTS
from samples.stage.cameras import Move
from samples.stage.cast import BY_NAME, CAST, is_held_out, random_member
from samples.stage.geometry import CONE, ELLIPSOID
from samples.stage.render import Frame, render
from samples.stage.sampling import random_scene
from samples.stage.scene import Role, Scene, state
from samples.stage.sets import BASE_SETS
from samples.stage.trace import see

SIZE = (96, 96)
WALK = Scene(
    "a corridor with a black door",
    (Role(BY_NAME["otto"], Performance("walking", yaw=0.6)),),
    Move("medium", 0.1),
)
SCENES = {
    "static, walking": WALK,
    "orbit, standing": replace(
        WALK,
        roles=(Role(BY_NAME["mara"], Performance("standing", yaw=-0.4)),),
        move=Move("closeup", 0.2, kind="orbit", amount=1.2),
    ),
    "dolly, gesturing": replace(
        WALK,
        place="a brick hall",
        roles=(Role(BY_NAME["iris"], Performance("gesturing")),),
        move=Move("medium", -0.3, kind="dolly", amount=0.9),
    ),
}
# Which parts a joint's pixel may show: its own, or the neighbour that overlaps it at the joint.
_SIDES = {2: "r_upper_arm", 3: "r_forearm", 4: "r_hand", 5: "l_upper_arm", 6: "l_forearm", 7: "l_hand"}
_LEGS = {8: "r_thigh", 9: "r_shin", 10: "r_foot", 11: "l_thigh", 12: "l_shin", 13: "l_foot"}
_NEIGHBOURS = {
    "upper_arm": ("upper_arm", "torso", "forearm"),
    "forearm": ("forearm", "upper_arm"),
    "hand": ("hand", "forearm"),
    "thigh": ("thigh", "hips", "torso"),
    "shin": ("shin", "thigh"),
    "foot": ("foot", "shin"),
}


def interior(frame: Frame) -> NDArray[np.bool_]:
    """Pixels whose 5 x 5 neighbourhood is one primitive: no anti-aliased edge reaches them."""
    values = _hits(frame)[0].astype(np.float32)
    kernel = np.ones((5, 5), np.uint8)
    return np.asarray(cv2.dilate(values, kernel) == cv2.erode(values, kernel))


def sample(picture: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """`picture` at p + flow(p), bilinear, written out plainly."""
    height, width = flow.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    x, y = (
        np.nan_to_num(x + flow[..., 0]).clip(0, width - 1.001),
        np.nan_to_num(y + flow[..., 1]).clip(0, height - 1.001),
    )
    left, top = x.astype(int), y.astype(int)
    a, b = (x - left)[..., None], (y - top)[..., None]
    p = picture.astype(np.float32)
    upper = (1 - a) * p[top, left] + a * p[top, left + 1]
    lower = (1 - a) * p[top + 1, left] + a * p[top + 1, left + 1]
    blended: NDArray[np.float32] = (1 - b) * upper + b * lower
    return blended


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_the_motion_carries_the_engine_frame(name: str, direction: str) -> None:
    scene, t = SCENES[name], 20
    now = render(scene, t, size=SIZE)
    other = render(scene, t + 1 if direction == "forward" else t - 1, size=SIZE)
    flow = now.forward if direction == "forward" else now.backward
    seen = (now.visible & (1 if direction == "forward" else 2)) > 0
    there = sample(interior(other)[..., None].astype(np.uint8) * 255, flow)[..., 0] > 254
    inside = seen & interior(now) & there
    assert inside.mean() > 0.25
    error = np.abs(sample(other.engine, flow) - now.engine).mean(axis=2)[inside]
    # the headlight moves with the camera, and bilinear sampling bends shading a little
    assert error.mean() < 1.5
    assert np.percentile(error, 99) < 12.0


def test_without_the_motion_the_frames_differ() -> None:
    """The check above can fail: on the orbit, standing still is several times worse than the motion."""
    scene = SCENES["orbit, standing"]
    now, after = render(scene, 20, size=SIZE), render(scene, 21, size=SIZE)
    seen = (now.visible & 1) > 0
    moved = np.abs(sample(after.engine, now.forward) - now.engine).mean(axis=2)[seen].mean()
    still = np.abs(after.engine.astype(float) - now.engine).mean(axis=2)[seen].mean()
    assert still > 2.0 * moved


@pytest.mark.parametrize("name", SCENES)
def test_motion_is_the_rigid_motion_of_the_hit_part(name: str) -> None:
    """Backproject by depth, move with the primitive, project with the other camera: plain numpy."""
    scene, t = SCENES[name], 20
    now = render(scene, t, size=SIZE)
    after = state(scene, t + 1, size=SIZE)
    hit, _ = _hits(now)
    rows, cols = np.nonzero(hit >= 0)
    chosen = np.random.default_rng(0).choice(len(rows), 300, replace=False)
    rows, cols = rows[chosen], cols[chosen]
    world = _world(now, rows, cols)
    a, b = now.state.table[hit[rows, cols]], after.table[hit[rows, cols]]
    local = np.einsum("nij,nj->ni", a[:, 4:13].reshape(-1, 3, 3), world - a[:, 1:4])
    moved = np.einsum("nji,nj->ni", b[:, 4:13].reshape(-1, 3, 3), local) + b[:, 1:4]
    pixels, _ = after.camera.project(moved)
    # float32 depth of up to 10 m and a focal length of 154 px: some 1e-4 px
    np.testing.assert_allclose(
        pixels - np.stack([cols, rows], 1), now.forward[rows, cols], atol=2e-3, rtol=1e-4
    )


@pytest.mark.parametrize("name", SCENES)
def test_depth_is_the_rays(name: str) -> None:
    """The backprojected point satisfies the hit primitive's own equation."""
    now = render(SCENES[name], 20, size=SIZE)
    hit, _ = _hits(now)
    rows, cols = np.nonzero(hit >= 0)
    table = now.state.table[hit[rows, cols]]
    world = _world(now, rows, cols)
    local = np.einsum("nij,nj->ni", table[:, 4:13].reshape(-1, 3, 3), world - table[:, 1:4])
    distance = np.array([_signed_distance(row, p) for row, p in zip(table, local, strict=True)])
    assert np.abs(distance).max() < 2e-5  # metres: float32 depth of a few metres
    assert (distance.size > 5000) and (table[:, 0] == CONE).any() and (table[:, 0] == ELLIPSOID).any()


def test_nothing_stands_before_the_seen_surface() -> None:
    """Walk along rays from the camera: every primitive but the room stays outside until the hit."""
    now = render(WALK, 20, size=SIZE)
    rng = np.random.default_rng(1)
    rows, cols = rng.integers(0, SIZE[1], 40), rng.integers(0, SIZE[0], 40)
    ends = _world(now, rows, cols)
    solid = now.state.table[1:]
    for end in ends:
        for share in np.linspace(0.05, 0.995, 60):
            point = now.state.camera.position + share * (end - now.state.camera.position)
            local = np.einsum("nij,nj->ni", solid[:, 4:13].reshape(-1, 3, 3), point - solid[:, 1:4])
            assert all(_signed_distance(row, p) > -1e-6 for row, p in zip(solid, local, strict=True))


def test_seen_joints_lie_on_their_own_part() -> None:
    rng = np.random.default_rng(3)
    checked = wrong = 0
    for _ in range(40):
        scene = random_scene(rng, pair_odds=0.3)
        frame = render(scene, int(rng.integers(scene.num_frames)), size=SIZE)
        for figure, points in enumerate(frame.points, start=1):
            for joint, part in {**_SIDES, **_LEGS}.items():
                x, y, v = points[joint]
                if v != 2:
                    continue
                found = int(frame.ids[round(float(y)), round(float(x))])
                side, _, kind = part.partition("_")
                allowed = {f"{side}_{n}" if n not in ("torso", "hips") else n for n in _NEIGHBOURS[kind]}
                checked += 1
                wrong += not (found >> 8 == figure and PARTS[found & 255] in allowed)
    assert checked > 200
    # a limb crossing just before another within the slack of a limb's radius
    assert wrong / checked < 0.04


def test_normals_are_unit_and_face_the_camera() -> None:
    now = render(WALK, 20, size=SIZE)
    length = np.linalg.norm(now.normal, axis=2)
    np.testing.assert_allclose(length, 1.0, atol=1e-5)
    rows, cols = np.mgrid[0 : SIZE[1], 0 : SIZE[0]]
    cx, cy = now.state.camera.centre
    f = now.state.camera.focal
    toward = -np.stack([(cols - cx) / f, -(rows - cy) / f, -np.ones_like(cols, float)], -1)
    assert ((now.normal * toward).sum(axis=2) > -1e-5).all()


def test_the_same_scene_gives_the_same_bytes() -> None:
    a, b = render(WALK, 7, size=(64, 64), seed=3), render(WALK, 7, size=(64, 64), seed=3)
    for name in ("engine", "film", "depth", "ids", "visible", "points"):
        assert np.array_equal(getattr(a, name), getattr(b, name))
    assert not np.array_equal(a.film, render(WALK, 7, size=(64, 64), seed=4).film)


def test_the_cast_is_large_and_the_sample_characters_are_held_out() -> None:
    assert len({member.name for member in CAST}) >= 12 and len(BASE_SETS) >= 5
    assert is_held_out(BY_NAME["iris"]) and is_held_out(BY_NAME["otto"])
    assert sum(is_held_out(member) for member in CAST) == 2
    rng = np.random.default_rng(0)
    assert not any(is_held_out(random_member(rng)) for _ in range(3000))


def test_recasting_keeps_the_body_and_changes_the_picture() -> None:
    scene = replace(WALK, move=Move("closeup", 0.0))
    truth = {
        name: render(scene.recast(0, BY_NAME[name]), 5, size=SIZE) for name in ("otto", "viktor", "unit7")
    }
    torso = {name: (f.ids & 255) == PARTS.index("torso") for name, f in truth.items()}
    assert (torso["otto"] == torso["unit7"]).mean() > 0.99
    assert np.abs(truth["otto"].film.astype(float) - truth["viktor"].film).mean() > 5.0


def _hits(frame: Frame) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    cam = frame.state.camera
    hit, depth = see(frame.state.table, cam.position, cam.rotation, cam.focal, cam.width, cam.height, 1)
    return hit, depth


def _world(frame: Frame, rows: NDArray[np.int64], cols: NDArray[np.int64]) -> NDArray[np.float64]:
    cam = frame.state.camera
    cx, cy = cam.centre
    rays = np.stack([(cols - cx) / cam.focal, -(rows - cy) / cam.focal, np.ones(len(rows))], 1)
    world: NDArray[np.float64] = cam.position + frame.depth[rows, cols, None] * (rays @ cam.rotation)
    return world


def _signed_distance(row: NDArray[np.float64], p: NDArray[np.float64]) -> float:
    """Distance-like value of a local point: 0 on the surface, first-order metric, > 0 outside."""
    shape = row[13:16]
    if row[0] == ELLIPSOID:
        scaled = p / shape
        value = float(scaled @ scaled)
        return (value - 1.0) / (2.0 * float(np.linalg.norm(p / shape**2)) + 1e-12)
    if row[0] == CONE:
        length, r0, r1 = shape
        radial = float(np.hypot(p[0], p[2]))
        s = (r0 - r1) / length
        c = np.sqrt(1.0 - s * s)
        along = float(np.clip(p[1] - radial * s / c, 0.0, length))  # centre of the nearest of its spheres
        return float(np.hypot(radial, p[1] - along)) - (r0 + (r1 - r0) * along / length)
    outside = np.abs(p) - shape
    return float(outside.max())

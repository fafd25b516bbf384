"""{view} from joints, against what the stage knows of its figures (figure 4 of the presets)."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PresetError
from pipeline.preset import Views, face_angle, load_preset, name_views
from pipeline.preset.views import L_EAR, L_SHOULDER, NOSE, R_EAR, R_SHOULDER
from pipeline.shot import open_shot, read_joints
from samples.stage.actions import Performance
from samples.stage.cameras import Move
from samples.stage.captions import view_of
from samples.stage.cast import BY_NAME
from samples.stage.scene import Role, Scene, state
from samples.stage.shots import SAMPLE_SHOTS
from samples.stage.skeleton import BONE, solve

SHOTS = Path(__file__).resolve().parents[2] / "samples" / "shots"
VIEWS = Views()
CLOSE = 8.0  # degrees: nearer to a boundary either name is right
TURN = Scene(
    "a glass room",
    (Role(BY_NAME["otto"], Performance("turning", amount=2.0)),),
    Move("medium", 0.0, kind="static"),
    num_frames=120,
)
ORBIT = replace(
    TURN,
    roles=(Role(BY_NAME["iris"], Performance("standing", yaw=0.3)),),
    move=Move("medium", 0.3, kind="orbit", amount=2.0 * math.pi, elevation=0.25),
    num_frames=240,
)


def true_angle(scene: Scene, frame: int) -> float:
    """Degrees between the head bone's face and the camera, as the stage's captions measure it."""
    performance, member = scene.roles[0].performance, scene.roles[0].member
    u = frame / (scene.num_frames - 1)
    skeleton = solve(performance.pose(frame / scene.fps, u), member.scale)
    to_camera = state(scene, frame, size=(64, 64)).camera.position - skeleton.origins[BONE["head"]]
    cosine = skeleton.axes[BONE["head"], 2] @ to_camera / np.linalg.norm(to_camera)
    return math.degrees(math.acos(float(np.clip(cosine, -1.0, 1.0))))


def joints(scene: Scene, frame: int) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """What the stage exports of the first figure: points [18, 3], world [18, 3], the camera's position."""
    now = state(scene, frame, size=(256, 256))
    pixels, _ = now.camera.project(now.points[0])
    points = np.column_stack([pixels, np.full(18, 2.0)]).astype(np.float32)
    return points, now.points[0].astype(np.float32), now.camera.as_json()["position"]


def check(names: list[str], angles: list[float], truth: list[str]) -> None:
    """The figure: >= 95 % right away from the boundaries, at most one switch for each boundary crossed."""
    away = [min(abs(angle - end) for end in VIEWS.ends) > CLOSE for angle in angles]
    right = [name == true for name, true, ok in zip(names, truth, away, strict=True) if ok]
    assert sum(away) > len(names) / 2 and sum(right) >= 0.95 * len(right)
    assert switches(names) <= switches(truth)


def switches(names: list[str]) -> int:
    return sum(a != b for a, b in itertools.pairwise(names))


@pytest.mark.parametrize("scene", [TURN, ORBIT], ids=["turn", "orbit"])
@pytest.mark.parametrize("in_space", [True, False], ids=["world", "picture"])
def test_a_turning_figure_is_named_as_the_stage_names_it(scene: Scene, in_space: bool) -> None:
    frames = range(scene.num_frames)
    angles = [true_angle(scene, t) for t in frames]
    truth = [view_of(scene, t) for t in frames]
    assert set(truth) == set(VIEWS.names)
    exported = [joints(scene, t) for t in frames]
    names = name_views([face_angle(*each) if in_space else face_angle(each[0]) for each in exported], VIEWS)
    assert names is not None
    check(names, angles, truth)


def test_noise_at_a_boundary_switches_nothing() -> None:
    rng = np.random.default_rng(1)
    angles = [a + rng.normal(0.0, 1.5) for a in np.linspace(0.0, 180.0, 400)]
    names = name_views(angles, VIEWS)
    bare = name_views(angles, VIEWS.model_copy(update={"margin": 0.0}))
    assert names is not None and bare is not None
    assert switches(names) == 3 < switches(bare)


@pytest.mark.parametrize("name", sorted(SAMPLE_SHOTS))
def test_the_sample_shots_joints_files(name: str) -> None:
    scene, shot = SAMPLE_SHOTS[name], open_shot(SHOTS / name)
    found = []
    for frame in read_joints(shot, 0, shot.num_frames):
        figure = frame.figures[0]
        found.append(face_angle(figure.points, figure.world, frame.camera["position"]))
    names = name_views(found, VIEWS)
    assert names is not None
    frames = range(shot.num_frames)
    check(names, [true_angle(scene, t) for t in frames], [view_of(scene, t) for t in frames])


def test_a_face_in_part_is_enough() -> None:
    """An estimator misses the far ear of a turned head, and all of the face from behind."""
    points, _, _ = joints(TURN, 0)
    whole = face_angle(points)
    points[R_EAR, 2] = 0
    part = face_angle(points)
    assert whole is not None and part is not None and abs(whole - part) < 10.0
    points, _, _ = joints(TURN, TURN.num_frames - 1)
    points[[NOSE, 14, 15], 2] = 0
    assert face_angle(points) == 180.0
    points[[R_EAR, L_EAR], 2] = 0
    assert face_angle(points) == 180.0  # by the shoulders
    points[[R_SHOULDER, L_SHOULDER], 2] = 0
    assert face_angle(points) is None
    assert face_angle(np.full((18, 3), 2.0)) is None  # all at one place


def test_frames_without_an_angle_keep_the_name_beside_them() -> None:
    front, quarter, *_ = VIEWS.names
    assert name_views([None, 5.0, None, 40.0, None], VIEWS) == [front, front, front, quarter, quarter]
    assert name_views([None, None], VIEWS) is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("views.ends=[20, 60]", "views: 4 names need 3 ends, found 2"),
        ("views.ends=[20, 28, 118]", "views: ends must rise by more than twice the margin (10 degrees)"),
        ("views.ends=[20, 60, 180]", "views.ends[2]: found 180; it should be less than 180"),
    ],
)
def test_views_that_cannot_be(override: str, message: str) -> None:
    with pytest.raises(PresetError) as caught:
        load_preset("mini_film", overrides=[override])
    assert message in str(caught.value) and "\n" not in str(caught.value)

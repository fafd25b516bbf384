"""{view} from joints, against what the stage knows of its figures (figure 4 of the presets)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.views import (
    CLOSE,
    ORBIT,
    READINGS,
    SCENES,
    TURN,
    estimated,
    exported,
    measure,
    switches,
    true_angle,
)
from pipeline.errors import PresetError
from pipeline.preset import Views, face_angle, load_preset, name_views
from pipeline.preset.views import L_EAR, L_SHOULDER, NOSE, R_EAR, R_SHOULDER
from pipeline.shot import open_shot, read_joints
from samples.stage.captions import view_of
from samples.stage.scene import Scene
from samples.stage.shots import SAMPLE_SHOTS

SHOTS = Path(__file__).resolve().parents[2] / "samples" / "shots"
VIEWS = Views()


def check(names: list[str], angles: list[float], truth: list[str]) -> None:
    """The figure: >= 95 % right away from the boundaries, at most one switch for each boundary crossed."""
    away = [min(abs(angle - end) for end in VIEWS.ends) > CLOSE for angle in angles]
    right = [name == true for name, true, ok in zip(names, truth, away, strict=True) if ok]
    assert sum(away) > len(names) / 2 and sum(right) >= 0.95 * len(right)
    assert switches(names) <= switches(truth)


@pytest.mark.parametrize("scene", SCENES.values(), ids=list(SCENES))
@pytest.mark.parametrize("reading", ["world positions", "exact points", "estimated, noise 2 %"])
def test_a_turning_figure_is_named_as_the_stage_names_it(scene: Scene, reading: str) -> None:
    row = measure(scene, READINGS[reading])
    assert row["reached"] == "yes" and int(row["frames away from boundaries"]) > scene.num_frames / 2
    if reading != "estimated, noise 2 %":
        assert row["right"] == "100.0 %"


def test_the_scenes_show_every_view() -> None:
    for scene in (TURN, ORBIT):
        assert {view_of(scene, t) for t in range(scene.num_frames)} == set(VIEWS.names)


def test_points_that_jump_need_the_median() -> None:
    """Without it estimated joints switch the name back and forth."""
    rng = np.random.default_rng(0)
    frames = range(ORBIT.num_frames)
    angles = [face_angle(estimated(exported(ORBIT, t), true_angle(ORBIT, t), 0.02, rng)) for t in frames]
    smooth, bare = (name_views(angles, VIEWS.model_copy(update={"smooth": reach})) for reach in (4, 0))
    assert smooth is not None and bare is not None
    assert switches(smooth) == switches([view_of(ORBIT, t) for t in frames]) < switches(bare)


def test_noise_at_a_boundary_switches_nothing() -> None:
    rng = np.random.default_rng(1)
    angles = [a + rng.normal(0.0, 1.5) for a in np.linspace(0.0, 180.0, 400)]
    names = name_views(angles, VIEWS)
    bare = name_views(angles, VIEWS.model_copy(update={"margin": 0.0, "smooth": 0}))
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
    points = exported(TURN, 0).points
    whole = face_angle(points)
    points[R_EAR, 2] = 0
    part = face_angle(points)
    assert whole is not None and part is not None and abs(whole - part) < 10.0
    points = exported(TURN, TURN.num_frames - 1).points
    points[[14, 15, R_EAR, L_EAR], 2] = 0
    assert face_angle(points) is None  # a nose alone: its shoulders may be swapped, it does not face away
    points[[R_EAR, L_EAR], 2] = 2
    points[NOSE, 2] = 0
    assert face_angle(points) == 180.0
    points[[R_EAR, L_EAR], 2] = 0
    assert face_angle(points) == 180.0  # by the shoulders
    points[[R_SHOULDER, L_SHOULDER], 2] = 0
    assert face_angle(points) is None
    assert face_angle(np.full((18, 3), 2.0)) is None  # all at one place


def test_frames_without_an_angle_keep_the_name_beside_them() -> None:
    front, quarter, *_ = VIEWS.names
    each = VIEWS.model_copy(update={"smooth": 0})
    assert name_views([None, 5.0, None, 40.0, None], each) == [front, front, front, quarter, quarter]
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

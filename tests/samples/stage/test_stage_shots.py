"""Scenes on disk: what is written is what was rendered, and the committed samples are whole."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import UserError
from pipeline.image import read_png
from pipeline.shot import open_shot, read_frames, read_joints, read_motion, read_pass
from samples.stage.datasets import CONCEPTS, NUM_IMAGES
from samples.stage.render import render
from samples.stage.shots import SAMPLE_SHOTS, write_scene

SAMPLES = Path(__file__).parents[3] / "samples"
PASSES = {"rgb", "depth", "normal", "motion", "ids", "visible", "joints", "truth"}


def test_a_written_scene_reads_back(tmp_path: Path) -> None:
    scene = replace(SAMPLE_SHOTS["two_shot"], num_frames=4)
    write_scene(scene, tmp_path / "short", size=(48, 40))
    shot = open_shot(tmp_path / "short")
    assert (shot.num_frames, shot.width, shot.height, shot.fps) == (4, 48, 40, 24)
    assert set(shot.passes) >= PASSES and shot.characters == ("iris", "otto")
    rendered = [render(scene, n, size=(48, 40)) for n in range(4)]

    def stacked(name: str) -> np.ndarray:
        return np.stack([getattr(frame, name) for frame in rendered])

    for name, expected in (("ids", "ids"), ("visible", "visible"), ("truth", "film")):
        np.testing.assert_array_equal(read_pass(shot, name, 0, 4), stacked(expected))
    np.testing.assert_array_equal(read_frames(shot, 0, 4), stacked("engine"))
    motion = read_motion(shot, 0, 4)
    # halves have 11 bits: half a unit in the last place of the value
    pairs = [(read_pass(shot, "depth", 0, 4), "depth"), (read_pass(shot, "normal", 0, 4), "normal")]
    pairs += [(motion.forward[:-1], "forward"), (motion.backward[1:], "backward")]
    for read, name in pairs:
        expected = stacked(name)
        expected = {"forward": expected[:-1], "backward": expected[1:]}.get(name, expected)
        np.testing.assert_allclose(read, expected, rtol=2**-11, atol=1e-4)
    for joints, frame in zip(read_joints(shot, 0, 4), rendered, strict=True):
        assert [figure.name for figure in joints.figures] == ["iris", "otto"]
        for figure, points in zip(joints.figures, frame.points, strict=True):
            np.testing.assert_allclose(figure.points, points, atol=1e-3)  # written to a thousandth of a pixel


def test_a_shot_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    scene = replace(SAMPLE_SHOTS["profile_turn"], num_frames=1)
    write_scene(scene, tmp_path / "once", size=(16, 16))
    with pytest.raises(UserError):
        write_scene(scene, tmp_path / "once", size=(16, 16))
    write_scene(scene, tmp_path / "once", size=(24, 16), replace=True)
    assert open_shot(tmp_path / "once").width == 24


@pytest.mark.parametrize("name", SAMPLE_SHOTS)
def test_committed_shots_are_whole_and_of_this_stage(name: str) -> None:
    """48 frames, every pass; one frame rendered now is the committed one."""
    scene, shot = SAMPLE_SHOTS[name], open_shot(SAMPLES / "shots" / name)
    assert shot.num_frames == 48 and set(shot.passes) >= PASSES
    assert shot.characters == tuple(role.member.name for role in scene.roles)
    frame = render(scene, 30)
    np.testing.assert_array_equal(read_pass(shot, "ids", 30, 31)[0], frame.ids)
    # another processor's arithmetic may round a level the other way
    for committed, rendered in (
        (read_frames(shot, 30, 31)[0], frame.engine),
        (read_pass(shot, "truth", 30, 31)[0], frame.film),
    ):
        assert (committed != rendered).mean() < 0.01
        assert np.abs(committed.astype(int) - rendered).max() <= 2


def test_the_sample_shots_cover_what_they_are_for() -> None:
    """One turns to profile, one has both characters."""
    from samples.stage.captions import view_of

    turn = SAMPLE_SHOTS["profile_turn"]
    assert view_of(turn, 0) == "front view" and view_of(turn, 47) == "profile view"
    assert [role.member.name for role in SAMPLE_SHOTS["two_shot"].roles] == ["iris", "otto"]


@pytest.mark.parametrize("name", CONCEPTS)
def test_committed_datasets_are_whole(name: str) -> None:
    concept = CONCEPTS[name]
    folder = SAMPLES / concept.folder
    stems = [f"{number:04d}" for number in range(1, NUM_IMAGES + 1)]
    assert NUM_IMAGES == 20
    for kind in ("images", "depth", "pose", "engine"):
        assert sorted(path.stem for path in (folder / kind).glob("*.png")) == stems
    captions = [(folder / "images" / f"{stem}.txt").read_text(encoding="utf-8") for stem in stems]
    assert all(concept.trigger in text and text.endswith("\n") for text in captions)
    assert len(set(captions)) > 15
    assert read_png(folder / "images" / "0001.png").shape == (128, 128, 3)
    listed = tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))
    assert listed["name"] == name and listed["concept"][0]["trigger"] == concept.trigger

"""Which frames become keys, and where carrying them would lose."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from small_shot import SIZE, make_shot, passes

from pipeline.errors import OutputError
from pipeline.footage import Footage
from pipeline.shot import FramePasses, Motion, Shot, open_shot, read_frames, write_shot
from pipeline.timeline import CHUNK, SHORTEST, Timeline, make_timeline, read_timeline, write_timeline
from samples.stage.scene import Scene
from samples.stage.shots import SAMPLE_SHOTS, write_scene

SAMPLES = Path(__file__).parents[1] / "samples" / "shots"


def timeline_of(shot: Shot, *, reach: int = 12, size: int = SIZE) -> Timeline:
    return make_timeline(shot, Footage(shot, width=size, height=size), reach=reach)


def cut_after(first: FramePasses, second: FramePasses) -> FramePasses:
    """Two takes in one shot, with no vectors over the cut."""
    assert first.motion is not None and second.motion is not None and first.visible is not None
    visible = np.concatenate([first.visible, second.visible])
    visible[len(first.visible) - 1] &= 2
    visible[len(first.visible)] &= 1
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in ("rgb", "depth", "ids")}
    joined = {name: np.concatenate(pair) for name, pair in pairs.items()}
    motion = Motion(
        np.concatenate([first.motion.forward, second.motion.forward]),
        np.concatenate([first.motion.backward, second.motion.backward]),
    )
    joints = tuple(replace(each, frame=n + 1) for n, each in enumerate((*first.joints, *second.joints)))
    return FramePasses(**joined, motion=motion, visible=visible, joints=joints)


def test_a_slide_is_keys_at_its_ends_and_between(tmp_path: Path) -> None:
    (stretch,) = timeline_of(make_shot(tmp_path / "wall", num_frames=20))
    assert stretch.method == "keys" and (stretch.start, stretch.stop) == (0, 20)
    assert stretch.keys[0] == 0 and stretch.keys[-1] == 19 and max(np.diff(stretch.keys)) <= 12
    assert min(stretch.shown) > 0.9 and len(stretch.shown) == 20


def test_a_cut_parts_a_shot_and_a_short_take_is_styled_frame_by_frame(tmp_path: Path) -> None:
    both = cut_after(passes(SHORTEST - 2), passes(12))
    shot = write_shot(tmp_path / "cut", [both], fps=Fraction(24))
    short, long = timeline_of(shot)
    assert (short.start, short.stop, short.method) == (0, SHORTEST - 2, "frame") and "too few" in short.why
    assert (long.start, long.stop, long.method) == (SHORTEST - 2, SHORTEST + 10, "keys")


def test_the_vectors_of_a_pane_explain_nothing(tmp_path: Path) -> None:
    scene: Scene = replace(SAMPLE_SHOTS["corridor_walk"], num_frames=24, pane=True)
    (stretch,) = timeline_of(write_scene(scene, tmp_path / "pane"), size=128)
    assert stretch.method == "frame" and "unexplained" in stretch.why and stretch.residual > 0.95


def test_wrong_vectors_explain_nothing_either(tmp_path: Path) -> None:
    """The sample shot with its vectors turned round."""
    whole = open_shot(SAMPLES / "corridor_walk")
    assert timeline_of(whole, size=128)[0].method == "keys"
    assert whole.motion.forward is not None and whole.motion.backward is not None
    forward, backward = (
        replace(each, scale=(-each.scale[0], -each.scale[1]))
        for each in (whole.motion.forward, whole.motion.backward)
    )
    turned = replace(whole, motion=replace(whole.motion, forward=forward, backward=backward))
    assert timeline_of(turned, size=128)[0].method == "frame"


@pytest.mark.parametrize("name", sorted(SAMPLE_SHOTS))
def test_the_sample_shots_are_carried_by_few_keys(name: str) -> None:
    (stretch,) = timeline_of(open_shot(SAMPLES / name), size=128)
    assert stretch.method == "keys" and len(stretch.keys) <= 12 and stretch.holes < 0.03


def test_without_depth_ids_that_change_from_frame_to_frame_are_cuts_not_a_smear(tmp_path: Path) -> None:
    """With depth they are found out and left out (`test_keys_input.py`)."""
    wall = passes(10)
    ids = np.ones_like(wall.rgb[..., 0], np.uint32) * (1 + np.arange(10, dtype=np.uint32))[:, None, None]
    bare = replace(wall, ids=ids, visible=None, depth=None)
    timeline = timeline_of(write_shot(tmp_path / "ids", [bare], fps=Fraction(24)))
    assert {stretch.method for stretch in timeline} == {"frame"} and len(timeline) > 5


def test_a_cut_is_seen_without_any_pass(tmp_path: Path) -> None:
    """Two takes as plain pictures: estimated motion finds chance matches over the cut, but few."""
    takes = [open_shot(SAMPLES / name) for name in ("profile_turn", "two_shot")]
    frames = np.concatenate([read_frames(take, 0, 12) for take in takes])
    shot = write_shot(tmp_path / "pictures", [FramePasses(rgb=frames)], fps=Fraction(24))
    assert [(s.start, s.stop) for s in timeline_of(shot, size=128)] == [(0, 12), (12, 24)]


def test_stale_vectors_on_a_held_picture_are_no_crash(tmp_path: Path) -> None:
    wall = passes(12)
    held = np.repeat(wall.rgb[:1], 12, axis=0)
    shot = write_shot(tmp_path / "held", [replace(wall, rgb=held)], fps=Fraction(24))
    assert {stretch.method for stretch in timeline_of(shot)} == {"frame"}


def test_a_stretch_longer_than_a_chunk(tmp_path: Path) -> None:
    (stretch,) = timeline_of(make_shot(tmp_path / "long", num_frames=CHUNK + 40), reach=12)
    assert len(stretch.shown) == CHUNK + 40 and max(np.diff(stretch.keys)) <= 12
    assert CHUNK - 1 in stretch.keys and stretch.keys[-1] == CHUNK + 39


def test_frames_without_vectors_are_cuts(tmp_path: Path) -> None:
    """Unity's marker for "no vector" and nan alike: nothing is known of the frame before."""
    wall = passes(10)
    assert wall.motion is not None
    nothing = np.full_like(wall.motion.forward, np.nan)
    shot = write_shot(tmp_path / "nan", [replace(wall, motion=Motion(nothing, nothing))], fps=Fraction(24))
    assert {stretch.method for stretch in timeline_of(shot)} == {"frame"}


def test_one_frame_is_styled_as_it_is(tmp_path: Path) -> None:
    (stretch,) = timeline_of(make_shot(tmp_path / "one", num_frames=1))
    assert (stretch.start, stretch.stop, stretch.method) == (0, 1, "frame")


def test_keys_further_apart_than_the_shot_is_long(tmp_path: Path) -> None:
    (stretch,) = timeline_of(make_shot(tmp_path / "wall", num_frames=9), reach=200)
    assert stretch.method == "keys" and stretch.keys[0] == 0 and stretch.keys[-1] == 8


def test_a_timeline_is_read_as_it_was_written(tmp_path: Path) -> None:
    timeline = timeline_of(open_shot(SAMPLES / "profile_turn"), size=128)
    write_timeline(tmp_path / "timeline.json", timeline)
    assert read_timeline(tmp_path / "timeline.json") == timeline
    assert dataclasses.asdict(timeline[0])["shown"] == timeline[0].shown


@pytest.mark.parametrize("text", ["", "[{}]", '[{"start": 1}]', "{}"])
def test_a_timeline_that_is_none_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "timeline.json").write_text(text)
    if text == "{}":
        assert read_timeline(tmp_path / "timeline.json") == ()
        return
    with pytest.raises(OutputError, match=r"timeline\.json: cannot be read .*remove it and render again"):
        read_timeline(tmp_path / "timeline.json")

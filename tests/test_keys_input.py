"""Shots that are hard on the method keys: handled or refused with one line, never a silent smear."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from small_shot import CONTROLS, SIZE, make_preset, make_shot, passes

from pipeline.errors import ShotError
from pipeline.footage import Footage
from pipeline.image import read_png, write_png
from pipeline.methods import METHODS, Work
from pipeline.preset import load_preset
from pipeline.render import Machine, RenderResult, render_shot
from pipeline.shot import FramePasses, Shot, open_shot, write_shot
from pipeline.timeline import Timeline, make_timeline


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    file = tmp_path_factory.mktemp("presets") / "keys.toml"
    return make_preset(file, random_model, extra=CONTROLS, method="keys")


def render(shot: Shot, preset: Path, out: Path, *overrides: str) -> RenderResult:
    return render_shot(shot, load_preset(preset, overrides=overrides), out, machine=Machine("cpu"))


def frames_of(result: RenderResult) -> np.ndarray:
    return np.stack([read_png(path) for path in sorted((result.video.parent / "frames").iterdir())])


def timeline_of(shot: Shot, *, reach: int = 12) -> Timeline:
    return make_timeline(shot, Footage(shot, width=SIZE, height=SIZE), reach=reach)


def take(wall: FramePasses, root: Path) -> Shot:
    return write_shot(root, [wall], fps=Fraction(24))


def test_a_pass_of_another_size_is_one_line(tmp_path: Path) -> None:
    root = make_shot(tmp_path / "wall", num_frames=3).root
    first, *_ = sorted((root / "ids").iterdir())
    write_png(first, np.zeros((SIZE // 2, SIZE // 2, 3), np.uint8))
    with pytest.raises(ShotError, match=rf"{first.name}.*{SIZE}") as caught:
        open_shot(root)
    assert "\n" not in str(caught.value)


def test_pixels_without_a_vector_are_not_taken_from_anywhere(tmp_path: Path, preset: Path) -> None:
    """A block of nan in every frame (what Blender's sky and Unity's marker become): it is nobody's view."""
    wall = passes(12)
    assert wall.motion is not None
    for flow in (wall.motion.forward, wall.motion.backward):
        flow[:, 20:44, 20:44] = np.nan
    shot = take(wall, tmp_path / "wall")
    footage = Footage(shot, width=SIZE, height=SIZE)
    assert not footage.back(5).seen[22:42, 22:42].any() and footage.back(5).seen[:16, 16:].all()
    made = render(shot, preset, tmp_path / "out")
    denoised = json.loads(made.record.read_text())["denoised"]
    assert len(frames_of(made)) == 12 and denoised > 2 / 12


def test_ids_that_change_their_numbers_are_left_out_and_said(tmp_path: Path, preset: Path) -> None:
    wall = passes(12)
    assert wall.ids is not None
    whole = take(replace(wall, visible=None), tmp_path / "whole" / "wall")
    wall.ids[:] = np.arange(1, 13, dtype=np.uint32)[:, None, None]
    renamed = take(replace(wall, visible=None), tmp_path / "renamed" / "wall")
    footages = [Footage(shot, width=SIZE, height=SIZE) for shot in (whole, renamed)]
    np.testing.assert_array_equal(*(footage.back(5).seen for footage in footages))
    assert [footage.renamed for footage in footages] == [False, True]
    notes = render(renamed, preset, tmp_path / "out").notes
    assert any("ids change their numbers" in note for note in notes)
    assert any("by 'keys'" in note for note in notes)


def test_an_interval_longer_than_the_shot_leaves_its_ends(tmp_path: Path, preset: Path) -> None:
    shot = make_shot(tmp_path / "wall", num_frames=10)
    (stretch,) = timeline_of(shot, reach=240)
    assert stretch.method == "keys" and stretch.keys == (0, 9)
    assert len(frames_of(render(shot, preset, tmp_path / "out", "temporal.key_every=240"))) == 10


def test_a_shot_that_is_all_cut_is_styled_frame_by_frame(tmp_path: Path, preset: Path) -> None:
    wall = passes(9)
    assert wall.visible is not None and wall.motion is not None
    wall.visible[:] = 0
    shot = take(wall, tmp_path / "wall")
    timeline = timeline_of(shot)
    assert [(s.start, s.stop) for s in timeline] == list(itertools.pairwise(range(10)))
    assert {stretch.method for stretch in timeline} == {"frame"}
    keys, frame = (render(shot, preset, tmp_path / m, f"temporal.method={m}") for m in ("keys", "frame"))
    np.testing.assert_array_equal(frames_of(keys), frames_of(frame))
    assert any("too few" in note for note in keys.notes)


@pytest.mark.parametrize("method", ["frame", "blend"])
def test_grain_by_number_is_on_stretches_that_fall_back(
    tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """As strong, and other in every frame: what is carried in blend is clean."""
    shot = make_shot(tmp_path / "wall", num_frames=9)
    monkeypatch.setattr("pipeline.timeline._gate", lambda **_: (method, "for the test"))
    clean, grainy = (
        frames_of(render(shot, preset, tmp_path / name, f"temporal.grain={strength}")).astype(np.float32)
        for name, strength in (("clean", 0.0), ("grainy", 6.0))
    )
    noise = (grainy - clean)[:, 8:-8, 8:-8]
    strengths = noise.std(axis=(1, 2, 3))
    assert strengths.min() > 4.0 and strengths.max() < 7.0
    flat = noise.mean(axis=3).reshape(9, -1)
    assert np.abs(np.corrcoef(flat)[np.triu_indices(9, 1)]).max() < 0.15


def test_a_method_can_take_windows_of_frames(
    tmp_path: Path, preset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a video model will be: one function of a `Work`, styling windows of frames at once; it resumes."""
    windows: list[tuple[int, int]] = []

    def by_window(work: Work) -> int:
        made = 0
        for start in range(0, work.plan.num_frames, 6):
            stop = min(start + 6, work.plan.num_frames)
            if work.journal.has(start, stop):
                continue
            inputs = work.inputs(start, stop)
            assert inputs.frames.shape == (stop - start, SIZE, SIZE, 3)
            work.write(start, work.stylist.style(range(start, stop), inputs, together=True))
            windows.append((start, stop))
            made += stop - start
        work.journal.add_denoised(made)
        return made

    monkeypatch.setitem(METHODS, "frame", by_window)
    shot = make_shot(tmp_path / "wall", num_frames=15)
    made = render(shot, preset, tmp_path / "out", "temporal.method=frame")
    assert windows == [(0, 6), (6, 12), (12, 15)] and made.num_rendered == 15
    whole = frames_of(made)
    made.record.unlink()
    sorted((made.video.parent / "frames").iterdir())[8].unlink()
    again = render(shot, preset, tmp_path / "out", "temporal.method=frame")
    assert windows[3:] == [(6, 12)] and again.num_rendered == 6
    np.testing.assert_array_equal(frames_of(again), whole)

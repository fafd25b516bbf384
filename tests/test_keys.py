"""The method keys through the whole line, on a miniature with random weights."""

from __future__ import annotations

import itertools
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_shot import CONTROLS, SIZE, make_preset, make_shot, passes

from pipeline.errors import ShotError
from pipeline.image import read_png
from pipeline.preset import load_preset
from pipeline.render import Machine, RenderResult, render_shot
from pipeline.shot import Shot, open_shot, write_shot
from pipeline.styling import Stylist

NUM_FRAMES = 20


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall", num_frames=NUM_FRAMES)


@pytest.fixture(scope="module")
def preset(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> Path:
    file = tmp_path_factory.mktemp("presets") / "keys.toml"
    return make_preset(file, random_model, extra=CONTROLS, method="keys")


def render(
    shot: Shot, preset: Path, out: Path, *overrides: str, stop_after: int | None = None
) -> RenderResult:
    def on_frame(name: str, done: int, total: int) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    read = load_preset(preset, overrides=overrides)
    return render_shot(shot, read, out, machine=Machine("cpu"), on_frame=on_frame)


def frame_bytes(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((out / "wall" / "frames").iterdir())]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shot: Shot, preset: Path) -> Path:
    out = tmp_path_factory.mktemp("finished")
    render(shot, preset, out)
    return out


def test_few_frames_are_denoised_and_all_are_there(finished: Path) -> None:
    record = json.loads((finished / "wall" / "record.json").read_text())
    assert len(frame_bytes(finished)) == record["num_frames"] == NUM_FRAMES
    assert 2 / NUM_FRAMES <= record["denoised"] < 0.6
    assert any("by 'keys': " in note and "keys show" in note for note in record["notes"])
    keys = sorted(path.name for path in (finished / "wall" / "keys").iterdir())
    assert keys[0] == "key.0001.png" and {"timeline.json", "timeline.png"} <= set(keys)


def test_the_surface_keeps_its_looks(finished: Path) -> None:
    """The wall slides three pixels a frame; what is carried is the same picture, three pixels on."""
    frames = [read_png(path).astype(float) for path in sorted((finished / "wall" / "frames").iterdir())]
    apart = [np.abs(b[:, 9:-3] - a[:, 6:-6]).mean() for a, b in itertools.pairwise(frames)]
    still = [np.abs(b - a).mean() for a, b in itertools.pairwise(frames)]
    assert np.mean(apart) < 0.35 * np.mean(still)


@pytest.mark.parametrize("stop_after", [1, 8, 17])
def test_an_interrupted_render_goes_on_with_the_same_bytes(
    finished: Path, shot: Shot, preset: Path, tmp_path: Path, stop_after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        render(shot, preset, tmp_path, stop_after=stop_after)
    assert not (tmp_path / "wall" / "record.json").exists()
    render(shot, preset, tmp_path)
    assert frame_bytes(tmp_path) == frame_bytes(finished)


def test_a_key_that_was_lost_is_made_again(finished: Path, shot: Shot, preset: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        render(shot, preset, tmp_path, stop_after=3)
    sorted((tmp_path / "wall" / "keys").glob("key.*.png"))[0].unlink()
    render(shot, preset, tmp_path)
    assert frame_bytes(tmp_path) == frame_bytes(finished)


def test_another_plan_throws_keys_and_timeline_away(shot: Shot, preset: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        render(shot, preset, tmp_path, stop_after=3)
    before = (tmp_path / "wall" / "keys" / "key.0001.png").read_bytes()
    with pytest.raises(KeyboardInterrupt):
        render(shot, preset, tmp_path, "seed=5", "temporal.key_every=5", stop_after=3)
    assert (tmp_path / "wall" / "keys" / "key.0001.png").read_bytes() != before
    (stretch,) = json.loads((tmp_path / "wall" / "keys" / "timeline.json").read_text())
    assert max(np.diff(stretch["keys"])) <= 5


@pytest.mark.parametrize(
    "override",
    [
        "temporal.noise=carried",
        "temporal.noise=fresh",
        "temporal.noise=mirrored",
        "temporal.grain=4.0",
        "temporal.grain=auto",
    ],
)
def test_noise_and_grain_resume_to_the_same_bytes(
    shot: Shot, preset: Path, tmp_path: Path, override: str
) -> None:
    render(shot, preset, tmp_path / "whole", override)
    with pytest.raises(KeyboardInterrupt):
        render(shot, preset, tmp_path / "parts", override, stop_after=9)
    render(shot, preset, tmp_path / "parts", override)
    assert frame_bytes(tmp_path / "parts") == frame_bytes(tmp_path / "whole")


def test_mirrored_noise_turns_the_sign_of_every_second_key(
    shot: Shot, preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []
    style = Stylist.style

    def watched(self: Stylist, frames: Any, inputs: Any, **how: Any) -> Any:
        if how.get("together"):
            drawn.append(how["noise"])
        return style(self, frames, inputs, **how)

    monkeypatch.setattr(Stylist, "style", watched)
    render(shot, preset, tmp_path, "temporal.noise=mirrored", "temporal.key_every=6")
    (noise,) = drawn
    assert len(noise) >= 4 and 0.9 < noise[0].std() < 1.1
    for n, each in enumerate(noise):
        np.testing.assert_array_equal(each, noise[0] * (-1) ** n)


def test_many_keys_a_hole_and_a_late_stop(
    preset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten keys with carried noise, and a corner that only frames between two keys show: patched, resumed."""
    wall = passes(30)
    assert wall.visible is not None
    for t in (14, 17):  # another surface in the corner from frame 14 to 16
        wall.visible[t - 1, :24, :24] &= 2
        wall.visible[t, :24, :24] &= 1
    shot = write_shot(tmp_path / "wall", [wall], fps=Fraction(24))
    monkeypatch.setattr("pipeline.timeline.MOST_KEYS", 0.9)  # the gate would style every frame instead
    settings = ("temporal.key_every=3", "temporal.noise=carried")
    render(shot, preset, tmp_path / "whole", *settings)
    (stretch,) = json.loads((tmp_path / "whole" / "wall" / "keys" / "timeline.json").read_text())
    assert len(stretch["keys"]) >= 10
    for stop in (15, 27):
        out = tmp_path / str(stop)
        with pytest.raises(KeyboardInterrupt):
            render(shot, preset, out, *settings, stop_after=stop)
        render(shot, preset, out, *settings)
        assert frame_bytes(out) == frame_bytes(tmp_path / "whole")


def test_ids_of_their_own_are_styled_in_every_frame(preset: Path, tmp_path: Path) -> None:
    """A square that has no vectors of its own, as glass has none: more is denoised, and there only."""
    wall = passes(12)
    assert wall.ids is not None
    wall.ids[:, 24:40, 24:40] = 7
    shot = write_shot(tmp_path / "wall", [wall], fps=Fraction(24))
    plain, own = render(shot, preset, tmp_path / "plain"), render(
        shot, preset, tmp_path / "own", "temporal.own_ids=[7]"
    )  # fmt: skip
    denoised = [json.loads(result.record.read_text())["denoised"] for result in (plain, own)]
    assert denoised[1] > denoised[0]
    pair = [read_png(sorted((r.video.parent / "frames").iterdir())[5]).astype(int) for r in (plain, own)]
    apart = np.abs(pair[0] - pair[1]).max(axis=2)
    assert apart[26:38, 26:38].mean() > 4 * apart[:12].mean()


def test_own_ids_without_the_pass_are_refused(shot: Shot, preset: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    bare = replace(shot, passes={name: p for name, p in shot.passes.items() if name != "ids"})
    with pytest.raises(ShotError, match=r"has no ids pass, which .*own_ids needs"):
        render(bare, preset, tmp_path, "temporal.own_ids=[7]")


def test_a_plain_folder_of_pictures_works_with_estimated_motion(random_model: Path, tmp_path: Path) -> None:
    make_shot(tmp_path / "whole", num_frames=10)
    bare = tmp_path / "pictures"
    (tmp_path / "whole" / "rgb").rename(bare)
    preset = make_preset(tmp_path / "p.toml", random_model, method="keys")
    result = render(open_shot(bare), preset, tmp_path / "out")
    assert result.num_frames == 10 and any("estimated" in note for note in result.notes)


def test_a_shot_of_one_frame(preset: Path, tmp_path: Path) -> None:
    alone = make_shot(tmp_path / "wall", num_frames=1)
    result = render(alone, preset, tmp_path / "out")
    assert result.num_frames == 1 and any("too few" in note for note in result.notes)
    assert read_png(sorted((result.video.parent / "frames").iterdir())[0]).shape == (SIZE, SIZE, 3)


def test_a_beat_of_other_settings_has_an_anchor_of_its_own(shot: Shot, preset: Path, tmp_path: Path) -> None:
    """Keys of another strength cannot share a pass; the switch falls where the beat says."""
    render(shot, preset, tmp_path, "beat=[{frames=[11,20], strength=1.0}]")
    (stretch,) = json.loads((tmp_path / "wall" / "keys" / "timeline.json").read_text())
    assert {9, 10} <= set(stretch["keys"])  # frames 10 and 11 on disk: before and after the switch

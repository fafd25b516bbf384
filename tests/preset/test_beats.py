"""Beats: which frames they are for, how they come and go, and what they may change."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.errors import PresetError
from pipeline.preset import Look, load_preset, resolve_looks, unused_variables, uses_view

BASE = """
prompt = "{who}, {light}"
negative = "grey"
strength = 0.4
steps = 10
guidance = 1.0
seed = 3
[vars]
who = "iris"
light = "day"
[[control]]
kind = "depth"
weight = 0.8
[[lora]]
path = "loras/iris.safetensors"
[[lora]]
path = "loras/style.safetensors"
text_weight = 0.5
"""
NUMBERS = tuple(range(101, 121))  # 20 frames at 10 fps


def looks(folder: Path, *beats: str, views: list[str] | None = None) -> tuple[Look, ...]:
    path = folder / "preset.toml"
    path.write_text(BASE + "".join(f"\n[[beat]]\n{beat}\n" for beat in beats), encoding="utf-8")
    return resolve_looks(load_preset(path), NUMBERS, Fraction(10), views)


def test_without_beats_all_frames_share_one_look(tmp_path: Path) -> None:
    made = looks(tmp_path)
    assert len(made) == 20 and all(look is made[0] for look in made)
    assert made[0].prompt == (("iris, day", 1.0),) and made[0].loras == ((1.0, 1.0), (1.0, 0.5))


@pytest.mark.parametrize("where", ["frames = [105, 108]", "seconds = [0.4, 0.8]", "seconds = [0.31, 0.8]"])
def test_a_range_holds_exactly_there(tmp_path: Path, where: str) -> None:
    made = looks(tmp_path, f"{where}\nstrength = 0.9")
    assert [t for t, look in enumerate(made) if look.strength == 0.9] == [4, 5, 6, 7]
    assert [t for t, look in enumerate(made) if look.strength == 0.4] == [0, 1, 2, 3, *range(8, 20)]


@pytest.mark.parametrize("where", ["frames = [108, 110]\nease = 4", "seconds = [0.7, 1.0]\nease = 0.4"])
def test_numbers_ease_outside_the_range(tmp_path: Path, where: str) -> None:
    made = [look.strength for look in looks(tmp_path, f"{where}\nstrength = 0.9\n")]
    rise, fall = made[2:8], made[9:15]
    assert made[:3] == [0.4] * 3 and made[7:10] == [0.9] * 3 and made[14:] == [0.4] * 6
    assert all(a < b for a, b in itertools.pairwise(rise)) and rise == fall[::-1]
    assert rise[1] - rise[0] < rise[3] - rise[2] > rise[5] - rise[4]  # slow, fast, slow
    assert rise[2] + rise[3] == pytest.approx(0.4 + 0.9)  # smoothstep is symmetric about its middle


def test_every_number_eases_and_the_rest_switches_half_way(tmp_path: Path) -> None:
    beat = (
        'frames = [110, 120]\nease = 1\nstrength = 0.8\nsteps = 20\nguidance = 3.0\nscheduler = "euler"\n'
        "seed = 9\ncontrol.depth = { weight = 0.0, start = 0.2, end = 0.6 }\n"
        "lora.iris.weight = 0.0\nlora.style = { weight = 0.5, text_weight = 0.1 }\n"
        "temporal = { weight = 0.25, until = 1.0 }"
    )
    made = looks(tmp_path, beat)
    half, full = made[8], made[9]
    assert (full.strength, full.steps, full.guidance, full.scheduler, full.seed) == (0.8, 20, 3.0, "euler", 9)
    control = full.controls[0]
    assert (control.weight, control.start, control.end) == (0.0, 0.2, 0.6)
    assert full.loras == ((0.0, 0.0), (0.5, 0.1))  # without a weight of its own, the text encoder follows
    assert (full.blend_weight, full.blend_until) == (0.25, 1.0)
    assert half.strength == pytest.approx(0.6) and half.steps == 15 and half.guidance == 2.0
    assert half.controls[0].weight == pytest.approx(0.4) and half.loras[0] == (0.5, 0.5)
    assert (half.scheduler, half.seed) == ("euler", 9) and made[7].scheduler == "ddim"


def test_prompts_are_mixed_while_they_ease(tmp_path: Path) -> None:
    made = looks(tmp_path, 'frames = [110, 120]\nease = 3\nvars = { light = "night" }')
    assert made[5].prompt == (("iris, day", 1.0),) and made[9].prompt == (("iris, night", 1.0),)
    shares = [dict(look.prompt) for look in made[6:9]]
    assert all(sum(each.values()) == pytest.approx(1.0) for each in shares)
    nights = [each["iris, night"] for each in shares]
    assert nights == sorted(nights) and nights[1] == 0.5
    assert all(look.negative == (("grey", 1.0),) for look in made)  # the same text is one text


def test_a_later_beat_lies_over_an_earlier_one(tmp_path: Path) -> None:
    """Two beats side by side cross-fade: neither falls back to the base between them."""
    made = looks(
        tmp_path,
        'frames = [101, 110]\nease = 4\nstrength = 0.8\nprompt = "{who} at dawn"',
        'frames = [111, 120]\nease = 4\nstrength = 0.6\nvars = { who = "otto" }',
    )
    strengths = [look.strength for look in made]
    assert strengths[:6] == [0.8] * 6 and strengths[10:] == [0.6] * 10
    assert strengths == sorted(strengths, reverse=True)
    assert dict(made[8].prompt).keys() == {"iris at dawn", "otto at dawn"}
    assert made[19].prompt == (("otto, day", 1.0),)


def test_view_is_the_frame_s_unless_said(tmp_path: Path) -> None:
    views = ["front"] * 10 + ["back"] * 10
    beats = ['frames = [101, 120]\nprompt = "{view}"', 'frames = [119, 120]\nvars = { view = "mine" }']
    prompts = [look.prompt[0][0] for look in looks(tmp_path, *beats, views=views)]
    assert prompts == ["front"] * 10 + ["back"] * 8 + ["mine"] * 2
    assert uses_view(load_preset(tmp_path / "preset.toml"))
    assert not uses_view(load_preset(tmp_path / "preset.toml", overrides=["vars.view=x"]))


def test_variables_that_nobody_uses_are_named(tmp_path: Path) -> None:
    looks(tmp_path, 'frames = [101, 101]\nvars = { mood = "sad", who = "otto" }')
    path = tmp_path / "preset.toml"
    unused = unused_variables(load_preset(path, overrides=["vars.place=x"]))
    assert unused == (
        "--set vars.place: no prompt uses {place}",
        f"{path}:beat[0].vars.mood: no prompt uses {{mood}}",
    )


@pytest.mark.parametrize(
    ("beat", "message"),
    [
        ("strength = 0.5", "beat[0]: a beat needs either frames = [first, last] or seconds = [from, to]"),
        ("frames = [101, 102]\nseconds = [0.0, 1.0]\nseed = 1", "beat[0]: a beat needs either"),
        ("frames = [103, 102]\nseed = 1", "beat[0]: frames [103, 102]: the first is after the last"),
        ("seconds = [0.5, 0.5]\nseed = 1", "beat[0]: seconds [0.5, 0.5]: expected 0 <= from < to"),
        ("frames = [101, 102]\nease = 2", "beat[0]: the beat changes nothing"),
        ("frames = [1, 102]\nseed = 1", "beat[0].frames: found [1, 102]; the shot has frames 101 to 120"),
        ("frames = [101, 121]\nseed = 1", "beat[0].frames: found [101, 121]; the shot has frames 101 to 120"),
        ("seconds = [1.0, 2.05]\nseed = 1", "beat[0].seconds: found [1.0, 2.05]; expected at least a frame"),
        (
            "seconds = [0.11, 0.19]\nseed = 1",
            "beat[0].seconds: found [0.11, 0.19]; expected at least a frame",
        ),
        ("frames = [101, 102]\nstrenght = 1.0", "beat[0].strenght: unknown key 'strenght'; did you mean"),
        ("frames = [101, 102]\nsize = [64, 64]", "beat[0].size: unknown key 'size'"),
        (
            "frames = [101, 102]\ncontrol.dpth.weight = 1.0",
            "control.dpth: the preset has no control 'dpth'; did",
        ),
        (
            "frames = [101, 102]\ncontrol.depth.wight = 1.0",
            "beat[0].control.depth.wight: unknown key 'wight'",
        ),
        (
            "frames = [101, 102]\ncontrol.depth.start = 1.0",
            "control.depth: start 1 must be smaller than end 1",
        ),
        (
            "frames = [101, 102]\nlora.otto.weight = 1.0",
            "the preset has no lora 'otto'; there are: iris, style",
        ),
        (
            'frames = [101, 102]\nprompt = "{woh}"',
            "beat[0].prompt: unknown variable {woh}; did you mean {who}?",
        ),
    ],
)
def test_a_beat_that_cannot_be_is_one_line(tmp_path: Path, beat: str, message: str) -> None:
    with pytest.raises(PresetError) as caught:
        looks(tmp_path, beat)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'preset.toml'}:beat[0]")

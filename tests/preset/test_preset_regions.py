"""[[region]]: what it may say, what it takes from the frame, what beats change of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.errors import PresetError
from pipeline.preset import (
    Look,
    as_toml,
    load_preset,
    region_uses_view,
    resolve_looks,
    texts_of,
    unused_variables,
    uses_view,
)

BASE = """
prompt = "{who}, {view}, {light}"
negative = "grey"
guidance = 2.0
[vars]
who = "two people"
light = "day"
[[lora]]
path = "style.safetensors"
weight = 0.5
[[region]]
figure = "iris"
vars = { who = "iris" }
[[region.lora]]
path = "loras/iris.safetensors"
[[region]]
name = "right"
box = [0.5, 0.0, 1.0, 1.0]
prompt = "{who} alone, {mood}"
negative = "bright"
vars = { who = "otto", mood = "sad" }
weight = 0.8
[[region.lora]]
path = "loras/otto.safetensors"
weight = 0.9
text_weight = 0.0
"""
NUMBERS = tuple(range(1, 11))
FRONT, BACK = ["front"] * 10, ["back"] * 10


def write(folder: Path, text: str) -> Path:
    path = folder / "preset.toml"
    path.write_text(text, encoding="utf-8")
    return path


def looks(folder: Path, *beats: str) -> tuple[Look, ...]:
    text = BASE + "".join(f"\n[[beat]]\n{beat}\n" for beat in beats)
    views = FRONT, [BACK, None]
    return resolve_looks(load_preset(write(folder, text)), NUMBERS, Fraction(10), *views)


def test_a_region_says_the_frames_words_with_its_own_over_them(tmp_path: Path) -> None:
    (look,) = set(looks(tmp_path))
    iris, right = look.regions
    assert look.prompt == (("two people, front, day", 1.0),)
    assert (iris.prompt, iris.negative) == ((("iris, back, day", 1.0),), (("grey", 1.0),))
    assert (right.prompt, right.negative) == ((("otto alone, sad", 1.0),), (("bright", 1.0),))
    assert look.loras == ((0.5, 0.5), (0.0, 0.0), (0.0, 0.0))
    assert iris.loras == ((0.5, 0.5), (1.0, 1.0), (0.0, 0.0))
    assert right.loras == ((0.5, 0.5), (0.0, 0.0), (0.9, 0.0))
    assert (iris.weight, right.weight) == (1.0, 0.8)
    assert look.parts == (look, iris, right)


def test_a_beat_of_the_frame_reaches_its_regions(tmp_path: Path) -> None:
    beat = 'frames = [6, 10]\nvars = { light = "night", who = "nobody" }\nlora.style.weight = 0.1'
    look = looks(tmp_path, beat)[9]
    assert look.prompt == (("nobody, front, night", 1.0),)
    assert look.regions[0].prompt == (("iris, back, night", 1.0),)  # whom it shows stays its own
    assert look.regions[1].prompt == (("otto alone, sad", 1.0),)
    assert [region.loras[0][0] for region in look.regions] == [0.1, 0.1]


def test_a_beat_may_change_a_region_alone_and_eases(tmp_path: Path) -> None:
    beat = (
        'frames = [6, 10]\nease = 1\nregion.iris.weight = 0.5\nregion.iris.vars = { light = "dusk" }\n'
        'region.iris.lora.iris.weight = 0.0\nregion.right.prompt = "{who}"\nregion.right.negative = "x"'
    )
    made = looks(tmp_path, beat)
    half, full = made[4], made[5]
    assert full.prompt == made[0].prompt and full.loras == made[0].loras
    assert full.regions[0].prompt == (("iris, back, dusk", 1.0),) and full.regions[0].weight == 0.5
    assert full.regions[0].loras[1] == (0.0, 0.0)
    assert (full.regions[1].prompt, full.regions[1].negative) == ((("otto", 1.0),), (("x", 1.0),))
    assert half.regions[0].weight == pytest.approx(0.75) and half.regions[0].loras[1] == (0.5, 0.5)
    assert dict(half.regions[0].prompt) == {"iris, back, day": 0.5, "iris, back, dusk": 0.5}


def test_a_region_that_is_off_is_no_part(tmp_path: Path) -> None:
    made = looks(tmp_path, "frames = [1, 5]\nregion.iris.weight = 0")
    assert [len(look.parts) for look in made] == [2] * 5 + [3] * 5


def test_view_is_asked_for_by_those_that_say_it(tmp_path: Path) -> None:
    def asked(*overrides: str) -> tuple[bool, bool, bool]:
        preset = load_preset(write(tmp_path, BASE), overrides=overrides)
        return uses_view(preset), region_uses_view(preset, 0), region_uses_view(preset, 1)

    assert asked() == (True, True, False)  # the second has a prompt of its own
    assert asked("prompt={who}, {light}", "region.0.prompt={who} {view}") == (False, True, False)
    assert asked("region.0.vars.view=mine") == (True, False, False)
    assert asked("vars.view=mine") == (False, False, False)


def test_variables_that_no_prompt_of_theirs_says_are_named(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    assert unused_variables(load_preset(path)) == ()
    unused = unused_variables(load_preset(path, overrides=["region.1.prompt=otto", "vars.mood=x"]))
    assert unused == (
        "--set vars.mood: no prompt uses {mood}",
        f"{path}:region[1].vars.who: no prompt uses {{who}}",
        f"{path}:region[1].vars.mood: no prompt uses {{mood}}",
    )


def test_every_text_is_named_where_it_stands(tmp_path: Path) -> None:
    beat = '[[beat]]\nframes = [1, 2]\nregion.iris.prompt = "a"\n'
    path = write(tmp_path, BASE + beat)
    places = {where.removeprefix(f"{path}:"): text for text, where in texts_of(load_preset(path)) if text}
    assert places["prompt"] == "{who}, {view}, {light}" and places["region[1].vars.mood"] == "sad"
    assert places["region[1].negative"] == "bright" and places["beat[0].region.iris.prompt"] == "a"


def test_paths_are_from_the_file_that_names_them_and_lists_append(tmp_path: Path) -> None:
    (tmp_path / "looks").mkdir()
    (tmp_path / "looks" / "film.toml").write_text(BASE, encoding="utf-8")
    text = (
        'extends = "looks/film.toml"\nappend = ["region"]\n[[region]]\nname = "door"\nmask = "masks"\n'
        '[[region.lora]]\npath = "door.safetensors"\n'
    )
    preset = load_preset(write(tmp_path, text))
    home = tmp_path.resolve()
    assert [region.title for region in preset.region] == ["iris", "right", "door"]
    assert preset.region[2].mask == home / "masks"
    assert [lora.path.relative_to(home).as_posix() for _, lora in preset.all_loras()] == [
        "looks/style.safetensors",
        "looks/loras/iris.safetensors",
        "looks/loras/otto.safetensors",
        "door.safetensors",
    ]
    assert preset.where("region", 2, "lora", 0, "path") == f"{tmp_path}/preset.toml:region[0].lora[0].path"
    shown = tmp_path / "shown.toml"
    shown.write_text(as_toml(preset), encoding="utf-8")
    assert load_preset(shown).model_dump() == preset.model_dump()


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ('prompt = "x"', "region[0]: a region needs one of figure, ids, mask and box, found none"),
        (
            "figure = 1\nids = [3]",
            "region[0]: a region needs one of figure, ids, mask and box, found figure and",
        ),
        ("ids = [3]", "region[0]: a region by its ids needs a name, for beats and messages"),
        ("ids = []\nname = 'a'", "region[0].ids: "),
        ("figure = 0", "region[0].figure"),
        ("figure = 1\nfigrue = 2", "region[0].figrue: unknown key 'figrue'; did you mean 'figure'?"),
        (
            "figure = 1\n[[region.lora]]\npaht = 'x'",
            "region[0].lora[0].paht: unknown key 'paht'; did you mean",
        ),
        (
            "name = 'a'\nbox = [0.5, 0.0, 0.5, 1.0]",
            "region[0]: box [0.5, 0.0, 0.5, 1.0]: expected left < right",
        ),
        ("name = 'a'\nbox = [0.0, 0.0, 64, 1.0]", "region[0].box[2]: found 64"),
        ("figure = 1\nweight = 2.0", "region[0].weight: found 2.0; it should be less than or equal to 1"),
        (
            "figure = 1\n[[region]]\nname = '1'\nids = [1]",
            "two regions are called '1'; give one of them another",
        ),
        (
            "figure = 1\nprompt = '{woh}'\nvars = {who = 'x'}",
            "region[0].prompt: unknown variable {woh}; did you",
        ),
        (
            "figure = 'iris'\n[[beat]]\nframes = [1, 1]\nregion.irish.weight = 0",
            "no region 'irish'; did you mean",
        ),
        (
            "figure = 'iris'\n[[beat]]\nframes = [1, 1]\nregion.iris.lora.x.weight = 0",
            "beat[0].region.iris.lora.x: the preset has no lora 'x'; there are: none",
        ),
        (
            "figure = 'iris'\n[[beat]]\nframes = [1, 1]\nregion.iris.wieght = 0",
            "beat[0].region.iris.wieght: unknown key 'wieght'; did you mean 'weight'?",
        ),
    ],
)
def test_a_region_that_cannot_be_is_one_line(tmp_path: Path, region: str, message: str) -> None:
    with pytest.raises(PresetError) as caught:
        load_preset(write(tmp_path, f'prompt = "a"\n[[region]]\n{region}'))
    assert message in str(caught.value) and "\n" not in str(caught.value)

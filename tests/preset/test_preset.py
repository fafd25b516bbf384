"""Presets: what is read, and the one line said for each kind of mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import PresetError
from pipeline.preset import DEFAULT_PRESET, find_preset, load_preset
from pipeline.preset.chain import shipped_presets
from pipeline.preset.prompt import fill

FULL = """
model = "mini"
prompt = "photo of {hero}"
negative = "grey"
strength = 0.5
steps = 10
guidance = 3
scheduler = "euler"
clip_skip = 2
seed = 11
size = [128, 64]
[vars]
hero = "iris"
[[control]]
kind = "depth"
weight = 0.8
end = 0.5
[[lora]]
path = "loras/iris.safetensors"
weight = 0.9
[[embedding]]
path = "embeddings/BadHands.safetensors"
[[embedding]]
path = "embeddings/1.pt"
name = "film grain"
allow_pickle = true
[temporal]
method = "blend"
until = 0.25
[output]
crf = 20
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "preset.toml"
    path.write_text(text, encoding="utf-8")
    return path


def failure(folder: Path, text: str, overrides: tuple[str, ...] = ()) -> str:
    """The message for a bad preset, without the folder; checked to be one line."""
    with pytest.raises(PresetError) as caught:
        load_preset(write(folder, text), overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{folder}/", "")


def test_every_key_is_read(tmp_path: Path) -> None:
    preset = load_preset(write(tmp_path, FULL))
    assert (preset.strength, preset.steps, preset.guidance, preset.size) == (0.5, 10, 3.0, (128, 64))
    assert preset.control[0].kind == "depth" and preset.control[0].end == 0.5
    assert preset.lora[0].path == (tmp_path / "loras" / "iris.safetensors").resolve()
    assert preset.clip_skip == 2 and [embedding.word for embedding in preset.embedding] == [
        "BadHands",
        "film grain",
    ]
    assert preset.embedding[1].path == (tmp_path / "embeddings" / "1.pt").resolve()
    assert [embedding.allow_pickle for embedding in preset.embedding] == [False, True]
    assert preset.temporal.method == "blend" and preset.output.crf == 20
    assert preset.source == tmp_path / "preset.toml"


def test_defaults_need_only_a_prompt(tmp_path: Path) -> None:
    preset = load_preset(write(tmp_path, 'prompt = "a"'))
    assert preset.model == "mini" and preset.control == () and preset.temporal.method == "keys"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'prompt = "a"\nstrenght = 0.5',
            "preset.toml:strenght: unknown key 'strenght'; did you mean 'strength'?",
        ),
        (
            'prompt = "a"\n[temporal]\nmetod = "blend"',
            "preset.toml:temporal.metod: unknown key 'metod'; did you mean 'method'?",
        ),
        (
            'prompt = "a"\n[[control]]\nkind = "depth"\n[[control]]\nkind = "pose"\nwieght = 1.0',
            "preset.toml:control[1].wieght: unknown key 'wieght'; did you mean 'weight'?",
        ),
        (
            'prompt = "a"\n[output]\nzzz = 1',
            "preset.toml:output.zzz: unknown key 'zzz'; known keys: format, crf, profile, scale",
        ),
        ("steps = 8", "preset.toml:prompt: this key is missing and must be given, or extend a film's preset"),
        (
            'prompt = "a"\nsteps = "8"',
            "preset.toml:steps: found '8'; it should be a valid integer",
        ),
        (
            'prompt = "a"\nstrength = 1.5',
            "preset.toml:strength: found 1.5; it should be less than or equal to 1",
        ),
        ('prompt = "a"\nstrength = nan', "preset.toml:strength: found nan; it should be a finite number"),
        (
            'prompt = "a"\n[temporal]\nmethod = "magic"',
            "preset.toml:temporal.method: found 'magic'; it should be 'frame', 'blend' or 'keys'",
        ),
        (
            'prompt = "a"\n[[control]]\nkind = "depth"\nstart = 0.5\nend = 0.5',
            "preset.toml:control[0]: start 0.5 must be smaller than end 0.5",
        ),
        (
            'prompt = "a"\n[[control]]\nkind = "depth"\n[[control]]\nkind = "depth"',
            "preset.toml: control kind 'depth' is given twice; keep one [[control]] of each kind",
        ),
        (
            'prompt = "a"\nclip_skip = 0',
            "preset.toml:clip_skip: found 0; it should be greater than or equal to 1",
        ),
        (
            'prompt = "a"\n[[embedding]]\npath = "e.pt"\nnmae = "x"',
            "preset.toml:embedding[0].nmae: unknown key 'nmae'; did you mean 'name'?",
        ),
        (
            'prompt = "a"\n[[embedding]]\npath = "e.pt"\nname = ""',
            "preset.toml:embedding[0]: the name '' has no letter; set name to a word that prompts can say",
        ),
        (
            'prompt = "a"\n[[embedding]]\npath = "123.pt"',
            "preset.toml:embedding[0]: the name '123' has no letter; set name to a word that prompts can say",
        ),
        (
            'prompt = "a"\n[[embedding]]\npath = "iris.pt"\n[[embedding]]\npath = "b.pt"\nname = "IRIS"',
            "preset.toml: two embeddings are named 'iris'; give one of them another name",
        ),
        (
            'prompt = "a {hreo}"\n[vars]\nhero = "x"',
            "preset.toml:prompt: unknown variable {hreo}; did you mean {hero}?",
        ),
        ('prompt = "a {b}"', "preset.toml:prompt: unknown variable {b}; there are: view"),
        ('prompt = "a"\nstrenght = 1\nsteps = 0', "did you mean 'strength'? (and 1 more)"),
        ('prompt = "a"\n[lora]\npath = "x"', "lora: found a table; it should be a list: write [[lora]]"),
        ('prompt = "a"\nlora = 3', "preset.toml:lora: found 3; it should be a list"),
        ('prompt = "a"\ntemporal = "blend"', "preset.toml:temporal: found 'blend'; it should be a table"),
        ('prompt = "a"\ncontrol = ["depth"]', "preset.toml:control[0]: found 'depth'; it should be a table"),
        ("prompt = 3", "preset.toml:prompt: found 3; it should be text in quotes"),
        (
            'prompt = "a"\n[[lora]]\npath = 3',
            "preset.toml:lora[0].path: found 3; it should be a path in quotes",
        ),
        ('prompt = "a"\nsize = [1, 2, 3]', "preset.toml:size: it has 3 items, more than 2"),
        ('prompt = "a"\nsize = [64]', "preset.toml:size: it has too few items"),
        (
            'prompt = "a"\n[[region]]\nfigure = true',
            "preset.toml:region[0].figure: found True; it should be text in quotes or a valid integer",
        ),
        ("prompt = ", "preset.toml: not valid TOML: Invalid value (at end of document)"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    assert failure(tmp_path, text).endswith(message)


def test_set_overrides_a_key_at_any_depth(tmp_path: Path) -> None:
    overrides = [
        "strength=0.25",
        "temporal.method=frame",
        "control.0.weight=0",
        "output.crf=30",
        "prompt=a b",
    ]
    preset = load_preset(write(tmp_path, FULL), overrides=overrides)
    assert preset.strength == 0.25 and preset.temporal.method == "frame" and preset.control[0].weight == 0
    assert preset.output.crf == 30 and preset.prompt == "a b"


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("strength", "expected key=value"),
        ("strenght=1", "did you mean 'strength'?"),
        ("control.4.weight=1", "expected a number below 1"),
        ("steps.x=1", "'steps' is a plain value"),
        ('lora=[{path="~nobody_here/l"}]', "lora[0].path: found '~nobody_here/l'"),
        ("steps.x.y=1", "'x' is inside a plain value"),
    ],
)
def test_a_bad_override_is_one_line(tmp_path: Path, override: str, part: str) -> None:
    assert part in failure(tmp_path, FULL, (override,))


def test_values_are_inserted_not_expanded() -> None:
    assert fill("{{a}} {b}", {"b": "{c}"}, where="p:prompt") == "{a} {c}"


@pytest.mark.parametrize("template", ["{", "a } b", "{b.real}", "{b!r}", "{b:>9}", "{}"])
def test_a_template_is_names_only(template: str) -> None:
    with pytest.raises(PresetError):
        fill(template, {"b": 1}, where="p:prompt")


def test_a_missing_preset_names_the_close_one(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"no such preset file; did you mean 'mini_blend'\?"):
        find_preset("mini_blnd")
    with pytest.raises(PresetError, match="is a folder"):
        find_preset(tmp_path)


def test_not_a_text_file(tmp_path: Path) -> None:
    path = tmp_path / "preset.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PresetError, match="not a text file in UTF-8"):
        load_preset(path)


def test_presets_that_ship_are_valid() -> None:
    names = [name for name in shipped_presets() if not name.startswith("shots/")]
    assert DEFAULT_PRESET in names
    for name in names:
        load_preset(name)

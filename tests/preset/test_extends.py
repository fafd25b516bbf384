"""Presets that extend others: what merges, what replaces, and which file a message names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import PresetError
from pipeline.preset import as_toml, load_preset

FILM = """
prompt = "{who}, {look}"
strength = 0.5
[vars]
who = "a person"
look = "film look"
[[control]]
kind = "depth"
[[lora]]
path = "style.safetensors"
[temporal]
method = "blend"
until = 0.0
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "looks").mkdir()
    write(tmp_path / "looks" / "film.toml", FILM)
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def failure(path: Path, *overrides: str) -> str:
    with pytest.raises(PresetError) as caught:
        load_preset(path, overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


def test_tables_merge_and_lists_replace(folder: Path) -> None:
    shot = write(
        folder / "shot.toml",
        'extends = "looks/film.toml"\nsteps = 20\n[vars]\nwho = "iris"\n[temporal]\nuntil = 0.25\n'
        '[[lora]]\npath = "iris.safetensors"',
    )
    preset = load_preset(shot)
    assert (preset.strength, preset.steps) == (0.5, 20)
    assert preset.vars == {"who": "iris", "look": "film look"}
    assert (preset.temporal.method, preset.temporal.until) == ("blend", 0.25)
    assert [control.kind for control in preset.control] == ["depth"]
    assert [lora.path for lora in preset.lora] == [folder.resolve() / "iris.safetensors"]
    assert preset.files == (folder / "looks" / "film.toml", shot)


def test_lists_append_where_the_file_says_so(folder: Path) -> None:
    text = 'extends = "looks/film.toml"\nappend = ["lora"]\n[[lora]]\npath = "iris.safetensors"\n'
    preset = load_preset(write(folder / "shot.toml", text))
    home = folder.resolve()
    assert [lora.path for lora in preset.lora] == [
        home / "looks" / "style.safetensors",  # each from the folder of the file that names it
        home / "iris.safetensors",
    ]
    assert preset.where("lora", 0, "path") == f"{folder / 'looks' / 'film.toml'}:lora[0].path"
    assert preset.where("lora", 1, "path") == f"{folder / 'shot.toml'}:lora[0].path"


def test_an_empty_list_takes_out(folder: Path) -> None:
    preset = load_preset(write(folder / "shot.toml", 'extends = "looks/film.toml"\ncontrol = []'))
    assert preset.control == ()


def test_three_files_and_the_command_line_in_order(folder: Path) -> None:
    write(folder / "mid.toml", 'extends = "looks/film.toml"\nstrength = 0.6\nseed = 2')
    shot = write(folder / "shot.toml", 'extends = "mid.toml"\nseed = 3')
    preset = load_preset(shot, overrides=["steps=4"])
    assert (preset.strength, preset.seed, preset.steps) == (0.6, 3, 4)
    places = [preset.where(key) for key in ("strength", "seed", "steps", "guidance")]
    assert places == [f"{folder / 'mid.toml'}:strength", f"{shot}:seed", "--set steps", f"{shot}:guidance"]


def test_one_that_ships_is_extended_by_its_name(folder: Path) -> None:
    preset = load_preset(write(folder / "shot.toml", 'extends = "mini_film"\nseed = 3'))
    assert preset.seed == 3 and preset.steps == load_preset("mini_film").steps


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            'extends = "shot.toml"',
            "shot.toml:extends: comes back to itself (shot.toml -> shot.toml); take one",
        ),
        ('extends = "looks/loop.toml"', "looks/loop.toml:extends: comes back to itself ("),
        ('extends = "fillm.toml"', "shot.toml:extends: fillm.toml: no such preset file"),
        ('extends = "mini_flim"', "did you mean 'mini_film'?"),
        ("extends = 3", "shot.toml:extends: found 3; expected a file"),
        ('extends = "looks"', "looks: is a folder"),
        ('extend = "looks/film.toml"', "shot.toml:extend: unknown key 'extend'; did you mean 'extends'?"),
        ('append = ["lora"]\nprompt = "a"', "shot.toml:append: there is nothing to append to"),
        ('extends = "looks/film.toml"\nappend = "lora"', "shot.toml:append: found 'lora'; expected a list"),
        ('extends = "looks/film.toml"\nappend = ["vars"]', "shot.toml:append[0]: found 'vars'; expected one"),
        ('extends = "looks/film.toml"\nappend = ["lora"]', "append[0]: this file has no [[lora]] to append"),
        ('extends = "looks/typo.toml"', "looks/typo.toml:temporal.metod: unknown key 'metod'; did you mean"),
        ('extends = "looks/typo.toml"\n[temporal]\nunitl = 1', "did you mean 'method'? (and 1 more)"),
        (
            'extends = "looks/film.toml"\n[temporal]\nmethod = "magic"',
            "shot.toml:temporal.method: found 'magic'; it should be 'frame', 'blend' or 'keys'",
        ),
        (
            'extends = "looks/film.toml"\nappend = ["lora"]\n[[lora]]\npath = "a"\nweight = 9',
            "shot.toml:lora[0].weight: found 9;",
        ),
        (
            'extends = "looks/film.toml"\nprompt = "{woh}"',
            "shot.toml:prompt: unknown variable {woh}; did you",
        ),
    ],
)
def test_a_mistake_names_the_file_to_mend(folder: Path, text: str, message: str) -> None:
    write(folder / "looks" / "loop.toml", 'extends = "../shot.toml"')
    write(folder / "looks" / "typo.toml", 'prompt = "a"\n[temporal]\nmetod = "blend"')
    assert message in failure(write(folder / "shot.toml", text))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("temporal.metod=frame", "--set temporal.metod: unknown key 'metod'; did you mean 'method'?"),
        ("strength=2", "--set strength: found 2; it should be less than or equal to 1"),
        ("control.0.weight=9", "--set control[0].weight: found 9;"),
        ("extends=other.toml", "'extends' is for files"),
    ],
)
def test_a_mistake_on_the_command_line_is_said_to_be_there(folder: Path, override: str, message: str) -> None:
    assert message in failure(write(folder / "shot.toml", 'extends = "looks/film.toml"'), override)


def test_embeddings_are_anchored_and_appended_as_loras_are(folder: Path) -> None:
    write(folder / "looks" / "base.toml", 'prompt = "a"\n[[embedding]]\npath = "grain.safetensors"')
    text = 'extends = "looks/base.toml"\nappend = ["embedding"]\n[[embedding]]\npath = "hands.safetensors"\n'
    preset = load_preset(write(folder / "shot.toml", text))
    assert [embedding.path for embedding in preset.embedding] == [
        folder.resolve() / "looks" / "grain.safetensors",
        folder.resolve() / "hands.safetensors",
    ]
    again = load_preset(write(folder / "shown.toml", as_toml(preset)))
    assert again.embedding == preset.embedding


def test_several_are_laid_over_one_another_in_order(folder: Path) -> None:
    write(folder / "wide.toml", 'strength = 0.7\n[vars]\nwho = "a crowd"\nplace = "in a hall"')
    write(folder / "night.toml", 'extends = "wide.toml"\n[vars]\nplace = "outside"')
    text = 'extends = ["looks/film.toml", "wide.toml", "night.toml"]\nprompt = "{who} {place}"\nseed = 5'
    preset = load_preset(write(folder / "shot.toml", text))
    assert (preset.strength, preset.seed, preset.temporal.method) == (0.7, 5, "blend")
    assert preset.vars == {"who": "a crowd", "look": "film look", "place": "outside"}
    assert [file.name for file in preset.files] == ["film.toml", "wide.toml", "night.toml", "shot.toml"]
    other = load_preset(
        write(folder / "shot.toml", text.replace('"wide.toml", "night.toml"', '"night.toml"'))
    )
    assert other.model_dump() == preset.model_dump()


def test_a_file_that_two_extend_comes_once(folder: Path) -> None:
    for name in ("a", "b"):
        add = f'append = ["lora"]\n[[lora]]\npath = "{name}.safetensors"'
        write(folder / f"{name}.toml", f'extends = "looks/film.toml"\n{add}')
    preset = load_preset(write(folder / "shot.toml", 'extends = ["a.toml", "b.toml"]'))
    assert [lora.path.stem for lora in preset.lora] == ["style", "a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('extends = ["looks/film.toml", 3]', "shot.toml:extends: found 3; expected a file, as in extends ="),
        ('extends = ["looks/film.toml", ""]', "shot.toml:extends: found ''; expected a file"),
        ('extends = ["looks/film.toml", "shots/closup"]', "did you mean 'shots/closeup'?"),
        ('extends = ["looks/film.toml", "shot.toml"]', "comes back to itself (shot.toml -> shot.toml); take"),
        ('extends = []\nappend = ["lora"]', "append[0]: this file has no [[lora]] to append"),
    ],
)
def test_a_mistake_in_a_list_of_them_is_one_line(folder: Path, text: str, message: str) -> None:
    assert message in failure(write(folder / "shot.toml", text))

"""`lookdev preset`: what each command prints, and that what it prints is true."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_cache import cache_bases
from small_shot import make_shot

from pipeline import cli
from pipeline.preset import load_preset
from pipeline.preset.chain import PRESETS_FOLDER, shipped_presets

SAMPLE_SHOTS = PRESETS_FOLDER.parent / "samples" / "shots"
SHIPPED = [name for name in shipped_presets() if not name.startswith("shots/")]
SHOTS = [name for name in shipped_presets() if name.startswith("shots/")]
FILMS = [name for name in SHIPPED if name.endswith("_film")]

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run `lookdev preset ...`: exit code, stdout, stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = cli.main(["preset", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_every_preset_that_ships_checks(say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache_bases(tmp_path, monkeypatch)
    code, out, err = say("check", *SHIPPED)
    assert (code, err) == (0, "") and out.splitlines() == [f"{name}: ok" for name in SHIPPED]


@pytest.mark.parametrize("film", FILMS)
def test_every_film_goes_with_every_shot(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, film: str
) -> None:
    """A preset of one line, checked by itself and against the sample shot with as many people."""
    cache_bases(tmp_path / "hub", monkeypatch)
    assert (FILMS, len(SHOTS)) == (["mini_film", "sd15_film", "sdxl_film"], 4)
    for shot in SHOTS:
        path = tmp_path / f"{Path(shot).name}.toml"
        path.write_text(f'extends = ["{film}", "{shot}"]')
        sample = SAMPLE_SHOTS / ("two_shot" if shot == "shots/two_shot" else "corridor_walk")
        for arguments in ((path,), (path, "--shot", sample)):
            assert say("check", *arguments) == (0, f"{path}: ok\n", "")


def test_what_only_a_shot_says_needs_a_film(say: Say) -> None:
    code, _, err = say("check", "shots/closeup")
    assert code == 2 and "shots/closeup.toml:prompt: this key is missing and must be given" in err


def test_check_names_each_that_cannot_work(say: Say, tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('extends = "mini_film"\nstrenght = 0.5')
    lost = tmp_path / "lost.toml"
    lost.write_text('extends = "mini_film"\n[[lora]]\npath = "no.safetensors"')
    code, out, err = say("check", bad, "mini_film", lost)
    assert code == 2 and out == "mini_film: ok\n"
    assert err.splitlines()[0] == f"error: {bad}:strenght: unknown key 'strenght'; did you mean 'strength'?"
    assert (
        err.splitlines()[1].startswith(f"error: {lost}:lora[0].path: found no file") and err.count("\n") == 2
    )


def test_check_against_a_shot(say: Say, tmp_path: Path) -> None:
    shot = make_shot(tmp_path / "wall", num_frames=1)
    (shot.root / "joints.json").unlink()
    assert say("check", "mini_film")[0] == 0
    code, _, err = say("check", "mini_film", "--shot", shot.root)
    assert code == 2 and "has no joints, which pose control needs" in err


@pytest.mark.parametrize("name", SHIPPED)
def test_what_is_shown_resolved_is_the_same_preset(say: Say, tmp_path: Path, name: str) -> None:
    overrides = ['vars.place=a "red" room\\ \x7f', "temporal.noise=fresh", "size=[64, 32]"]
    flags = [word for each in overrides for word in ("--set", each)]
    code, out, _ = say("show", name, "--resolved", *flags)
    (tmp_path / "whole.toml").write_text(out, encoding="utf-8")
    assert (
        code == 0
        and load_preset(tmp_path / "whole.toml").model_dump()
        == load_preset(name, overrides=overrides).model_dump()
    )
    assert "extends" not in tomllib.loads(out)


def test_show_says_where_each_key_is_from(say: Say) -> None:
    _, out, _ = say("show", "mini_video", "--resolved", "--set", "seed=9")
    ends = {line.split(" = ")[0]: line.rpartition("# ")[2] for line in out.splitlines() if " = " in line}
    assert (ends["strength"], ends["steps"], ends["seed"]) == ("mini_video.toml", "mini_film.toml", "--set")
    assert ends["batch"].startswith("batch = ")  # a default is nobody's


def test_show_prints_the_file_as_it_is(say: Say) -> None:
    code, out, _ = say("show", "mini_video")
    assert code == 0 and out == (PRESETS_FOLDER / "mini_video.toml").read_text(encoding="utf-8")
    code, _, err = say("show", "mini_video", "--set", "seed=9")
    assert code == 2 and "add --resolved" in err


def test_the_schema_that_ships_is_the_one_printed(say: Say, tmp_path: Path) -> None:
    _, out, _ = say("schema")
    assert out == (PRESETS_FOLDER / "preset.schema.json").read_text(encoding="utf-8")
    assert say("schema", "--out", tmp_path / "s.json")[0] == 0
    assert (tmp_path / "s.json").read_text(encoding="utf-8") == out


def test_every_key_of_the_schema_is_described(say: Say) -> None:
    schema = json.loads(say("schema")[1])
    tables = [schema, *schema["$defs"].values()]
    keys = [(key, value) for table in tables for key, value in table.get("properties", {}).items()]
    plain = [(key, value) for key, value in keys if "$ref" not in value]  # a table has its own
    assert len(plain) > 25 and [key for key, value in plain if "description" not in value] == []
    assert all("description" in table for table in schema["$defs"].values())
    assert all(table["additionalProperties"] is False for table in tables)  # so editors mark a typo


def test_a_new_preset_works_and_is_the_one_it_extends(say: Say, tmp_path: Path) -> None:
    file = tmp_path / "shots" / "wall.toml"
    code, out, err = say("new", file, "--extends", "mini_closeup")
    assert (code, err) == (0, "") and "lookdev preset check" in out
    assert load_preset(file).model_dump() == load_preset("mini_closeup").model_dump()
    opened = (
        file.read_text().replace("# seed = 7", "seed = 8").replace('# framing = "closeup"', 'framing = "x"')
    )
    file.write_text(opened)
    assert (load_preset(file).seed, load_preset(file).vars["framing"]) == (8, "x")


def test_a_new_preset_may_extend_a_file(say: Say, tmp_path: Path) -> None:
    base = tmp_path / "film.toml"
    base.write_text('prompt = "a"')
    assert say("new", tmp_path / "a.toml", "--extends", base)[0] == 0
    assert say("new", tmp_path / "deep" / "b.toml", "--extends", base)[0] == 0
    assert tomllib.loads((tmp_path / "a.toml").read_text())["extends"] == "film.toml"
    assert load_preset(tmp_path / "deep" / "b.toml").prompt == "a"


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["new", "there.toml"], "is there already"),
        (["new", "a.toml", "--extends", "mini_flim"], "did you mean 'mini_film'?"),
        (["new", "a.json"], "ends in .toml"),
        (["show", "mini_flim"], "did you mean 'mini_film'?"),
        (["check", "mini_film", "--shot", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.toml").touch()
    code, out, err = say(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and part in err
    assert [path.name for path in tmp_path.iterdir()] == ["there.toml"]

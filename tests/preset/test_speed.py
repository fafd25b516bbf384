"""Schedulers by any name people know, and what one setting of speed decides."""

from __future__ import annotations

import json
import tomllib
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.diffuse import SCHEDULER_NAMES
from pipeline.diffuse.settings import SPACINGS
from pipeline.errors import PresetError
from pipeline.preset import SCHEDULERS, SPEEDS, as_toml, load_preset, resolve_looks, speed_notes
from pipeline.preset.sampling import MOST_STEPS, WEB_NAMES, Spacing, SpeedName, steps_for


def write(path: Path, text: str = "") -> Path:
    path.write_text(f'prompt = "a room"\n{text}', encoding="utf-8")
    return path


def test_presets_and_the_sampler_know_the_same_names() -> None:
    assert set(SCHEDULERS) == set(SCHEDULER_NAMES)
    assert set(WEB_NAMES.values()) == set(SCHEDULERS)  # every one has a name in web UIs
    assert set(Spacing.__args__) == set(SPACINGS)  # type: ignore[attr-defined]
    assert set(SpeedName.__args__) == {"quality", *SPEEDS}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("written", "name"),
    [
        *WEB_NAMES.items(),
        *((name, name) for name in SCHEDULERS),
        ("euler A", "euler_a"),
        ("DPM++ 2m karras", "dpmpp_2m_karras"),
        ("dpm++_2m-karras", "dpmpp_2m_karras"),
        (" DPMPP 2M ", "dpmpp_2m"),
        ("unipc", "unipc"),
    ],
)
def test_any_spelling_is_its_name(tmp_path: Path, written: str, name: str) -> None:
    path = write(
        tmp_path / "a.toml",
        f"scheduler = {json.dumps(written)}\n[[beat]]\nframes = [1, 2]\nscheduler = {json.dumps(written)}",
    )
    preset = load_preset(path)
    assert (preset.scheduler, preset.beat[0].scheduler) == (name, name)


@pytest.mark.parametrize(
    ("written", "part"),
    [
        ('"DPM++ 3M Karras"', "found 'DPM++ 3M Karras'; there is no such scheduler; did you mean 'dpmpp_2m_"),
        ('"eular a"', "did you mean 'euler_a'?"),
        ('"heun"', "expected one of ddim, euler, euler_a, dpmpp_2m"),
        ("3", "found 3; it should be 'ddim', 'euler'"),
    ],
)
def test_an_unknown_scheduler_is_one_line(tmp_path: Path, written: str, part: str) -> None:
    path = write(tmp_path / "a.toml", f"scheduler = {written}")
    with pytest.raises(PresetError) as caught:
        load_preset(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:scheduler: ") and part in message and "\n" not in message


@pytest.mark.parametrize("executed", [1, 2, 4, 8])
def test_a_speed_fixes_the_executed_steps(executed: int) -> None:
    for hundredths in range(1, 101):
        strength = hundredths / 100
        steps = steps_for(executed, strength)
        assert min(int(steps * strength), steps) == executed and steps <= MOST_STEPS
        assert steps == 1 or int((steps - 1) * strength) < executed  # the shortest such
    assert steps_for(executed, 0.0) == executed
    assert steps_for(8, 0.002) == MOST_STEPS  # of which 2 run


def test_quality_changes_nothing(tmp_path: Path) -> None:
    (look,) = resolve_looks(load_preset(write(tmp_path / "a.toml")), [1], Fraction(24), None)
    assert (look.scheduler, look.spacing, look.guidance, look.steps) == ("ddim", None, 2.0, 8)


@pytest.mark.parametrize(
    ("speed", "expected"),
    [
        ("lcm", ("lcm", None, 1.0, 8, 4)),
        ("hyper", ("ddim", "trailing", 1.0, 16, 8)),
        ("turbo", ("euler_a", "trailing", 1.0, 8, 4)),
    ],
)
def test_a_speed_sets_what_nobody_wrote(tmp_path: Path, speed: str, expected: tuple[object, ...]) -> None:
    preset = load_preset(write(tmp_path / "a.toml", f'speed = "{speed}"\nstrength = 0.5'))
    (look,) = resolve_looks(preset, [1], Fraction(24), None)
    assert (look.scheduler, look.spacing, look.guidance, look.steps, look.executed_steps) == expected
    assert speed_notes(preset) == ()


def test_what_is_written_goes_before_the_speed_and_is_noted(tmp_path: Path) -> None:
    write(tmp_path / "film.toml", 'guidance = 7.0\nscheduler = "Euler a"')
    path = tmp_path / "shot.toml"
    path.write_text('extends = "film.toml"\nspeed = "lcm"\nstrength = 0.5')
    preset = load_preset(path, overrides=["steps=40"])
    (look,) = resolve_looks(preset, [1], Fraction(24), None)
    assert (look.scheduler, look.guidance, look.steps) == ("euler_a", 7.0, 40)
    assert speed_notes(preset) == (
        f'{tmp_path / "film.toml"}:scheduler: euler_a goes before speed "lcm", which is made for lcm',
        f'{tmp_path / "film.toml"}:guidance: 7.0 goes before speed "lcm", which is made for at most 2',
        '--set steps: 40 goes before speed "lcm", which is made for 2 to 8 executed steps: 20 are',
    )
    fitting = load_preset(path, overrides=["steps=12", "guidance=1.5", "scheduler=LCM"])
    assert speed_notes(fitting) == ()


def test_beats_are_noted_too_and_move_the_steps_with_the_strength(tmp_path: Path) -> None:
    beats = "[[beat]]\nframes = [2, 2]\nstrength = 0.25\n[[beat]]\nframes = [3, 3]\nguidance = 4.0"
    path = write(tmp_path / "a.toml", f'speed = "lcm"\nstrength = 0.5\n{beats}')
    preset = load_preset(path)
    looks = resolve_looks(preset, [1, 2, 3], Fraction(24), None)
    assert [(look.steps, look.executed_steps) for look in looks] == [(8, 4), (16, 4), (8, 4)]
    assert [look.guidance for look in looks] == [1.0, 1.0, 4.0]
    assert speed_notes(preset) == (
        f'{path}:beat[1].guidance: 4.0 goes before speed "lcm", which is made for at most 2',
    )


def test_the_speeds_lora_counts_from_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "looks").mkdir()
    write(tmp_path / "looks" / "film.toml", 'speed_lora = "lcm.safetensors"')
    path = tmp_path / "shot.toml"
    path.write_text('extends = "looks/film.toml"\nspeed = "lcm"')
    assert load_preset(path).speed_lora == (tmp_path / "looks" / "lcm.safetensors").resolve()
    assert load_preset(path, overrides=["speed_lora=merged"]).speed_lora == "merged"
    assert load_preset(path, overrides=["speed_lora=./merged"]).speed_lora == tmp_path.resolve() / "merged"
    assert speed_notes(load_preset(path, overrides=["speed=quality"])) == (
        f'{tmp_path / "looks" / "film.toml"}:speed_lora: is not read at speed "quality"',
    )


@pytest.mark.parametrize("written", ["3", '""', "[1]"])
def test_a_speed_lora_that_is_no_path(tmp_path: Path, written: str) -> None:
    path = write(tmp_path / "a.toml", f"speed_lora = {written}")
    with pytest.raises(PresetError) as caught:
        load_preset(path)
    assert f"{path}:speed_lora" in str(caught.value) and 'a file or "merged"' in str(caught.value)


@pytest.mark.parametrize("extra", ['speed = "lcm"', 'speed = "hyper"\nguidance = 5.0\nspeed_lora = "merged"'])
def test_shown_resolved_it_is_the_same_preset(tmp_path: Path, extra: str) -> None:
    """What the speed sets stands in comments: written out, it would no longer follow the strength."""
    beat = "[[beat]]\nframes = [2, 2]\nstrength = 0.25"
    preset = load_preset(write(tmp_path / "a.toml", f"{extra}\nstrength = 0.5\n{beat}"))
    shown = as_toml(preset)
    assert f"# speed {preset.speed}" in shown and "steps" not in tomllib.loads(shown)
    whole = tmp_path / "whole.toml"
    whole.write_text(shown, encoding="utf-8")
    again = load_preset(whole)
    assert again.model_dump() == preset.model_dump()
    numbers = [1, 2]
    assert resolve_looks(again, numbers, Fraction(24), None) == resolve_looks(
        preset, numbers, Fraction(24), None
    )

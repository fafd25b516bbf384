"""A plan with a speed: its LoRA found or refused in one line, its numbers in every look."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file
from small_shot import make_shot

from pipeline import cli
from pipeline.errors import ModelError, PresetError, UserError
from pipeline.plan import Plan, check_preset, make_plan
from pipeline.preset import SPEEDS, load_preset
from pipeline.shot import Shot

WIDTH = {"mini": 128, "sd15": 768, "sdxl": 2048}
FILES = [
    (family, name)
    for name, speed in SPEEDS.items()
    for family, file in speed.loras.items()
    if file is not None
]


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall", num_frames=3)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, and a hub at a port where nobody listens."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    return tmp_path / "hub"


def store(cache: Path, repo: str, filename: str) -> Path:
    root = cache / f"models--{repo.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("0" * 40)
    return write_lora(root / "snapshots" / ("0" * 40) / filename)


def write_lora(path: Path, metadata: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"lora_unet_x.alpha": np.float32([4.0])}, path, metadata=metadata)
    return path


def write(folder: Path, text: str, *, family: str = "sd15") -> Path:
    """A preset beside what the plan reads of a model of that family."""
    (folder / family / "unet").mkdir(parents=True, exist_ok=True)
    config = {"cross_attention_dim": WIDTH[family]}
    (folder / family / "unet" / "config.json").write_text(json.dumps(config))
    path = folder / "preset.toml"
    path.write_text(f'model = "{family}"\nprompt = "a room"\nstrength = 0.5\nsize = [64, 64]\n{text}')
    return path


def planned(shot: Shot, path: Path, *, offline: bool = True) -> Plan:
    preset = load_preset(path, overrides=[f"model=./{path.read_text().split(chr(34))[1]}"])
    assert check_preset(preset, offline=offline) == make_plan(shot, preset, offline=offline).notes
    return make_plan(shot, preset, offline=offline)


def refusal(shot: Shot, path: Path, kind: type[UserError] = PresetError, *, offline: bool = True) -> str:
    with pytest.raises(kind) as caught:
        planned(shot, path, offline=offline)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("family", "name"), FILES)
@pytest.mark.parametrize("offline", [True, False])
def test_a_speeds_lora_comes_from_the_cache(
    shot: Shot, tmp_path: Path, cache: Path, family: str, name: str, offline: bool
) -> None:
    hub = SPEEDS[name].loras[family]
    assert hub is not None
    stored = store(cache, hub.repo, hub.filename)
    own = write_lora(tmp_path / "own.safetensors", {"modelspec.trigger_phrase": "room"})
    path = write(tmp_path, f'speed = "{name}"\n[[lora]]\npath = "{own.name}"\nweight = 0.5', family=family)
    plan = planned(shot, path, offline=offline)
    assert [lora.path for lora in plan.loras] == [own, stored] and plan.notes == ()
    assert {look.loras for look in plan.looks} == {((0.5, 0.5), (1.0, 0.0))}  # the UNet only
    assert {look.executed_steps for look in plan.looks} == {SPEEDS[name].executed_steps}
    assert len({id(look) for look in plan.looks}) == 1


@pytest.mark.parametrize(("family", "name"), FILES)
@pytest.mark.parametrize("offline", [True, False])
def test_a_speeds_lora_that_is_not_there_is_one_line(
    shot: Shot, tmp_path: Path, cache: Path, family: str, name: str, offline: bool
) -> None:
    hub = SPEEDS[name].loras[family]
    assert hub is not None
    message = refusal(shot, write(tmp_path, f'speed = "{name}"', family=family), offline=offline)
    assert message.startswith(f"{tmp_path / 'preset.toml'}:speed: '{name}' needs a LoRA")
    assert hub.filename in message and hub.page in message and "set speed_lora = " in message
    assert ("--offline" if offline else "cannot be reached") in message


def test_the_speeds_lora_may_be_a_file_or_merged(shot: Shot, tmp_path: Path, cache: Path) -> None:
    file = write_lora(tmp_path / "lcm.safetensors")
    path = write(tmp_path, 'speed = "lcm"\nspeed_lora = "lcm.safetensors"')
    assert [lora.path for lora in planned(shot, path).loras] == [file]
    merged = planned(shot, write(tmp_path, 'speed = "lcm"\nspeed_lora = "merged"'))
    assert merged.loras == () and merged.looks[0].loras == () and merged.looks[0].scheduler == "lcm"
    assert planned(shot, write(tmp_path, 'speed = "turbo"')).loras == ()  # in the checkpoint
    file.unlink()
    message = refusal(shot, write(tmp_path, 'speed = "lcm"\nspeed_lora = "lcm.safetensors"'))
    assert message == (
        f"{tmp_path / 'preset.toml'}:speed_lora: found no file {file}; mend the path, or write "
        '"merged" where the checkpoint has it in'
    )


def test_a_speeds_lora_of_another_family(shot: Shot, tmp_path: Path) -> None:
    write_lora(tmp_path / "xl.safetensors", {"ss_base_model_version": "sdxl_base_v1-0"})
    path = write(tmp_path, 'speed = "lcm"\nspeed_lora = "xl.safetensors"')
    assert "made for another model" in refusal(shot, path, ModelError)


def test_the_same_lora_does_not_come_twice(shot: Shot, tmp_path: Path) -> None:
    write_lora(tmp_path / "lcm.safetensors")
    extra = 'speed = "lcm"\nspeed_lora = "lcm.safetensors"\n[[lora]]\npath = "lcm.safetensors"'
    assert "lora[0].path: is the LoRA of speed 'lcm'" in refusal(shot, write(tmp_path, extra))


@pytest.mark.parametrize("name", SPEEDS)
@pytest.mark.parametrize("lora", ["", 'speed_lora = "merged"'])
def test_the_miniature_has_one_speed(shot: Shot, tmp_path: Path, name: str, lora: str) -> None:
    path = write(tmp_path, f'speed = "{name}"\n{lora}', family="mini")
    message = refusal(shot, path)
    assert message.startswith(f"{path}:speed: found '{name}', for which model 'mini' has no LoRA")
    assert 'set speed = "quality"' in message
    planned(shot, write(tmp_path, 'speed = "quality"', family="mini"))


def test_what_speaks_against_the_speed_is_noted(shot: Shot, tmp_path: Path) -> None:
    path = write(tmp_path, 'speed = "lcm"\nspeed_lora = "merged"\nguidance = 7.0')
    (note,) = planned(shot, path).notes
    assert note == f'{path}:guidance: 7.0 goes before speed "lcm", which is made for at most 2'


def test_pixels_of_another_sampler_are_other_pixels(shot: Shot, tmp_path: Path) -> None:
    lines = ("", 'scheduler = "Euler a"', 'spacing = "leading"', 'speed = "turbo"')
    digests = {planned(shot, write(tmp_path, line)).frames_digest for line in lines}
    assert len(digests) == len(lines)


def test_ddim_cannot_step_through_linspace(shot: Shot, tmp_path: Path) -> None:
    path = write(tmp_path, 'spacing = "linspace"')
    assert refusal(shot, path).startswith(f"{path}:spacing: found 'linspace', through which scheduler 'ddim'")
    planned(shot, write(tmp_path, 'spacing = "linspace"\nscheduler = "euler"'))


@pytest.mark.parametrize("command", [["preset", "check", "P"], ["render", "S", "--preset", "P"]])
def test_the_command_takes_offline(
    shot: Shot, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    path = write(tmp_path, 'speed = "lcm"')
    words = {"P": str(path), "S": str(shot.root)}
    arguments = [*(words.get(word, word) for word in command), "--offline", "--set", "model=./sd15"]
    if command[0] == "render":
        arguments += ["--out", str(tmp_path / "out")]
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and "--offline forbids" in said.err
    assert not (tmp_path / "out").exists()


def test_a_speed_loads_no_torch(shot: Shot, tmp_path: Path, cache: Path) -> None:
    file = SPEEDS["lcm"].loras["sd15"]
    assert file is not None
    store(cache, file.repo, file.filename)
    path = write(tmp_path, 'speed = "lcm"')
    code = (
        "import sys; from pathlib import Path; from pipeline.plan import make_plan;"
        "from pipeline.preset import load_preset; from pipeline.shot import open_shot;"
        f"preset = load_preset({str(path)!r}, overrides=['model=./sd15']);"
        f"plan = make_plan(open_shot(Path({str(shot.root)!r})), preset, offline=True);"
        "assert plan.loras; assert 'torch' not in sys.modules"
    )
    environment = {"HF_HUB_CACHE": str(cache), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")

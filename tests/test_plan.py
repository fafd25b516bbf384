"""The plan: every number resolved, refusals before anything heavy, digests that change when pixels would."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_shot import CONTROLS, make_preset, make_shot

from pipeline.errors import ModelError, PresetError, ShotError, UserError
from pipeline.estimate import Estimate
from pipeline.plan import Plan, check_preset, make_plan, plan_as_json
from pipeline.preset import load_preset
from pipeline.preset.chain import PRESETS_FOLDER
from pipeline.shot import Shot, open_shot

ROOT = Path(__file__).resolve().parents[1]
PASSES_PRESETS = [
    path.stem for path in sorted(PRESETS_FOLDER.glob("mini_*.toml")) if path.stem != "mini_video"
]


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall")


def planned(shot: Shot, folder: Path, extra: str = "", *overrides: str, method: str = "frame") -> Plan:
    path = make_preset(folder / "preset.toml", extra=extra, method=method)
    return make_plan(shot, load_preset(path, overrides=overrides))


def refusal(shot: Shot, folder: Path, extra: str, kind: type[UserError], *overrides: str) -> str:
    with pytest.raises(kind) as caught:
        planned(shot, folder, extra, *overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without(shot: Shot, *names: str) -> Shot:
    return replace(shot, passes={name: src for name, src in shot.passes.items() if name not in names})


def test_every_number_is_resolved(shot: Shot, tmp_path: Path) -> None:
    plan = planned(shot, tmp_path, CONTROLS)
    assert (plan.width, plan.height) == (64, 64) and plan.fps == Fraction(24)
    assert [look.executed_steps for look in plan.looks] == [3] * 5  # int(5 * 0.6), as diffusers counts
    assert plan.batch == 2 and list(plan.groups(2)) == [(0, 2), (2, 4), (4, 5)]
    assert [look.prompt for look in plan.looks] == [(("film look, iris", 1.0),)] * 5
    assert plan.seeds == (1,) * 5
    assert [(control.kind, control.pass_name) for control in plan.controls] == [
        ("depth", "depth"),
        ("pose", "joints"),
    ]
    assert json.loads(json.dumps(plan_as_json(plan)))["digest"] == plan.digest


def test_fresh_noise_counts_seeds_up(shot: Shot, tmp_path: Path) -> None:
    assert planned(shot, tmp_path, "", "seed=7", "temporal.noise=fresh").seeds == (7, 8, 9, 10, 11)


@pytest.mark.parametrize(
    ("size", "source", "expected", "notes"),
    [
        ("[64, 64]", (64, 64), (64, 64), []),
        ("[88, 64]", (90, 60), (88, 64), ["8 %"]),
        ("[64, 64]", (128, 64), (64, 64), ["50 %"]),
        ("", (64, 64), (128, 128), []),  # no size: the family's own area ...
        ("", (1920, 1080), (168, 96), []),  # ... in the shot's aspect: 170.7 x 96
    ],
)
def test_sizes(
    shot: Shot,
    tmp_path: Path,
    size: str,
    source: tuple[int, int],
    expected: tuple[int, int],
    notes: list[str],
) -> None:
    path = make_preset(tmp_path / "preset.toml")
    line = f"size = {size}" if size else ""
    path.write_text(re.sub(r"size = .*", line, path.read_text()), encoding="utf-8")
    plan = make_plan(replace(shot, width=source[0], height=source[1]), load_preset(path))
    assert (plan.width, plan.height) == expected
    assert len(plan.notes) == len(notes)
    for note, part in zip(plan.notes, notes, strict=True):
        assert part in note


def test_a_pass_that_is_asked_for_and_missing(shot: Shot, tmp_path: Path) -> None:
    message = refusal(without(shot, "depth"), tmp_path, CONTROLS, ShotError)
    assert "has no depth, which depth control needs" in message and "control[0].kind" in message
    message = refusal(without(shot, "joints"), tmp_path, CONTROLS, ShotError)
    assert "has no joints, which pose control needs" in message and "control[1].kind" in message
    assert "OpenPose needs body_pose_model.pth" in message and message.endswith("or add joints.json")
    off = ("temporal.method=blend", "estimate.missing=false")
    message = refusal(without(shot, "motion"), tmp_path, "", ShotError, *off)
    assert "has no motion, which method 'blend' needs (--set temporal.method)" in message
    assert "estimate.missing is off (--set estimate.missing); add motion/" in message
    bare = without(shot, "visible", "ids", "depth")
    assert "has no visible, which method 'blend' needs" in refusal(bare, tmp_path, "", ShotError, *off)


def test_what_is_missing_is_estimated_with_a_note(shot: Shot, tmp_path: Path) -> None:
    path = make_preset(tmp_path / "preset.toml", method="blend")
    preset = load_preset(path)
    assert make_plan(shot, preset).estimates == ()
    plan = make_plan(without(shot, "motion"), preset)
    assert plan.estimates == (Estimate("dis"),)
    assert plan.notes[0].startswith("motion: estimated (DIS)")  # the renderer's own visible pass stays
    plan = make_plan(without(shot, "visible", "ids", "depth"), preset)
    assert plan.estimates == (Estimate("round_trip"),) and plan.notes[0].startswith("visible: estimated (")
    plan = make_plan(without(shot, "motion", "visible", "ids", "depth"), preset)
    assert plan.estimates == (Estimate("dis"),) and plan.notes[0].startswith("motion and visible: ")
    assert plan.frames_digest != make_plan(shot, preset).frames_digest


def test_weights_decide_the_frames_wherever_they_lie(shot: Shot, tmp_path: Path) -> None:
    path = make_preset(tmp_path / "preset.toml", extra=CONTROLS)
    digests = []
    for folder, content in (("one", b"a"), ("two", b"a"), ("two", b"other")):
        weights = tmp_path / folder / "dpt_hybrid-midas-501f0c75.pt"
        weights.parent.mkdir(exist_ok=True)
        weights.write_bytes(content)
        os.utime(weights, ns=(5, 5))
        preset = load_preset(path, overrides=[f"estimate.weights={folder}"])
        plan = make_plan(without(shot, "depth"), preset)
        assert plan.estimates == (Estimate("midas", weights.resolve()),)
        digests.append(plan.frames_digest)
    assert digests[0] == digests[1] != digests[2]


def test_passes_that_are_not_asked_for_may_miss(shot: Shot, tmp_path: Path) -> None:
    planned(without(shot, "depth", "joints", "motion"), tmp_path)


@pytest.mark.parametrize(
    ("extra", "override", "part"),
    [
        (
            '[[control]]\nkind = "canny"',
            "seed=1",
            "control[0].kind: found 'canny'; model 'mini' has controls",
        ),
        ('[[lora]]\npath = "no.safetensors"', "seed=1", "lora[0].path: found no file"),
        ("", "model=mnii", "--set model: "),
        ("", "strength=0.1", "less than one step"),
    ],
)
def test_values_that_the_model_cannot_take(
    shot: Shot, tmp_path: Path, extra: str, override: str, part: str
) -> None:
    assert part in refusal(shot, tmp_path, extra, PresetError, override)


def write_lora(path: Path, metadata: dict[str, str] | None, value: float = 0.0) -> Path:
    save_file({"lora_unet_x.alpha": np.float32([value])}, path, metadata=metadata)
    return path


LORA = '[[lora]]\npath = "l.safetensors"'


def test_a_lora_for_another_model(shot: Shot, tmp_path: Path) -> None:
    write_lora(tmp_path / "l.safetensors", {"modelspec.architecture": "stable-diffusion-v1/lora"})
    message = refusal(shot, tmp_path, LORA, ModelError)
    assert (
        "made for another model (modelspec.architecture is 'stable-diffusion-v1/lora')" in message
        and "model 'mini'" in message
    )


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is empty"),
        (b"\xff" * 64, "is no safetensors"),
        (b"\x02\0\0\0\0\0\0\0[]", "is no safetensors"),
        (b"PK\x03\x04 a zip, a pickle", "is a pickle"),
    ],
)
def test_a_lora_that_is_no_safetensors(shot: Shot, tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "l.safetensors").write_bytes(data)
    assert "lora[0].path: " in (message := refusal(shot, tmp_path, LORA, ModelError))
    assert re.search(what, message)


def test_a_lora_that_is_another_kind_of_file(shot: Shot, tmp_path: Path) -> None:
    save_file(
        {"zero_convs.0.0.weight": np.zeros(1), "input_hint_block.0.weight": np.zeros(1)},
        tmp_path / "l.safetensors",
    )
    assert "is a ControlNet; expected a LoRA" in refusal(shot, tmp_path, LORA, ModelError)


@pytest.mark.parametrize(
    ("width", "title"), [(768, "Stable Diffusion 1.5"), (1024, "SD 2.x"), (2048, "SDXL")]
)
def test_the_tensors_tell_the_family_before_torch_is_loaded(
    shot: Shot, tmp_path: Path, width: int, title: str
) -> None:
    key = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight"
    save_file({key: np.zeros((4, width), np.float32)}, tmp_path / "l.safetensors")
    message = refusal(shot, tmp_path, LORA, ModelError)
    assert title in message and "model 'mini' is the built-in miniature" in message


def test_a_partial_lora_is_another_render(shot: Shot, tmp_path: Path) -> None:
    preset = load_preset(make_preset(tmp_path / "preset.toml"))
    strict, partial = make_plan(shot, preset), make_plan(shot, preset, allow_partial=True)
    assert (strict.allow_partial, partial.allow_partial) == (False, True)
    assert strict.frames_digest != partial.frames_digest


def test_a_lora_weighs_the_text_encoder_alike_unless_told(shot: Shot, tmp_path: Path) -> None:
    write_lora(tmp_path / "l.safetensors", None)
    assert planned(shot, tmp_path, LORA, "lora.0.weight=0.5").looks[0].loras == ((0.5, 0.5),)
    plan = planned(shot, tmp_path, LORA, "lora.0.weight=0.5", "lora.0.text_weight=0")
    assert plan.looks[0].loras == ((0.5, 0.0),)


@pytest.mark.parametrize(
    "override", ["seed=2", "prompt=b", "strength=0.8", "guidance=3", "temporal.noise=fresh"]
)
def test_the_digest_follows_what_decides_pixels(shot: Shot, tmp_path: Path, override: str) -> None:
    assert planned(shot, tmp_path).frames_digest != planned(shot, tmp_path, "", override).frames_digest


def test_crf_decides_the_video_only(shot: Shot, tmp_path: Path) -> None:
    one, other = planned(shot, tmp_path), planned(shot, tmp_path, "", "output.crf=30")
    assert one.frames_digest == other.frames_digest and one.digest != other.digest


def test_the_digest_follows_the_inputs(tmp_path: Path) -> None:
    shot = make_shot(tmp_path / "wall", num_frames=2)
    write_lora(tmp_path / "l.safetensors", None)
    before = planned(shot, tmp_path, LORA).digest
    assert planned(shot, tmp_path, LORA).digest == before
    rgb = shot.passes["rgb"].files[0]
    stamp = rgb.stat()
    os.utime(rgb, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1_000_000_000))
    touched = planned(shot, tmp_path, LORA).digest
    write_lora(tmp_path / "l.safetensors", None, value=1.0)
    assert len({before, touched, planned(shot, tmp_path, LORA).digest}) == 3
    # a pass that this plan does not read decides nothing
    os.utime(shot.passes["motion"].files[0], ns=(0, 0))
    write_lora(tmp_path / "l.safetensors", None)
    assert planned(shot, tmp_path, LORA).digest == touched


def test_the_digest_follows_how_passes_are_read(tmp_path: Path) -> None:
    """[motion], [depth] and what is held decide pixels as much as the files; of passes that are read."""
    make_shot(tmp_path / "wall", num_frames=3)
    sidecar = tmp_path / "wall" / "shot.toml"
    plain = sidecar.read_text()
    depth = '[depth]\nkind = "linear"\nscale = 0.5\n'
    motion = '[motion]\nbackward = { channels = ["backward.X", "backward.Y"], scale = [2.0, 2.0] }\n'

    def digests(method: str) -> list[str]:
        found = []
        for section in ("", depth, motion):
            sidecar.write_text(f"{plain}\n{section}")
            found.append(
                planned(open_shot(tmp_path / "wall"), tmp_path, CONTROLS, method=method).frames_digest
            )
        return found

    assert len(set(digests("blend"))) == 3
    as_written, scaled, turned = digests("frame")  # which draws depth and reads no motion
    assert as_written == turned != scaled


BEAT = '[[beat]]\nframes = [4, 5]\nease = 1\nprompt = "film look, otto"\n'


def test_beats_part_the_windows(shot: Shot, tmp_path: Path) -> None:
    plan = planned(shot, tmp_path, BEAT)
    assert list(plan.groups(2)) == [(0, 2), (2, 3), (3, 5)]
    mixed = plan.looks[2].prompt
    assert mixed == (("film look, iris", 0.5), ("film look, otto", 0.5))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("", BEAT, False),
        (BEAT, BEAT.replace("ease = 1", "ease = 2"), False),
        (
            BEAT,
            BEAT.replace("frames = [4, 5]", "seconds = [0.13, 0.2]").replace("ease = 1", "ease = 0"),
            False,
        ),
        (BEAT.replace("ease = 1", ""), BEAT.replace("ease = 1", "").replace("otto", "iris"), False),
        ("", BEAT.replace("otto", "iris"), True),  # a beat that says the same
        ("", '[[beat]]\nframes = [1, 5]\nnegative = "grey"', False),
        ("", "[vars]\nmood = 1", True),  # a note, no pixel
        ("", "[views]\nmargin = 1.0", True),  # nobody asks for {view}
    ],
)
def test_the_digest_follows_beats(shot: Shot, tmp_path: Path, one: str, other: str, same: bool) -> None:
    a, b = (planned(shot, tmp_path, extra).frames_digest for extra in (one, other))
    assert (a == b) is same


@pytest.mark.parametrize(
    ("override", "method", "same"),
    [
        ("negative=grey", "frame", False),
        ("temporal.weight=0.1", "blend", False),
        ("temporal.until=0.1", "blend", False),
        ("temporal.weight=0.1", "frame", True),
        ("temporal.until=0.1", "frame", True),
    ],
)
def test_what_is_not_read_decides_nothing(
    shot: Shot, tmp_path: Path, override: str, method: str, same: bool
) -> None:
    a = planned(shot, tmp_path, method=method).frames_digest
    assert (planned(shot, tmp_path, "", override, method=method).frames_digest == a) is same


def test_without_guidance_the_negative_decides_nothing(shot: Shot, tmp_path: Path) -> None:
    one = planned(shot, tmp_path, "", "guidance=1.0").frames_digest
    assert planned(shot, tmp_path, "", "guidance=1.0", "negative=grey").frames_digest == one


def test_a_trigger_that_the_prompt_does_not_say_is_noted(shot: Shot, tmp_path: Path) -> None:
    write_lora(tmp_path / "l.safetensors", {"modelspec.trigger_phrase": "iris"})
    assert planned(shot, tmp_path, LORA).notes == ()
    (note,) = planned(shot, tmp_path, LORA, "prompt=an irish red room").notes
    assert note == f"{tmp_path / 'preset.toml'}:lora[0].path: the prompt does not say its trigger 'iris'"
    (note,) = planned(shot, tmp_path, LORA + "\n" + BEAT).notes
    assert note.endswith("trigger 'iris' in 3 of 5 frames, first 3")
    assert planned(shot, tmp_path, LORA, "prompt=a room", "lora.0.weight=0").notes == ()  # it is off
    preset = load_preset(make_preset(tmp_path / "p.toml", extra=LORA), overrides=["prompt=a room"])
    assert "does not say its trigger 'iris'" in check_preset(preset)[0]


def test_an_unused_variable_is_noted(shot: Shot, tmp_path: Path) -> None:
    (note,) = planned(shot, tmp_path, "", "vars.mood=sad").notes
    assert note == "--set vars.mood: no prompt uses {mood}"


VIEW = "prompt=iris, {view}"


def test_the_view_comes_from_the_joints(tmp_path: Path) -> None:
    shot = open_shot(ROOT / "samples" / "shots" / "profile_turn")
    path = make_preset(tmp_path / "preset.toml")
    plan = make_plan(shot, load_preset(path, overrides=[VIEW]))
    said = [look.prompt[0][0] for look in plan.looks]
    assert (said[0], said[-1]) == ("iris, front view", "iris, profile view") and len(set(said)) == 3
    assert all(said[start] == said[stop - 1] for start, stop in plan.groups(2))
    fixed = make_plan(shot, load_preset(path, overrides=[VIEW, "vars.view=back view"]))
    assert {look.prompt[0][0] for look in fixed.looks} == {"iris, back view"}


def test_a_view_that_the_joints_cannot_give(shot: Shot, tmp_path: Path) -> None:
    message = refusal(without(shot, "joints"), tmp_path, "", ShotError, VIEW)
    assert "has no joints, which {view} in the prompt needs (--set prompt)" in message
    message = refusal(shot, tmp_path, "", PresetError, VIEW, "views.figure=otto")
    assert "--set views.figure: found 'otto'; the joints have: iris" in message


def test_a_beat_outside_the_shot_is_refused(shot: Shot, tmp_path: Path) -> None:
    message = refusal(shot, tmp_path, BEAT.replace("[4, 5]", "[4, 6]"), PresetError)
    assert "beat[0].frames: found [4, 6]; the shot has frames 1 to 5" in message


def test_a_beat_s_strength_is_worth_a_step(shot: Shot, tmp_path: Path) -> None:
    beat = "[[beat]]\nframes = [2, 2]\nstrength = 0.1"
    assert "beat[0].strength: 0.1 of 5 steps is less than one step" in refusal(
        shot, tmp_path, beat, PresetError
    )
    eased = planned(shot, tmp_path, "[[beat]]\nframes = [1, 1]\nstrength = 0.0\nease = 3")
    assert [look.executed_steps for look in eased.looks] == [0, 0, 1, 2, 3]


def test_planning_loads_no_torch(shot: Shot, tmp_path: Path) -> None:
    path = make_preset(tmp_path / "preset.toml", extra=CONTROLS)
    code = (
        "import sys; from pathlib import Path; from pipeline.plan import make_plan;"
        "from pipeline.preset import load_preset; from pipeline.shot import open_shot;"
        f"make_plan(open_shot(Path({str(shot.root)!r})), load_preset({str(path)!r}));"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", PASSES_PRESETS)
@pytest.mark.parametrize(
    "folder", sorted((ROOT / "samples" / "shots").glob("*/shot.toml")), ids=lambda p: p.parent.name
)
def test_presets_that_ship_fit_the_sample_shots(name: str, folder: Path) -> None:
    shot = open_shot(folder.parent)
    if name == "mini_two_shot" and len(shot.characters) < 2:
        with pytest.raises(
            PresetError, match=r"two_shot.toml:region\[1\].figure: found '2'; the joints have"
        ):
            make_plan(shot, load_preset(name))
        return
    plan = make_plan(shot, load_preset(name))
    steps = {look.executed_steps for look in plan.looks}
    size = (168, 96) if folder.parent.name == "blender_walk" else (128, 128)
    assert ((plan.width, plan.height), steps, plan.notes) == (size, {5}, ())


def test_the_video_preset_needs_the_pictures_only(shot: Shot) -> None:
    only = {"rgb": shot.passes["rgb"]}
    assert make_plan(replace(shot, passes=only), load_preset("mini_video")).controls == ()


@pytest.mark.parametrize("name", sorted({*PASSES_PRESETS, "mini_video"} - {"mini_two_shot"}))
def test_presets_that_ship_squash_no_wide_shot(shot: Shot, name: str) -> None:
    plan = make_plan(replace(shot, width=1920, height=1080), load_preset(name))
    assert (plan.width, plan.height, plan.notes) == (168, 96, ())

"""ControlNets in the plan: kinds and passes, files by their headers, digests; then a render with a file."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from header_files import write_header
from safetensors.numpy import load_file, save_file
from small_shot import make_preset, make_shot, passes

from pipeline.conform import controls_at
from pipeline.errors import ModelError, PresetError, ShotError, UserError
from pipeline.image import read_png, write_png
from pipeline.models.families import FAMILIES
from pipeline.plan import Plan, PlannedControl, check_preset, input_files, make_plan, plan_as_json
from pipeline.preset import Steering, load_preset
from pipeline.render import render_shot
from pipeline.shot import Shot, open_shot, read_pass, write_shot

TO_K = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
HINT = "controlnet_cond_embedding.conv_in.weight"


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall")


def control(kind: str, path: str | None = None, more: str = "") -> str:
    return f'[[control]]\nkind = "{kind}"\n' + (f'path = "{path}"\n' if path else "") + more + "\n"


def planned(shot: Shot, folder: Path, extra: str, *overrides: str, model: str = "mini") -> Plan:
    path = make_preset(folder / "preset.toml", model, extra=extra)
    return make_plan(shot, load_preset(path, overrides=overrides))


def refusal(shot: Shot, folder: Path, extra: str, kind: type[UserError], *, model: str = "mini") -> str:
    with pytest.raises(kind) as caught:
        planned(shot, folder, extra, model=model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def net_file(path: Path, width: int = 128, **more: tuple[int, ...]) -> Path:
    return write_header(path, {HINT: (16, 3, 3, 3), TO_K: (64, width)} | more)


def sd_folder(folder: Path, width: int) -> str:
    (folder / "unet").mkdir(parents=True)
    (folder / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": width}))
    return str(folder)


def test_every_kind_has_its_pass(shot: Shot, tmp_path: Path) -> None:
    net_file(tmp_path / "n.safetensors")
    kinds = {"depth": "depth", "pose": "joints", "canny": "rgb", "softedge": "rgb", "lineart": "rgb"}
    for kind, pass_name in kinds.items():
        plan = planned(shot, tmp_path, control(kind, "n.safetensors"))
        thresholds = (100.0, 200.0) if kind == "canny" else None
        path = str((tmp_path / "n.safetensors").resolve())
        assert plan.controls == (PlannedControl(kind, pass_name, path, thresholds),)
    assert "has no normal" in refusal(shot, tmp_path, control("normal", "n.safetensors"), ShotError)


def test_softedge_reads_the_passes_that_are_there(shot: Shot, tmp_path: Path) -> None:
    net_file(tmp_path / "n.safetensors")
    plan = planned(shot, tmp_path, control("softedge", "n.safetensors"))
    read = {file.parent.name for file in input_files(shot, plan)}
    assert read == {"rgb", "depth", "ids"}  # this shot has no normals
    bare = replace(shot, passes={"rgb": shot.passes["rgb"]})
    plan = planned(bare, tmp_path, control("softedge", "n.safetensors"))
    assert {file.parent.name for file in input_files(bare, plan)} == {"rgb"}


def test_a_path_is_the_preset_files(shot: Shot, tmp_path: Path) -> None:
    """Relative to the file that names it, in a chain too; a hub id stays what it is."""
    (tmp_path / "looks" / "nets").mkdir(parents=True)
    file = net_file(tmp_path / "looks" / "nets" / "n.safetensors")
    make_preset(tmp_path / "looks" / "base.toml", extra=control("depth", "nets/n.safetensors"))
    (tmp_path / "shot.toml").write_text('extends = "looks/base.toml"\n')
    assert load_preset(tmp_path / "shot.toml").control[0].path == str(file.resolve())
    path = make_preset(tmp_path / "hub.toml", extra=control("depth", "xinsir/controlnet-depth-sdxl-1.0"))
    assert load_preset(path).control[0].path == "xinsir/controlnet-depth-sdxl-1.0"


@pytest.mark.parametrize("path", ["none.safetensors", "nets/none.safetensors", "a/b/c", "none", "../none"])
def test_a_path_that_is_not_there(shot: Shot, tmp_path: Path, path: str) -> None:
    message = refusal(shot, tmp_path, control("depth", path), PresetError)
    assert "control[0].path: found no " in message and "or a hub id org/name" in message


def test_looks_vary_by_weight_never_by_path(shot: Shot, tmp_path: Path) -> None:
    net_file(tmp_path / "n.safetensors")
    beat = "[[beat]]\nframes = [4, 5]\ncontrol.depth.weight = 0.5\n"
    plan = planned(shot, tmp_path, control("depth", "n.safetensors") + beat)
    assert [look.controls[0] for look in plan.looks] == [
        Steering(kind="depth", weight=weight) for weight in (1.0, 1.0, 1.0, 0.5, 0.5)
    ]
    beat = '[[beat]]\nframes = [4, 5]\ncontrol.depth.path = "n.safetensors"\n'
    assert "unknown key 'path'" in refusal(
        shot, tmp_path, control("depth", "n.safetensors") + beat, PresetError
    )


def test_canny_has_thresholds(shot: Shot, tmp_path: Path) -> None:
    net_file(tmp_path / "n.safetensors")
    plan = planned(shot, tmp_path, control("canny", "n.safetensors", "low = 30\nhigh = 80.5"))
    assert plan.controls[0].thresholds == (30.0, 80.5)
    other = planned(shot, tmp_path, control("canny", "n.safetensors", "low = 31\nhigh = 80.5"))
    assert plan.frames_digest != other.frames_digest
    message = refusal(shot, tmp_path, control("canny", "n.safetensors", "low = 300"), PresetError)
    assert "control[0].low: canny's low 300 is above its high 200" in message
    message = refusal(shot, tmp_path, control("depth", None, "low = 30"), PresetError)
    assert "low and high are canny's; a control of kind 'depth' has none" in message


def test_the_digest_follows_the_file(shot: Shot, tmp_path: Path) -> None:
    file = net_file(tmp_path / "n.safetensors")
    own = planned(shot, tmp_path, control("depth"))
    before = planned(shot, tmp_path, control("depth", "n.safetensors"))
    assert before.digest == planned(shot, tmp_path, control("depth", str(file))).digest
    os.utime(file, ns=(0, 0))
    after = planned(shot, tmp_path, control("depth", "n.safetensors"))
    assert len({own.digest, before.digest, after.digest}) == 3
    hub = planned(shot, tmp_path, control("depth", "org/net"))
    assert hub.digest != planned(shot, tmp_path, control("depth", "org/other")).digest
    assert plan_as_json(hub)["controls"][0]["path"] == "org/net"


@pytest.mark.parametrize(("model", "net"), [(768, 2048), (2048, 768), (768, 1024), (2048, 128)])
def test_a_net_of_another_family(shot: Shot, tmp_path: Path, model: int, net: int) -> None:
    titles = {row.context_width: row.title for row in FAMILIES.values()} | {1024: "SD 2.x"}
    net_file(tmp_path / "n.safetensors", net)
    folder = sd_folder(tmp_path / "model", model)
    message = refusal(shot, tmp_path, control("depth", "n.safetensors"), ModelError, model=folder)
    assert f"is for {titles[net]} (width {net})" in message and f"is {titles[model]} ({model})" in message
    assert "control[0].path: " in message
    preset = load_preset(tmp_path / "preset.toml")
    with pytest.raises(ModelError, match="is for"):
        check_preset(preset)  # `lookdev preset check` says it without a shot


def test_what_is_no_controlnet(shot: Shot, tmp_path: Path) -> None:
    for shapes, part in (
        ({"lora_unet_x.lora_down.weight": (4, 8)}, "is a LoRA; it goes under [[lora]]"),
        ({"lllite_unet_x.down.0.weight": (4, 8)}, "is a ControlNet-LLLite"),
        ({"first_stage_model.decoder.conv_in.weight": (4, 8)}, "is a VAE"),
    ):
        write_header(tmp_path / "n.safetensors", shapes)
        assert part in refusal(shot, tmp_path, control("depth", "n.safetensors"), ModelError)
    (tmp_path / "n.safetensors").write_bytes(b"PK\x03\x04")
    assert "is a pickle" in refusal(shot, tmp_path, control("depth", "n.safetensors"), ModelError)
    file = net_file(tmp_path / "n.safetensors")
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 1)
    assert "is cut short" in refusal(shot, tmp_path, control("depth", "n.safetensors"), ModelError)


def test_a_union_takes_its_kinds(shot: Shot, tmp_path: Path) -> None:
    more = {"task_embedding": (6, 320), "control_add_embedding.linear_1.weight": (8, 8)}
    write_header(tmp_path / "n.safetensors", {HINT: (16, 3, 3, 3), TO_K: (64, 128)} | more)
    both = control("depth", "n.safetensors") + control("softedge", "n.safetensors")
    assert len(planned(shot, tmp_path, both).controls) == 2


def test_kinds_that_the_model_has_not(shot: Shot, tmp_path: Path) -> None:
    assert "found 'canny'; model 'mini' has controls: depth, pose" in refusal(
        shot, tmp_path, control("canny"), PresetError
    )
    folder = sd_folder(tmp_path / "model", 768)
    message = refusal(shot, tmp_path, control("canny"), PresetError, model=folder)
    assert "brings no ControlNet for 'canny'; give this [[control]] a path" in message
    net_file(tmp_path / "n.safetensors")
    message = refusal(shot, tmp_path, control("dept", "n.safetensors"), PresetError)
    assert "found 'dept'; expected depth, pose, normal, canny, softedge, lineart" in message


def test_a_hub_id_off_line(shot: Shot, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"control\[0\]\.path: ControlNet nobody/nothing: .*--offline"):
        preset = make_preset(tmp_path / "preset.toml", extra=control("depth", "nobody/nothing"))
        make_plan(shot, load_preset(preset), offline=True)


def test_planning_with_files_needs_no_torch(tmp_path: Path) -> None:
    net_file(tmp_path / "n.safetensors")
    preset = make_preset(tmp_path / "preset.toml", extra=control("canny", "n.safetensors"))
    code = (
        "import sys; from pipeline.preset import load_preset; from pipeline.plan import check_preset;"
        f"check_preset(load_preset({str(preset)!r})); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_net_in_a_file_renders_as_the_models_own(random_model: Path, tmp_path: Path) -> None:
    """The same weights, once as the model's own ControlNets and once as files, give the same frames."""
    normal = np.zeros((2, 64, 64, 3), np.float32)
    normal[..., 1] = 1.0
    rgb = passes(2).rgb.copy()
    rgb[:, 16:48, 16:48] = 0
    shot = write_shot(tmp_path / "wall", [replace(passes(2), rgb=rgb, normal=normal)], fps=Fraction(24))
    nets = tmp_path / "nets"
    shutil.copytree(random_model / "controlnet_pose", nets / "pose")
    weights = "diffusion_pytorch_model.safetensors"
    shutil.copy(random_model / "controlnet_depth" / weights, nets / "depth_net.safetensors")

    def frames(name: str, extra: str) -> np.ndarray:
        preset = make_preset(tmp_path / f"{name}.toml", random_model, extra=extra)
        render_shot(shot, load_preset(preset), tmp_path / name)
        files = sorted((tmp_path / name / "wall" / "frames").glob("*.png"))
        assert len(files) == 2
        return np.stack([read_png(file) for file in files])

    own = frames("own", control("depth") + control("pose"))
    files = frames("files", control("depth", "nets/depth_net.safetensors") + control("pose", "nets/pose"))
    assert np.array_equal(own, files)
    loud = load_file(nets / "depth_net.safetensors")
    last = "controlnet_cond_embedding.conv_out.weight"  # 0 in a fresh net, which sees no picture
    loud[last] = np.random.default_rng(0).normal(size=loud[last].shape).astype(loud[last].dtype)
    save_file(loud, nets / "loud.safetensors")
    kinds = ("normal", "canny", "softedge")
    drawn = [frames(kind, control(kind, "nets/loud.safetensors")) for kind in kinds]
    assert len({picture.tobytes() for picture in drawn}) == 3


def test_lineart_is_drawn_from_passes_by_a_detector_or_refused(
    shot: Shot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    net_file(tmp_path / "n.safetensors")
    lineart = control("lineart", "n.safetensors")
    plan = planned(shot, tmp_path, lineart)
    assert (
        plan.estimates == ()
        and "lineart: drawn from depth, ids and the picture, by no detector" in plan.notes
    )
    assert {file.parent.name for file in input_files(shot, plan)} == {"rgb", "depth", "ids"}
    bare = replace(shot, passes={"rgb": shot.passes["rgb"]})
    message = refusal(bare, tmp_path, lineart, ShotError)
    assert "has no lineart, which lineart control needs" in message and "sk_model.pth" in message
    with pytest.raises(ShotError, match=r"sk_model2\.pth"):
        planned(shot, tmp_path, lineart, "estimate.lineart=coarse")
    (tmp_path / "sk_model2.pth").touch()
    plan = planned(shot, tmp_path, lineart, "estimate.lineart=coarse", f"estimate.weights={tmp_path}")
    assert [each.method for each in plan.estimates] == ["lineart_coarse"]


def test_a_shots_own_lines_are_read_on_light_paper_or_dark(shot: Shot, tmp_path: Path) -> None:
    net_file(tmp_path / "n.safetensors")
    for name, paper in (("dark", 0), ("light", 255)):
        root = tmp_path / name
        shutil.copytree(shot.root, root)
        drawing = np.full((shot.height, shot.width), paper, np.uint8)
        drawing[3] = 255 - paper
        for number in shot.frame_numbers:
            write_png(root / "lineart" / f"lineart.{number:04d}.png", drawing)
        own = open_shot(root)
        plan = planned(own, tmp_path, control("lineart", "n.safetensors"))
        assert plan.estimates == () and not any("lineart" in note for note in plan.notes)
        (lines,) = read_pass(own, "lineart", 0, 1)
        assert (lines[3] == 255).all() and not lines[4:].any()
        assert (controls_at(own, ["lineart"], start=0, stop=1, width=32, height=32)["lineart"] > 0).any()

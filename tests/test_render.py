"""One shot through the whole line, on a miniature with random weights: what is left, resumed, refused."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import namedtuple
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_shot import CONTROLS, SIZE, STEP, make_preset, make_shot, passes

from pipeline.errors import ModelError, OutputError, PresetError, ShotError, UserError
from pipeline.hold import held
from pipeline.image import read_image
from pipeline.plan import make_plan
from pipeline.preset import load_preset
from pipeline.render import Machine, RenderResult, render_shot
from pipeline.shot import Shot, open_shot, write_shot

NUM_FRAMES = 5


@pytest.fixture(scope="module")
def shot(tmp_path_factory: pytest.TempPathFactory) -> Shot:
    return make_shot(tmp_path_factory.mktemp("shots") / "wall", num_frames=NUM_FRAMES)


@pytest.fixture(scope="module")
def presets(tmp_path_factory: pytest.TempPathFactory, random_model: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("presets")
    return {
        method: make_preset(folder / f"{method}.toml", random_model, extra=CONTROLS, method=method)
        for method in ("frame", "blend")
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shot: Shot, presets: dict[str, Path]) -> Path:
    """Both methods rendered without a break, each with its own noise per frame."""
    out = tmp_path_factory.mktemp("finished")
    for method, preset in presets.items():
        render(shot, preset, out / method)
    return out


def render(
    shot: Shot,
    preset: Path,
    out: Path,
    *overrides: str,
    stop_after: int | None = None,
    allow_partial: bool = False,
) -> RenderResult:
    def on_frame(name: str, done: int, total: int) -> None:
        assert name == "wall" and done <= total == NUM_FRAMES
        if done == stop_after:
            raise KeyboardInterrupt

    read = load_preset(preset, overrides=["temporal.noise=fresh", *overrides])
    return render_shot(
        shot, read, out, allow_partial=allow_partial, machine=Machine("cpu"), on_frame=on_frame
    )


def frame_files(out: Path) -> list[Path]:
    return sorted((out / "wall" / "frames").iterdir())


def frame_bytes(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in frame_files(out)]


def frame_pixels(out: Path) -> list[bytes]:
    """Of renders by different plans: what their files say of the plan differs."""
    return [read_image(path).tobytes() for path in frame_files(out)]


def test_a_render_leaves_frames_video_and_record(
    finished: Path, shot: Shot, presets: dict[str, Path]
) -> None:
    out = finished / "frame"
    names = [path.name for path in frame_files(out)]
    assert names == [f"styled.{number:04d}.png" for number in range(1, NUM_FRAMES + 1)]
    assert read_image(frame_files(out)[0]).shape == (SIZE, SIZE, 3)
    video = open_shot(out / "wall" / "wall.mp4")
    assert (video.num_frames, video.fps, video.width) == (NUM_FRAMES, shot.fps, SIZE)
    record = json.loads((out / "wall" / "record.json").read_text())
    plan = make_plan(shot, load_preset(presets["frame"], overrides=["temporal.noise=fresh"]))
    assert record["digest"] == plan.digest
    assert "rgb/rgb.0001.png" in record["inputs"] and "motion/motion.0001.exr" not in record["inputs"]


@pytest.mark.parametrize("method", ["frame", "blend"])
def test_what_is_done_is_skipped(finished: Path, shot: Shot, presets: dict[str, Path], method: str) -> None:
    before = [path.stat().st_mtime_ns for path in frame_files(finished / method)]
    assert render(shot, presets[method], finished / method).skipped
    assert [path.stat().st_mtime_ns for path in frame_files(finished / method)] == before


@pytest.mark.parametrize(("method", "stop_after"), [("frame", 4), ("blend", 2)])
def test_an_interrupted_render_goes_on_with_the_same_bytes(
    finished: Path, shot: Shot, presets: dict[str, Path], tmp_path: Path, method: str, stop_after: int
) -> None:
    with pytest.raises(KeyboardInterrupt):
        render(shot, presets[method], tmp_path, stop_after=stop_after)
    assert len(frame_files(tmp_path)) == stop_after and not (tmp_path / "wall" / "record.json").exists()
    spent = json.loads((tmp_path / "wall" / "plan.json").read_text())["seconds_spent"]["frames"]
    result = render(shot, presets[method], tmp_path)
    total = json.loads((tmp_path / "wall" / "record.json").read_text())["seconds"]["frames"]
    assert spent > 0 and total == pytest.approx(spent + result.seconds, abs=1e-3)  # rounded to milliseconds
    assert result.num_rendered == NUM_FRAMES - stop_after and not result.skipped
    assert frame_bytes(tmp_path) == frame_bytes(finished / method)


@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped"])
def test_a_batch_with_a_hole_is_made_again(
    finished: Path, shot: Shot, presets: dict[str, Path], tmp_path: Path, damage: str
) -> None:
    shutil.copytree(finished / "frame", tmp_path / "out")
    hurt = frame_files(tmp_path / "out")[3]  # frames 1 to 4 share a forward pass
    data = hurt.read_bytes()
    if damage == "gone":
        hurt.unlink()
    elif damage == "flipped":
        half = len(data) // 2
        hurt.write_bytes(data[:half] + bytes([data[half] ^ 1]) + data[half + 1 :])
    else:
        hurt.write_bytes(b"" if damage == "empty" else data[:-20])
    (tmp_path / "out" / "wall" / "record.json").unlink()
    assert render(shot, presets["frame"], tmp_path / "out").num_rendered == 4
    assert frame_bytes(tmp_path / "out") == frame_bytes(finished / "frame")


@pytest.mark.parametrize("batch", [1, 3])
def test_the_batch_says_nothing_about_the_bytes(
    finished: Path, shot: Shot, presets: dict[str, Path], tmp_path: Path, batch: int
) -> None:
    render(shot, presets["frame"], tmp_path, f"batch={batch}")
    assert frame_bytes(tmp_path) == frame_bytes(finished / "frame")
    assert render(shot, presets["frame"], finished / "frame", f"batch={batch}").skipped


def test_another_crf_makes_only_the_video_again(
    finished: Path, shot: Shot, presets: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished / "frame", out)
    result = render(shot, presets["frame"], out, "output.crf=40")
    assert result.num_rendered == 0 and not result.skipped
    assert frame_bytes(out) == frame_bytes(finished / "frame")
    assert result.video.stat().st_size < (finished / "frame" / "wall" / "wall.mp4").stat().st_size
    assert render(shot, presets["frame"], out, "output.crf=40").skipped
    assert not render(shot, presets["frame"], out).skipped


def test_frames_of_another_plan_are_not_kept(
    finished: Path, shot: Shot, presets: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished / "frame", out)
    with pytest.raises(KeyboardInterrupt):
        render(shot, presets["frame"], out, "seed=99", stop_after=4)
    assert len(frame_files(out)) == 4
    assert frame_bytes(out) != frame_bytes(finished / "frame")[:4]


def test_blending_follows_the_motion(finished: Path) -> None:
    """Along the exact motion consecutive frames differ less than half as much as frame by frame.

    The carried share is 0.75: of the noise between frames a quarter remains, plus what sampling adds.
    """

    def error(method: str) -> float:
        frames = [read_image(path).astype(np.float64) for path in frame_files(finished / method)]
        pairs = itertools.pairwise(frames)
        return float(np.mean([np.square(now[:, STEP:] - before[:, :-STEP]).mean() for before, now in pairs]))

    assert error("blend") < 0.5 * error("frame")


@pytest.mark.parametrize(
    ("override", "kind", "part"),
    [
        ("lora.0.weight=1.0", ModelError, "l.safetensors"),
        ("clip_skip=12", ModelError, "clip_skip is 12; the text encoder has 2 layers: expected 1 to 2"),
        ("prompt=(iris <lora:iris:0.8>:1.2)", PresetError, "--set prompt: prompt has <lora:iris:0.8>: "),
        ("temporal.method=video", UserError, "'video' is reserved for motion modules and video models"),
        ("temporal.method=glue", UserError, "it should be 'frame', 'blend' or 'keys'"),
    ],
)
def test_a_refused_render_leaves_what_was_there(
    finished: Path,
    shot: Shot,
    random_model: Path,
    tmp_path: Path,
    override: str,
    kind: type[UserError],
    part: str,
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished / "frame", out)
    before = {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}
    save_file(
        {
            "lora_unet_no_such.lora_down.weight": torch.zeros(2, 4),
            "lora_unet_no_such.lora_up.weight": torch.zeros(4, 2),
        },
        tmp_path / "l.safetensors",
    )
    lora = '[[lora]]\npath = "l.safetensors"' if override.startswith("lora") else ""
    preset = make_preset(tmp_path / "p.toml", random_model, extra=CONTROLS + lora)
    with pytest.raises(kind) as caught:
        render(shot, preset, out, override)
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()} == before


def test_a_refused_render_leaves_nothing_where_nothing_was(
    shot: Shot, presets: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="clip_skip is 12"):
        render(shot, presets["frame"], tmp_path / "out", "clip_skip=12")
    assert list(tmp_path.iterdir()) == []


def test_a_depth_that_is_none_names_its_file_and_leaves_nothing(
    presets: dict[str, Path], tmp_path: Path
) -> None:
    good = passes(NUM_FRAMES)
    assert good.depth is not None
    good.depth[1, 2, 3] = 0.0
    shot = write_shot(tmp_path / "wall", [good], fps=Fraction(24))
    with pytest.raises(ShotError, match=r"depth\.0002\.exr: .* 0\.0 at \(x=3, y=2\)"):
        render(shot, presets["frame"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_blending_holds_the_carried_pixels_in_the_latents_too(
    shot: Shot, presets: dict[str, Path], tmp_path: Path
) -> None:
    """With no share of the pixels left, only the latents can carry anything from frame to frame."""
    frames = []
    for until in ("0.01", "1.0"):  # the first step is the start itself: there is nothing to hold
        with pytest.raises(KeyboardInterrupt):
            settings = (f"temporal.until={until}", "temporal.weight=0.0")
            render(shot, presets["blend"], tmp_path / until, *settings, stop_after=2)
        frames.append(frame_bytes(tmp_path / until))
    assert frames[0][0] == frames[1][0] and frames[0][1] != frames[1][1]


def test_a_beat_changes_its_frames_and_no_other(
    finished: Path, shot: Shot, presets: dict[str, Path], tmp_path: Path
) -> None:
    """A range that starts where a forward pass does leaves the others' bytes."""
    beat = '[{frames=[5,5], prompt="a woman walks", strength=1.0, control={depth={weight=0.0}}}]'
    render(shot, presets["frame"], tmp_path, f"beat={beat}")
    same = [a == b for a, b in zip(frame_bytes(tmp_path), frame_bytes(finished / "frame"), strict=True)]
    assert same == [True, True, True, True, False]


def text_lora(model: Path) -> dict[str, torch.Tensor]:
    """A LoRA of one layer of the text encoder."""
    width = json.loads((model / "text_encoder" / "config.json").read_text())["hidden_size"]
    generator = torch.Generator().manual_seed(0)
    layer = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    return {
        f"{layer}.lora_down.weight": torch.randn(2, width, generator=generator),
        f"{layer}.lora_up.weight": torch.randn(width, 2, generator=generator),
        f"{layer}.alpha": torch.tensor(2.0),
    }


def test_a_key_without_a_place_stops_a_render_unless_allowed(
    shot: Shot, random_model: Path, tmp_path: Path
) -> None:
    """What is left out is said in the result and the record, once, also when the render goes on later."""
    whole, odd = text_lora(random_model), "lora_te_text_model_encoder_layers_77_self_attn_q_proj"
    extra = {odd + key[key.index(".") :]: tensor.clone() for key, tensor in whole.items()}
    preset = make_preset(tmp_path / "p.toml", random_model, extra='[[lora]]\npath = "l.safetensors"')
    save_file(whole, tmp_path / "l.safetensors")
    assert render(shot, preset, tmp_path / "whole").notes == ()
    save_file(whole | extra, tmp_path / "l.safetensors")
    out = tmp_path / "out"
    with pytest.raises(ModelError, match=rf"1 of 2 modules .*{odd}"):
        render(shot, preset, out)
    assert not out.exists()
    with pytest.raises(KeyboardInterrupt):
        render(shot, preset, out, stop_after=4, allow_partial=True)
    result = render(shot, preset, out, allow_partial=True)
    (note,) = result.notes
    assert note == f"LoRA {tmp_path / 'l.safetensors'}: left out 1 of 2 modules: {odd}"
    assert json.loads(result.record.read_text())["notes"] == [note]
    assert frame_pixels(out) == frame_pixels(tmp_path / "whole")
    again = render(shot, preset, out, allow_partial=True)
    assert again.skipped and again.notes == (note,)
    with pytest.raises(ModelError, match=odd):  # frames made with a part of it are no answer now
        render(shot, preset, out)


def test_a_lora_comes_and_goes_with_its_beat(
    finished: Path, shot: Shot, random_model: Path, tmp_path: Path
) -> None:
    """Off but in the last frame: the others are those without it, the last is the one with it everywhere."""
    save_file(text_lora(random_model), tmp_path / "l.safetensors")
    extra = CONTROLS + '[[lora]]\npath = "l.safetensors"'
    preset = make_preset(tmp_path / "p.toml", random_model, extra=extra)
    render(shot, preset, tmp_path / "on")
    render(
        shot, preset, tmp_path / "beat", "lora.0.weight=0.0", "beat=[{frames=[5,5], lora={l={weight=1.0}}}]"
    )
    mixed, on, off = (frame_pixels(out) for out in (tmp_path / "beat", tmp_path / "on", finished / "frame"))
    assert mixed[:4] == off[:4] and mixed[4] == on[4] != off[4]


def test_words_of_embeddings_long_prompts_and_clip_skip_reach_the_frames(
    finished: Path, shot: Shot, random_model: Path, tmp_path: Path
) -> None:
    width = json.loads((random_model / "text_encoder" / "config.json").read_text())["hidden_size"]
    generator = torch.Generator().manual_seed(0)
    save_file({"emb_params": torch.randn(3, width, generator=generator)}, tmp_path / "iris.safetensors")
    extra = CONTROLS + '[[embedding]]\npath = "iris.safetensors"\nname = "{}"'
    unsaid = make_preset(tmp_path / "a.toml", random_model, extra=extra.format("otto"))
    said = make_preset(tmp_path / "b.toml", random_model, extra=extra.format("iris"))
    long = f"prompt=film look, (iris:1.2){', a red room' * 30}"
    made = []
    for name, preset, *overrides in (
        ("unsaid", unsaid),
        ("said", said),
        ("skipped", said, "clip_skip=2"),
        ("long", said, long),
    ):
        render(shot, preset, tmp_path / name, *overrides)
        made.append(frame_pixels(tmp_path / name)[0])
    assert made[0] == frame_pixels(finished / "frame")[0] and len(set(made)) == 4
    record = json.loads((tmp_path / "said" / "wall" / "record.json").read_text())
    (embedding,) = record["settings"]["embeddings"]
    assert embedding["name"] == "iris" and embedding["sha256"] in record["inputs"].values()


def test_pictures_alone_are_blended_along_estimated_motion(
    presets: dict[str, Path], random_model: Path, tmp_path: Path
) -> None:
    """A plain folder of pictures: motion is made once, noted, recorded; a second render takes it as it is."""
    whole = make_shot(tmp_path / "source" / "wall", num_frames=NUM_FRAMES)
    plain = replace(whole, passes={"rgb": whole.passes["rgb"]})
    preset = make_preset(tmp_path / "blend.toml", random_model, method="blend")
    calls: list[str] = []
    result = render_shot(
        plain,
        load_preset(preset),
        tmp_path / "out",
        machine=Machine("cpu"),
        on_frame=lambda name, done, total: calls.append(name),
    )
    assert result.num_rendered == NUM_FRAMES
    assert any(note.startswith("motion and visible: estimated (DIS)") for note in result.notes)
    assert list(dict.fromkeys(calls)) == ["wall: motion and visible estimated (DIS)", "wall"]
    record = json.loads(result.record.read_text(encoding="utf-8"))
    assert record["settings"]["estimates"] == [{"method": "dis", "weights": None}]
    estimated = [name for name in record["inputs"] if ".lookdev/dis-" in name]
    assert len(estimated) == 2 * NUM_FRAMES  # vectors and what is seen
    exact = make_preset(tmp_path / "exact.toml", random_model, method="blend")
    render_shot(whole, load_preset(exact), tmp_path / "exact", machine=Machine("cpu"))
    ours, theirs = (
        read_image(tmp_path / folder / "wall" / "frames" / "styled.0003.png").astype(int)[16:-16, 16:-16]
        for folder in ("out", "exact")
    )
    assert np.abs(ours - theirs).mean() < 6  # of 255: the wall is textured, so DIS finds its slide
    (vectors,) = (tmp_path / "source" / "wall" / ".lookdev").glob("dis-*/motion/motion.0001.exr")
    before = vectors.stat().st_mtime_ns
    again = render_shot(
        plain, load_preset(preset, overrides=["seed=7"]), tmp_path / "out", machine=Machine("cpu")
    )
    assert again.num_rendered == NUM_FRAMES and vectors.stat().st_mtime_ns == before


def test_a_folder_is_let_go_without_a_trace(tmp_path: Path) -> None:
    for _ in range(2):
        with held(tmp_path / "a" / "b"):
            assert (tmp_path / "a" / "b" / ".lock").exists()
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "c").mkdir()
    with held(tmp_path / "c"):
        pass
    assert list((tmp_path / "c").iterdir()) == []  # an empty folder of the user's own stays


def test_a_held_folder_is_refused(shot: Shot, presets: dict[str, Path], tmp_path: Path) -> None:
    with held(tmp_path / "wall"), pytest.raises(OutputError, match="another render is writing here"):
        render(shot, presets["frame"], tmp_path)


def test_a_full_disk_is_said_before_the_work(
    shot: Shot, presets: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(OutputError, match="free some space"):
        render(shot, presets["frame"], tmp_path / "out")
    assert not (tmp_path / "out").exists()

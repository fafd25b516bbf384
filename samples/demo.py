"""`lookdev demo`: train Iris, restyle the corridor shot with her, show it beside the truth, and score it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.image import UInt8Array
from pipeline.output import VideoSettings, encode_video, side_by_side, write_contact_sheet
from pipeline.preset import Preset, load_preset
from pipeline.render import OnFrame, RenderResult, render_shot
from pipeline.shot import Shot, iterate_frames, open_shot, read_frames, read_pass
from pipeline.steady.metrics import e_warp, sharpness_ratio
from pipeline.steady.picture import psnr, ssim
from pipeline.steps import iterate_steps
from samples.stage.cast import CAST
from samples.stage.render import render
from samples.stage.shots import SAMPLE_SHOTS
from training.likeness import MIN_REGION_PIXELS, figure_region, forced_choice
from training.run import TrainResult, train_from_file

SAMPLES = Path(__file__).parent
CHARACTER, SHOT = "iris", "corridor_walk"
WINDOW = 16
JUDGED_EVERY = 4  # frames; a forced choice renders the truth of the whole cast
SHEET_FRAMES = (0, 11, 23, 35, 47)


@dataclass(frozen=True)
class DemoResult:
    """What the demo made, and its score as (name, value) lines."""

    trained: TrainResult
    rendered: RenderResult
    video: Path
    sheet: Path
    score: tuple[tuple[str, str], ...]


def run_demo(out: Path, *, progress: Callable[[], AbstractContextManager[OnFrame]]) -> DemoResult:
    """Train or reuse the character, render the shot, write video and sheet under `out`. Raises UserError.

    `progress` opens a display of rendered frames; training shows its own.
    """
    dataset = SAMPLES / "characters" / CHARACTER / "dataset.toml"
    trained = train_from_file(dataset)  # to where `lookdev train` puts it, so that the sample presets find it
    shot = open_shot(SAMPLES / "shots" / SHOT)
    preset = with_lora(load_preset(SAMPLES / "shots" / SHOT / "preset.toml"), trained.result)
    with progress() as on_frame:
        rendered = render_shot(shot, preset, out, on_frame=on_frame)
    styled = open_shot(rendered.video.parent / "frames")
    video = out / f"{SHOT}_beside.mp4"
    columns = [iterate_frames(shot, WINDOW), iterate_frames(styled, WINDOW), _truth(shot)]
    names = ["engine", "lookdev", "film truth"]
    encode_video(
        side_by_side(columns, names, height=3 * shot.height), video, fps=shot.fps, settings=VideoSettings()
    )
    sheet = out / f"{SHOT}_sheet.png"
    write_contact_sheet(
        sheet, _rows(shot, styled), [f"frame {i + 1}" for i in SHEET_FRAMES], row_captions=names, height=256
    )
    return DemoResult(trained, rendered, video, sheet, tuple(_score(shot, styled)))


def with_lora(preset: Preset, lora: Path) -> Preset:
    """The preset with its one LoRA taken from `lora`."""
    return preset.model_copy(
        update={"lora": tuple(use.model_copy(update={"path": lora.resolve()}) for use in preset.lora)}
    )


def _truth(shot: Shot) -> Iterator[UInt8Array]:
    for begin in range(0, shot.num_frames, WINDOW):
        yield read_pass(shot, "truth", begin, min(begin + WINDOW, shot.num_frames)).astype(np.uint8)


def _rows(shot: Shot, styled: Shot) -> list[list[UInt8Array]]:
    engine = [read_frames(shot, i, i + 1)[0] for i in SHEET_FRAMES]
    ours = [read_frames(styled, i, i + 1)[0] for i in SHEET_FRAMES]
    truth = [read_pass(shot, "truth", i, i + 1)[0].astype(np.uint8) for i in SHEET_FRAMES]
    return [engine, ours, truth]


def _score(shot: Shot, styled: Shot) -> Iterator[tuple[str, str]]:
    """Likeness by forced choice, picture and steadiness (docs/measures.md)."""
    engine, ours = read_frames(shot, 0, shot.num_frames), read_frames(styled, 0, shot.num_frames)
    truth = np.asarray(read_pass(shot, "truth", 0, shot.num_frames), np.uint8)
    choices = Counter(_nearest(ours))
    yield f"nearest to {CHARACTER}", f"{choices[CHARACTER]} of {choices.total()} frames judged"
    for name, frames in (("engine", engine), ("styled", ours)):
        values = [(psnr(a, b), ssim(a, b)) for a, b in zip(frames, truth, strict=True)]
        mean = np.mean(values, axis=0)
        yield f"{name} to film truth", f"{mean[0]:.2f} dB PSNR, {mean[1]:.3f} SSIM"
    steps = list(iterate_steps(shot, width=shot.width, height=shot.height))
    yield "E_warp", f"{1e4 * e_warp(ours, steps):.2f}e-4 styled, {1e4 * e_warp(engine, steps):.2f}e-4 engine"
    yield "sharpness to film truth", f"{sharpness_ratio(ours, truth):.2f}"


def _nearest(frames: UInt8Array) -> Iterator[str]:
    """Who of the cast each judged frame's figure is nearest to."""
    scene = SAMPLE_SHOTS[SHOT]
    for number in range(0, len(frames), JUDGED_EVERY):
        ids = render(scene, number).ids
        region = figure_region(ids, 1)
        if int(region.sum()) >= MIN_REGION_PIXELS:
            truths = {m.name: render(scene.recast(0, m), number).film for m in CAST}
            yield forced_choice(frames[number], truths, mask=region, parts=ids)[0]

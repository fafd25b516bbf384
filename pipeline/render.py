"""The spine of one shot: plan -> frames -> controls -> diffuse -> steady -> encode -> record.

`diffuse` knows models and no time, `steady` knows geometry and no models; here they meet. Frames go to
disk one by one, so a render that was stopped goes on at the first frame that is not there, with the same
bytes.

`models` and `diffuse` go by their full names because they load torch at the first use of what is in them: to
refuse a shot, or to find it done, takes a second then, not twenty.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline import diffuse, models
from pipeline.conform import controls_at, frames_at, geometry_at
from pipeline.image import UInt8Array
from pipeline.journal import Journal, held
from pipeline.output import (
    Record,
    VideoSettings,
    check_space,
    encode_video,
    input_digests,
    render_bytes,
    write_record,
)
from pipeline.plan import Plan, input_files, make_plan, plan_as_json
from pipeline.preset import Look, Preset
from pipeline.shot import Shot
from pipeline.steady import carry, finish, visible_backward

OnFrame = Callable[[str, int, int], None]  # (shot's name, frames done, frames in all)


@dataclass(frozen=True)
class RenderResult:
    """Where a render is and what it took; `seconds` are those of the `num_rendered` frames made this time."""

    shot: str
    video: Path
    record: Path
    num_frames: int
    num_rendered: int
    seconds: float
    skipped: bool
    notes: tuple[str, ...]


@dataclass
class _Loaded:
    """The model, and the LoRA weights merged into it now; a beat may change them from frame to frame."""

    model: models.Model
    loras: tuple[tuple[float, float], ...] = ()

    def wear(self, plan: Plan, index: int) -> None:
        """Merge the LoRAs as the frame at `index` wants them."""
        wanted = plan.looks[index].loras
        if wanted != self.loras:
            uses = [
                models.LoraUse(lora.path, *weights) for lora, weights in zip(plan.loras, wanted, strict=True)
            ]
            models.apply_loras(self.model, uses)
            self.loras = wanted


def render_shot(
    shot: Shot,
    preset: Preset,
    out: Path,
    *,
    device: str | None = None,
    offline: bool = False,
    on_frame: OnFrame | None = None,
) -> RenderResult:
    """Restyle one shot into `out/<shot>/`; go on where an earlier run of the same plan stopped.

    `device` is torch's name of one; absent: the accelerator where there is one. `offline` forbids
    fetching what is not on this machine. Raises UserError, one line, before any weights are loaded where the
    preset or the shot cannot work.
    """
    plan = make_plan(shot, preset, offline=offline)
    journal = Journal(out / plan.shot, plan)
    if journal.is_done():
        return _result(journal, num_rendered=0, seconds=0.0, skipped=True)
    needed = render_bytes(plan.num_frames, plan.height, plan.width, scale=plan.scale, crf=plan.crf)
    check_space(out, needed)
    with held(journal.folder):
        num_rendered, seconds = _make_frames(shot, journal, device, on_frame or _silent)
        settings = VideoSettings(crf=plan.crf, scale=plan.scale)
        encode_video(journal.read_all(), journal.video, fps=plan.fps, audio=shot.audio, settings=settings)
        _write_record(shot, journal)
    return _result(journal, num_rendered=num_rendered, seconds=seconds, skipped=False)


def _make_frames(shot: Shot, journal: Journal, device: str | None, on_frame: OnFrame) -> tuple[int, float]:
    """Every frame that is not there yet; returns their number and seconds."""
    plan = journal.plan
    if journal.is_complete():
        journal.begin()
        return 0, 0.0
    on_frame(plan.shot, 0, plan.num_frames)
    started = time.perf_counter()
    loaded = _load(plan, device)
    journal.begin()  # only now: what is there stays if the model cannot be loaded
    ready = time.perf_counter()
    try:
        num_rendered = METHODS[plan.method](shot, loaded, journal, on_frame)
    finally:  # an interrupted run's frames stay, so its seconds count too
        seconds = time.perf_counter() - ready
        journal.add_seconds({"load": ready - started, "frames": seconds})
        journal.tidy()
    return num_rendered, seconds


def _by_frame(shot: Shot, loaded: _Loaded, journal: Journal, on_frame: OnFrame) -> int:
    """Each frame alone, in batches. A window with a frame missing is made again as a whole."""
    plan, num_rendered = journal.plan, 0
    for start, stop in plan.windows:
        if not journal.has(start, stop):
            journal.write(start, _style(shot, loaded, plan, start, stop))
            num_rendered += stop - start
        on_frame(plan.shot, stop, plan.num_frames)
    return num_rendered


def _by_blend(shot: Shot, loaded: _Loaded, journal: Journal, on_frame: OnFrame) -> int:
    """Frame after frame, each leaning on the one before it, carried along the motion."""
    plan, num_rendered = journal.plan, 0
    for index in range(plan.num_frames):
        if not journal.has(index, index + 1):
            journal.write(index, _blended(shot, loaded, journal, index)[None])
            num_rendered += 1
        on_frame(plan.shot, index + 1, plan.num_frames)
    return num_rendered


METHODS: dict[str, Callable[[Shot, _Loaded, Journal, OnFrame], int]] = {
    "frame": _by_frame,
    "blend": _by_blend,
}


def _blended(shot: Shot, loaded: _Loaded, journal: Journal, index: int) -> UInt8Array:
    """One frame [H, W, 3] from the render and the styled frame before it."""
    plan = journal.plan
    if index == 0:
        first: UInt8Array = _style(shot, loaded, plan, 0, 1)[0]
        return first
    geometry = geometry_at(shot, index, width=plan.width, height=plan.height)
    visible = visible_backward(
        ids_now=geometry.ids[1],
        ids_previous=geometry.ids[0],
        depth_now=geometry.depth[1],
        depth_previous=geometry.depth[0],
        backward_flow=geometry.backward,
        visible=geometry.visible,
    )
    engine = frames_at(shot, index - 1, index + 1, width=plan.width, height=plan.height)
    carried = carry(
        journal.read(index - 1),
        geometry.backward,
        visible=visible,
        engine_now=engine[1],
        engine_previous=engine[0],
    )
    look = plan.looks[index]
    known = diffuse.KnownPixels(carried.pixels[None], carried.mask[None], until=look.blend_until)
    styled = _style(shot, loaded, plan, index, index + 1, known=known)[0]
    return finish(styled, carried, weight=look.blend_weight)


def _style(
    shot: Shot,
    loaded: _Loaded,
    plan: Plan,
    start: int,
    stop: int,
    *,
    known: diffuse.KnownPixels | None = None,
) -> UInt8Array:
    """Frames start..stop, which share one look, through the diffusion, uint8 [T, H, W, 3]."""
    size = {"width": plan.width, "height": plan.height}
    frames = frames_at(shot, start, stop, **size)
    kinds = [control.kind for control in plan.controls]
    controls = controls_at(shot, kinds, start=start, stop=stop, **size)
    loaded.wear(plan, start)
    styled: UInt8Array = diffuse.img2img(
        loaded.model, frames, controls, _settings(plan.looks[start]), plan.seeds[start:stop], known=known
    )
    return styled


def _settings(look: Look) -> diffuse.Img2ImgSettings:
    return diffuse.Img2ImgSettings(
        prompt=look.prompt,
        negative=look.negative,
        strength=look.strength,
        steps=look.steps,
        guidance=look.guidance,
        scheduler=look.scheduler,
        spacing=look.spacing,
        controls=tuple(diffuse.ControlUse(c.kind, c.weight, c.start, c.end) for c in look.controls),
    )


def _load(plan: Plan, device: str | None) -> _Loaded:
    """The model with the first frame's LoRAs; every text of the shot is tried on it."""
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = models.load_model(plan.model, controls=tuple(c.kind for c in plan.controls), device=device)
    loaded = _Loaded(model)
    loaded.wear(plan, 0)
    texts = dict.fromkeys(text for look in plan.looks for text, _ in (*look.prompt, *look.negative))
    with torch.inference_mode():
        models.encode_text(model, list(texts))  # a prompt too long fails here
    return loaded


def _write_record(shot: Shot, journal: Journal) -> None:
    plan = journal.plan
    files = [*input_files(shot, plan), *(lora.path for lora in plan.loras)]
    record = Record(
        shot=plan.shot,
        digest=plan.digest,
        num_frames=plan.num_frames,
        fps=plan.fps,
        inputs=input_digests(files, base=shot.root),
        settings=plan_as_json(plan),
        outputs=(journal.video.name, journal.frames.name),
        seconds={name: round(value, 3) for name, value in journal.seconds().items()},
        notes=plan.notes,
    )
    write_record(journal.record, record)


def _result(journal: Journal, *, num_rendered: int, seconds: float, skipped: bool) -> RenderResult:
    plan = journal.plan
    return RenderResult(
        shot=plan.shot,
        video=journal.video,
        record=journal.record,
        num_frames=plan.num_frames,
        num_rendered=num_rendered,
        seconds=seconds,
        skipped=skipped,
        notes=plan.notes,
    )


def _silent(name: str, done: int, total: int) -> None:
    """For callers that watch no progress."""

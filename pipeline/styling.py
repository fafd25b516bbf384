"""Frames of a shot through the diffusion: the model as a plan wants it, its inputs, and memory.

What is read next, what is computed and what is written overlap in `render.py`; here is what each does.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import platform
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from pipeline import diffuse, models
from pipeline.conform import DEFAULT_THRESHOLDS, Outline, controls_at, frames_at, masks_at
from pipeline.diffuse.condition import condition
from pipeline.errors import ModelError
from pipeline.image import Float32Array, NotFiniteError, UInt8Array
from pipeline.plan import Plan, model_key
from pipeline.preset import Look
from pipeline.shot import Shot

_LOG = logging.getLogger(__name__)
Precision = Literal["auto", "fp32", "fp16", "bf16"]
_DTYPES: Mapping[str, torch.dtype] = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}
Kept = dict[str, models.Model]  # at most one: the model that was used last


@dataclass(frozen=True)
class Inputs:
    """What the model sees of some frames: pictures uint8 [T, H, W, 3], and as many control images by kind.

    `masks` float32 [R, T, H, W]: each region's share of each pixel.
    """

    frames: UInt8Array
    controls: Mapping[str, UInt8Array]
    masks: Float32Array

    def part(self, start: int, stop: int) -> Inputs:
        """Frames start..stop of these."""
        controls = {kind: pictures[start:stop] for kind, pictures in self.controls.items()}
        return Inputs(self.frames[start:stop], controls, self.masks[:, start:stop])

    def box(self, left: int, top: int, right: int, bottom: int) -> Inputs:
        """These cut to a box of pixels."""
        rows, columns = slice(top, bottom), slice(left, right)
        return Inputs(
            np.ascontiguousarray(self.frames[:, rows, columns]),
            {k: np.ascontiguousarray(v[:, rows, columns]) for k, v in self.controls.items()},
            np.ascontiguousarray(self.masks[:, :, rows, columns]),
        )

    @classmethod
    def joined(cls, parts: Sequence[Inputs]) -> Inputs:
        """Several as one, in their order."""
        kinds = parts[0].controls
        return cls(
            np.concatenate([part.frames for part in parts]),
            {kind: np.concatenate([part.controls[kind] for part in parts]) for kind in kinds},
            np.concatenate([part.masks for part in parts], axis=1),
        )


def read_inputs(shot: Shot, plan: Plan, start: int, stop: int) -> Inputs:
    """Frames start..stop at the rendered size, and their control images."""
    size = {"width": plan.width, "height": plan.height}
    kinds = [control.kind for control in plan.controls]
    thresholds = next((c.thresholds for c in plan.controls if c.thresholds is not None), DEFAULT_THRESHOLDS)
    outlines = [Outline(region.area, region.grow, region.soft) for region in plan.regions]
    return Inputs(
        frames=frames_at(shot, start, stop, **size),
        controls=controls_at(shot, kinds, start=start, stop=stop, thresholds=thresholds, **size),
        masks=masks_at(shot, outlines, start=start, stop=stop, **size),
    )


@dataclass
class Stylist:
    """A loaded model at work on one plan. `most` frames share a forward pass, `most_together` if they look at
    each other; `notes` say what came up, `seconds` how long the model has worked.
    """

    plan: Plan
    model: models.Model
    loras: models.LoraStack
    most: int
    most_together: int = 8
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def machine(self) -> str:
        """What it computes on, for the record."""
        device = self.model.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
        precision = str(self.model.dtype).removeprefix("torch.")
        return f"{device.type} {name or platform.machine()}, {precision}, {socket.gethostname()}"

    def style(
        self,
        frames: Sequence[int],
        inputs: Inputs,
        *,
        known: diffuse.KnownPixels | None = None,
        noise: Float32Array | None = None,
        together: bool = False,
    ) -> UInt8Array:
        """Frames by their indices, styled, uint8 RGB [T, H, W, 3]; their looks differ in prompts at most.

        `inputs`, `known` and `noise` (unit noise [T, C, h, w] in place of the seeds') are theirs; `together`:
        they look at each other (`diffuse/joint.py`). Where memory runs out, half as many frames at once are
        tried, then a VAE in tiles, each with a note. Raises ModelError when one frame does not fit, or comes
        out as no finite numbers.
        """
        if together and len(frames) > self.most_together:
            return self._jointly_in_parts(frames, inputs, noise)
        if not together and len(frames) > self.most:
            return self._in_parts(frames, inputs, known, noise)
        looks = [self.plan.looks[t] for t in frames]
        self.loras.wear(looks[0].loras)
        settings = _settings(looks[0], clip_skip=self.plan.clip_skip)
        started = time.perf_counter()
        try:
            styled: UInt8Array = diffuse.img2img(
                self.model,
                inputs.frames,
                inputs.controls,
                settings,
                [self.plan.seeds[t] for t in frames],
                known=known,
                prompts=[(look.prompt, look.negative) for look in looks],
                noise=noise,
                together=together,
                regions=self._regions(looks, inputs),
            )
            return styled
        except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
            if not _is_out_of_memory(error):
                raise
        except NotFiniteError:
            numbers = self.plan.frame_numbers
            raise ModelError(
                f"frames {numbers[frames[0]]} to {numbers[frames[-1]]}: "
                f"the model gave numbers that are not finite in {self.model.dtype}; take --precision bf16 or "
                "fp32, or another VAE"
            ) from None
        finally:
            self.seconds += time.perf_counter() - started
        self._make_room(len(frames), inputs, together=together)
        return self.style(frames, inputs, known=known, noise=noise, together=together)

    def _regions(self, looks: Sequence[Look], inputs: Inputs) -> diffuse.Regions | None:
        """The regions that are in any of these frames, whose LoRAs are the same; None where none is."""
        parts = []
        for masks, own in zip(inputs.masks, zip(*(look.regions for look in looks), strict=True), strict=True):
            weights = np.array([region.weight for region in own], np.float32)
            mask = masks * weights[:, None, None]  # [T, H, W]
            prompts = tuple((region.prompt, region.negative) for region in own)
            if mask.any():
                parts.append(diffuse.Region(prompts, own[0].loras, mask))
        return diffuse.Regions(tuple(parts), self.loras, looks[0].loras) if parts else None

    def noise(self, frame: int, height: int, width: int, *, offset: int = 0) -> Float32Array:
        """The unit noise [C, h, w] that a frame's seed stands for, at a size in pixels."""
        drawn: Float32Array = diffuse.start_noise(self.model, height, width, self.plan.seeds[frame] + offset)
        return drawn

    def _make_room(self, count: int, inputs: Inputs, *, together: bool) -> None:
        """Ask for less memory from here on; outside the failed call, so that its tensors are gone."""
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.loras.release():
            self._say("memory ran out; the regions' LoRAs are merged anew in each step from here on")
            return
        if count > 1 and together:
            self.most_together = count // 2
            self._say(f"memory ran out with {count} keys at once; {self.most_together} from here on")
            return
        if count > 1:
            self.most = count // 2
            self._say(f"memory ran out with {count} frames at once; {self.most} from here on")
            return
        if getattr(self.model.vae, "use_tiling", True):
            height, width = inputs.frames.shape[1:3]
            raise ModelError(
                f"{width}x{height}: not even one frame fits into memory; make size "
                "smaller, take controls out, or take --precision fp16"
            )
        self.model.vae.enable_tiling()
        self._say("memory ran out with one frame; the VAE works in tiles from here on")

    def _in_parts(
        self,
        frames: Sequence[int],
        inputs: Inputs,
        known: diffuse.KnownPixels | None,
        noise: Float32Array | None,
    ) -> UInt8Array:
        parts, done = [], 0
        while done < len(frames):
            part = slice(done, done + self.most)  # it may shrink on the way
            styled = self.style(
                frames[part],
                inputs.part(part.start, part.stop),
                known=None if known is None else _part(known, part),
                noise=None if noise is None else noise[part],
            )
            parts.append(styled)
            done += len(styled)
        return np.concatenate(parts)

    def _jointly_in_parts(
        self, frames: Sequence[int], inputs: Inputs, noise: Float32Array | None
    ) -> UInt8Array:
        """Frames together that do not fit at once: the first, their anchor, heads each part again."""
        parts, done = list[UInt8Array](), 0
        while done < len(frames):
            again = 1 if done and self.most_together > 1 else 0  # it may shrink on the way
            new = range(done, min(done + self.most_together - again, len(frames)))
            order = [*range(again), *new]
            styled = self.style(
                [frames[n] for n in order],
                Inputs.joined([inputs.part(n, n + 1) for n in order]),
                noise=None if noise is None else noise[order],
                together=True,
            )
            parts.append(styled[again:])
            done += len(new)
        return np.concatenate(parts)

    def _say(self, note: str) -> None:
        _LOG.warning("%s", note)
        self.notes.append(note)


def _part(known: diffuse.KnownPixels, part: slice) -> diffuse.KnownPixels:
    return diffuse.KnownPixels(known.pixels[part], known.mask[part], known.until)


def load_stylist(
    plan: Plan,
    *,
    device: str | None = None,
    precision: Precision = "auto",
    compiled: bool = False,
    offline: bool = False,
    kept: Kept | None = None,
) -> Stylist:
    """The model of a plan with its embeddings and LoRAs; every text of the shot is tried on it.

    `device` is torch's name of one; absent: the accelerator where there is one. `precision` "auto" is fp16 on
    an accelerator, fp32 on a CPU. `kept` holds the model that the plan before used; where it serves this
    one too it is not loaded again, else it makes room. Raises ModelError.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = _checked(device).type == "cpu"
    name = ("fp32" if on_cpu else "fp16") if precision == "auto" else precision
    kept = {} if kept is None else kept
    key = f"{model_key(plan)} {device} {name} {compiled}"
    if key not in kept:
        kept.clear()  # before the next one is loaded: two may not fit
        gc.collect()
        kept[key] = _load(plan, device=device, dtype=_DTYPES[name], compiled=compiled, offline=offline)
    model = kept[key]
    if getattr(model.vae, "use_tiling", False):  # the shot before had larger frames
        model.vae.disable_tiling()
    stack = models.LoraStack(model, [lora.path for lora in plan.loras], allow_partial=plan.allow_partial)
    stack.wear(plan.looks[0].loras)
    parts = [part for look in plan.looks for part in look.parts]
    texts = dict.fromkeys(text for part in parts for text, _ in (*part.prompt, *part.negative))
    with torch.inference_mode():
        for text in texts:
            condition(model, [text], plan.clip_skip)  # a clip_skip too high fails here
    # a frame's bytes on a CPU depend on how many share its pass, so that number is the family's own there
    most = model.family.frames_at_once if on_cpu else plan.batch
    return Stylist(plan=plan, model=model, loras=stack, most=most, notes=list(stack.left_out))


def _load(plan: Plan, *, device: str, dtype: torch.dtype, compiled: bool, offline: bool) -> models.Model:
    """The model with its ControlNets and embeddings, without LoRAs."""
    model = models.load_model(
        plan.model,
        controls={control.kind: control.path for control in plan.controls},
        vae=plan.vae,
        device=device,
        dtype=dtype,
        offline=offline,
        allow_pickle=plan.allow_pickle,
    )
    models.load_embeddings(
        model, [models.EmbeddingUse(e.path, e.name, e.allow_pickle) for e in plan.embeddings]
    )
    models.make_ready(model, compiled=compiled)
    return model


def _checked(name: str) -> torch.device:
    """A device that is here. Raises ModelError."""
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch built without it asserts
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"device '{name}' is not here ({reason[:120]}); leave --device out, or name one that "
            "lookdev doctor shows"
        ) from None
    return device


def _is_out_of_memory(error: Exception) -> bool:
    """torch's own error on an accelerator; on a CPU its allocator says so in words."""
    words = ("not enough memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(word in str(error) for word in words)


def settings_of(look: Look) -> Look:
    """A look without what may differ between frames of one pass: prompts, seed, how much a region counts."""
    regions = tuple(dataclasses.replace(r, prompt=(), negative=(), weight=0.0) for r in look.regions)
    return dataclasses.replace(
        look, prompt=(), negative=(), seed=0, blend_weight=0.0, blend_until=0.0, regions=regions
    )


def _settings(look: Look, *, clip_skip: int) -> diffuse.Img2ImgSettings:
    return diffuse.Img2ImgSettings(
        prompt=look.prompt,
        negative=look.negative,
        strength=look.strength,
        steps=look.steps,
        guidance=look.guidance,
        scheduler=look.scheduler,
        spacing=look.spacing,
        controls=tuple(diffuse.ControlUse(c.kind, c.weight, c.start, c.end) for c in look.controls),
        clip_skip=clip_skip,
    )

"""The training loop: one pure step after another on what is trained (`training.adapters`).

A step depends on the weights, the optimizer's state and its own number only (`training.schedule`), so a
training that was stopped and resumed ends with the same bytes as one that ran through.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import DatasetError
from pipeline.image import UInt8Array, to_tensor
from pipeline.models import Model, encode_images, encode_text
from training import losses, schedule
from training.adapters.trained import Role, Trained, trains_text
from training.captions import without_trigger
from training.dataset import Dataset
from training.schema import Precision, TrainSettings

log = logging.getLogger(__name__)

_ENCODE_BATCH = 8
_EARLIEST_START = 0.25  # share of the schedule: img2img at a lower strength changes next to nothing


@dataclass(frozen=True)
class Material:
    """The dataset as the loop eats it; index i everywhere is example i of the dataset."""

    latents: Tensor  # [N, C, h, w] float32
    controls: Mapping[str, Tensor]  # kind -> [N, 3, H, W] float32 in [0, 1]; zeros where an example has none
    has_control: Mapping[str, Tensor]  # kind -> [N] bool
    engine: Tensor  # [N, C, h, w] float32, latents of the engine's pictures; zeros where there is none
    has_engine: Tensor  # [N] bool
    captions: tuple[str, ...]
    triggers: tuple[str, ...]  # what caption dropout leaves
    plain: tuple[str, ...]  # captions with the trigger replaced by the class word
    repeats: tuple[int, ...]


@dataclass(frozen=True)
class Draw:
    """The random choices of one step."""

    indices: list[int]  # [B]
    noise: Tensor  # [B, C, h, w]
    timesteps: Tensor  # [B] int64
    from_engine: Tensor  # [B] bool: train the way from the engine's picture
    start: Tensor  # [B] int64 >= timesteps: where that way starts
    keep_caption: list[bool]  # [B]
    use_control: Mapping[str, Tensor]  # kind -> [B] bool


def prepare(model: Model, dataset: Dataset) -> Material:
    """Encode every image once (the VAE's mean) and stack the controls. The VAE is not needed after this."""
    examples = dataset.examples
    device = model.device
    frames = np.stack([example.image for example in examples])  # [N, H, W, 3]
    has_engine = torch.tensor([example.engine is not None for example in examples])
    latents = _encoded(model, frames)
    engine = torch.zeros_like(latents)
    if bool(has_engine.any()):
        engine[has_engine] = _encoded(model, np.stack([e.engine for e in examples if e.engine is not None]))
    controls: dict[str, Tensor] = {}
    has_control: dict[str, Tensor] = {}
    for kind in dataset.control_kinds:
        blank = np.zeros_like(frames[0])
        stack = np.stack([example.controls.get(kind, blank) for example in examples])
        controls[kind] = (to_tensor(stack, device=device) + 1.0) / 2.0  # ControlNets read [0, 1]
        has_control[kind] = torch.tensor([kind in example.controls for example in examples])
    concepts = [dataset.file.concept[example.concept] for example in examples]
    return Material(
        latents=latents,
        engine=engine,
        has_engine=has_engine,
        controls=controls,
        has_control=has_control,
        captions=tuple(example.caption for example in examples),
        triggers=tuple(concept.trigger for concept in concepts),
        plain=tuple(
            without_trigger(example.caption, trigger=concept.trigger, class_word=concept.class_word)
            for example, concept in zip(examples, concepts, strict=True)
        ),
        repeats=tuple(concept.repeats for concept in concepts),
    )


def _encoded(model: Model, frames: UInt8Array) -> Tensor:
    """Latents [N, C, h, w] float32 of frames [N, H, W, 3], a few at a time."""
    starts = range(0, len(frames), _ENCODE_BATCH)
    with torch.no_grad():
        return torch.cat([encode_images(model, frames[i : i + _ENCODE_BATCH]).float() for i in starts])


def draw(material: Material, step: int, settings: TrainSettings, num_timesteps: int) -> Draw:
    """Everything random in one step, from (seed, step) alone."""
    batch = settings.batch
    rng = schedule.step_generator(step, seed=settings.seed)
    indices = schedule.batch_indices(step, batch=batch, repeats=material.repeats, seed=settings.seed)
    noise = torch.randn((batch, *material.latents.shape[1:]), generator=rng)
    # One timestep out of each of B equal strata: still uniform, with less variance in the loss.
    strata = torch.randperm(batch, generator=rng) + torch.rand(batch, generator=rng)
    timesteps = (strata * (num_timesteps / batch)).long().clamp(max=num_timesteps - 1)
    keep = (torch.rand(batch, generator=rng) >= settings.caption_dropout).tolist()
    use_control = {
        kind: (torch.rand(batch, generator=rng) < settings.control_probability) & has[indices]
        for kind, has in material.has_control.items()
    }
    from_engine = (torch.rand(batch, generator=rng) < settings.engine_probability) & material.has_engine[
        indices
    ]
    begin = _EARLIEST_START + (1.0 - _EARLIEST_START) * torch.rand(batch, generator=rng)
    start = torch.maximum(timesteps, (begin * (num_timesteps - 1)).long())
    return Draw(indices, noise, timesteps, from_engine, start, keep, use_control)


class Trainer:
    """What is trained, its optimizer, and `step`: the number of steps taken."""

    def __init__(
        self, trained: Trained, material: Material, settings: TrainSettings, *, precision: str
    ) -> None:
        self.trained, self.material, self.settings, self.precision = trained, material, settings, precision
        self.model = model = trained.model
        self.step = 0
        self.device = model.device
        _make_fast(model, precision)
        self.alphas_cumprod, self.prediction_type = _noise_schedule(model.scheduler_config)
        rates: Mapping[Role, float] = {"unet": settings.lr, "text": settings.text_lr}
        groups: list[dict[str, Any]] = [
            {"params": list(parameters), "base_lr": rates[role]}
            for role, parameters in trained.parameters.items()
        ]
        self.parameters: list[torch.nn.Parameter] = [p for group in groups for p in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.lr, weight_decay=settings.weight_decay)
        self._text_cache: dict[str, Tensor] = {}

    def timed_step(self) -> tuple[float, float]:
        """`take_step`; returns (loss, seconds)."""
        started = time.perf_counter()
        loss = self.take_step()
        return loss, time.perf_counter() - started

    def take_step(self) -> float:
        """One optimizer step; returns the loss."""
        factor = schedule.learning_rate_factor(self.step, self.settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        loss = self.loss(draw(self.material, self.step, self.settings, len(self.alphas_cumprod)))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        if not bool(torch.isfinite(loss.detach() + norm)):
            raise DatasetError(f"train.lr: the loss is not finite at step {self.step + 1}; lower lr")
        self.optimizer.step()
        self.step += 1
        return float(loss.detach())

    def loss(self, chosen: Draw) -> Tensor:
        """The weighted denoising loss of one batch, plus prior preservation where asked."""
        material, device = self.material, self.device
        latents = material.latents[chosen.indices].to(device)  # [B, C, h, w]
        noise, timesteps = chosen.noise.to(device), chosen.timesteps.to(device)
        evened = torch.ones(len(latents), device=device)
        if bool(chosen.from_engine.any()):
            engine, rows = material.engine[chosen.indices].to(device), chosen.from_engine.to(device)
            pulled, even = losses.restyling_noise(
                noise, latents, engine, self.alphas_cumprod, chosen.start.to(device)
            )
            noise = torch.where(rows.view(-1, 1, 1, 1), pulled, noise)
            evened = torch.where(rows, even, evened)
        noisy = losses.add_noise(latents, noise, self.alphas_cumprod, timesteps)
        captions = [
            material.captions[i] if keep else material.triggers[i]
            for i, keep in zip(chosen.indices, chosen.keep_caption, strict=True)
        ]
        snr = losses.signal_to_noise(self.alphas_cumprod, timesteps)
        kind = self.prediction_type
        weight = losses.min_snr_weight(snr, gamma=self.settings.min_snr_gamma, prediction_type=kind)
        weight = weight * evened
        wanted = losses.target(latents, noise, self.alphas_cumprod, timesteps, prediction_type=kind)
        loss = losses.weighted_mse(self.predict(noisy, timesteps, captions, chosen), wanted, weight)
        if self.settings.prior_weight > 0:
            plain = [material.plain[i] for i in chosen.indices]
            with torch.no_grad(), self.trained.disabled():
                before = self.predict(noisy, timesteps, plain, chosen)
            now = self.predict(noisy, timesteps, plain, chosen)
            loss = loss + self.settings.prior_weight * losses.weighted_mse(now, before, weight)
        return loss

    def predict(self, noisy: Tensor, timesteps: Tensor, captions: list[str], chosen: Draw) -> Tensor:
        """The UNet's output [B, C, h, w] for noisy latents, with the controls drawn for each example."""
        text = self._text(captions)  # [B, L, D]
        with _autocast(self.device, self.precision):
            down, mid = self._control_residuals(noisy, timesteps, text, chosen)
            output = self.model.unet(
                noisy,
                timesteps,
                encoder_hidden_states=text,
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
                return_dict=False,
            )
        predicted: Tensor = output[0]
        return predicted

    def _control_residuals(
        self, noisy: Tensor, timesteps: Tensor, text: Tensor, chosen: Draw
    ) -> tuple[list[Tensor] | None, Tensor | None]:
        """The ControlNets' summed residuals; each net runs only on the examples that drew it."""
        down: list[Tensor] | None = None
        mid: Tensor | None = None
        for kind, used in chosen.use_control.items():
            rows = used.nonzero().flatten()
            if len(rows) == 0:
                continue
            images = self.material.controls[kind][[chosen.indices[i] for i in rows.tolist()]]
            rows = rows.to(self.device)
            with torch.no_grad():  # the nets are frozen, and the UNet does not change their input
                some_down, some_mid = self.model.controlnets[kind](
                    noisy[rows],
                    timesteps[rows],
                    encoder_hidden_states=text[rows],
                    controlnet_cond=images,
                    return_dict=False,
                )
                here_down = [_spread(part, rows, len(noisy)) for part in some_down]
                here_mid = _spread(some_mid, rows, len(noisy))
            down = here_down if down is None else [a + b for a, b in zip(down, here_down, strict=True)]
            mid = here_mid if mid is None else mid + here_mid
        return down, mid

    def _text(self, captions: list[str]) -> Tensor:
        """Text states [B, L, D]; encoded once per caption where no step changes them."""
        if trains_text(self.trained):
            return encode_text(self.model, captions)
        for caption in captions:
            if caption not in self._text_cache:
                with torch.no_grad():
                    self._text_cache[caption] = encode_text(self.model, [caption])[0]
        return torch.stack([self._text_cache[caption] for caption in captions])


def resolve_precision(precision: Precision, device: torch.device) -> str:
    """`auto` as fp32 or bf16: bf16 where the hardware multiplies it much faster (AMX tiles, recent GPUs)."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    # A question torch answers only privately; a build without it counts as a CPU without AMX.
    probe: Callable[[], bool] | None = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return "bf16" if probe is not None and probe() else "fp32"


def _make_fast(model: Model, precision: str) -> None:
    for net in (model.unet, *model.controlnets.values()):
        net.to(memory_format=torch.channels_last)  # about 10 % faster convolutions on a CPU
    if model.device.type == "cpu" and precision == "bf16":
        from diffusers.models.attention_processor import AttnProcessor

        # The fused kernel's backward pass is slow there: 9.6 against 13.1 images per CPU second.
        model.unet.set_attn_processor(AttnProcessor())


def _noise_schedule(config: Mapping[str, Any]) -> tuple[Tensor, str]:
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler.from_config(dict(config))
    return scheduler.alphas_cumprod.float(), str(scheduler.config.prediction_type)


def _spread(part: Tensor, rows: Tensor, batch: int) -> Tensor:
    """Rows of a sub-batch at their places in a batch of zeros."""
    whole = part.new_zeros((batch, *part.shape[1:]))
    whole[rows] = part
    return whole


def _autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()

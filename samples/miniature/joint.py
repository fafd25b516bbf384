"""Joint training of the miniature's UNet, text encoder and both ControlNets, from the first step on.

Three kinds of sample share a batch:

* film: the plain diffusion loss on the film look (Salimans and Ho 2022, v-prediction);
* engine: the same on the engine look, tagged in its caption, so that img2img starts inside the domain;
* restyle: a point of the way that img2img takes when it starts from the noised engine latents and should end
  on the film ones (training.losses.restyling_noise).

Each control is left out of 13 % of the batches, the caption of 10 % of the samples.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from diffusers.models.attention_processor import AttnProcessor

from samples.miniature.autoencoder import autocast
from samples.miniature.data import Words
from samples.miniature.model import CONTEXT_TOKENS, CONTROL_KINDS, NUM_TRAIN_TIMESTEPS, Parts
from samples.miniature.optimizer import MatrixAdam
from training import losses
from training.precision import norms_in_float

PEAK_RATE = 5e-4
FALL_FROM = 0.4  # share of the budget
EMA_DECAY = 0.95  # per meeting of the workers: over 160 steps, which a falling rate does not make stale
MEET_EVERY = 8  # steps a worker takes alone before weights are averaged (local SGD, Stich 2019)
FILM_SHARE, ENGINE_SHARE = 0.12, 0.03  # the rest is restyling
CONTROL_CHOICES = (("depth", "pose"), ("depth",), ("pose",), ())
CONTROL_ODDS = (0.80, 0.07, 0.07, 0.06)
CAPTION_DROPOUT = 0.10


@dataclass(frozen=True)
class LatentSet:
    """What one worker trains on. N images."""

    film: torch.Tensor  # [N, 4, 32, 32] float16
    engine: torch.Tensor  # [N, 4, 32, 32] float16
    depth: np.ndarray[Any, np.dtype[np.uint8]]  # [N, H, W]
    pose: np.ndarray[Any, np.dtype[np.uint8]]  # [N, H, W, 3]
    words: list[Words]


@dataclass(frozen=True)
class Batch:
    clean: torch.Tensor  # [B, 4, h, w] what the denoised latents should be
    start: torch.Tensor  # [B, 4, h, w] what img2img starts from (= clean for plain samples)
    restyle: torch.Tensor  # [B] bool
    tokens: torch.Tensor  # [B, tokens]
    depth: torch.Tensor  # [B, 3, H, W] in [0, 1]
    pose: torch.Tensor  # [B, 3, H, W] in [0, 1]


def batches(
    data: LatentSet, tokenizer: Any, rng: np.random.Generator, size: int, device: str
) -> Iterator[Batch]:
    """Endless batches; every image is seen once before any is seen again."""
    order: np.ndarray[Any, Any] = np.zeros(0, np.int64)
    while True:
        if len(order) < size:
            order = np.concatenate([order, rng.permutation(len(data.words))])
        chosen, order = order[:size], order[size:]
        kind = rng.random(size)
        engine = (kind >= FILM_SHARE) & (kind < FILM_SHARE + ENGINE_SHARE)
        restyle = kind >= FILM_SHARE + ENGINE_SHARE
        captions = [
            "" if rng.random() < CAPTION_DROPOUT else data.words[i].caption(rng, engine=bool(e))
            for i, e in zip(chosen, engine, strict=True)
        ]
        tokens = tokenize(tokenizer, captions)
        film, flat = data.film[chosen].float(), data.engine[chosen].float()
        is_engine = torch.from_numpy(engine)[:, None, None, None]
        is_restyle = torch.from_numpy(restyle)
        clean = torch.where(is_engine, flat, film)
        start = torch.where(is_restyle[:, None, None, None] | is_engine, flat, film)
        depth = torch.from_numpy(data.depth[chosen]).float().div_(255.0)[:, None].repeat(1, 3, 1, 1)
        pose = torch.from_numpy(data.pose[chosen]).permute(0, 3, 1, 2).float().div_(255.0)
        yield Batch(*(x.to(device) for x in (clean, start, is_restyle, tokens, depth, pose)))


def tokenize(tokenizer: Any, captions: list[str]) -> torch.Tensor:
    """Token ids [B, CONTEXT_TOKENS]: what calling the tokenizer with padding and truncation gives, ten
    times faster.
    """
    out = torch.full((len(captions), CONTEXT_TOKENS), tokenizer.pad_token_id)
    for row, encoding in zip(out, tokenizer.backend_tokenizer.encode_batch(captions), strict=True):
        ids = (
            encoding.ids
            if len(encoding.ids) <= CONTEXT_TOKENS
            else [*encoding.ids[: CONTEXT_TOKENS - 1], tokenizer.eos_token_id]
        )
        row[: len(ids)] = torch.tensor(ids)
    return out


def noisy_and_target(
    batch: Batch, alphas: torch.Tensor, rng: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Timesteps [B], noisy latents and v targets [B, 4, h, w], loss weights [B].

    `alphas` [1000] is the schedule's cumulative product. A restyling sample that starts at little noise
    has a large v (up to cot(start) times the difference of the looks); the weight s_T^2 keeps it from
    ruling the batch.
    """
    size, device = len(batch.clean), batch.clean.device
    plain = torch.rand(size, generator=rng)
    begin = 0.25 + 0.72 * torch.rand(size, generator=rng)  # where img2img starts: strength 0.25 to 0.97
    along = torch.rand(size, generator=rng)
    later = torch.where(along < 0.5, begin, begin * (2.0 * along - 1.0).clamp(min=0.04))
    is_restyle = batch.restyle.cpu()
    now = torch.where(is_restyle, later, plain)
    t, start_t = (
        ((u * NUM_TRAIN_TIMESTEPS).long().clamp(0, NUM_TRAIN_TIMESTEPS - 1)).to(device) for u in (now, begin)
    )
    noise = torch.randn(batch.clean.shape, generator=rng).to(device)
    pulled, even = losses.restyling_noise(noise, batch.clean, batch.start, alphas, start_t)
    noise = torch.where(batch.restyle[:, None, None, None], pulled, noise)
    weight = torch.where(batch.restyle, even, torch.ones_like(even))
    noisy = losses.add_noise(batch.clean, noise, alphas, t)
    return t, noisy, losses.target(batch.clean, noise, alphas, t, prediction_type="v_prediction"), weight


def predict(
    parts: Parts, noisy: torch.Tensor, t: torch.Tensor, batch: Batch, kinds: tuple[str, ...]
) -> torch.Tensor:
    """The UNet's v [B, 4, h, w] under the caption and the controls in `kinds`."""
    text = parts.text_encoder(batch.tokens).last_hidden_state
    down: list[torch.Tensor] | None = None
    middle: torch.Tensor | None = None
    for kind in kinds:
        picture = batch.depth if kind == "depth" else batch.pose
        d, m = parts.controlnets[kind](
            noisy, t, encoder_hidden_states=text, controlnet_cond=picture, return_dict=False
        )
        down = list(d) if down is None else [x + y for x, y in zip(down, d, strict=True)]
        middle = m if middle is None else middle + m
    out: torch.Tensor = parts.unet(
        noisy,
        t,
        encoder_hidden_states=text,
        down_block_additional_residuals=down,
        mid_block_additional_residual=middle,
    ).sample
    return out


@dataclass
class Trainer:
    """The state that a kill must not lose: weights, their moving average, the optimiser, steps and
    seconds spent.
    """

    parts: Parts
    average: Parts
    optimizer: MatrixAdam
    step: int = 0
    seconds: float = 0.0
    samples: int = 0

    @classmethod
    def fresh(cls, parts: Parts, device: str, precision: str = "fp32") -> Trainer:
        for module in modules(parts):
            module.to(device, memory_format=torch.channels_last).train()
        if device == "cpu":  # plain matrix products: 15 % faster here than the fused kernel's backward pass
            parts.unet.set_attn_processor(AttnProcessor())
        average = copy.deepcopy(parts)
        for module in modules(average):
            module.eval().requires_grad_(False)
        if device == "cpu" and precision == "bf16":
            for net in (parts.unet, *parts.controlnets.values()):
                norms_in_float(net)
        named = [(name, p) for module in modules(parts) for name, p in module.named_parameters()]
        return cls(parts, average, MatrixAdam(named, lr=PEAK_RATE))

    @property
    def weights(self) -> list[torch.nn.Parameter]:
        return self.optimizer.weights

    def save(self, path: Path) -> None:
        state = {
            "weights": [m.state_dict() for m in modules(self.parts)],
            "average": [m.state_dict() for m in modules(self.average)],
            "optimizer": self.optimizer.state_dict(),
            "step": self.step, "seconds": self.seconds, "samples": self.samples,
        }  # fmt: skip
        part = path.with_suffix(".part")
        torch.save(state, part)
        part.replace(path)

    def load(self, path: Path) -> None:
        state = torch.load(path, weights_only=True, map_location="cpu")
        for owner, name in ((self.parts, "weights"), (self.average, "average")):
            for module, tensors in zip(modules(owner), state[name], strict=True):
                module.load_state_dict(tensors)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds, self.samples = state["step"], state["seconds"], state["samples"]

    def freeze_controls(self) -> None:
        """Go on with the averaged ControlNets, and leave them as they are."""
        for kind, net in self.parts.controlnets.items():
            net.load_state_dict(self.average.controlnets[kind].state_dict())
            net.requires_grad_(False)

    def descend(
        self, batch: Batch, alphas: torch.Tensor, rng: torch.Generator, kinds: tuple[str, ...], precision: str
    ) -> torch.Tensor:
        """Gradients of one batch (not yet stepped); returns the loss."""
        t, noisy, target, weight = noisy_and_target(batch, alphas, rng)
        with autocast(batch.clean.device.type, precision):
            out = predict(self.parts, noisy, t, batch, kinds)
        loss = (weight * (out.float() - target).pow(2).mean(dim=(1, 2, 3))).mean()
        for p in self.weights:
            p.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def advance(self, rate: float) -> None:
        """One step of the optimiser."""
        self.optimizer.step(rate)
        self.step += 1

    def meet(self, world: int) -> None:
        """Average the weights over the workers, then move the average that is kept."""
        weights = self.weights
        with torch.no_grad():
            if world > 1:
                flat = torch.cat([p.reshape(-1) for p in weights])
                dist.all_reduce(flat)
                flat /= world
                for p, part in zip(weights, torch.split(flat, [p.numel() for p in weights]), strict=True):
                    p.copy_(part.view_as(p))
            decay = min(EMA_DECAY, (1 + self.step) / (80 + self.step))
            old = list(itertools.chain.from_iterable(m.parameters() for m in modules(self.average)))
            new = list(itertools.chain.from_iterable(m.parameters() for m in modules(self.parts)))
            torch._foreach_lerp_(old, new, 1.0 - decay)


def modules(parts: Parts) -> list[Any]:
    """What is trained jointly, in a fixed order."""
    return [parts.unet, parts.text_encoder, *(parts.controlnets[kind] for kind in CONTROL_KINDS)]


def rate_at(share: float, step: int, *, peak: float = PEAK_RATE, warmup: int = 200) -> float:
    """Warm-up, plateau, then a linear fall over the rest of the budget (`share` of it spent, in [0,
    1]).
    """
    fall = min(1.0, max(0.02, (1.0 - share) / (1.0 - FALL_FROM)))
    return peak * min(1.0, (step + 1) / warmup) * fall

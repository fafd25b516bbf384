"""Everything random in one step: which images, what noise, which timesteps, what is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from training import order as orders
from training import schedule
from training.material import Material
from training.schema import TrainSettings

_EARLIEST_START = 0.25  # share of the schedule: img2img at a lower strength changes next to nothing


@dataclass(frozen=True)
class Draw:
    """The random choices for B images of a step."""

    indices: list[int]  # [B]
    noise: tuple[Tensor, ...]  # B of [C, h, w]
    timesteps: Tensor  # [B] int64
    from_engine: Tensor  # [B] bool: train the way from the engine's picture
    start: Tensor  # [B] int64 >= timesteps: where that way starts
    keep_caption: list[bool]  # [B]
    use_control: Mapping[str, Tensor]  # kind -> [B] bool

    def of(self, rows: Sequence[int]) -> Draw:
        """The same for these rows alone."""
        at = torch.tensor(rows, dtype=torch.long)
        return Draw(
            indices=[self.indices[row] for row in rows],
            noise=tuple(self.noise[row] for row in rows),
            timesteps=self.timesteps[at],
            from_engine=self.from_engine[at],
            start=self.start[at],
            keep_caption=[self.keep_caption[row] for row in rows],
            use_control={kind: used[at] for kind, used in self.use_control.items()},
        )


def run_order(material: Material, settings: TrainSettings) -> orders.IntArray:
    """The indices of the whole run, `settings.step_images` a step."""
    times = orders.counts(material.shares, material.concepts, settings.steps * settings.step_images)
    row = orders.run_order(times, seed=settings.seed)
    return orders.grouped(row, material.buckets, batch=settings.batch, seed=settings.seed)


def step_indices(order: orders.IntArray, step: int, settings: TrainSettings) -> list[int]:
    """The examples of one step."""
    count = settings.step_images
    return [int(i) for i in order[step * count : (step + 1) * count]]


def draw(
    material: Material,
    indices: list[int],
    step: int,
    settings: TrainSettings,
    num_timesteps: int,
    *,
    rng: torch.Generator | None = None,
) -> Draw:
    """Everything random in one step on these examples, from (seed, step) alone, or out of `rng`."""
    batch = len(indices)
    rng = rng if rng is not None else schedule.step_generator(step, seed=settings.seed)
    noise = [torch.randn(material.latents[i].shape, generator=rng) for i in indices]
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
    low, high = settings.engine_strength or (_EARLIEST_START, 1.0)
    begin = ((low + (high - low) * torch.rand(batch, generator=rng)) * (num_timesteps - 1)).long()
    if settings.engine_strength is not None:  # only steps that img2img takes at such a strength
        below = (timesteps * (begin + 1)) // num_timesteps
        timesteps = torch.where(from_engine, below, timesteps)
    start = torch.maximum(timesteps, begin)
    if settings.noise_offset > 0:
        noise = [
            each + settings.noise_offset * torch.randn((len(each), 1, 1), generator=rng) for each in noise
        ]
    return Draw(indices, tuple(noise), timesteps, from_engine, start, keep, use_control)


def parts(chosen: Draw | None, *, batch: int) -> list[Draw]:
    """A draw in parts that fit through the network: one size each, at most `batch` images."""
    by_size: dict[tuple[int, ...], list[int]] = {}
    if chosen is None:
        return []
    for row, noise in enumerate(chosen.noise):
        by_size.setdefault(tuple(noise.shape), []).append(row)
    return [
        chosen.of(rows[start : start + batch])
        for rows in by_size.values()
        for start in range(0, len(rows), batch)
    ]

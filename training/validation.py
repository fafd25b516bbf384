"""The loss on held-out images, the same noise and timesteps each time, by concept; and what is best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import torch

from training import schedule
from training.draws import Draw, parts
from training.loop import Trainer
from training.material import Material
from training.step_settings import Pick

TIMESTEPS = 8  # an image, in the middles of as many equal stretches of the schedule


@dataclass(frozen=True)
class Validation:
    """What was found after a step; lower is nearer to the held-out images."""

    step: int
    losses: Mapping[str, float]  # trigger -> loss
    distances: Mapping[str, float] = field(default_factory=dict)
    """Trigger -> distance of its held-out images as they are rendered; empty where none are."""

    @property
    def mean(self) -> float:
        """The loss over the concepts, each alike."""
        return sum(self.losses.values()) / len(self.losses)

    @property
    def distance(self) -> float | None:
        """The distance over the concepts, each alike; None where nothing was rendered."""
        return sum(self.distances.values()) / len(self.distances) if self.distances else None


def validate(trainer: Trainer, material: Material) -> Validation:
    """Judge the weights of the result. Draws nothing from the training's random numbers.

    An image's loss is its training loss (min-SNR, mask) with its whole caption and all its controls, over
    `TIMESTEPS` timesteps; a concept's is the mean over its images.
    """
    num_timesteps = len(trainer.alphas_cumprod)
    of_concept: dict[str, list[float]] = {}
    with trainer.result():
        for number, trigger in enumerate(material.triggers):
            chosen = held_out_draw(material, number, trainer.settings.seed, num_timesteps)
            some = [
                float(trainer.held_out_loss(material, part)) * len(part.indices)
                for part in parts(chosen, batch=trainer.settings.batch)
            ]
            of_concept.setdefault(trigger, []).append(sum(some) / TIMESTEPS)
    return Validation(trainer.step, {key: sum(some) / len(some) for key, some in of_concept.items()})


def held_out_draw(material: Material, number: int, seed: int, num_timesteps: int) -> Draw:
    """The fixed choices for held-out example `number`."""
    rng = schedule.validation_generator(number, seed=seed)
    stretch = num_timesteps / TIMESTEPS
    timesteps = torch.tensor([int((i + 0.5) * stretch) for i in range(TIMESTEPS)])
    shape = material.latents[number].shape
    return Draw(
        indices=[number] * TIMESTEPS,
        noise=tuple(torch.randn(shape, generator=rng) for _ in range(TIMESTEPS)),
        timesteps=timesteps,
        from_engine=torch.zeros(TIMESTEPS, dtype=torch.bool),
        start=timesteps,
        keep_caption=[True] * TIMESTEPS,
        use_control={kind: has[[number] * TIMESTEPS] for kind, has in material.has_control.items()},
    )


def _rendered(judged: Validation) -> float:
    assert judged.distance is not None, "a training that picks by likeness renders at each validation"
    return judged.distance


_SCORES: Mapping[Pick, Callable[[Validation], float]] = MappingProxyType(
    {"validation": lambda judged: judged.mean, "likeness": _rendered}
)


def best(history: Sequence[Validation], pick: Pick) -> Validation | None:
    """The lowest by what `pick` goes by, the earliest of equals; None for "last" and of nothing judged.

    One that is not a number (float16 overflowed) is never lower than one that is.
    """
    if pick not in _SCORES:
        return None
    scores = [(_SCORES[pick](judged), judged) for judged in history]
    return min(scores, key=lambda each: (math.isnan(each[0]), each[0]), default=(0.0, None))[1]

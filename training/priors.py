"""What a step draws of class images (`training.class_images`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from training import schedule
from training.draws import Draw, draw
from training.material import Material
from training.schema import TrainSettings


def prior_draw(
    priors: Material,
    chosen: Draw,
    concepts: Sequence[int],
    *,
    step: int,
    settings: TrainSettings,
    num_timesteps: int,
) -> Draw | None:
    """A class image for each image of a step whose concept has some, and all that is random about it.

    `concepts` is each example's. From (seed, step) alone, and apart from the step's own random numbers:
    those are what they would be without class images. None where no concept of the step has any.
    """
    rng = schedule.prior_generator(step, seed=settings.seed)
    indices = []
    for example in chosen.indices:
        own = [i for i, concept in enumerate(priors.concepts) if concept == concepts[example]]
        if own:
            indices.append(own[int(torch.randint(len(own), (), generator=rng))])
    if not indices:
        return None
    drawn = draw(priors, indices, step, settings, num_timesteps, rng=rng)
    return replace(drawn, keep_caption=[True] * len(indices))

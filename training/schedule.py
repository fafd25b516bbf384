"""What step k of a training sees: which images, which random numbers, which learning rate.

Everything is a pure function of (seed, step), so nothing but the step has to be kept to resume exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

# The streams of random numbers; two streams never share a seed.
_ORDER, _STEP = 0, 1

WARMUP_SHARE = 0.05  # field-notes section 2


def learning_rate_factor(step: int, num_steps: int) -> float:
    """Factor in (0, 1] on the learning rate at `step`, from 0: 5 % linear warm-up, then a cosine to 0."""
    warmup = max(1, round(WARMUP_SHARE * num_steps))
    if step < warmup:
        return (step + 1) / warmup
    share = (step - warmup) / max(1, num_steps - warmup)
    return 0.5 * (1.0 + math.cos(math.pi * share))


def batch_indices(step: int, *, batch: int, repeats: Sequence[int], seed: int) -> list[int]:
    """Indices into the examples for one step; `repeats[i]` is how often an epoch shows example i.

    Batches are cut from an endless row of permuted epochs, across their borders. So after any number of whole
    epochs each example was seen exactly `repeats[i]` times per epoch, and at no moment do two of equal
    repeats differ by more than that.
    """
    slots = [index for index, times in enumerate(repeats) for _ in range(times)]
    if not slots:
        raise ValueError("batch_indices: no examples")
    chosen = []
    for position in range(step * batch, (step + 1) * batch):
        epoch, place = divmod(position, len(slots))
        chosen.append(slots[_permutation(epoch, len(slots), seed)[place]])
    return chosen


def _permutation(epoch: int, count: int, seed: int) -> list[int]:
    order: list[int] = np.random.default_rng([seed, _ORDER, epoch]).permutation(count).tolist()
    return order


def step_generator(step: int, *, seed: int) -> torch.Generator:
    """The generator (on the CPU, whatever the device) from which a step draws all its random numbers."""
    state = np.random.SeedSequence([seed, _STEP, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)  # torch takes a signed 64-bit seed

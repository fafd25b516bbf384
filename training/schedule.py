"""What step k of a training draws and how large its step is.

Everything is a pure function of (seed, step), so nothing but the step has to be kept to resume exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch

# The streams of random numbers; two streams never share a seed. `training.order` has 0 and 2.
_STEP, _VALIDATION, _PRIOR = 1, 3, 5

WARMUP_SHARE = 0.05  # field-notes section 2


def _cosine(share: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * share))


def _linear(share: float) -> float:
    return 1.0 - share


def _constant(share: float) -> float:
    return 1.0


# After the warm-up: share of it that is over, in [0, 1) -> factor.
SHAPES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {"cosine": _cosine, "linear": _linear, "constant": _constant}
)


def learning_rate_factor(
    step: int, num_steps: int, *, shape: str = "cosine", warmup_share: float = WARMUP_SHARE
) -> float:
    """Factor in (0, 1] on the learning rate at `step`, from 0: linear warm-up, then one of `SHAPES`."""
    warmup = max(1, round(warmup_share * num_steps)) if warmup_share > 0 else 0
    if step < warmup:
        return (step + 1) / warmup
    return SHAPES[shape]((step - warmup) / max(1, num_steps - warmup))


def step_generator(step: int, *, seed: int) -> torch.Generator:
    """The generator (on the CPU, whatever the device) from which a step draws all its random numbers."""
    return _generator([seed, _STEP, step])


def prior_generator(step: int, *, seed: int) -> torch.Generator:
    """The generator from which a step draws all that is random about its class images."""
    return _generator([seed, _PRIOR, step])


def validation_generator(number: int, *, seed: int) -> torch.Generator:
    """The generator of held-out example `number`: the same noise whenever it is judged."""
    return _generator([seed, _VALIDATION, number])


def _generator(key: list[int]) -> torch.Generator:
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)  # torch takes a signed 64-bit seed

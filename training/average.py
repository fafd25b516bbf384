"""The weights that are the result, where they are not the ones that steps are taken on.

A moving average of the parameters (EMA), and the averaged point of a schedule-free optimizer. Both are put
in for as long as something looks at the result, and taken out again to the bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn


class Average:
    """An exponential moving average of parameters, float32, on their device."""

    def __init__(self, parameters: Sequence[nn.Parameter], *, decay: float) -> None:
        self.decay = decay
        self._parameters = parameters
        self.values = [each.detach().clone() for each in parameters]

    @torch.no_grad()
    def update(self, num_steps: int) -> None:
        """After a step, the `num_steps`-th. A young average forgets faster: else the start would stay."""
        decay = min(self.decay, (1 + num_steps) / (10 + num_steps))
        for value, parameter in zip(self.values, self._parameters, strict=True):
            value.lerp_(parameter, 1.0 - decay)

    def load(self, values: Sequence[Tensor]) -> None:
        """Put back what `values` was."""
        for value, saved in zip(self.values, values, strict=True):
            value.copy_(saved)


@contextlib.contextmanager
def result_weights(
    parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, average: Average | None
) -> Iterator[None]:
    """Inside, the parameters are those that would be saved as the result; after it, those they were."""
    schedule_free = hasattr(optimizer, "eval") and bool(optimizer.state)
    if average is None and not schedule_free:
        yield
        return
    before = [each.detach().clone() for each in parameters]
    if average is not None:
        _put(parameters, average.values)
    else:
        optimizer.eval()  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if average is None:
            optimizer.train()  # type: ignore[attr-defined]
        _put(parameters, before)  # the optimizer's own way back rounds


@torch.no_grad()
def _put(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)

"""The recogniser's network: pictures of a head -> scores of what it may be (samples/recogniser trains it)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

WIDTHS = (24, 48, 96)
_CODE = 16  # channels that each place keeps on the way to the scores


class HeadNetwork(nn.Module):
    """Two cuts of one picture [B, 6, 40, 40], the head and what is around it, in [-1, 1] -> scores [B, S]."""

    def __init__(self, num_scores: int) -> None:
        super().__init__()
        a, b, c = WIDTHS
        self.body = nn.Sequential(
            _Step(6, a, stride=2),  # 20 x 20
            _Step(a, b, stride=2),  # 10 x 10
            _Block(b),
            _Step(b, c, stride=2),  # 5 x 5
            _Block(c),
            nn.Conv2d(c, _CODE, 1),
            nn.Flatten(),
            nn.ReLU(),
        )
        self.scores = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(25 * _CODE, 128), nn.ReLU(), nn.Linear(128, num_scores)
        )

    def forward(self, cuts: Tensor) -> Tensor:
        return torch.as_tensor(self.scores(self.body(cuts)))


class _Step(nn.Sequential):
    """Convolution, normalisation, ReLU."""

    def __init__(self, taken: int, given: int, *, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(taken, given, 3, stride, padding=1, bias=False), nn.BatchNorm2d(given), nn.ReLU()
        )


class _Block(nn.Module):
    """x + two convolutions of x (He et al. 2016)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _Step(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.second(self.first(x))))

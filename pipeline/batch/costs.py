"""How long frames take, from the records of renders in an output folder.

The model's seconds are taken to grow with pixels and with passes of the UNet, by model; all else that frames
take (carrying keys, reading, writing) with pixels, by model and method.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VAE_PASSES = 4.5  # a KL-VAE's way there and back at 512x512 costs as much as so many of SD 1.5's UNet


@dataclass(frozen=True)
class Costs:
    """Seconds for a unit of the model's work, by model; for a pixel beside it, by (model, method)."""

    model: Mapping[str, float]
    beside: Mapping[tuple[str, str], float]

    def seconds(self, settings: Mapping[str, Any], *, styled: float, frames: int) -> float | None:
        """For `frames` frames of a plan (as JSON) of which the model makes `styled` frames' worth of pixels;
        None where no record tells.
        """
        name, method = str(settings["model"]), str(settings["method"])
        if name not in self.model or (name, method) not in self.beside:
            return None
        share = styled / float(settings["num_frames"])
        beside = self.beside[name, method] * frames * _pixels(settings)
        return self.model[name] * _work(settings) * share + beside


def costs(out: Path) -> Costs:
    """What the records in `out` tell; another command's records are passed over."""
    model, beside = _Rates(), _Rates()
    for path in sorted(out.glob("*/record.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            settings, seconds = record["settings"], record["seconds"]
            key = (settings["model"], settings["method"])
            frames, of_model = float(seconds["frames"]), float(seconds["model"])
            styled, work = float(record["denoised"]), _work(settings)
            num_pixels = settings["num_frames"] * _pixels(settings)
        except (OSError, ValueError, KeyError, TypeError):
            continue
        model.add(key[0], of_model, styled * work)
        beside.add(key, max(0.0, frames - of_model), num_pixels)
    return Costs(model.rates(), beside.rates())


class _Rates:
    """Seconds over amounts, summed by key."""

    def __init__(self) -> None:
        self._sums: dict[Any, list[float]] = defaultdict(lambda: [0.0, 0.0])

    def add(self, key: Hashable, seconds: float, amount: float) -> None:
        self._sums[key][0] += seconds
        self._sums[key][1] += amount

    def rates(self) -> dict[Any, float]:
        return {key: seconds / amount for key, (seconds, amount) in self._sums.items() if amount}


def _pixels(settings: Mapping[str, Any]) -> float:
    return float(settings["width"] * settings["height"])


def _work(settings: Mapping[str, Any]) -> float:
    """Pixels times passes of a plan as JSON, were all its frames styled; each region is a pass more."""
    looks = settings["looks"]
    starts = [start for start, _ in looks] + [settings["num_frames"]]
    parts = 1 + len(settings["regions"])
    passes = 0.0
    for (start, look), stop in zip(looks, starts[1:], strict=True):
        executed = min(int(look["steps"] * look["strength"]), look["steps"])
        guided = 1 if look["guidance"] == 1.0 else 2
        passes += (stop - start) * (executed * guided * parts + VAE_PASSES)
    return passes * _pixels(settings)

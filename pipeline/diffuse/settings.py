"""What img2img is asked to do. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from pipeline.preset.sampling import SCHEDULERS, Spacing

# A prompt, or several whose embeddings are added with these weights, which add up to 1.
Prompt = str | tuple[tuple[str, float], ...]

Prompts = tuple[Prompt, Prompt]  # what a frame is told: prompt, negative

SCHEDULER_NAMES = SCHEDULERS
SPACINGS: tuple[str, ...] = get_args(Spacing)


@dataclass(frozen=True)
class ControlUse:
    """How much one ControlNet steers, and when.

    `weight` scales its residuals; `start` and `end` are fractions of the executed steps, as in diffusers:
    step i of n is steered when i / n >= start and (i + 1) / n <= end.
    """

    kind: str
    weight: float = 1.0
    start: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.start <= self.end <= 1.0:
            raise ValueError(
                f"control '{self.kind}': need 0 <= start <= end <= 1, got {self.start}, {self.end}"
            )

    def steers(self, step: int, num_steps: int) -> bool:
        """Whether executed step `step` (0-based) of `num_steps` is steered at all."""
        inside = step / num_steps >= self.start and (step + 1) / num_steps <= self.end
        return inside and self.weight != 0.0


@dataclass(frozen=True)
class Img2ImgSettings:
    """One way to restyle frames.

    `strength` in [0, 1]: 0 returns the frame through the VAE, 1 starts from pure noise. `steps` is the length
    of the whole schedule, of which int(steps * strength) are executed. `guidance` >= 1 is the classifier-free
    scale (Ho and Salimans 2022); at 1 the negative prompt is not used and a step costs half. `scheduler` is
    one of SCHEDULER_NAMES; `spacing`, one of SPACINGS, is how the schedule's timesteps are spread, None: as
    the model's own scheduler says. A prompt of several texts is mixed between their embeddings. `clip_skip`
    >= 1: how many layers before its end the text encoder is read, 1 being the usual place.
    """

    prompt: Prompt
    negative: Prompt = ""
    strength: float = 0.6
    steps: int = 20
    guidance: float = 3.0
    scheduler: str = "ddim"
    controls: tuple[ControlUse, ...] = ()
    clip_skip: int = 1
    spacing: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.strength <= 1.0:
            raise ValueError(f"strength is {self.strength}; expected a number in [0, 1]")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; expected at least 1")
        if self.guidance < 1.0:
            raise ValueError(f"guidance is {self.guidance}; expected at least 1 (1 = no guidance)")
        if self.clip_skip < 1:
            raise ValueError(f"clip_skip is {self.clip_skip}; expected at least 1 (1 = the usual layer)")
        if self.scheduler not in SCHEDULER_NAMES:
            raise ValueError(f"scheduler is '{self.scheduler}'; expected one of {', '.join(SCHEDULER_NAMES)}")
        if self.spacing is not None and self.spacing not in SPACINGS:
            raise ValueError(f"spacing is '{self.spacing}'; expected one of {', '.join(SPACINGS)}")

    @property
    def executed_steps(self) -> int:
        """Steps that run, as diffusers' img2img counts them."""
        return min(int(self.steps * self.strength), self.steps)


@dataclass(frozen=True)
class KnownPixels:
    """Pixels that the result should agree with, such as the previous styled frame carried along the motion.

    `pixels` uint8 RGB [B, H, W, 3]; `mask` float32 [B, H, W] in [0, 1], 1 = known. Before each executed step
    i of n with i / n < `until`, the latents under the mask are replaced by those that the sampler would hold
    there had the model predicted `pixels` from the start. The first step is the start itself: it changes
    nothing.
    """

    pixels: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.float32]
    until: float = 1.0


@dataclass(frozen=True)
class Region:
    """A part of the frames under prompts and LoRAs of its own.

    `prompts` [B]: what it is told in each frame. `mask` float32 [B, H, W] in [0, 1]: its share of each pixel.
    The masks of all regions add up to 1 at most; the rest is under the frame's prompts. A frame whose mask is
    0 throughout costs nothing. `loras`: a (UNet, text encoders) weight for each file of the stack that wears
    them.
    """

    prompts: tuple[Prompts, ...]
    loras: tuple[tuple[float, float], ...]
    mask: npt.NDArray[np.float32]

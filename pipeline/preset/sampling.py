"""Schedulers and few-step sampling, by the names people know (docs/schedulers.md)."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, WithJsonSchema

from pipeline.preset.chain import did_you_mean

SchedulerName = Literal[
    "ddim",
    "euler",
    "euler_a",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "dpmpp_sde_karras",
    "unipc",
    "lcm",
    "tcd",
]
SCHEDULERS: tuple[str, ...] = get_args(SchedulerName)
# As web UIs write them. Both SDE names mean the one that is there: SDE-DPM-Solver++(2M) on Karras' sigmas.
WEB_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "DDIM": "ddim",
        "Euler": "euler",
        "Euler a": "euler_a",
        "DPM++ 2M": "dpmpp_2m",
        "DPM++ 2M Karras": "dpmpp_2m_karras",
        "DPM++ SDE Karras": "dpmpp_sde_karras",
        "DPM++ 2M SDE Karras": "dpmpp_sde_karras",
        "UniPC": "unipc",
        "LCM": "lcm",
        "TCD": "tcd",
    }
)


def _plain(name: str) -> str:
    """ "DPM++ 2M Karras" -> "dpmpp_2m_karras"."""
    return re.sub(r"[\s_-]+", "_", name.strip().lower().replace("++", "pp"))


_KNOWN = {name: name for name in SCHEDULERS} | {_plain(web): name for web, name in WEB_NAMES.items()}


def canonical_scheduler(value: Any) -> Any:
    """A scheduler's own name from any spelling of it. Raises ValueError with the close match."""
    if not isinstance(value, str):
        return value  # pydantic then says what it expected
    plain = _plain(value)
    if plain not in _KNOWN:
        hint = did_you_mean(plain, list(_KNOWN)) or f"; expected one of {', '.join(SCHEDULERS)}"
        raise ValueError(f"found {value!r}; there is no such scheduler{hint}")
    return _KNOWN[plain]


Scheduler = Annotated[
    SchedulerName,
    BeforeValidator(canonical_scheduler),
    WithJsonSchema({"type": "string", "enum": [*SCHEDULERS, *WEB_NAMES]}),
]
Spacing = Literal["leading", "linspace", "trailing"]
SpeedName = Literal["quality", "lcm", "hyper", "turbo"]


@dataclass(frozen=True)
class HubFile:
    """A file of a Hugging Face hub repository."""

    repo: str
    filename: str

    @property
    def page(self) -> str:
        return f"https://huggingface.co/{self.repo}"


@dataclass(frozen=True)
class Speed:
    """A row of SPEEDS: how a distilled model is sampled.

    scheduler, spacing (None: the model's own), guidance, executed_steps: what it sets where the preset says
    nothing. `schedulers`, `steps` (fewest, most executed) and `most_guidance` are what its authors or its
    users found to work; beyond them there is a note. `loras` holds the file for each family that it is for;
    None: the checkpoint has it in.
    """

    scheduler: str
    spacing: str | None
    guidance: float
    executed_steps: int
    schedulers: tuple[str, ...]
    steps: tuple[int, int]
    most_guidance: float
    loras: Mapping[str, HubFile | None] = field(default_factory=dict)


SPEEDS: Mapping[str, Speed] = MappingProxyType(
    {
        # Luo et al. 2023, LCM-LoRA; its page: 2 to 8 steps, guidance off or between 1 and 2.
        "lcm": Speed(
            scheduler="lcm",
            spacing=None,
            guidance=1.0,
            executed_steps=4,
            schedulers=("lcm",),
            steps=(2, 8),
            most_guidance=2.0,
            loras={
                "sd15": HubFile("latent-consistency/lcm-lora-sdv1-5", "pytorch_lora_weights.safetensors"),
                "sdxl": HubFile("latent-consistency/lcm-lora-sdxl", "pytorch_lora_weights.safetensors"),
            },
        ),
        # Ren et al. 2024, Hyper-SD; its page: the 8-step LoRA with DDIM, trailing, guidance off.
        "hyper": Speed(
            scheduler="ddim",
            spacing="trailing",
            guidance=1.0,
            executed_steps=8,
            schedulers=("ddim", "tcd"),
            steps=(6, 12),
            most_guidance=1.0,
            loras={
                "sd15": HubFile("ByteDance/Hyper-SD", "Hyper-SD15-8steps-lora.safetensors"),
                "sdxl": HubFile("ByteDance/Hyper-SD", "Hyper-SDXL-8steps-lora.safetensors"),
            },
        ),
        # Sauer et al. 2023, SDXL-Turbo: Euler a, trailing, 1 to 4 steps, guidance off; its mixes stand more.
        "turbo": Speed(
            scheduler="euler_a",
            spacing="trailing",
            guidance=1.0,
            executed_steps=4,
            schedulers=("euler_a", "euler", "dpmpp_sde_karras"),
            steps=(1, 8),
            most_guidance=2.0,
            loras={"sd15": None, "sdxl": None},
        ),
    }
)
MOST_STEPS = 1000  # the timesteps a model is trained on


def steps_for(executed: int, strength: float) -> int:
    """The length of the schedule of which int(steps * strength) == executed steps run, the shortest such.

    The shortest starts nearest to where `strength` says: executed / steps is at most `strength`. At a
    strength so small that the schedule would be longer than what models are trained on, fewer run.
    """
    if strength <= 0.0:
        return executed
    steps = math.ceil(min(executed / strength, MOST_STEPS))
    while steps < MOST_STEPS and int(steps * strength) < executed:  # a product may round down
        steps += 1
    return steps

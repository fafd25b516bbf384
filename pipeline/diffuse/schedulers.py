"""diffusers' schedulers by the names people know, built from a model's own config (docs/schedulers.md)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    TCDScheduler,
    UniPCMultistepScheduler,
)


@dataclass(frozen=True)
class Sampler:
    """A row of SAMPLERS: what a name means.

    `kind` is diffusers' class. `config` is what the name itself says; it goes over the model's own config,
    which may come from another sampler. `stochastic` samplers draw noise in their steps. `step` holds further
    arguments of each step.
    """

    kind: Any
    config: Mapping[str, Any] = field(default_factory=dict)
    stochastic: bool = False
    step: Mapping[str, Any] = field(default_factory=dict)


_PLAIN_SIGMAS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_KARRAS_SIGMAS = {**_PLAIN_SIGMAS, "use_karras_sigmas": True}  # Karras et al. 2022, eq. 5, rho = 7
# The last sigma is 0; diffusers then needs a lower order at the end.
_SOLVER = {"solver_order": 2, "final_sigmas_type": "zero", "lower_order_final": True}
_MULTISTEP = {**_SOLVER, "solver_type": "midpoint", "use_lu_lambdas": False}
_DPMPP = {**_MULTISTEP, "algorithm_type": "dpmsolver++"}
_DPMPP_SDE = {**_MULTISTEP, "algorithm_type": "sde-dpmsolver++"}

# Euler, DPM++ and UniPC divide by alpha; with zero terminal SNR diffusers gives the last step alpha_bar =
# 2^-24 instead of 0 (sigma 4096), so they start from noise that is pure to 1 part in 4000.
SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {
        # Song et al. 2020, eta = 0. diffusers clips x0 to [-1, 1] where a config does not say; latents go on.
        "ddim": Sampler(DDIMScheduler, {"clip_sample": False, "thresholding": False}),
        "euler": Sampler(EulerDiscreteScheduler, _PLAIN_SIGMAS),  # Karras et al. 2022, Alg. 2 without churn
        "euler_a": Sampler(EulerAncestralDiscreteScheduler, stochastic=True),  # k-diffusion's ancestral Euler
        "dpmpp_2m": Sampler(DPMSolverMultistepScheduler, {**_DPMPP, **_PLAIN_SIGMAS}),  # Lu et al. 2022
        "dpmpp_2m_karras": Sampler(DPMSolverMultistepScheduler, {**_DPMPP, **_KARRAS_SIGMAS}),
        # SDE-DPM-Solver++(2M), Lu et al. 2022. diffusers' singlestep variant is of first order only (its
        # noise breaks the second), and the one with a Brownian tree needs torchsde: docs/schedulers.md.
        "dpmpp_sde_karras": Sampler(
            DPMSolverMultistepScheduler, {**_DPMPP_SDE, **_KARRAS_SIGMAS}, stochastic=True
        ),
        "unipc": Sampler(UniPCMultistepScheduler, {**_SOLVER, **_PLAIN_SIGMAS}),  # Zhao et al. 2023
        "lcm": Sampler(LCMScheduler, stochastic=True),  # Luo et al. 2023
        "tcd": Sampler(TCDScheduler, stochastic=True, step={"eta": 0.3}),  # Zheng et al. 2024; their gamma
    }
)


def build_scheduler(name: str, config: Mapping[str, Any], *, spacing: str | None = None) -> Any:
    """A fresh scheduler for one img2img call; it holds the state of its steps.

    `config` is the model's own; keys that the sampler does not know are left out. `spacing` ("leading",
    "linspace", "trailing") takes the place of the config's `timestep_spacing`. DDIM steps by 1000 / steps,
    which "linspace" does not: it takes "trailing" for it, as even and from the same first timestep.
    """
    row = SAMPLERS[name]
    merged = {**config, **row.config}
    if spacing is not None:
        merged["timestep_spacing"] = spacing
    if row.kind is DDIMScheduler and merged.get("timestep_spacing") == "linspace":
        merged["timestep_spacing"] = "trailing"
    known = row.kind._get_init_keys(row.kind)
    with _quiet():
        return row.kind(**{key: value for key, value in merged.items() if key in known})


def executed_timesteps(scheduler: Any, *, steps: int, executed: int, device: torch.device) -> torch.Tensor:
    """Set the schedule of `steps` and return its last `executed` timesteps, noisiest first."""
    _widen_grid(scheduler, steps)
    with _quiet():
        scheduler.set_timesteps(steps, device=device)
    skipped = steps - executed
    if hasattr(scheduler, "set_begin_index"):  # DDIM counts by the timestep itself
        scheduler.set_begin_index(skipped)
    timesteps: torch.Tensor = scheduler.timesteps[skipped:]
    return timesteps


def step_arguments(name: str, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """What `scheduler.step` needs beside its tensors: the frames' generators where it draws noise.

    The noise of row b is drawn from `generators[b]`, so that a frame's result does not depend on its batch.
    """
    row = SAMPLERS[name]
    return {**row.step, **({"generator": list(generators)} if row.stochastic else {})}


def restart(scheduler: Any) -> None:
    """Say that the latents were replaced between two steps.

    UniPC's corrector would take the latents from before the last step and leave those that it is given out.
    """
    if getattr(scheduler, "last_sample", None) is not None:
        scheduler.last_sample = None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Some build a numpy array from a tensor in a way that numpy 2 deprecates for torch's __array__."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        yield


def _widen_grid(scheduler: Any, steps: int) -> None:
    """LCM and TCD choose among the timesteps they were distilled on, 50 of them, and refuse more steps.

    More are asked for where few are executed at a small strength: then the grid is made finer, evenly.
    """
    grid = getattr(scheduler.config, "original_inference_steps", None)
    if grid is not None and steps > grid:
        total = scheduler.config.num_train_timesteps
        finer = min(n for n in range(steps, total + 1) if total % n == 0)
        scheduler.register_to_config(original_inference_steps=finer)

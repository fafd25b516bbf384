"""diffusers' schedulers by name, built from a model's own config."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

# Euler and DPM++ divide by alpha; with zero terminal SNR diffusers gives the last step alpha_bar = 2^-24
# instead of 0 (sigma 4096), so they start from noise that is pure to 1 part in 4000.
_CLASSES: Mapping[str, Any] = {
    "ddim": DDIMScheduler,  # Song et al. 2020, eta = 0
    "euler": EulerDiscreteScheduler,  # Karras et al. 2022, Alg. 2 without churn
    "dpmpp_2m": DPMSolverMultistepScheduler,  # Lu et al. 2022, DPM-Solver++(2M)
}


def build_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """A fresh scheduler for one img2img call; it holds the state of its steps."""
    known = _CLASSES[name]._get_init_keys(_CLASSES[name])
    return _CLASSES[name](**{key: value for key, value in config.items() if key in known})


def executed_timesteps(scheduler: Any, *, steps: int, executed: int, device: torch.device) -> torch.Tensor:
    """Set the schedule of `steps` and return its last `executed` timesteps, noisiest first."""
    with warnings.catch_warnings():
        # Euler builds a numpy array from a tensor in a way that numpy 2 deprecates for torch's __array__
        warnings.filterwarnings("ignore", message="__array__ implementation", category=DeprecationWarning)
        scheduler.set_timesteps(steps, device=device)
    skipped = steps - executed
    if hasattr(scheduler, "set_begin_index"):  # DDIM counts by the timestep itself
        scheduler.set_begin_index(skipped)
    timesteps: torch.Tensor = scheduler.timesteps[skipped:]
    return timesteps

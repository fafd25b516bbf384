"""Each scheduler with the miniature's config: v-prediction, zero terminal SNR, trailing steps."""

import json
from pathlib import Path

import pytest
import torch

from pipeline.diffuse import SCHEDULER_NAMES
from pipeline.diffuse.schedulers import build_scheduler, executed_timesteps
from samples.miniature.model import build_scheduler as build_miniature_scheduler


def miniature_config(tmp_path: Path) -> dict[str, object]:
    build_miniature_scheduler().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "scheduler_config.json").read_text())
    assert isinstance(config, dict)
    return config


@pytest.mark.parametrize("name", SCHEDULER_NAMES)
@pytest.mark.parametrize(("steps", "executed"), [(20, 20), (20, 12), (4, 4), (4, 1)])
def test_the_true_velocity_leads_to_the_true_picture(
    tmp_path: Path, name: str, steps: int, executed: int
) -> None:
    """With v = alpha eps - sigma x0 of a known x0 every step is exact, so the end is x0, from any noise."""
    config = miniature_config(tmp_path)
    scheduler = build_scheduler(name, config)
    betas = torch.tensor(config["trained_betas"], dtype=torch.float64)
    alpha = (1 - betas).cumprod(0).sqrt()
    alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])  # Lin et al. 2023, Alg. 1
    generator = torch.Generator().manual_seed(0)
    target, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    timesteps = executed_timesteps(scheduler, steps=steps, executed=executed, device=torch.device("cpu"))
    assert len(timesteps) == executed
    assert (
        int(timesteps[0]) == round(1000 * executed / steps) - 1
    )  # trailing: t = 999 first when all are executed
    x = noise * scheduler.init_noise_sigma
    if executed < steps:
        x = scheduler.add_noise(target, noise, timesteps[:1])
    for t in timesteps:
        seen = scheduler.scale_model_input(x, t)
        a = float(alpha[int(t)])
        s = (1 - a * a) ** 0.5
        epsilon = (seen - a * target) / s
        x = scheduler.step(a * epsilon - s * target, t, x, return_dict=False)[0]
    # Euler and DPM++ take alpha_bar = 2^-24 for 0 at t = 999: an error of 2^-12 there, which later steps
    # forget
    torch.testing.assert_close(x, target, rtol=2e-3, atol=2e-3)


def test_keys_of_another_scheduler_class_are_left_out(tmp_path: Path) -> None:
    config = miniature_config(tmp_path)
    assert "clip_sample" in config
    assert "clip_sample" not in build_scheduler("euler", config).config
    assert build_scheduler("euler", config).config.prediction_type == "v_prediction"

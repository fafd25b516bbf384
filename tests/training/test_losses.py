"""Against diffusers' own scheduler where it has the formula, against the paper's limits elsewhere."""

from __future__ import annotations

import itertools

import pytest
import torch
from diffusers import DDPMScheduler

from training import losses


@pytest.fixture
def scheduler() -> DDPMScheduler:
    return DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)


def test_noise_and_velocity_equal_diffusers(scheduler: DDPMScheduler) -> None:
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 4, 3, 4, 4, generator=rng).unbind()
    timesteps = torch.tensor([0, 10, 500, 999])
    bars = scheduler.alphas_cumprod
    # Both are float32 sums of two products; only the order of roundings differs.
    torch.testing.assert_close(
        losses.add_noise(latents, noise, bars, timesteps), scheduler.add_noise(latents, noise, timesteps)
    )
    velocity = losses.target(latents, noise, bars, timesteps, prediction_type="v_prediction")
    torch.testing.assert_close(velocity, scheduler.get_velocity(latents, noise, timesteps))
    assert losses.target(latents, noise, bars, timesteps, prediction_type="epsilon") is noise


def test_min_snr_weight_of_epsilon_is_the_papers() -> None:
    snr = torch.tensor([0.0, 0.01, 5.0, 10.0, 500.0])
    weight = losses.min_snr_weight(snr, gamma=5.0, prediction_type="epsilon")
    torch.testing.assert_close(weight, torch.tensor([1.0, 1.0, 1.0, 0.5, 0.01]))


def test_min_snr_weight_of_v_teaches_the_noisiest_step_and_falls_off_at_high_snr() -> None:
    snr = torch.tensor([0.0, 1.0, 4.0, 9.0, 499.0])
    weight = losses.min_snr_weight(snr, gamma=5.0, prediction_type="v_prediction")
    torch.testing.assert_close(weight, torch.tensor([1.0, 1.0, 1.0, 0.5, 0.01]))


def test_zero_terminal_snr_is_zero(scheduler: DDPMScheduler) -> None:
    snr = losses.signal_to_noise(scheduler.alphas_cumprod, torch.tensor([0, 999]))
    assert snr[1] == 0.0
    assert snr[0] > 100.0


def test_every_example_counts_by_its_weight() -> None:
    predicted = torch.zeros(2, 1, 2, 2)
    wanted = torch.stack([torch.full((1, 2, 2), 1.0), torch.full((1, 2, 2), 3.0)])
    loss = losses.weighted_mse(predicted, wanted, torch.tensor([1.0, 0.5]))
    assert float(loss) == pytest.approx((1.0 * 1.0 + 0.5 * 9.0) / 2)


def test_an_unknown_prediction_type_is_refused() -> None:
    with pytest.raises(ValueError, match="sample"):
        losses.min_snr_weight(torch.ones(1), gamma=5.0, prediction_type="sample")


def test_restyling_noise_is_the_way_of_img2img(scheduler: DDPMScheduler) -> None:
    """DDIM from the noised source, told the right picture each step, passes through the training samples."""
    from diffusers import DDIMScheduler

    rng = torch.Generator().manual_seed(0)
    latents, source, noise = torch.randn(3, 1, 4, 4, 4, generator=rng).unbind()
    ddim = DDIMScheduler(
        prediction_type="sample", rescale_betas_zero_snr=True, clip_sample=False, timestep_spacing="trailing"
    )
    ddim.set_timesteps(10)
    steps = ddim.timesteps[3:]  # img2img at strength 0.7
    start = steps[:1]
    bars = ddim.alphas_cumprod
    pulled, weight = losses.restyling_noise(noise, latents, source, bars, start)
    torch.testing.assert_close(weight, 1.0 - bars[start])
    x = ddim.add_noise(source, noise, start)
    for t, after in itertools.pairwise(steps):
        torch.testing.assert_close(x, losses.add_noise(latents, pulled, bars, t[None]), atol=1e-5, rtol=1e-5)
        x = ddim.step(latents, t, x).prev_sample
        assert int(after) < int(t)
    torch.testing.assert_close(x, losses.add_noise(latents, pulled, bars, steps[-1:]), atol=1e-5, rtol=1e-5)

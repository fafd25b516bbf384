"""The throughput benchmark: both loops train the same numbers, and the row is plain arithmetic."""

from __future__ import annotations

from pathlib import Path

import torch

from benchmarks.plain_training import PlainTrainer
from benchmarks.random_model import benchmark_model
from benchmarks.training import NUM_IMAGES, Contestant, our_trainer, share_inside, write_images
from training.schema import TrainSettings

SIZE = 64


def test_a_rate_is_images_over_the_median_round() -> None:
    contestant = Contestant("a", lambda: None, seconds=[1.0, 2.0, 9.0], cpu_seconds=[4.0, 4.0, 4.0])
    assert contestant.rate(10) == 5.0
    assert contestant.cpu_rate(10) == 2.5


def test_both_loops_see_the_same_latents_and_train_the_same_layers(tmp_path: Path) -> None:
    write_images(tmp_path, SIZE)
    settings = TrainSettings(rank=4, batch=2, steps=100, lr=1e-4)
    plain = PlainTrainer(benchmark_model("mini", kinds=()), tmp_path, settings)
    ours = our_trainer("mini", "cpu", tmp_path, settings, SIZE, "fp32")
    assert [p.shape for p in plain.parameters] == [p.shape for p in ours.parameters]
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters, ours.parameters, strict=True))
    assert len(ours.material.latents) == NUM_IMAGES
    first = [pixels for pixels, _ in plain.loader.dataset][:1]
    with torch.no_grad():
        mean = plain.model.vae.encode(torch.stack(first)).latent_dist.mode()
    scaled = mean * plain.model.vae.config.scaling_factor
    torch.testing.assert_close(scaled[0], ours.material.latents[0], rtol=1e-4, atol=1e-4)
    before = [p.detach().clone() for p in plain.parameters]
    assert plain.take_step() > 0.0 and ours.take_step() > 0.0
    moved = [not torch.equal(a, b) for a, b in zip(before, plain.parameters, strict=True)]
    assert all(moved)  # `up` by its gradient, `down` by its decay alone in the first step
    backward = torch.Tensor.backward
    share = share_inside(ours, 1)
    assert torch.Tensor.backward is backward
    assert 0.3 < share.inside / share.whole < 1.0

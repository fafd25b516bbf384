"""Several processes that train as one, as far as one process can show it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from training.parallel import Workers


class TwoAlike(Workers):
    """The first of two processes; the other has the same gradients."""

    def sum(self, value: Tensor) -> Tensor:
        return 2.0 * value


def test_summed_gradients_lie_in_memory_as_the_weights_do() -> None:
    """A fused optimizer goes by places in memory: kernels laid out otherwise would take others' gradients."""
    moved = []
    for workers in (Workers(), TwoAlike(count=2)):
        rng = torch.Generator().manual_seed(0)
        net = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parameter in net.parameters():
            nn.init.normal_(parameter, generator=rng)
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
        (net(torch.randn(2, 4, 8, 8, generator=rng)).square().sum() / workers.count).backward()
        workers.sum_gradients(list(net.parameters()))
        assert net.weight.grad is not None and net.weight.grad.stride() == net.weight.stride()
        optimizer.step()
        moved.append(net.weight.detach().clone())
    torch.testing.assert_close(*moved)


def test_a_gradient_that_no_process_has_stays_none() -> None:
    """A text encoder that has stopped must not go on by its moments."""
    seen, unseen = nn.Parameter(torch.ones(2, 3)), nn.Parameter(torch.ones(3))
    seen.grad = torch.full((2, 3), 0.5)
    TwoAlike(count=2).sum_gradients([seen, unseen])
    assert unseen.grad is None
    assert torch.equal(seen.grad, torch.ones(2, 3))

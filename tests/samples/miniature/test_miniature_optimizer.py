"""The miniature's optimiser: which weights are orthogonalised, and that it learns and resumes."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from samples.miniature.optimizer import MatrixAdam


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 16, 1))
    return net.to(memory_format=torch.channels_last)


def optimizer_of(net: nn.Module) -> MatrixAdam:
    return MatrixAdam(list(net.named_parameters()), lr=1e-2)


def take_steps(net: nn.Module, optimizer: MatrixAdam, start: int, stop: int) -> list[float]:
    """Fit the net to shifting its input by a pixel."""
    losses = []
    for step in range(start, stop):
        x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(step))
        net.zero_grad(set_to_none=True)
        loss = (net(x) - x.roll(1, -1)).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step(1e-2)
        losses.append(float(loss.detach()))
    return losses


def test_a_step_of_a_matrix_is_nearly_orthogonal_and_of_adams_size() -> None:
    net = small_net()
    before = [p.detach().clone() for p in net.parameters()]
    take_steps(net, optimizer_of(net), 0, 1)
    for old, new in zip(before, net.parameters(), strict=True):
        change = (new.detach() - old).flatten(1) if new.ndim > 1 else None
        if change is None:
            continue
        values = torch.linalg.svdvals(change)
        assert values.max() < 3.0 * values.min()  # the gradient's own spread is far larger
        assert 0.1 * 1e-2 < change.square().mean().sqrt() < 0.4 * 1e-2  # AdamW's root mean square: about 0.2


def test_lookups_ends_and_vectors_are_left_to_adam() -> None:
    names = ["conv_in.weight", "down.conv1.weight", "text.token_embedding.weight", "down.conv1.bias"]
    shapes = [(32, 16, 3, 3), (32, 16, 3, 3), (100, 32), (32,)]
    named = [(n, nn.Parameter(torch.randn(shape))) for n, shape in zip(names, shapes, strict=True)]
    named = [
        (n, nn.Parameter(p.data.contiguous(memory_format=torch.channels_last)) if p.ndim == 4 else p)
        for n, p in named
    ]
    state = MatrixAdam(named, lr=1e-3).state_dict()
    assert [len(group["params"]) for group in state["muon"]["param_groups"]] == [1]
    assert [len(group["params"]) for group in state["adam"]["param_groups"]] == [3]


def test_it_learns_and_resumes_to_the_same_weights() -> None:
    net = small_net()
    optimizer = optimizer_of(net)
    losses = take_steps(net, optimizer, 0, 20)
    assert sum(losses[-3:]) < 0.85 * sum(losses[:3])
    saved: dict[str, Any] = copy.deepcopy(optimizer.state_dict())
    other = copy.deepcopy(net)
    again = optimizer_of(other)
    again.load_state_dict(saved)
    take_steps(net, optimizer, 20, 23)
    take_steps(other, again, 20, 23)
    for a, b in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)

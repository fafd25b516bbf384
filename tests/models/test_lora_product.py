"""The layers that train, against peft's own and against float64."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import inject_adapter_in_model
from torch import Tensor, nn

from pipeline.models import inject_lora, load_model, lora_product
from pipeline.models.lora_kinds import ADAPTER, LORA_KINDS, Ranks
from pipeline.models.lora_product import FUSED

LAYERS = {
    "linear": lambda: nn.Linear(24, 40),
    "linear, few rows": lambda: nn.Linear(24, 40),
    "without bias": lambda: nn.Linear(24, 40, bias=False),
    "1x1": lambda: nn.Conv2d(24, 40, 1),
    "3x3": lambda: nn.Conv2d(24, 40, 3, padding=1),  # left to peft
    "padded 1x1": lambda: nn.Conv2d(24, 40, 1, padding=1),
}
STRENGTH = 0.3  # of B; the change is about as large as W


def layer(kind: str, *, fused: bool, strength: float = STRENGTH) -> Any:
    """A LoRA beside a layer of its own, the same weights whether fused or not."""
    torch.manual_seed(0)
    holder = nn.ModuleDict({"x": LAYERS[kind]()})
    config = LORA_KINDS["lora"].config(Ranks(4, 2.0, ["x"], {}, {}))
    if fused:
        config._register_custom_module(dict(FUSED))
    inject_adapter_in_model(config, holder, adapter_name=ADAPTER)
    made: Any = holder["x"]
    assert isinstance(made, tuple(FUSED.values())) == fused
    with torch.no_grad():
        made.lora_B[ADAPTER].weight.normal_(std=strength)
    return made


def given(kind: str, *, seed: int = 1) -> Tensor:
    """x, for a convolution in the channels-last layout."""
    generator = torch.Generator().manual_seed(seed)
    if "linear" in kind or "bias" in kind:
        return torch.randn(3, 5 if "few" in kind else 50, 24, generator=generator)
    return torch.randn(3, 24, 10, 10, generator=generator).to(memory_format=torch.channels_last)


def worked(made: Any, x: Tensor, *, autocast: bool = False) -> dict[str, Tensor]:
    """Output and gradients under a loss whose gradient is a slice, as that of a skip connection is."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        said = made(x)
    channel = 1 if x.ndim == 4 else 2
    both = torch.cat([said, said.detach()], dim=channel)
    wanted = torch.randn(both.shape, generator=torch.Generator().manual_seed(2)).to(both.dtype)
    (both * wanted).sum().backward()  # type: ignore[no-untyped-call]
    down, up = made.lora_A[ADAPTER].weight.grad, made.lora_B[ADAPTER].weight.grad
    assert made.base_layer.weight.grad is None
    return {"said": said.detach(), "x": x.grad, "A": down, "B": up}  # type: ignore[dict-item]


def error(ours: Tensor, truth: Tensor) -> float:
    return float((ours.double() - truth).norm() / truth.norm())


@pytest.mark.parametrize("one_dnn", [True, False])
@pytest.mark.parametrize("kind", LAYERS)
def test_a_layer_says_and_learns_what_pefts_does(
    kind: str, one_dnn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not one_dnn:
        monkeypatch.setattr(lora_product, "ONE_DNN", None)
    x = given(kind)
    truth = worked(layer(kind, fused=False).double(), x.double())
    ours, theirs = (worked(layer(kind, fused=fused), x) for fused in (True, False))
    for name, value in truth.items():
        assert ours[name].dtype == theirs[name].dtype == torch.float32
        assert ours[name].shape == theirs[name].shape
        assert error(ours[name], value) < 1e-6


@pytest.mark.parametrize("strength", [STRENGTH, 1e-3])
@pytest.mark.parametrize("kind", LAYERS)
def test_in_bfloat16_it_is_no_further_from_the_truth_than_pefts(kind: str, strength: float) -> None:
    x = given(kind)
    truth = worked(layer(kind, fused=False, strength=strength).double(), x.double())
    ours, theirs = (
        worked(layer(kind, fused=fused, strength=strength), x, autocast=True) for fused in (True, False)
    )
    for name, value in truth.items():
        assert ours[name].dtype == theirs[name].dtype
        assert error(ours[name], value) < 1.01 * error(theirs[name], value), name


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("kind", LAYERS)
def test_untrained_it_says_what_it_says_disabled(kind: str, autocast: bool) -> None:
    made, x = layer(kind, fused=True), given(kind)

    @torch.no_grad()
    def said(by: Any) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            result: Tensor = by(x)
        return result

    trained = said(made)
    nn.init.zeros_(made.lora_B[ADAPTER].weight)
    untrained = said(made)
    made.enable_adapters(False)
    disabled, base = said(made), said(made.base_layer)
    assert torch.equal(untrained, disabled) and not torch.equal(untrained, trained)
    torch.testing.assert_close(disabled, base, rtol=0.0, atol=0.0 if autocast else 1e-6)


def test_what_is_neither_autocast_nor_float32_goes_pefts_way(monkeypatch: pytest.MonkeyPatch) -> None:
    made, theirs, x = layer("linear", fused=True), layer("linear", fused=False), given("linear").bfloat16()
    for each in (made, theirs):
        each.base_layer.to(torch.bfloat16)
    monkeypatch.setattr(lora_product, "_said", None)
    assert torch.equal(made(x), theirs(x))


@pytest.mark.parametrize("conv_rank", [0, 3])
def test_a_network_learns_what_it_learns_with_pefts_layers(random_model: Path, conv_rank: int) -> None:
    model = load_model(random_model, controls=())
    base = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(3)
    noisy, tokens = (
        torch.randn(2, 4, 16, 16, generator=generator),
        torch.randn(2, 7, 128, generator=generator),
    )
    found = []
    for each, fused in ((model, True), (base, False)):
        lora = inject_lora(
            each, rank=4, alpha=2.0, text_encoder=False, seed=0, conv_rank=conv_rank, fused=fused
        )
        assert any(isinstance(m, tuple(FUSED.values())) for m in each.unet.modules()) == fused
        random = torch.Generator().manual_seed(4)
        with torch.no_grad():
            for weight in lora.unet_parameters:
                weight.add_(0.05 * torch.randn(weight.shape, generator=random))
        each.unet.to(memory_format=torch.channels_last)
        context = tokens.clone().requires_grad_()  # as where the text encoder learns
        said = each.unet(noisy, 500, context).sample
        said.square().sum().backward()
        found.append([said.detach(), context.grad, *(w.grad for w in lora.unet_parameters)])
    assert len(found[0]) == len(found[1])
    for ours, theirs in zip(*found, strict=True):
        assert error(ours, theirs.double()) < 1e-4


def test_a_layer_that_is_switched_off_still_hands_gradients_on() -> None:
    # oneDNN's bare product has none: without a graph of its own the layers before it would learn nothing.
    made = layer("linear", fused=True)
    made.enable_adapters(False)
    x = given("linear").requires_grad_()
    made(x).sum().backward()
    assert x.grad is not None
    wanted = made.base_layer.weight.sum(dim=0).expand_as(x)
    torch.testing.assert_close(x.grad, wanted, rtol=0.0, atol=1e-5)

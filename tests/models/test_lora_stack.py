"""LoRAs worn with weights that change from frame to frame: always the bits of a fresh start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lora_samples import addresses, kohya_layers, make_pairs, narrow_model, write_pairs
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError
from pipeline.models import lora_apply
from pipeline.models.lora_apply import LoraStack, LoraUse, apply_loras, remove_loras

Weights = list[tuple[float, float]]


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def model(request: pytest.FixtureRequest) -> SimpleNamespace:
    return narrow_model(request.param)


@pytest.fixture
def paths(model: SimpleNamespace, tmp_path: Path) -> list[Path]:
    """A LoRA of every layer, and one of the text encoders and the middle of the UNet."""
    layers = kohya_layers((layer for layer, _ in addresses(model).values()), text=True)
    few = [layer for layer in layers if layer.root != "unet" or "mid_block" in layer.path]
    return [
        write_pairs(layout, model.family.name, make_pairs(own, rank=rank), tmp_path / f"{layout}.safetensors")
        for layout, own, rank in (("kohya", layers, 2), ("peft", few, 3))
    ]


def bits(model: SimpleNamespace) -> dict[str, torch.Tensor]:
    return {address: module.weight.detach().clone() for address, (_, module) in addresses(model).items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


WAYS: list[Weights] = [
    [(0.5, 0.5), (0.0, 0.0)],
    [(0.5, 0.5), (0.25, -1.0)],
    [(0.75, 0.5), (0.25, -1.0)],
    [(0.0, 0.0), (0.25, -1.0)],
    [(0.0, 0.0), (0.0, 0.0)],
    [(1.0, 1.0), (1.0, 0.0)],
]


def test_every_step_has_the_bits_of_a_fresh_start(model: SimpleNamespace, paths: list[Path]) -> None:
    before, stack = bits(model), LoraStack(model, paths)
    assert same(bits(model), before)
    for weights in WAYS:
        stack.wear(weights)
        worn = bits(model)
        remove_loras(model)
        assert same(bits(model), before)
        uses = [LoraUse(path, *weight) for path, weight in zip(paths, weights, strict=True)]
        apply_loras(model, uses)
        assert same(bits(model), worn), weights
        stack.wear(weights)  # what another one merged is taken out first
        assert same(bits(model), worn), weights
    remove_loras(model)
    assert same(bits(model), before)


def test_only_what_differs_is_computed(
    model: SimpleNamespace, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack, merged = LoraStack(model, paths), []
    merge: Callable[..., None] = stack._merge
    monkeypatch.setattr(stack, "_merge", lambda address, uses: (merged.append(address), merge(address, uses)))
    texts = {root for root in vars(model) if root.startswith("text_encoder")}
    assert stack.wear([(0.5, 0.5), (0.5, 0.5)]) == {"unet", *texts}
    assert len(merged) == len(set(merged)) == len(model.originals)
    merged.clear()
    assert stack.wear([(0.5, 0.5), (0.5, 0.5)]) == frozenset()
    assert merged == []
    assert stack.wear([(0.5, 0.25), (0.5, 0.5)]) == texts
    assert {address.partition(".")[0] for address in merged} == texts
    merged.clear()
    assert stack.wear([(0.5, 0.25), (0.0, 0.5)]) == {"unet"}
    assert merged and all("mid_block" in address for address in merged)  # the second LoRA's layers alone
    assert stack.wear([(0.0, 0.0), (0.0, 0.0)]) == {"unet", *texts}
    assert model.originals == {}
    with pytest.raises(ValueError, match="2 LoRAs need as many weights"):
        stack.wear([(1.0, 1.0)])


def test_files_are_read_once(model: SimpleNamespace, paths: list[Path]) -> None:
    stack = LoraStack(model, paths)
    for path in paths:
        path.unlink()
    stack.wear([(1.0, 1.0), (1.0, 1.0)])
    assert model.originals
    stack.wear([(0.0, 0.0), (0.0, 0.0)])


def test_what_was_left_out_is_said(model: SimpleNamespace, paths: list[Path]) -> None:
    state, before = load_file(paths[0]), bits(model)
    for key in [
        key for key in state if "mid_block_attentions_0_proj_" in key or "middle_block_1_proj_" in key
    ]:
        state[key.replace("proj_", "projection_")] = state.pop(key)
    save_file(state, paths[0])
    with pytest.raises(
        ModelError, match=r"kohya.safetensors: 2 of \d+ modules are not in model .*projection_in"
    ):
        LoraStack(model, paths)
    assert same(bits(model), before)
    stack = LoraStack(model, paths, allow_partial=True)
    (note,) = stack.left_out
    assert note.startswith(f"LoRA {paths[0]}: left out 2 of ") and note.count("projection_") == 2
    odd = {f"x_{key}": tensor for key, tensor in state.items()}  # nothing of it fits
    save_file(odd, paths[0])
    with pytest.raises(ModelError, match=r"it was made for another model$"):
        LoraStack(model, paths, allow_partial=True)


def test_half_precision_is_rounded_once(paths: list[Path], model: SimpleNamespace) -> None:
    other = narrow_model(model.family.name)
    for part in vars(other).values():
        if isinstance(part, torch.nn.Module):
            part.to(torch.bfloat16)
    before = bits(other)
    stack = LoraStack(other, paths[:1])
    for weight in (0.1, 0.9, 0.3):
        stack.wear([(weight, weight)])
    assert same({k: v for k, v in other.originals.items()}, {k: before[k] for k in other.originals})
    name = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    layers = kohya_layers((layer for layer, _ in addresses(other).values()), text=True)
    down, up, alpha = make_pairs(layers, rank=2)[name]
    expected = before[name].float() + 0.3 * (alpha / 2 * up @ down)
    found = bits(other)[name]
    assert found.dtype == torch.bfloat16
    # one rounding of the exact sum: at most half a step of 8 significant bits
    assert ((found.float() - expected).abs() <= expected.abs() * 2**-8 + 1e-6).all()
    stack.wear([(0.0, 0.0)])
    assert same(bits(other), before)


def test_held_weights_are_changed_by_pointer(
    model: SimpleNamespace, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before, stack, made = bits(model), LoraStack(model, paths), []
    whole: Callable[..., torch.Tensor] = stack._merged
    monkeypatch.setattr(stack, "_merged", lambda *key: (made.append(key), whole(*key))[1])
    expected = []
    for weights in WAYS[:2]:
        stack.wear(weights)
        expected.append(bits(model))
    assert stack.hold(WAYS[:2])
    made.clear()
    for weights, worn in zip(WAYS[:2] * 2, expected * 2, strict=True):
        stack.wear(weights, texts=False)
        unet = {address: tensor for address, tensor in worn.items() if address.startswith("unet.")}
        assert same(unet, bits(model))
    assert made == []
    assert stack.hold(WAYS[:2]) and made == []  # what is there is not made again
    stack.wear([(0.0, 0.0), (0.0, 0.0)])
    assert same(bits(model), before) and model.originals == {}
    assert stack.hold(WAYS[:2]) and made == []
    uses = [LoraUse(path, 1.0, 1.0) for path in paths]
    apply_loras(model, uses)
    assert stack.hold(WAYS[:2]) and made  # someone else wore theirs meanwhile
    for weights, worn in zip(WAYS[:2], expected, strict=True):
        stack.wear(weights)
        assert same(worn, bits(model))
    remove_loras(model)
    assert same(bits(model), before)


def test_nothing_is_held_where_memory_is_short(
    model: SimpleNamespace, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stack = LoraStack(model, paths)
    assert stack.hold(WAYS[:1])
    needed = sum(tensor.nbytes for tensor in stack._held.values())
    stack.hold([])
    for free, fits in ((2 * needed, True), (2 * needed - 2, False)):
        monkeypatch.setattr(lora_apply, "_free_bytes", lambda device, free=free: free)
        assert stack.hold(WAYS[:1]) is fits and bool(stack._held) is fits
        stack.hold([])
    assert stack.release() and not stack.release()
    assert not stack.hold(WAYS[:1]) and not stack._held and not stack.release()
    assert not LoraStack(model, paths).release()  # it was never asked to hold
    with pytest.raises(ValueError, match="2 LoRAs need as many weights"):
        stack.hold([[(1.0, 1.0)]])

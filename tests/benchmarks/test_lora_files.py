"""The figure's own code: its matrices by hand, and a case of it that finds a fault."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from benchmarks import lora_files
from benchmarks.lora_matrices import kohya_name, loaded, make, state_of
from pipeline.models.lora_layers import family_names

NETWORK = lora_files.Network.of("sd15")
FEW = (
    "unet.mid_block.attentions.0.proj_in",
    "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "unet.down_blocks.0.resnets.0.conv1",
)


def test_the_figures_cases() -> None:
    cases = list(lora_files.cases())
    assert len(cases) == len(set(cases)) == 16
    assert {(case.family, case.layout, case.text) for case in cases if case.kind == "lora"} == {
        (family, layout, text)
        for family in ("sd15", "sdxl")
        for layout in ("kohya", "peft", "diffusers")
        for text in (False, True)
    }
    assert len(lora_files.modules_of(cases[1], NETWORK)) == 264  # kohya's own count for SD 1.5


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_kohyas_names_are_those_of_the_library(family: str) -> None:
    """Two independent ways from a path to its name in sd-scripts."""
    for address, name in family_names(family).kohya.items():
        root, _, path = address.partition(".")
        if ".attentions." in path or (root != "unet" and ".layers." in path):
            assert kohya_name(family, root, path) == name


def test_formulas_by_hand() -> None:
    weight = torch.zeros(4, 4)
    one = make("lora", (4, 4), seed=1)  # alpha 2, rank 4
    by_hand = [
        [sum(0.5 * one.parts["lora_up.weight"][o, r] * one.parts["lora_down.weight"][r, i] for r in range(4))
         for i in range(4)]
        for o in range(4)
    ]  # fmt: skip
    torch.testing.assert_close(loaded(weight, one, 1.0), torch.tensor(by_hand))
    kron = make("lokr", (8, 8), seed=0)
    small = kron.parts["lokr_w2_a"] @ kron.parts["lokr_w2_b"]
    expected = 0.25 * torch.kron(kron.parts["lokr_w1"], small)
    torch.testing.assert_close(loaded(torch.zeros(8, 8), kron, 1.0), expected)
    dora = make("dora", (6, 5), seed=3)
    lengths = loaded(torch.ones(6, 5), dora, 1.0).norm(dim=1)
    torch.testing.assert_close(lengths, dora.parts["dora_scale"].flatten().abs())


@pytest.mark.parametrize("kind", ["lora", "loha", "lokr", "dora"])
def test_a_file_of_a_few_layers(kind: str, tmp_path: Path) -> None:
    modules = {
        address: make(kind, NETWORK.layers[address][0].shape, seed) for seed, address in enumerate(FEW)
    }
    state, metadata = state_of("kohya", "sd15", modules)
    path = tmp_path / "lora.safetensors"
    save_file(state, path, metadata)
    assert lora_files.largest_error(NETWORK, modules, list(modules), path) <= lora_files.LIMIT
    if kind != "lora":
        return
    case = lora_files.Case("kohya", kind, "sd15", text=False)
    assert lora_files.there_and_back(case, path, tmp_path) == "peft, diffusers"
    assert lora_files.refused(NETWORK, state, tmp_path) == lora_files.NUM_RENAMED
    address = FEW[1]  # the reference is no echo of what it checks
    odd = make(kind, NETWORK.layers[address][0].shape, seed=77)
    assert lora_files.largest_error(NETWORK, modules | {address: odd}, list(modules), path) > 0.5

"""LoRA files made up for `benchmarks.lora_files`, and what their matrices mean, from the papers alone.

Nothing here calls lookdev's LoRA code: names come from module paths, numbers from seeds, and each change from
the formula as printed. r is the rank, W a weight [out, in] or [out, in, k, k]:

* LoRA (Hu et al. 2021), LoCon for convolutions: W + alpha / r * up @ down
* LoHa (Hyeon-Woo et al. 2021): W + alpha / r * (w1_a @ w1_b) * (w2_a @ w2_b), element by element
* LoKr (Edalati et al. 2022): W + alpha / r * kron(w1, w2_a @ w2_b)
* DoRA (Liu et al. 2024): m * (W + D) / ||W + D||, one length for each output
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

Parts = Mapping[str, torch.Tensor]
RANK = 4
_CHANGE = 0.02  # the changes' standard deviation: that of the weights


@dataclass(frozen=True)
class Made:
    """One module of a file: its kind, the tensors by kohya's part names, alpha."""

    kind: str
    parts: Parts
    alpha: float


def make(kind: str, shape: tuple[int, ...], seed: int) -> Made:
    """Random tensors of one module that changes a weight of `shape`."""
    generator = torch.Generator().manual_seed(seed)

    def random(*sides: int, std: float) -> torch.Tensor:
        return std * torch.randn(*sides, generator=generator)

    out, inner, *kernel = shape
    ones, flat = [1] * len(kernel), inner * (kernel[0] * kernel[1] if kernel else 1)
    std = (_CHANGE / RANK**0.5) ** 0.5
    parts: dict[str, torch.Tensor]
    if kind in ("lora", "dora"):
        parts = {
            "lora_down.weight": random(RANK, inner, *kernel, std=std),
            "lora_up.weight": random(out, RANK, *ones, std=std),
        }
        if kind == "dora":
            parts["dora_scale"] = random(out, *([1] * (len(shape) - 1)), std=0.1) + 1.0
    elif kind == "loha":
        std = (_CHANGE / RANK) ** 0.25
        parts = {f"hada_w{i}_a": random(out, RANK, std=std) for i in (1, 2)}
        parts |= {f"hada_w{i}_b": random(RANK, flat, std=std) for i in (1, 2)}
    else:
        rows, columns = 4, 4 if inner % 4 == 0 else 1
        std = (_CHANGE / RANK**0.5) ** (1 / 3)
        parts = {
            "lokr_w1": random(rows, columns, std=std),
            "lokr_w2_a": random(out // rows, RANK, std=std),
            "lokr_w2_b": random(RANK, flat // columns, std=std),
        }
    return Made(kind, parts, alpha=1.0 + seed % 3)


def loaded(weight: torch.Tensor, made: Made, use: float) -> torch.Tensor:
    """The weight with `use` of the module, by the formula."""
    p, scale = made.parts, made.alpha / RANK
    if made.kind in ("lora", "dora"):
        product = p["lora_up.weight"].flatten(1) @ p["lora_down.weight"].flatten(1)
    elif made.kind == "loha":
        product = (p["hada_w1_a"] @ p["hada_w1_b"]) * (p["hada_w2_a"] @ p["hada_w2_b"])
    else:
        small = (p["lokr_w2_a"] @ p["lokr_w2_b"]).reshape(len(p["lokr_w2_a"]), -1, *weight.shape[2:])
        product = _kronecker(p["lokr_w1"], small)
    moved = weight + scale * product.reshape(weight.shape)
    if made.kind == "dora":
        lengths = moved.flatten(1).square().sum(1).sqrt().reshape(-1, *[1] * (weight.ndim - 1))
        moved = p["dora_scale"] * moved / lengths
    return weight + use * (moved - weight)


def _kronecker(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Block (i, j) is a[i, j] * b; b may have a kernel."""
    return torch.cat([torch.cat([factor * b for factor in row], dim=1) for row in a], dim=0)


def state_of(
    layout: str, family: str, modules: Mapping[str, Made]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Keys -> tensors, and metadata, of modules by address ("unet.<diffusers' path>")."""
    state: dict[str, torch.Tensor] = {}
    fields: dict[str, Any] = {}
    for address, made in modules.items():
        root, _, path = address.partition(".")
        if layout == "kohya":
            name = kohya_name(family, root, path)
            state |= {f"{name}.{part}": tensor for part, tensor in made.parts.items()}
            state[f"{name}.alpha"] = torch.tensor(made.alpha)
            continue
        early = ".lora" if root == "unet" else ".lora_linear_layer"
        down, up = (".lora_A", ".lora_B") if layout == "peft" else (f"{early}.down", f"{early}.up")
        state[f"{address}{down}.weight"] = made.parts["lora_down.weight"]
        state[f"{address}{up}.weight"] = made.parts["lora_up.weight"]
        fields.setdefault(f"{root}.alpha_pattern", {})[path] = made.alpha
        fields.setdefault(f"{root}.target_modules", []).append(path)
        fields[f"{root}.r"] = RANK
    metadata = {"lora_adapter_metadata": json.dumps(fields)} if fields else {}
    return state, metadata


def kohya_name(family: str, root: str, path: str) -> str:
    """sd-scripts' name of a layer: for SDXL it trains the original code's UNet (input_blocks, ...)."""
    flat = path.replace(".", "_")
    if root != "unet":
        number = "" if family == "sd15" else "2" if root.endswith("_2") else "1"
        return f"lora_te{number}_{flat}"
    if family != "sdxl":
        return f"lora_unet_{flat}"
    if path.startswith("mid_block."):  # mid_block.attentions.0. ...
        return f"lora_unet_middle_block_1_{'_'.join(path.split('.')[3:])}"
    side, block, _, number, *rest = path.split(".")  # down_blocks.1.attentions.0. ...
    entry = 3 * int(block) + int(number)
    blocks = f"input_blocks_{entry + 1}" if side == "down_blocks" else f"output_blocks_{entry}"
    return f"lora_unet_{blocks}_1_{'_'.join(rest)}"

"""What it costs to change LoRAs at every step, as regions do: merged anew, or held and changed by pointer.

    python -m benchmarks.lora_switch --lora out/loras/iris/iris.safetensors --lora out/loras/otto/...

On the miniature with these files, beside one step of its UNet; and on SD 1.5's and SDXL's UNets with every
layer that kohya trains, without their weights: the time of a change by pointer hangs on the number of layers,
and the memory held is counted from their shapes in half precision.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch
from safetensors.torch import save_file

from benchmarks.table import Value, markdown
from pipeline.models import FAMILIES, LoraStack, Model, load_model
from pipeline.models.architectures import architecture
from pipeline.models.lora_layers import build, family_names

Weights = Sequence[tuple[float, float]]
RANK = 4
ROUNDS = 20


def milliseconds(call: Callable[[], object], rounds: int) -> float:
    """Of one call: the fastest of `rounds`, since other work on the machine only adds."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return 1000.0 * min(times)


def switch_times(stack: LoraStack, sets: Sequence[Weights], *, merged: bool) -> dict[str, Value]:
    """Milliseconds of one change from set to set, and what is held for it."""

    def around() -> None:
        for weights in sets:
            stack.wear(weights, texts=False)

    row: dict[str, Value] = {"layers": len(stack._layers)}
    row["merged anew, ms"] = milliseconds(around, 3) / len(sets) if merged else "not measured"
    assert stack.hold(sets), "there is not enough memory to hold the sets"
    row["held, ms"] = milliseconds(around, ROUNDS) / len(sets)
    row["MB held a set"] = sum(t.nbytes for t in stack._held.values()) / 1e6 / (len(sets) - 1)
    return row


@torch.inference_mode()
def step_time(model: Model, frames: int) -> float:
    """Milliseconds of the UNet for `frames` frames at the family's own size, without guidance."""
    side = model.family.default_size // model.latent_factor
    noisy = torch.zeros(frames, model.unet.config.in_channels, side, side)
    text = torch.zeros(frames, 64, model.family.context_width)
    return milliseconds(lambda: model.unet(noisy, torch.tensor(500), encoder_hidden_states=text), 3)


def on_the_miniature(loras: Sequence[Path]) -> dict[str, Value]:
    model = load_model("mini")
    none = [(0.0, 0.0)] * len(loras)
    own = [[(1.0, 1.0) if i == k else (0.0, 0.0) for i in range(len(loras))] for k in range(len(loras))]
    row = switch_times(LoraStack(model, loras), [none, *own], merged=True)
    return {"model": "mini"} | row | {"UNet's step, 1 frame, ms": step_time(model, 1)}


def without_weights(family: str, folder: Path) -> dict[str, Value]:
    """A published UNet on the meta device, and two LoRAs of its attention and feed-forward layers."""
    parts: dict[str, Any] = {root: part.half() for root, part in build(architecture(family)).items()}
    model = Model(
        family=FAMILIES[family], vae=None, tokenizer=None, controlnets={}, scheduler_config={}, **parts
    )
    names, state = family_names(family), dict[str, torch.Tensor]()
    for address, name in names.kohya.items():
        if address.startswith("unet.") and ".attentions." in address:
            out, inner, *kernel = names.layers[address].shape
            state[f"{name}.lora_down.weight"] = torch.zeros(RANK, inner, *kernel)
            state[f"{name}.lora_up.weight"] = torch.zeros(out, RANK, *[1] * len(kernel))
    files = [folder / f"{family}_{number}.safetensors" for number in range(2)]
    for file in files:
        save_file(state, file)
    sets = [[(0.0, 0.0)] * 2, [(1.0, 1.0), (0.0, 0.0)], [(0.0, 0.0), (1.0, 1.0)]]
    with mock.patch("pipeline.models.lora_apply._free_bytes", return_value=1 << 50):
        row = switch_times(LoraStack(model, files), sets, merged=False)
    return {"model": family} | row | {"UNet's step, 1 frame, ms": "not measured"}


@click.command(help=__doc__)
@click.option("--lora", "loras", multiple=True, required=True, type=click.Path(path_type=Path))
def main(loras: tuple[Path, ...]) -> None:
    rows = [on_the_miniature(loras)]
    with tempfile.TemporaryDirectory() as folder:
        rows += [without_weights(family, Path(folder)) for family in ("sd15", "sdxl")]
    click.echo(markdown(rows))


if __name__ == "__main__":
    main()

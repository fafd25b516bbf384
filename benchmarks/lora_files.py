"""LoRA files of every layout and kind on SD 1.5 and SDXL at full size: loaded right, converted, refused.

    python -m benchmarks.lora_files [--family sd15] [--all] [--out lora_files.json]

Random weights, float32, every layer that kohya trains (LoCon, LoHa, LoKr, DoRA: all UNet blocks). The
networks are built without weights, and the compared layers get theirs in groups, so that SDXL fits in a small
machine. Every file is loaded whole by `LoraStack` into the whole network. Columns:

compared       layers of which all numbers were compared: each seventh, or with --all each
error          the largest of any layer: |loaded - expected| / |expected - plain|, Frobenius norms; taken out
               again, every weight had its bits back
there and back the other layouts it was converted to and back from, bit for bit (keys, dtypes, shapes, bits)
refused        files with one key renamed that were refused by a message with that key or its module's name
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from torch import nn

from benchmarks.lora_matrices import Made, loaded, make, state_of
from benchmarks.table import markdown
from pipeline.errors import ModelError
from pipeline.files import write_text
from pipeline.models import FAMILIES, LoraStack, Model, read_lora, write_lora
from pipeline.models.architectures import architecture
from pipeline.models.lora_convert import convert
from pipeline.models.lora_layers import Layer, build, layers_of

LAYOUTS = ("kohya", "peft", "diffusers")
UNET_USE, TEXT_USE = 0.75, 0.5
LIMIT = 1e-4
GROUP = 100_000_000  # weights that are there at once: 400 MB, three times over
NUM_RENAMED = 5
SAMPLED = 7  # each so many-th layer; it shares no factor with the 10 Linears of a transformer block
_STD = 0.02
_PART = re.compile(r"\.(?:lora|hada|lokr|dora)_?")


@dataclass(frozen=True)
class Case:
    """One file: a layout, a kind of module, a family, with or without the text encoders."""

    layout: str
    kind: str
    family: str
    text: bool


def cases() -> Iterator[Case]:
    """Those of the issue's figure, in its order."""
    for family in ("sd15", "sdxl"):
        for layout in LAYOUTS:
            for text in (False, True):
                yield Case(layout, "lora", family, text)
        if family == "sd15":
            yield from (Case("kohya", kind, family, text=False) for kind in ("locon", "loha", "lokr", "dora"))


@dataclass(frozen=True)
class Network:
    """A family's networks without weights, and their layers by address."""

    model: Model
    layers: Mapping[str, tuple[Layer, nn.Module]]

    @classmethod
    def of(cls, family: str) -> Network:
        parts = build(architecture(family))
        model = Model(
            family=FAMILIES[family],
            vae=None,
            tokenizer=None,
            controlnets={},
            scheduler_config={},
            **parts,  # type: ignore[arg-type]
        )
        return cls(model, {layer.address: (layer, module) for layer, module in layers_of(parts)})


def modules_of(case: Case, network: Network) -> dict[str, Made]:
    """What the case's file holds: kohya's layers, or with convolutions all of the UNet's blocks."""
    chosen = {}
    for number, (address, (layer, _)) in enumerate(network.layers.items()):
        if layer.root == "unet":
            ends = layer.path.startswith(("conv_", "time_embedding", "add_embedding"))
            wanted = ".attentions." in layer.path if case.kind == "lora" else not ends
        else:
            wanted = case.text and (".self_attn." in layer.path or ".mlp." in layer.path)
        if wanted:
            chosen[address] = make("lora" if case.kind == "locon" else case.kind, layer.shape, number)
    return chosen


def largest_error(network: Network, modules: Mapping[str, Made], compared: list[str], path: Path) -> float:
    """Load the file into all layers; the largest error of `compared`, which get their weights in groups."""
    stack, largest = LoraStack(network.model, [path]), 0.0
    for group in _groups(network, compared):
        plain = {address: _weights(network.layers[address][0].shape, address) for address in group}
        for address, weight in plain.items():
            network.layers[address][1].weight = nn.Parameter(weight.clone(), requires_grad=False)
        stack.wear([(UNET_USE, TEXT_USE)])
        if network.model.originals.keys() != modules.keys():
            raise AssertionError("other layers were changed than the file is for")
        for address, weight in plain.items():
            layer, module = network.layers[address]
            expected = loaded(weight, modules[address], UNET_USE if layer.root == "unet" else TEXT_USE)
            off = torch.linalg.vector_norm(module.get_parameter("weight") - expected)
            largest = max(largest, float(off / torch.linalg.vector_norm(expected - weight)))
        stack.wear([(0.0, 0.0)])
        for address, weight in plain.items():
            module = network.layers[address][1]
            if not torch.equal(module.get_parameter("weight"), weight):
                raise AssertionError(f"{address} did not come back bit for bit")
            module.weight = nn.Parameter(weight.to("meta"), requires_grad=False)
    return largest


def _groups(network: Network, addresses: list[str]) -> Iterator[list[str]]:
    group, size = list[str](), 0
    for address in addresses:
        count = network.layers[address][1].get_parameter("weight").numel()
        if group and size + count > GROUP:
            yield group
            group, size = [], 0
        group.append(address)
        size += count
    yield group


_NOISE = torch.randn(2**22, generator=torch.Generator().manual_seed(0))


def _weights(shape: tuple[int, ...], address: str) -> torch.Tensor:
    """Normal numbers, cut for each layer from another place of one long row (to draw all takes minutes)."""
    start = sum(address.encode()) * 7919 % 100_003
    count = int(torch.Size(shape).numel())
    row = _NOISE[start:]
    return (_STD * row.repeat(-(-count // len(row)))[:count]).reshape(shape)


def there_and_back(case: Case, path: Path, folder: Path) -> str:
    """The layouts that the file was converted to and back from, bit for bit."""
    if case.kind in ("loha", "lokr"):
        return "kohya's layout only"
    whole, source = [], read_lora(path)
    for layout in LAYOUTS:
        if layout != case.layout:
            files = folder / "there.safetensors", folder / "back.safetensors"
            for file, lora, to in ((files[0], path, layout), (files[1], files[0], case.layout)):
                state, metadata = convert(read_lora(lora), to, case.family)
                write_lora(file, state, metadata=metadata)
            back = read_lora(files[1]).state
            same = back.keys() == source.state.keys() and all(
                _same(back[key], tensor) for key, tensor in source.state.items()
            )
            whole.append(layout if same else f"{layout} DIFFERS")
    return ", ".join(whole)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)


def refused(network: Network, state: Mapping[str, torch.Tensor], folder: Path) -> int:
    """How many of NUM_RENAMED files, each with another key renamed, are refused by name."""
    keys = [key for key in state if not key.endswith(".alpha")]
    count = 0
    for key in keys[:: len(keys) // NUM_RENAMED][:NUM_RENAMED]:
        name, path = _PART.split(key)[0], folder / "odd.safetensors"
        odd = f"{name}_odd{key.removeprefix(name)}"
        save_file({odd if other == key else other: tensor for other, tensor in state.items()}, path)
        try:
            LoraStack(network.model, [path])
        except ModelError as error:
            count += f"{name}_odd" in str(error) or f"{name} " in str(error)
    return count


def row_of(case: Case, network: Network, folder: Path, *, every: int = 1) -> dict[str, str | float | int]:
    """One line of the table."""
    started, path = time.perf_counter(), folder / "lora.safetensors"
    modules = modules_of(case, network)
    state, metadata = state_of(case.layout, case.family, modules)
    save_file(state, path, metadata)
    compared = list(modules)[::every]
    return {
        "family": case.family,
        "layout": case.layout,
        "kind": case.kind,
        "text encoders": "yes" if case.text else "no",
        "modules": len(modules),
        "compared": len(compared),
        "error": f"{largest_error(network, modules, compared, path):.1e}",
        "there and back": there_and_back(case, path, folder),
        "refused": f"{refused(network, state, folder)} of {NUM_RENAMED}",
        "seconds": time.perf_counter() - started,
    }


@click.command(help=__doc__)
@click.option(
    "--family", "families", multiple=True, type=click.Choice(["sd15", "sdxl"]), help="default: both"
)
@click.option("--all", "everything", is_flag=True, help="compare every layer (about 3 times as long)")
@click.option("--out", type=click.Path(path_type=Path), help="also write the table as JSON")
def main(families: tuple[str, ...], everything: bool, out: Path | None) -> None:
    rows, networks = [], dict[str, Network]()
    for case in cases():
        if families and case.family not in families:
            continue
        if case.family not in networks:
            networks[case.family] = Network.of(case.family)
        with tempfile.TemporaryDirectory() as name, torch.no_grad():
            every = 1 if everything else SAMPLED
            rows.append(row_of(case, networks[case.family], Path(name), every=every))
        click.echo(f"{case.family} {case.layout} {case.kind}: {rows[-1]['seconds']:.0f} s", err=True)
    click.echo(markdown(rows))
    worst = max(float(row["error"]) for row in rows)
    click.echo(f"\nlargest error {worst:.1e} (at most {LIMIT:g})")
    if out is not None:
        write_text(out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

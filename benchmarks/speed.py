"""Our engine against the plain loop of diffusers: same weights, same steps, same controls, same process.

    python -m benchmarks.speed                                        # the miniature, on a CPU
    python -m benchmarks.speed --model sd15-random --device cuda --precision fp16 --size 512 --batch 1 4 8

Both style the same frames one after the other and write PNG files; no temporal shortcut. They take turns, and
the ratio is the median over the turns. Run it on an idle machine.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.parity import SHOT, USES
from benchmarks.plain import plain_frames, plain_pipeline
from benchmarks.random_model import KINDS, benchmark_model
from benchmarks.table import markdown
from pipeline.conform import controls_at, frames_at
from pipeline.diffuse import Img2ImgSettings, img2img
from pipeline.files import write_text
from pipeline.image import UInt8Array, write_png
from pipeline.models import Model
from pipeline.models.ready import make_ready
from pipeline.shot import open_shot

MATRIX = {"cpu": 2048, "cuda": 8192}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Forwards:
    """Wall time inside the model's networks; a network called by another counts once."""

    seconds: float = 0.0
    depth: int = 0
    entered: float = 0.0
    handles: list[Any] = field(default_factory=list)

    def watch(self, module: torch.nn.Module) -> None:
        """Count this network's forward passes."""
        self.handles.append(module.register_forward_pre_hook(lambda *_: self._enter()))
        self.handles.append(module.register_forward_hook(lambda *_: self._leave()))

    def _enter(self) -> None:
        if self.depth == 0:
            _wait()
            self.entered = time.perf_counter()
        self.depth += 1

    def _leave(self) -> None:
        self.depth -= 1
        if self.depth == 0:
            _wait()
            self.seconds += time.perf_counter() - self.entered


@contextmanager
def forwards(model: Model) -> Iterator[Forwards]:
    """Inside, the time in the model's networks is counted."""
    watched = Forwards()
    encoders = [part for part in (model.text_encoder, model.text_encoder_2) if part is not None]
    hints = [net.controlnet_cond_embedding for net in model.controlnets.values()]
    parts = [model.unet, *model.controlnets.values(), *hints, *encoders]
    for part in [*parts, *model.vae.children()]:
        watched.watch(part)
    try:
        yield watched
    finally:
        for handle in watched.handles:
            handle.remove()


@dataclass(frozen=True)
class Work:
    """The frames of one round and how they are to be styled."""

    frames: UInt8Array
    controls: Mapping[str, UInt8Array]
    settings: Img2ImgSettings
    folder: Path

    @property
    def seeds(self) -> Sequence[int]:
        return range(len(self.frames))


def our_frames(model: Model, work: Work, most: int) -> None:
    """As a render does it: `most` frames a forward pass, the PNG files of one group beside the next."""
    waiting: Future[None] | None = None
    with ThreadPoolExecutor(1) as writer:
        for start in range(0, len(work.frames), most):
            part = slice(start, start + most)
            controls = {kind: pictures[part] for kind, pictures in work.controls.items()}
            styled = img2img(model, work.frames[part], controls, work.settings, list(work.seeds[part]))
            if waiting is not None:
                waiting.result()
            waiting = writer.submit(_write, work.folder, start, styled)
        if waiting is not None:
            waiting.result()


def _write(folder: Path, start: int, frames: UInt8Array) -> None:
    for offset, frame in enumerate(frames):
        write_png(folder / f"ours.{start + offset + 1:04d}.png", frame)


def timed(work: Callable[[], object]) -> float:
    """Seconds of a call, the device's queue included."""
    _wait()
    started = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - started


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """The device's dense matrix product in FLOP/s: the best of ten."""
    side = MATRIX.get(torch.device(device).type, 4096)
    a = torch.randn(side, side, device=device).to(dtype)
    c = torch.empty_like(a)
    best = min(timed(lambda: torch.mm(a, a, out=c)) for _ in range(10))
    return float(2 * side**3 / best)


def measure(model: Model, work: Work, *, batches: Sequence[int], rounds: int) -> list[dict[str, str | float]]:
    """A row for the plain loop, then one for each batch of ours; all take turns."""
    device, count = model.device, len(work.frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of diffusers about itself
        pipe = plain_pipeline(model, KINDS)

    def plain() -> None:
        plain_frames(pipe, work.frames, work.controls, work.settings, work.seeds, work.folder)

    def ours(most: int) -> Callable[[], None]:
        return lambda: our_frames(model, work, most)

    runs = {"plain diffusers loop": plain} | {f"lookdev, {most} at once": ours(most) for most in batches}
    nets = (model.unet, *model.controlnets.values())
    compiled = {net: net._compiled_call_impl for net in nets if net._compiled_call_impl is not None}
    flops = _flops(model, work)
    peak_rate = matrix_rate(str(device), model.dtype)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    shares: dict[str, list[float]] = {name: [] for name in runs}
    peaks: dict[str, float] = {}
    for run in runs.values():
        _lay_out(model, compiled, plain=run is plain)
        run()  # warm: allocators, kernels, threads
    for _ in range(rounds):
        for name, run in runs.items():
            _lay_out(model, compiled, plain=run is plain)
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds[name].append(timed(run))
            peaks[name] = _peak(device)
            with forwards(model) as inside:  # a run of its own: the clocks wait for the device
                taken = timed(run)
            shares[name].append(inside.seconds / taken)
    first = next(iter(runs))
    return [
        {
            "what": name,
            "s/frame": statistics.median(seconds[name]) / count,
            "frames/s": count / statistics.median(seconds[name]),
            "times the plain loop": statistics.median(
                a / b for a, b in zip(seconds[first], seconds[name], strict=True)
            ),
            "in forwards, %": 100 * statistics.median(shares[name]),
            "peak, MiB": peaks[name],
            "utilisation, %": 100 * flops / (statistics.median(seconds[name]) / count) / peak_rate,
        }
        for name in runs
    ]


def _lay_out(model: Model, compiled: Mapping[Any, Any], *, plain: bool) -> None:
    """The networks in memory as a plain pipeline leaves them, or as `make_ready` does."""
    order = torch.contiguous_format if plain else torch.channels_last
    for part in (model.unet, model.vae, *model.controlnets.values()):
        torch.nn.Module.to(part, memory_format=order)
    for part in (model.unet, *model.controlnets.values()):
        if part in compiled:
            part._compiled_call_impl = None if plain else compiled[part]


def _flops(model: Model, work: Work) -> float:
    """FLOP that one frame needs with our engine: what is counted as useful for both."""
    part = {kind: pictures[:1] for kind, pictures in work.controls.items()}
    with FlopCounterMode(display=False) as counter:
        img2img(model, work.frames[:1], part, work.settings, [0])
    return float(counter.get_total_flops())


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _peak(device: torch.device) -> float:
    """MiB: the device's own, or the process' largest resident set so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@click.command(help=__doc__)
@click.option("--model", "name", default="mini", show_default=True, help="mini, sd15-random, sdxl-random")
@click.option("--size", default=128, show_default=True, help="pixels of a side")
@click.option("--steps", default=12, show_default=True, help="executed steps")
@click.option("--frames", default=8, show_default=True)
@click.option("--rounds", default=3, show_default=True)
@click.option("--batch", "batches", multiple=True, type=int, help="frames at once; default: the family's own")
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", type=click.Choice(list(DTYPES)), default="fp32", show_default=True)
@click.option("--compile", "compiled", is_flag=True, help="ours through torch.compile")
@click.option("--out", type=click.Path(path_type=Path), help="also write the table as JSON")
def main(
    name: str, size: int, steps: int, frames: int, rounds: int, batches: tuple[int, ...], device: str,
    precision: str, compiled: bool, out: Path | None,
) -> None:  # fmt: skip
    model = benchmark_model(name, device=device, dtype=DTYPES[precision])
    make_ready(model, compiled=compiled)
    shot = open_shot(SHOT)
    settings = Img2ImgSettings(
        "a man in a red corridor", "blurry", strength=0.5, steps=2 * steps, guidance=3.0, controls=USES
    )
    with tempfile.TemporaryDirectory() as folder:
        work = Work(
            frames=frames_at(shot, 0, frames, width=size, height=size),
            controls=controls_at(shot, KINDS, start=0, stop=frames, width=size, height=size),
            settings=settings,
            folder=Path(folder),
        )
        rows = measure(model, work, batches=batches or (model.family.frames_at_once,), rounds=rounds)
    where = torch.cuda.get_device_name() if device.startswith("cuda") else platform.machine()
    click.echo(
        f"{name}, {size} px, {steps} executed steps, guidance, 2 ControlNets, {precision}; {where}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    click.echo(markdown(rows))
    if out is not None:
        write_text(out, json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()

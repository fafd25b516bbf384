"""Training throughput: the loop of `lookdev train` against a plain loop, same weights, same run.

The plain loop is shaped like diffusers' LoRA examples: a DataLoader that reads and normalises pictures, VAE
and text encoder at each step, peft's LoRA, float32, AdamW, gradients clipped. Batch, layers, rank, pictures,
captions and min-SNR weight are the same. Rounds of both alternate, so that a busy machine is busy for both.

    python -m benchmarks.training
    python -m benchmarks.training --model sd15-random --size 256 --batch 1 --steps 2 --rounds 1
    python -m benchmarks.training --model sd15-random --device cuda --size 512 --batch 4 --batch 8
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.plain_training import PlainTrainer
from benchmarks.random_model import benchmark_model
from benchmarks.table import Value, markdown
from pipeline.image import read_png, write_png
from pipeline.models.lora_product import ONE_DNN
from training.adapters.table import build
from training.dataset import Dataset
from training.example import Example
from training.loop import Trainer
from training.material import prepare
from training.precision import resolve_precision
from training.schema import DatasetFile, TrainSettings
from training.step_settings import Precision

NUM_IMAGES = 20
WARM_UP = 2  # steps before the first round


@dataclass
class Contestant:
    """One loop: a step, and the seconds of its rounds, of the clock and of this process on all cores."""

    name: str
    step: Callable[[], object]
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    def run_round(self, num_steps: int, device: torch.device) -> None:
        started, started_cpu = time.perf_counter(), time.process_time()
        for _ in range(num_steps):
            self.step()
        _finish(device)
        self.seconds.append(time.perf_counter() - started)
        self.cpu_seconds.append(time.process_time() - started_cpu)

    def rate(self, images: int) -> float:
        """Images a second in the median round."""
        return images / statistics.median(self.seconds)

    def cpu_rate(self, images: int) -> float:
        """The same for each second of a core: on a busy machine it sways less."""
        return images / statistics.median(self.cpu_seconds)


@dataclass
class Share:
    """Seconds inside the UNet's forward and backward passes, against all seconds."""

    inside: float = 0.0
    whole: float = 0.0


def write_images(folder: Path, size: int) -> None:
    """Noise pictures with captions; what they show costs nothing and teaches nothing."""
    rng = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        write_png(folder / f"{number:04d}.png", rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
        text = f"a person, irisbot, medium shot, front view, white light, place {number}"
        (folder / f"{number:04d}.txt").write_text(text, encoding="utf-8")


def dataset_of(folder: Path, settings: TrainSettings, size: int) -> Dataset:
    """The same pictures and captions for our loop."""
    file = DatasetFile.model_validate(
        {"name": "speed", "concept": [{"trigger": "irisbot", "class": "person", "kind": "character"}]}
    ).model_copy(update={"train": settings})
    examples = tuple(
        Example(
            path=path,
            image=read_png(path),
            caption=path.with_suffix(".txt").read_text(encoding="utf-8"),
            concept=0,
            controls={},
            original=(size, size),
        )
        for path in sorted(folder.glob("*.png"))
    )
    return Dataset(path=folder, file=file, examples=examples, size=size, weights=(1.0,))


def our_trainer(
    model: str, device: str, folder: Path, settings: TrainSettings, size: int, precision: Precision
) -> Trainer:
    """Our loop on weights of its own."""
    loaded = benchmark_model(model, device=device, kinds=())
    material = prepare(loaded, dataset_of(folder, settings, size))
    resolved = resolve_precision(precision, loaded.device)
    trainer = Trainer(build(loaded, settings), material, settings, precision=resolved)
    trainer.texts.read_ahead([*material.captions, *material.triggers])
    return trainer


def share_inside(trainer: Trainer, num_steps: int) -> Share:
    """How much of our loop's time is spent in the model; both ends of a pass wait for the device."""
    share, device = Share(), trainer.device

    def timed(call: Callable[..., object]) -> Callable[..., object]:
        def inner(*arguments: object, **keywords: object) -> object:
            _finish(device)
            started = time.perf_counter()
            result = call(*arguments, **keywords)
            _finish(device)
            share.inside += time.perf_counter() - started
            return result

        return inner

    unet, forward, backward = trainer.model.unet, trainer.model.unet.forward, torch.Tensor.backward
    unet.forward = timed(forward)
    torch.Tensor.backward = timed(backward)  # type: ignore[method-assign]
    try:
        started = time.perf_counter()
        for _ in range(num_steps):
            trainer.take_step()
        _finish(device)
        share.whole = time.perf_counter() - started
    finally:
        torch.Tensor.backward = backward  # type: ignore[method-assign]
        unet.forward = forward
    return share


def compare(
    model: str,
    device: str,
    *,
    size: int,
    batch: int,
    rank: int,
    steps: int,
    rounds: int,
    precisions: Sequence[Precision],
) -> list[dict[str, Value]]:
    """The rows of one batch size."""
    place = torch.device(device)
    settings = TrainSettings(rank=rank, alpha=float(rank), batch=batch, steps=10**5 // batch, lr=1e-6)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, size)
        plain = PlainTrainer(benchmark_model(model, device=device, kinds=()), folder, settings)
        ours = {each: our_trainer(model, device, folder, settings, size, each) for each in precisions}
        entered = [Contestant("plain loop, fp32", plain.take_step)]
        entered += [Contestant(_named(asked, each), each.take_step) for asked, each in ours.items()]
        for contestant in entered:
            for _ in range(WARM_UP):
                contestant.step()
        for number in range(rounds):
            for contestant in entered if number % 2 == 0 else entered[::-1]:
                contestant.run_round(steps, place)
        shares = [None, *(share_inside(each, steps) for each in ours.values())]
        work = [None, *(_tera_flops(each) for each in ours.values())]
    base, base_cpu = entered[0].rate(steps * batch), entered[0].cpu_rate(steps * batch)
    return [
        {
            "loop": contestant.name,
            "batch": batch,
            "images/s": contestant.rate(steps * batch),
            "slowest round": steps * batch / max(contestant.seconds),
            "times plain": contestant.rate(steps * batch) / base,
            "images per core second": contestant.cpu_rate(steps * batch),
            "times plain, by core seconds": contestant.cpu_rate(steps * batch) / base_cpu,
            "inside forward + backward": "" if share is None else f"{100 * share.inside / share.whole:.1f} %",
            "TFLOP/s": "" if flops is None else f"{flops * contestant.rate(steps * batch) / batch:.3f}",
        }
        for contestant, share, flops in zip(entered, shares, work, strict=True)
    ]


def _named(asked: Precision, trainer: Trainer) -> str:
    """What was asked for and, of `auto`, what it is here."""
    return f"lookdev, {asked}" + (f" (here {trainer.precision})" if asked == "auto" else "")


def _tera_flops(trainer: Trainer) -> float:
    """Multiplications and additions of one step, in 10^12."""
    ours = {} if ONE_DNN is None else {ONE_DNN: _product_flops}
    with FlopCounterMode(display=False, custom_mapping=ours) as counter:
        trainer.take_step()
    return float(counter.get_total_flops()) / 1e12


def _product_flops(x: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    """Of x [N, in] times W [out, in], which torch does not count by itself."""
    return 2 * int(x.numel()) * weight[0]


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@click.command(help=__doc__)
@click.option("--model", default="mini", show_default=True, help="mini, sd15-random or sdxl-random")
@click.option("--device", default="cpu", show_default=True)
@click.option("--size", type=int, help="pixels; default: the family's")
@click.option("--batch", "batches", type=int, multiple=True, default=(8,), show_default=True)
@click.option("--rank", default=16, show_default=True)
@click.option("--steps", default=10, show_default=True, help="steps a round")
@click.option("--rounds", default=5, show_default=True)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    default=("auto", "fp32"),
    show_default=True,
    help="of ours; auto is what a training takes that says nothing",
)
def main(
    model: str,
    device: str,
    size: int | None,
    batches: Sequence[int],
    rank: int,
    steps: int,
    rounds: int,
    precisions: Sequence[Precision],
) -> None:
    side = size or {"mini": 128, "sdxl-random": 1024}.get(model, 512)
    where = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    click.echo(f"{model}, {side} px, rank {rank}, {where}; {rounds} rounds of {steps} steps each, medians\n")
    rows: list[dict[str, Value]] = []
    for batch in batches:
        rows += compare(
            model,
            device,
            size=side,
            batch=batch,
            rank=rank,
            steps=steps,
            rounds=rounds,
            precisions=precisions,
        )
    click.echo(markdown(rows))
    if device == "cuda":
        click.echo(f"\nmost memory: {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


if __name__ == "__main__":
    main()

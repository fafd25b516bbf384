"""Train the recogniser of heads: `python -m samples.recogniser.train`.

Stills of random heads, then a network that says how likely each head is. Everything is kept in the state
folder, so it can be stopped at any moment and goes on where it was; `--export` writes the weights that
`lookdev dataset audit` reads.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from pipeline.image import UInt8Array
from samples.recogniser import data
from samples.recogniser.heads import READ, all_heads, scores_of
from training.curate.head_network import HeadNetwork
from training.curate.recognise import HEAD, OUTSIDE, SIDE, WEIGHTS, cut_head

_LOG = logging.getLogger("recogniser")
BATCH, RATE, WARM_UP = 64, 3e-3, 300
AVERAGE_OVER = 1000  # steps
SAVE_EVERY = 500
_LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # Rec. 709
HELD_OUT = 1000  # stills, the last ones


def batch_of(
    stills: data.Stills, chosen: NDArray[np.int64], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Cuts [B, 6, 40, 40] in [-1, 1], spoiled as pictures of a dataset may be, and heads [B]."""
    cuts = [_spoiled(stills.film[index], stills.place[index], rng) for index in chosen]
    return as_input(cuts), torch.from_numpy(stills.head[chosen])


def as_input(cuts: list[UInt8Array]) -> Tensor:
    """[B, 6, 40, 40] in [-1, 1]."""
    return torch.from_numpy(np.stack(cuts)).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def _spoiled(film: UInt8Array, place: NDArray[np.float64], rng: np.random.Generator) -> UInt8Array:
    """A cut with joints a little off, mirrored, blurred, small, dark or graded anew: each at its odds."""
    reach = float(place[2])
    middle = place[:2] + rng.normal(0.0, 0.06 * reach, 2)
    cut = cut_head(film, middle, reach * math.exp(rng.normal(0.0, 0.05)))
    if rng.random() < 0.5:
        cut = cut[:, ::-1]
    grey = (cut.reshape(SIDE, SIDE, 2, 3) == OUTSIDE).all(axis=-1)
    outside = grey.all(axis=0) | grey.all(axis=1)[:, None]  # whole rows and columns; it stays as it is
    scale = SIDE / (2.0 * HEAD * reach)  # of the first cut; the second shows hardly anything that small
    if rng.random() < 0.15:
        cut = _blurred(cut, rng.uniform(0.5, 2.5) * scale)
    if rng.random() < 0.15:
        cut = _blurred(cut, rng.uniform(0.5, 1.0) * scale)  # as a picture of half the size
    values = cut.astype(np.float32)
    if rng.random() < 0.3:
        values *= math.exp(rng.uniform(-1.2, 0.25))
    if rng.random() < 0.4:
        values = _graded(values, rng)
    spoiled = np.clip(values, 0.0, 255.0).astype(np.uint8)
    spoiled.reshape(SIDE, SIDE, 2, 3)[outside] = OUTSIDE
    return spoiled


def _graded(cut: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Another film look over it, as `samples.stage.render.grade` grades: the stage's five are not all."""
    picture = cut.reshape(SIDE, SIDE, 2, 3) / 255.0
    picture = picture * np.exp(rng.normal(0.0, 0.08, 3))
    luma = picture @ _LUMINANCE
    picture = luma[..., None] + rng.uniform(0.6, 1.25) * (picture - luma[..., None])
    picture = 0.45 + rng.uniform(0.85, 1.25) * (picture - 0.45)
    picture = picture + rng.normal(0.0, 0.04, 3) * (1.0 - np.clip(luma, 0.0, 1.0))[..., None] ** 2
    return np.asarray(255.0 * picture, np.float32).reshape(SIDE, SIDE, 6)


def _blurred(cut: UInt8Array, sigma: float) -> UInt8Array:
    return np.asarray(cv2.GaussianBlur(cut, (0, 0), max(sigma, 0.05)), np.uint8)


class Training:
    """The network, its average over the last steps, and all that a resumed run needs."""

    def __init__(self, steps: int) -> None:
        torch.manual_seed(0)
        heads, _ = all_heads()
        self.table = torch.from_numpy(scores_of(heads)).float()  # [H, S]
        self.network = HeadNetwork(self.table.shape[1]).to(memory_format=torch.channels_last)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.network,
            multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(1.0 - 1.0 / AVERAGE_OVER),  # type: ignore[no-untyped-call]
            use_buffers=True,
        )
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=RATE, weight_decay=0.02)
        self.steps, self.step = steps, 0

    def rate(self) -> float:
        """Linear warm-up, then half a cosine to zero."""
        if self.step < WARM_UP:
            return RATE * (self.step + 1) / WARM_UP
        return RATE * 0.5 * (1.0 + math.cos(math.pi * self.step / self.steps))

    def descend(self, cuts: Tensor, heads: Tensor) -> float:
        """One step on the negative log likelihood of the heads, in nats; 4.9 by the odds alone."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.network.train()
        torch.manual_seed(self.step)  # what is dropped out is the same after a resume
        with torch.autocast("cpu", torch.bfloat16):
            scores = self.network(cuts.contiguous(memory_format=torch.channels_last))
        loss = torch.nn.functional.cross_entropy(scores.float() @ self.table.T, heads)
        self.optimizer.zero_grad()
        torch.autograd.backward(loss)
        self.optimizer.step()
        if self.step >= WARM_UP:
            self.average.update_parameters(self.network)
        self.step += 1
        return float(loss.detach())

    def save(self, path: Path, stills: int) -> None:
        part = path.with_suffix(".part")
        torch.save({**self._parts(), "steps": self.steps, "stills": stills}, part)
        part.replace(path)

    def load(self, path: Path, stills: int) -> None:
        """Go on where it was. Raises `click.UsageError` where it was begun with other steps or stills."""
        kept = torch.load(path, weights_only=True)
        begun = (kept.get("steps"), kept.get("stills"))
        if begun != (self.steps, stills):
            raise click.UsageError(
                f"{path}: was begun with --steps {begun[0]} --stills {begun[1]}, not --steps {self.steps} "
                f"--stills {stills}; go on with these, or take another --state"
            )
        for name, part in (
            ("network", self.network),
            ("average", self.average),
            ("optimizer", self.optimizer),
        ):
            part.load_state_dict(kept[name])
        self.step = kept["step"]

    def _parts(self) -> Mapping[str, Any]:
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }


def train(training: Training, stills: data.Stills, path: Path, *, until: int) -> None:
    """Go on to step `until`. Every step draws its own batch, so that a resumed run is the same run."""
    num_used = len(stills.head) - HELD_OUT
    losses: list[float] = []
    while training.step < until:
        rng = np.random.default_rng((72, training.step))
        cuts, heads = batch_of(stills, rng.integers(num_used, size=BATCH), rng)
        losses.append(training.descend(cuts, heads))
        if training.step % SAVE_EVERY == 0 or training.step == until:
            training.save(path, num_used + HELD_OUT)
            _LOG.info("step %d, loss %.3f, %s", training.step, np.mean(losses), score(training, stills))
            losses = []


@torch.inference_mode()
def score(training: Training, stills: data.Stills) -> str:
    """Loss and how often each property is read right, on stills that no step sees."""
    network = training.average.eval()
    first = len(stills.head) - HELD_OUT
    cuts = [
        cut_head(stills.film[i], stills.place[i, :2], stills.place[i, 2])
        for i in range(first, first + HELD_OUT)
    ]
    truth = torch.from_numpy(stills.head[first:])
    scores = torch.cat([network(part) for part in torch.split(as_input(cuts), 250)])
    loss = torch.nn.functional.cross_entropy(scores @ training.table.T, truth)
    heads = torch.tensor(all_heads()[0])  # [H, A]
    said, start = [f"held out {float(loss):.3f}"], 0
    for column, (name, words) in enumerate(READ.items()):
        there = heads[truth, column] >= 0
        best = scores[there, start : start + len(words)].argmax(dim=1)
        said.append(f"{name} {float((best == heads[truth[there], column]).float().mean()):.1%}")
        start += len(words)
    return ", ".join(said)


def export(training: Training, path: Path = WEIGHTS) -> None:
    """Write the averaged weights, fp16, with the heads and words they stand for."""
    heads, odds = all_heads()
    weights = {
        name: values.half() if values.is_floating_point() else values
        for name, values in training.average.module.state_dict().items()
    }
    tables = {
        "heads": torch.tensor(heads, dtype=torch.int8),
        "odds": torch.from_numpy(odds).float(),
        "scores_of": training.table.to(torch.int8),
    }
    whole = {name: values.contiguous() for name, values in {**weights, **tables}.items()}
    save_file(whole, path, metadata={"words": json.dumps(list(READ.values()))})


@click.command()
@click.option(
    "--stills",
    "num_stills",
    type=click.IntRange(min=HELD_OUT + 1),
    default=28000,
    show_default=True,
    help=f"Rendered, in shards of {data.SHARD_SIZE}; the last {HELD_OUT} are held out.",
)
@click.option("--steps", default=12000, show_default=True, help=f"Of {BATCH} stills each.")
@click.option("--state", type=click.Path(path_type=Path), default=Path("state/recogniser"), show_default=True)
@click.option("--export/--no-export", "write", default=False, help="Write the package's weights at the end.")
def main(num_stills: int, steps: int, state: Path, write: bool) -> None:
    """Train the recogniser of heads; run it again to go on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    cv2.setNumThreads(1)
    training = Training(steps)
    num_stills = -(-num_stills // data.SHARD_SIZE) * data.SHARD_SIZE
    if (state / "training.pt").exists():
        training.load(state / "training.pt", num_stills)
    data.make(state / "stills", num_stills)
    train(training, data.load(state / "stills", num_stills), state / "training.pt", until=steps)
    if write:
        export(training)
        _LOG.info("%s: %d bytes", WEIGHTS, WEIGHTS.stat().st_size)


if __name__ == "__main__":
    main()

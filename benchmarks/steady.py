"""Flicker put on the film look of stage shots and taken off again: `lookdev steady` and what people use.

    python -m benchmarks.steady [--shots 8] [--frames 28] [--size 320x192]

Every frame gets a colour gain of its own (6 % a channel), a wide stain (5 % of full scale) and texture noise
(3 %). The truth is the film look without grain, so that sharpness is the picture's. Each method sees the
flickering frames; the exact ones the shot's motion and visibility, ours the source render's light too; DIS
sees the flickering frames only, as it does for people who have no passes. Windows are frames either way. The
last table is the pace of ours, with one thread.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from unittest import mock

import click
import cv2
import numpy as np

from benchmarks.table import Value, markdown
from pipeline.image import Float32Array, UInt8Array
from pipeline.steady.fuse import Method, Seen, fuse
from pipeline.steady.metrics import Step, chain, e_warp, sharpness_ratio
from pipeline.steady.picture import psnr
from pipeline.steady.visibility import VISIBLE_NEXT, VISIBLE_PREVIOUS, round_trip
from pipeline.steady.warp import in_frame, warp
from samples.stage import render as stage
from samples.stage.sampling import random_scene
from samples.stage.scene import Scene
from samples.stage.sets import LOOKS

SEED = 20_280_000  # scenes are drawn from (SEED, index) until enough of them move
LEAST_MOTION = 0.0016  # of the width, mean per frame: a shot that stands still needs no vectors
GAIN, STAIN, TEXTURE = 0.06, 0.05, 0.03


@dataclass(frozen=True)
class Case:
    """One shot. Frames uint8 RGB [T, H, W, 3]; steps t -> t + 1 and t + 1 -> t."""

    truth: UInt8Array
    flickering: UInt8Array
    source: UInt8Array
    onward: tuple[Step, ...]
    back: tuple[Step, ...]


def moving_scenes(num: int) -> Iterator[Scene]:
    """Scenes whose picture moves."""
    found = index = 0
    while found < num:
        scene = random_scene(np.random.default_rng((SEED, index)))
        flow = stage.render(scene, 10, size=(160, 96)).forward
        if np.nanmean(np.linalg.norm(flow, axis=-1)) > LEAST_MOTION * 160:
            yield scene
            found += 1
        index += 1


def make_case(scene: Scene, *, num_frames: int, size: tuple[int, int], seed: int) -> Case:
    """Render a scene without grain, and put flicker on it."""
    clean = {name: replace(look, grain=0.0) for name, look in LOOKS.items()}
    with mock.patch.object(stage, "LOOKS", clean):
        frames = [stage.render(scene, n, size=size) for n in range(num_frames)]
    onward = tuple(Step(f.forward, in_frame(f.forward) & (f.visible & VISIBLE_NEXT > 0)) for f in frames[:-1])
    back = tuple(
        Step(f.backward, in_frame(f.backward) & (f.visible & VISIBLE_PREVIOUS > 0)) for f in frames[1:]
    )
    truth, source = np.stack([f.film for f in frames]), np.stack([f.engine for f in frames])
    return Case(truth, flicker(truth, np.random.default_rng(seed)), source, onward, back)


def flicker(truth: UInt8Array, rng: np.random.Generator) -> UInt8Array:
    """Frames [T, H, W, 3] with a colour, a stain and texture noise of their own."""
    height = truth.shape[1]
    out = []
    for frame in truth.astype(np.float32) / 255.0:
        gain = 1.0 + GAIN * rng.standard_normal(3)
        stain = _noise(rng, frame.shape, sigma=height / 8.0, strength=STAIN)
        texture = _noise(rng, frame.shape, sigma=height / 120.0, strength=TEXTURE)
        out.append(np.clip(frame * gain + stain + texture, 0.0, 1.0))
    flickering: UInt8Array = (np.stack(out) * 255.0 + 0.5).astype(np.uint8)
    return flickering


def _noise(
    rng: np.random.Generator, shape: tuple[int, ...], *, sigma: float, strength: float
) -> Float32Array:
    values = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), sigma)
    scaled: Float32Array = values * (strength / float(values.std()))
    return scaled


def plain_average(case: Case, reach: int) -> UInt8Array:
    """The mean of the frames around, no motion."""
    frames, total = case.flickering.astype(np.float32), len(case.flickering)
    means = [frames[max(0, t - reach) : t + reach + 1].mean(axis=0) for t in range(total)]
    averaged: UInt8Array = np.rint(np.stack(means)).astype(np.uint8)
    return averaged


def along(case: Case, onward: Sequence[Step], back: Sequence[Step], reach: int) -> UInt8Array:
    """The mean of the frames around, moved along composed flow, all weights equal where seen."""
    frames, out = case.flickering.astype(np.float32), []
    for t in range(len(frames)):
        total, weight = frames[t].copy(), np.ones((*frames[t].shape[:2], 1), np.float32)
        for steps, sign in ((onward[t : t + reach], 1), (back[max(0, t - reach) : t][::-1], -1)):
            way: Step | None = None
            for distance, step in enumerate(steps, start=1):
                way = step if way is None else chain(way, step)
                mask = way.seen[..., None].astype(np.float32)
                total += mask * warp(frames[t + sign * distance], way.flow)
                weight += mask
        out.append(np.rint(total / weight))
    blended: UInt8Array = np.stack(out).astype(np.uint8)
    return blended


def dis_steps(frames: UInt8Array) -> tuple[list[Step], list[Step]]:
    """Flow of the frames themselves by OpenCV's DIS, checked there and back."""
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    pairs = [(estimator.calc(a, b, None), estimator.calc(b, a, None)) for a, b in itertools.pairwise(grey)]
    onward = [Step(forward, round_trip(forward, backward)) for forward, backward in pairs]
    back = [Step(backward, round_trip(backward, forward)) for forward, backward in pairs]
    return onward, back


def ours(case: Case, method: Method = "keys") -> UInt8Array:
    """`lookdev steady`."""
    total = len(case.flickering)
    frames = (
        Seen(
            case.flickering[t],
            case.source[t],
            case.onward[t] if t + 1 < total else None,
            case.back[t - 1] if t else None,
        )
        for t in range(total)
    )
    return np.stack(list(fuse(frames, method=method)))


METHODS: dict[str, Callable[[Case], UInt8Array]] = {
    "flickering": lambda case: case.flickering,
    "film truth": lambda case: case.truth,
    "plain average, 2": lambda case: plain_average(case, 2),
    "plain average, 4": lambda case: plain_average(case, 4),
    "DIS blend, 2": lambda case: along(case, *dis_steps(case.flickering), 2),
    "DIS blend, 4": lambda case: along(case, *dis_steps(case.flickering), 4),
    "exact blend, 2": lambda case: along(case, case.onward, case.back, 2),
    "exact blend, 4": lambda case: along(case, case.onward, case.back, 4),
    "lookdev steady, blend": lambda case: ours(case, "blend"),
    "lookdev steady, keys": ours,
}


def measure(case: Case, frames: UInt8Array) -> dict[str, float]:
    """PSNR in dB to the truth, E_warp, sharpness to the truth."""
    pairs = zip(frames, case.truth, strict=True)
    return {
        "PSNR": float(np.mean([psnr(frame, truth) for frame, truth in pairs])),
        "E_warp": e_warp(frames, case.onward),
        "sharpness": sharpness_ratio(frames, case.truth),
    }


def table(cases: Sequence[Case]) -> list[dict[str, Value]]:
    """One row a method: the means over the shots, and on how many of them it has the best PSNR."""
    measured = {name: [measure(case, method(case)) for case in cases] for name, method in METHODS.items()}
    rivals = [name for name in METHODS if name not in ("flickering", "film truth")]
    best = [max(rivals, key=lambda name: measured[name][i]["PSNR"]) for i in range(len(cases))]
    return [
        {
            "method": name,
            "PSNR, dB": float(np.mean([shot["PSNR"] for shot in shots])),
            "E_warp, x 1e-4": 1e4 * float(np.mean([shot["E_warp"] for shot in shots])),
            "sharpness to truth": float(np.mean([shot["sharpness"] for shot in shots])),
            "best PSNR on shots": best.count(name),
        }
        for name, shots in measured.items()
    ]


def pace(case: Case, size: tuple[int, int], *, num_frames: int) -> dict[str, Value]:
    """Frames/s at a size, of the case's first frames enlarged."""
    enlarged = enlarge(case, size, num_frames=num_frames)
    row: dict[str, Value] = {"size": f"{size[0]}x{size[1]}"}
    for name in ("lookdev steady, keys", "lookdev steady, blend"):
        started = time.perf_counter()
        METHODS[name](enlarged)
        row[f"{name}, frames/s"] = len(enlarged.truth) / (time.perf_counter() - started)
    return row


def enlarge(case: Case, size: tuple[int, int], *, num_frames: int) -> Case:
    """The first frames of a case at another size."""
    height, width = case.truth.shape[1:3]
    scale = np.array([size[0] / width, size[1] / height], np.float32)

    def step(each: Step) -> Step:
        flow = cv2.resize(each.flow, size, interpolation=cv2.INTER_NEAREST) * scale
        seen = cv2.resize(each.seen.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        return Step(flow, seen)

    truth, flickering, source = (
        np.stack([cv2.resize(frame, size) for frame in frames[:num_frames]])
        for frames in (case.truth, case.flickering, case.source)
    )
    onward, back = (
        tuple(step(each) for each in steps[: num_frames - 1]) for steps in (case.onward, case.back)
    )
    return Case(truth, flickering, source, onward, back)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    return int(width), int(height)


@click.command()
@click.option("--shots", default=8, show_default=True)
@click.option("--frames", default=28, show_default=True)
@click.option("--size", default="320x192", show_default=True)
def main(shots: int, frames: int, size: str) -> None:
    """Print both tables."""
    cv2.setNumThreads(1)
    cases = [
        make_case(scene, num_frames=frames, size=_size(size), seed=index)
        for index, scene in enumerate(moving_scenes(shots))
    ]
    click.echo(markdown(table(cases)))
    click.echo()
    rows = [pace(cases[0], (width, height), num_frames=16) for width, height in ((320, 192), (1280, 720))]
    click.echo(markdown(rows))


if __name__ == "__main__":
    main()

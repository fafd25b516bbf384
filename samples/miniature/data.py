"""The miniature's training set: random scenes of the stage, rendered once and kept as shards on disk, in
RAM for training.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SHARD_SIZE = 500
UInt8Array = NDArray[np.uint8]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Words:
    """What can be said of one image: phrases per person, and the surroundings of both looks."""

    people: list[list[str]]
    film: list[str]
    engine: list[str]

    def caption(self, rng: np.random.Generator, *, engine: bool, keep: float = 0.9) -> str:
        """A caption with each attribute kept at odds `keep`, and each of the surroundings at odds 0.97."""
        people = []
        for phrases in self.people:
            people.append(", ".join(["a person", *[p for p in phrases if rng.random() < keep]]))
        around = self.engine if engine else self.film
        kept = [p for i, p in enumerate(around) if i == len(around) - 1 or rng.random() < 0.97]
        return ", ".join([" and ".join(people), *kept])


@dataclass(frozen=True)
class Images:
    """The training set. N images of 128 x 128 pixels."""

    film: UInt8Array  # [N, H, W, 3]
    engine: UInt8Array  # [N, H, W]
    depth: UInt8Array  # [N, H, W] the control picture's grey
    pose: UInt8Array  # [N, H, W, 3]
    words: list[Words]

    def __len__(self) -> int:
        return len(self.words)


def _render_shard(folder: Path, shard: int, seed: int, size: int) -> None:
    from pipeline.controls import depth_map, pose_map_points
    from samples.stage.captions import ENGINE_LOOK, attributes, surroundings
    from samples.stage.render import render
    from samples.stage.sampling import random_scene

    target = folder / f"{shard:04d}.npz"
    if target.exists():
        return
    rng = np.random.default_rng((seed, shard))
    film, engine, depth, pose, words = [], [], [], [], []
    for index in range(size):
        scene = random_scene(rng)
        frame_number = int(rng.integers(scene.num_frames))
        frame = render(scene, frame_number, seed=shard * size + index)
        film.append(frame.film)
        engine.append(frame.engine[..., 0])
        depth.append(depth_map(frame.depth[None])[0, ..., 0])
        pose.append(pose_map_points(frame.points, 128, 128))
        around = surroundings(scene, frame_number)
        words.append([[attributes(r.member) for r in scene.roles], around, [*around[:4], ENGINE_LOOK]])
    part = target.with_suffix(f".{os.getpid()}.part.npz")
    np.savez(
        part,
        film=np.stack(film),
        engine=np.stack(engine),
        depth=np.stack(depth),
        pose=np.stack(pose),
        words=json.dumps(words),
    )
    part.rename(target)


def _work(arguments: tuple[Path, int, int, int]) -> int:
    import cv2

    cv2.setNumThreads(1)
    _render_shard(*arguments)
    return arguments[1]


def make(
    folder: Path, num_images: int, *, seed: int = 0, workers: int = 2, shard_size: int = SHARD_SIZE
) -> None:
    """Render what is missing of `num_images` images into `folder`; stopping it at any moment loses one
    shard a worker.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = [
        (folder, i, seed, shard_size)
        for i in range(-(-num_images // shard_size))
        if not (folder / f"{i:04d}.npz").exists()
    ]
    if not shards:
        return
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for done, shard in enumerate(pool.imap_unordered(_work, shards), start=1):
            _LOG.info("stage: shard %d rendered (%d of %d)", shard, done, len(shards))


def load(folder: Path, *, num_images: int | None = None) -> Images:
    """All whole shards in RAM (uint8)."""
    paths: Sequence[Path] = sorted(p for p in folder.glob("[0-9]*.npz") if ".part" not in p.name)
    if num_images is not None:
        paths = paths[: -(-num_images // SHARD_SIZE)]
    arrays: dict[str, list[UInt8Array]] = {"film": [], "engine": [], "depth": [], "pose": []}
    words: list[Words] = []
    for path in paths:
        with np.load(path) as shard:
            for name, parts in arrays.items():
                parts.append(shard[name])
            words += [Words(*entry) for entry in json.loads(str(shard["words"]))]
    stacked = {name: np.concatenate(parts) for name, parts in arrays.items()}
    return Images(stacked["film"], stacked["engine"], stacked["depth"], stacked["pose"], words)

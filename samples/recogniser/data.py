"""The recogniser's training set: one still each of many heads, rendered once and kept as shards on disk."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.image import UInt8Array
from samples.recogniser.heads import all_heads, head_of, random_head
from samples.stage.render import looks
from samples.stage.sampling import random_scene
from samples.stage.scene import Scene, state

FloatArray = NDArray[np.float64]

SHARD_SIZE = 250
SIZE = (128, 128)  # (W, H) pixels
_NECK, _EARS = 1, (16, 17)  # COCO-18
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stills:
    """N stills of 128 x 128 pixels with one figure each."""

    film: UInt8Array  # [N, H, W, 3]
    place: FloatArray  # [N, 3] x and y of the head's middle, and its distance to the neck; pixels
    head: NDArray[np.int64]  # [N] index into `all_heads`


def make(folder: Path, num_stills: int, *, seed: int = 0) -> None:
    """Render what is missing of `num_stills` into `folder`; stopped at any moment, it loses one shard."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(-(-num_stills // SHARD_SIZE)):
        target = folder / f"{shard:04d}.npz"
        if not target.exists():
            _render(target, np.random.default_rng((71, seed, shard)))
            _LOG.info("stills: %d of %d", (shard + 1) * SHARD_SIZE, num_stills)


def _render(target: Path, rng: np.random.Generator) -> None:
    numbers = {head: number for number, head in enumerate(all_heads()[0])}
    film, place, heads = [], [], []
    for _ in range(SHARD_SIZE):
        member = random_head(rng)
        picture, where = still(random_scene(rng, member=member, pair_odds=0.0), rng)
        film.append(picture)
        place.append(where)
        heads.append(numbers[head_of(member)])
    part = target.with_suffix(f".{os.getpid()}.part.npz")
    np.savez(part, film=np.stack(film), place=np.stack(place), head=np.asarray(heads))
    part.rename(target)


def still(scene: Scene, rng: np.random.Generator) -> tuple[UInt8Array, FloatArray]:
    """A frame of the scene in the film look, and where its first head is [3], as in `Stills`."""
    now = state(scene, float(rng.integers(scene.num_frames)), size=SIZE)
    _, film = looks(now, scene.look, seed=int(rng.integers(2**31)))
    points, _ = now.camera.project(now.points[0])
    middle = points[list(_EARS)].mean(axis=0)
    return film, np.asarray([*middle, np.linalg.norm(points[_NECK] - middle)])


def load(folder: Path, num_stills: int) -> Stills:
    """The first `num_stills`, rounded up to whole shards."""
    film, place, head = [], [], []
    for shard in range(-(-num_stills // SHARD_SIZE)):
        with np.load(folder / f"{shard:04d}.npz") as kept:
            film.append(kept["film"])
            place.append(kept["place"])
            head.append(kept["head"])
    return Stills(np.concatenate(film), np.concatenate(place), np.concatenate(head))

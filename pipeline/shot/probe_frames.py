"""What the motion probe looks at: a shot's frames that move, and their stored vectors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.errors import ShotError
from pipeline.image import Float32Array, UInt8Array
from pipeline.shot.arrow import Moment
from pipeline.shot.encoding import VectorEncoding, decode
from pipeline.shot.exr import read_channels
from pipeline.shot.hypotheses import shrink
from pipeline.shot.read import LUMA, read_frames
from pipeline.shot.values import PassSource, Shot

MOST_LOOKED_AT = 48  # frames whose vectors are looked at; the ones that move most are scored
MOST_SCORED = 24
MOST_TIMED = 48  # frames that the time direction is measured on
PAIRS = (("R", "G"), ("B", "A"), ("X", "Y"), ("Z", "W"), ("r", "g"), ("x", "y"), ("U", "V"))


def vector_pairs(names: list[str]) -> tuple[tuple[str, str], ...]:
    """The channel pairs of a motion file that may hold vectors, in the file's own naming, first one first."""
    found = []
    prefixes = sorted({name.rpartition(".")[0] for name in names})
    for prefix in prefixes:
        for first, second in PAIRS:
            pair = tuple(f"{prefix}.{each}" if prefix else each for each in (first, second))
            if set(pair) <= set(names):
                found.append((pair[0], pair[1]))
    return tuple(found)


def motion_source(shot: Shot) -> PassSource:
    """The shot's motion pass. Raises ShotError where it has none."""
    if "motion" not in shot.passes:
        raise ShotError(
            f"{shot.root}: no motion pass (it has {', '.join(shot.passes)}); export it to motion/"
        )
    return shot.passes["motion"]


def frames_that_move(shot: Shot, source: PassSource, pairs: tuple[tuple[str, str], ...]) -> list[int]:
    """Inner frames, those with the most varied vectors first: a still or a plain pan tells little."""
    inner = np.arange(1, shot.num_frames - 1)
    looked = inner[np.unique(np.linspace(0, len(inner) - 1, MOST_LOOKED_AT).astype(int))]
    variety = {}
    for t in looked:
        stored = read_vectors(shot, source, int(t), pairs[0])[::2, ::2]
        usable = stored[np.isfinite(stored).all(axis=2) & (np.abs(stored) < 1e4).all(axis=2)]
        spread = usable.std(axis=0) + np.abs(usable - np.median(usable)).mean(axis=0) if len(usable) else [0]
        variety[int(t)] = float(np.sum(spread))
    return sorted(variety, key=lambda t: -variety[t])[:MOST_SCORED]


def read_vectors(shot: Shot, source: PassSource, t: int, pair: tuple[str, str]) -> Float32Array:
    """The stored numbers of a channel pair at frame t, float32 [H, W, 2], not yet pixels."""
    return np.stack(read_channels(source.files[t], pair, outside=np.nan, view=shot.view), axis=-1)


def read_around(
    shot: Shot, source: PassSource, t: int, pair: tuple[str, str], reduction: int
) -> tuple[Float32Array, Float32Array]:
    """Luma [3, H, W] of t-1, t, t+1 and the stored vectors [H, W, 2] of t, at the probe's size."""
    luma = np.stack([shrink(frame, reduction) for frame in _luma(read_frames(shot, t - 1, t + 2))])
    height, width = luma.shape[1:]
    begin = reduction // 2
    stored = read_vectors(shot, source, t, pair)[begin::reduction, begin::reduction][:height, :width]
    return luma, stored


def _luma(frames: UInt8Array) -> Float32Array:
    luma: Float32Array = frames.astype(np.float32) @ (LUMA / np.float32(255.0))
    return luma


def moments(
    shot: Shot, source: PassSource, pair: tuple[str, str], reading: VectorEncoding
) -> Iterator[Moment]:
    """Inner frames spread over the shot with their neighbours' vectors; the ends' are rarely valid."""
    margin = 2 if shot.num_frames >= 7 else 1
    inner = np.arange(margin, shot.num_frames - margin)
    held: dict[int, tuple[Float32Array, Float32Array]] = {}
    for t in inner[np.unique(np.linspace(0, len(inner) - 1, MOST_TIMED).astype(int))]:
        around = range(int(t) - 1, int(t) + 2)
        held = {n: held[n] if n in held else _decoded(shot, source, n, reading) for n in around}
        yield Moment(np.stack([held[n][0] for n in around]), np.stack([held[n][1] for n in around]))


def _decoded(
    shot: Shot, source: PassSource, t: int, reading: VectorEncoding
) -> tuple[Float32Array, Float32Array]:
    """Luma [H, W] and flow [H, W, 2] of frame t."""
    return _luma(read_frames(shot, t, t + 1))[0], decode(
        read_vectors(shot, source, t, reading.channels), reading
    )

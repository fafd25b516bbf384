"""Before anything is spent: which frames of a shot become keys, and where carrying them would lose.

A shot is read once at a small size. Cuts part it into stretches. For each stretch the keys are chosen
(`steady/cover.py`), and a gate compares what carrying them promises with what it costs: a stretch that motion
does not explain, or that needs too many keys, falls back to `blend` or `frame`, and says why.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.errors import OutputError
from pipeline.files import write_text
from pipeline.footage import SHARED, Footage
from pipeline.image import Float32Array, UInt32Array
from pipeline.shot import Shot, read_joints
from pipeline.steady.cover import Cover, Patch, choose, follow
from pipeline.steady.metrics import Step, chain
from pipeline.steady.warp import BoolArray, warp

SMALL_HEIGHT = 48  # pixels: tracks are followed at about this size
CHUNK = 96  # frames whose keys are chosen together; longer stretches are done chunk by chunk
READ_AT_ONCE = 8  # frames that a thread reads
KEPT_AHEAD = 64  # frames whose surfaces are read with them, before they are weighed
SHORTEST = 8  # frames: a shorter stretch gains nothing by keys
MOST_KEYS = 0.4  # of the frames: more keys than this cost as much as styling every frame
MOST_HOLES = 0.06  # of the pixels that neither key nor patch shows, mean over a stretch
UNEXPLAINED = 0.95  # of the gradients' change (squared): motion that leaves more of it explains nothing
SLIGHT = 4.0  # levels of 255, root mean square: what resampling leaves of any picture needs no explaining
EXPLAINED_OVER = 6  # frames: shading that turns with the camera has changed little by then
DETAIL_SIGMA = 0.1  # of the height: wider than this is light, which motion does not carry
FACE_WEIGHT, FIGURE_WEIGHT = 4.0, 2.0  # against 1 for the set: faces and characters first
FACE_JOINTS = (0, 14, 15)  # nose, eyes


@dataclass(frozen=True)
class Stretch:
    """Frames start .. stop - 1 between two cuts, how they are made, and why so.

    `keys` are frame indices; `shown` for each frame the share of its surface that keys and patches show (by
    weight); `holes` that of all pixels they do not; `residual` what motion leaves of the picture's change.
    """

    start: int
    stop: int
    method: str
    why: str
    keys: tuple[int, ...]
    patches: tuple[Patch, ...]
    shown: tuple[float, ...]
    holes: float
    residual: float


Timeline = tuple[Stretch, ...]


@dataclass(frozen=True)
class Foresight:
    """A timeline that was made before its shot's turn came, and the footage that was read for it."""

    footage: Footage
    timeline: Timeline


def make_timeline(shot: Shot, footage: Footage, *, reach: int, forced: Sequence[int] = ()) -> Timeline:
    """The stretches of a shot. `reach`: frames between two keys at most; `forced`: frames that are keys."""
    reader = _Reader(shot, footage)
    cuts = [t for t, share in enumerate(_shared(shot, footage), start=1) if share < SHARED]
    ends = [*cuts, shot.num_frames]
    return tuple(
        _stretch(reader, start, stop, reach=reach, forced=forced)
        for start, stop in itertools.pairwise([0, *ends])
    )


def _shared(shot: Shot, footage: Footage) -> list[float]:
    """The share of the pixels of frames 1 on that are seen in the frame before; two threads read."""

    def of(first: int) -> list[float]:
        last = min(first + READ_AT_ONCE, shot.num_frames)
        if first + READ_AT_ONCE <= KEPT_AHEAD:  # wanted again soon, while still held
            for t in range(first, last):
                footage.surfaces(t)
        return [float(footage.back(t).seen.mean()) for t in range(first, last)]

    with ThreadPoolExecutor(2) as readers:
        parts = readers.map(of, range(1, shot.num_frames, READ_AT_ONCE))
        return [share for part in parts for share in part]


def write_timeline(path: Path, timeline: Timeline) -> None:
    """Keep a timeline as JSON. Raises OutputError."""
    write_text(path, json.dumps([dataclasses.asdict(stretch) for stretch in timeline], indent=1) + "\n")


def read_timeline(path: Path) -> Timeline:
    """What `write_timeline` kept. Raises OutputError."""
    try:
        stretches = json.loads(path.read_text(encoding="utf-8"))
        return tuple(
            Stretch(
                **{
                    **s,
                    "keys": tuple(s["keys"]),
                    "shown": tuple(s["shown"]),
                    "patches": tuple(Patch(**p) for p in s["patches"]),
                }
            )
            for s in stretches
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OutputError(f"{path}: cannot be read ({error}); remove it and render again") from None


class _Reader:
    """Small steps, pictures and weights of a shot's frames; those of a chunk are held."""

    def __init__(self, shot: Shot, footage: Footage) -> None:
        self._shot, self._footage = shot, footage
        self.factor = max(1, footage.height // SMALL_HEIGHT)
        self._backs: dict[int, Step] = {}

    def forget(self, before: int) -> None:
        """Let go of the ways back of frames before this one."""
        self._backs = {t: step for t, step in self._backs.items() if t >= before}

    def small_back(self, t: int) -> Step:
        """The way t -> t - 1."""
        if t not in self._backs:
            back, f = self._footage.back(t), self.factor
            flow = back.flow[f // 2 :: f, f // 2 :: f] / np.float32(f)
            seen = back.seen[f // 2 :: f, f // 2 :: f]
            self._backs[t] = Step(np.ascontiguousarray(flow), np.ascontiguousarray(seen))
        return self._backs[t]

    def size(self) -> tuple[int, int]:
        """Height and width."""
        f = self.factor
        height, width = (len(range(f // 2, side, f)) for side in (self._footage.height, self._footage.width))
        return height, width

    def detail(self, t: int) -> Float32Array:
        """The engine's picture without its wide light, float32 [h, w] in levels."""
        height, width = self.size()
        picture = cv2.resize(self._footage.engine(t), (width, height), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
        detail: Float32Array = grey - cv2.GaussianBlur(grey, (0, 0), DETAIL_SIGMA * height)
        return detail

    def weights(self, t: int) -> Float32Array:
        """How much each pixel of frame t matters, float32 [h, w]: faces and characters first."""
        ids = self._footage.surfaces(t).ids
        f = self.factor
        if ids is None or "joints" not in self._shot.passes:
            return np.ones(self.size(), np.float32)
        small = ids[f // 2 :: f, f // 2 :: f]
        return _weights(small, *self._face_and_figures(t, ids))

    def _face_and_figures(self, t: int, ids: UInt32Array) -> tuple[set[int], set[int]]:
        """The ids found under the joints of faces, and under any joint."""
        faces, figures = set[int](), set[int]()
        height, width = ids.shape
        for figure in read_joints(self._shot, t, t + 1)[0].figures:
            for joint, (x, y, seen) in enumerate(figure.points):
                column, row = int(x * width / self._shot.width), int(y * height / self._shot.height)
                if seen == 2 and 0 <= column < width and 0 <= row < height and ids[row, column] > 0:
                    figures.add(int(ids[row, column]))
                    if joint in FACE_JOINTS:
                        faces.add(int(ids[row, column]))
        return faces, figures


def _weights(ids: UInt32Array, faces: set[int], figures: set[int]) -> Float32Array:
    weights = np.ones(ids.shape, np.float32)
    weights[np.isin(ids, list(figures))] = FIGURE_WEIGHT
    weights[np.isin(ids, list(faces))] = FACE_WEIGHT
    return weights


def _stretch(reader: _Reader, start: int, stop: int, *, reach: int, forced: Sequence[int]) -> Stretch:
    if stop - start < SHORTEST:
        why = f"{stop - start} frames between cuts: too few to gain anything by keys"
        return Stretch(start, stop, "frame", why, (), (), (0.0,) * (stop - start), 1.0, 1.0)
    keys, patches = set[int](), list[Patch]()
    explained, holes, residuals = list[float](), list[float](), list[tuple[float, float, float]]()
    for first in range(start, stop - 1, CHUNK - 1):
        last = min(first + CHUNK, stop) - 1
        cover = _cover(reader, first, last, reach=reach, forced=forced)
        keys |= {first + key for key in cover.keys}
        patches += [dataclasses.replace(patch, frame=first + patch.frame) for patch in cover.patches]
        explained = explained[: first - start] + list(cover.explained)
        holes += cover.holes
        residuals += _residuals(reader, first, last)
        reader.forget(last)
    levels, left, change = np.mean(residuals, axis=0)
    residual = float(left / max(change, 1e-6)) if levels > SLIGHT**2 else 0.0
    reader.forget(stop)
    method, why = _gate(
        num_frames=stop - start, num_keys=len(keys), holes=float(np.mean(holes)), residual=residual
    )
    return Stretch(
        start, stop, method, why, tuple(sorted(keys)), tuple(patches),
        tuple(explained), float(np.mean(holes)), residual,
    )  # fmt: skip


def _cover(reader: _Reader, first: int, last: int, *, reach: int, forced: Sequence[int]) -> Cover:
    numbers = range(first, last + 1)
    tracks = follow(reader.size(), (reader.small_back(t) for t in numbers[1:]))
    weights = [reader.weights(t) for t in numbers]
    inside = [t - first for t in forced if first <= t <= last]
    return choose(tracks, weights, reach=reach, forced=inside)


def _residuals(reader: _Reader, first: int, last: int) -> list[tuple[float, float, float]]:
    """For each frame, against one a while before, squared and averaged over what is seen in both: the
    difference that motion leaves, in levels; that of the gradients; and that of the gradients without motion.

    Gradients, because shading that turns with the camera changes levels more than motion does.
    """
    found = []
    way: Step | None = None
    reference = reader.detail(first)
    for t in range(first + 1, last + 1):
        way = reader.small_back(t) if way is None else chain(reader.small_back(t), way)
        now = reader.detail(t)
        seen: BoolArray = cv2.erode(way.seen.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        if seen.any():
            moved = warp(reference, way.flow)
            pairs = ((moved, now), (_gradient(moved), _gradient(now)), (_gradient(reference), _gradient(now)))
            levels, left, change = (float(np.square(a - b)[seen].mean()) for a, b in pairs)
            found.append((levels, left, change))
        if (t - first) % EXPLAINED_OVER == 0:
            way, reference = None, now
    return found or [(0.0, 0.0, 0.0)]


def _gradient(values: Float32Array) -> Float32Array:
    """[h, w] -> [h, w, 2], a pixel."""
    parts = [cv2.Scharr(values, cv2.CV_32F, *axis, scale=1.0 / 32.0) for axis in ((1, 0), (0, 1))]
    gradient: Float32Array = np.stack(parts, axis=-1)
    return gradient


def _gate(*, num_frames: int, num_keys: int, holes: float, residual: float) -> tuple[str, str]:
    """The method of a stretch, and why."""
    if residual > UNEXPLAINED:
        return "frame", (
            f"the motion leaves {100 * residual:.0f} % of the picture's change unexplained "
            f"(at most {100 * UNEXPLAINED:.0f} %): vectors of glass, or wrong ones (lookdev shot probe)"
        )
    if num_keys > MOST_KEYS * num_frames:
        return "frame", f"{num_keys} keys for {num_frames} frames would cost as much as styling each"
    if holes > MOST_HOLES:
        return "blend", f"{100 * holes:.0f} % of the pixels are in no key (at most {100 * MOST_HOLES:.0f} %)"
    return "keys", f"{num_keys} keys show {100 * (1.0 - holes):.1f} % of the pixels"

"""The values of the plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

from pipeline.estimate import Estimate
from pipeline.preset import Look, Output
from pipeline.shot import Area

# Any of these tells which surface points were hidden in the frame before; `visible` is exact.
VISIBILITY_PASSES = frozenset({"visible", "ids", "depth"})
# What a control is drawn from as well, where the shot has it.
GEOMETRY_PASSES = ("depth", "normal", "ids")
ALSO_DRAWN_FROM: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"softedge": GEOMETRY_PASSES, "lineart": ("lineart", *GEOMETRY_PASSES)}
)


_RESULTS: Mapping[str, str] = MappingProxyType(
    {"h264": "{shot}.mp4", "h265": "{shot}.mp4", "prores": "{shot}.mov", "png": "frames", "exr": "exr"}
)


@dataclass(frozen=True)
class PlannedControl:
    """One ControlNet and the pass that it is drawn from; how much it steers is in each frame's look.

    `path`: its file or folder, absolute, or a hub id; None for the model's own. `thresholds`: canny's low and
    high.
    """

    kind: str
    pass_name: str
    path: str | None = None
    thresholds: tuple[float, float] | None = None


@dataclass(frozen=True)
class PlannedLora:
    """One LoRA file with its content's sha256 and its trigger word, if it says one.

    `web_hash`: the sha256 of its weights alone, by which web UIs know it. `embeddings`: the words that it was
    trained with and the sha256 of each one's file.
    """

    path: Path
    sha256: str
    trigger: str
    web_hash: str = ""
    embeddings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedEmbedding:
    """One textual inversion with its content's sha256 and the word that stands for it in prompts."""

    path: Path
    sha256: str
    name: str
    allow_pickle: bool = False


@dataclass(frozen=True)
class PlannedRegion:
    """A part of the frames with a look of its own: its name, its area, and its edge.

    `grow` and `soft` are shares of the frame's height.
    """

    name: str
    area: Area
    grow: float
    soft: float


@dataclass(frozen=True)
class Plan:
    """One render, every number resolved. T = num_frames; `batch`: how many share a forward pass.

    width, height: pixels of the styled frames. looks, seeds: one per frame; a look's `loras` are in the order
    of `loras`, its `regions` in that of `regions`. `estimates`: they make the passes that the shot lacks.
    `allow_partial`: what of a LoRA has no place in the model is left out rather than refused.
    `model`: a family's name or an absolute folder. `notes`: what was adjusted or looks like a mistake, in
    words for the user and the record. Method "keys"'s: `key_noise`, `key_every`, `key_frames` (indices that
    are keys in any case), `own_ids` (styled in every frame), `grain` (in levels; None: as the keys have).
    `output`: what is made of the frames. `frame_digests`: of what each frame's pixels depend on;
    `alone_digests`: were it styled by itself, as keys are.
    """

    shot: str
    num_frames: int
    fps: Fraction
    frame_numbers: tuple[int, ...]
    model: str
    width: int
    height: int
    looks: tuple[Look, ...]
    seeds: tuple[int, ...]
    controls: tuple[PlannedControl, ...]
    estimates: tuple[Estimate, ...]
    loras: tuple[PlannedLora, ...]
    embeddings: tuple[PlannedEmbedding, ...]
    regions: tuple[PlannedRegion, ...]
    clip_skip: int
    vae: Path | None
    precision: str
    allow_pickle: bool
    allow_partial: bool
    batch: int
    method: str
    key_noise: str
    key_every: int
    key_frames: tuple[int, ...]
    own_ids: tuple[int, ...]
    grain: float | None
    output: Output
    notes: tuple[str, ...]
    frame_digests: tuple[str, ...] = ()
    alone_digests: tuple[str, ...] = ()
    frames_digest: str = ""
    digest: str = ""

    @property
    def result(self) -> str:
        """The name, in the shot's output folder, of what is made of the frames: a video, or a folder."""
        return _RESULTS[self.output.format].format(shot=self.shot)

    def groups(self, most: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, int]]:
        """(first, last + 1) of at most `most` frames that share a look, in order, from `start` to `stop`."""
        for low, high in runs(self.looks[start:stop]):
            for first in range(start + low, start + high, most):
                yield first, min(first + most, start + high)


def runs(looks: Sequence[Look]) -> Iterable[tuple[int, int]]:
    """(start, stop) of the longest stretches of frames with one look."""
    start = 0
    for t in range(1, len(looks) + 1):
        if t == len(looks) or looks[t] != looks[start]:
            yield start, t
            start = t

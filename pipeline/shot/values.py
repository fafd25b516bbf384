"""The values of the shot room. Shapes: T frames, H W pixels, J = 18 joints (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.image import Float32Array
from pipeline.shot.encoding import LINEAR_DEPTH, NATIVE_MOTION, DepthEncoding, MotionEncoding

JOINT_NAMES = (
    "nose", "neck", "r-shoulder", "r-elbow", "r-wrist", "l-shoulder", "l-elbow", "l-wrist", "r-hip",
    "r-knee", "r-ankle", "l-hip", "l-knee", "l-ankle", "r-eye", "l-eye", "r-ear", "l-ear",
)  # fmt: skip
NUM_JOINTS = len(JOINT_NAMES)


@dataclass(frozen=True)
class VideoIndex:
    """Where each frame of a video file sits in time: `pts[t] * time_base` seconds, in order of showing."""

    path: Path
    time_base: Fraction
    pts: tuple[int, ...]
    matrix: str  # the YCbCr matrix to decode with: "bt709" or "bt601"


@dataclass(frozen=True)
class PassSource:
    """One pass on disk.

    `files` is one path per frame of the shot, in order; for a video and for joints.json it is that one file.
    `origin` says where the pass came from: "png", "jpg", "exr", "json" or "video".
    """

    name: str
    files: tuple[Path, ...]
    origin: str
    video: VideoIndex | None = None


@dataclass(frozen=True)
class Shot:
    """What is on disk under one name. No pixels are held; `read_*` fetch windows of them."""

    name: str
    root: Path
    num_frames: int
    fps: Fraction
    width: int
    height: int
    frame_numbers: tuple[int, ...]  # as on disk; 0, 1, 2 ... for a video
    passes: Mapping[str, PassSource]
    audio: Path | None = None
    characters: tuple[str, ...] = ()
    motion: MotionEncoding = NATIVE_MOTION  # how the motion pass was written, from shot.toml
    depth: DepthEncoding = LINEAR_DEPTH


@dataclass(frozen=True)
class Motion:
    """Flow in pixels, x right, y down, float32 [T, H, W, 2]; nan where there is none (the shot's ends).

    `forward[t]`: offset of this pixel's surface point from frame t to t+1. `backward[t]`: to t-1.
    """

    forward: Float32Array
    backward: Float32Array


@dataclass(frozen=True)
class Figure:
    """One person in one frame.

    `points` float32 [18, 3] = x, y in pixels and v (2 seen, 1 hidden, 0 outside or not there), COCO-18 order.
    `world` float32 [18, 3] in metres, or None where the file has none. `id` is the figure's number in `ids`.
    """

    name: str
    id: int
    points: Float32Array
    world: Float32Array | None = None


@dataclass(frozen=True)
class FrameJoints:
    """The figures of one frame. `camera` is the file's camera record, kept as it was written."""

    frame: int
    figures: tuple[Figure, ...]
    camera: Mapping[str, Any] = field(default_factory=dict)

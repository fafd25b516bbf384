"""The values of the shot room. Shapes: T frames, H W pixels, J = 18 joints (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.image import Float32Array
from pipeline.shot.display import SRGB, Display
from pipeline.shot.encoding import LINEAR_DEPTH, NATIVE_MOTION, DepthEncoding, MotionEncoding

JOINT_NAMES = (
    "nose", "neck", "r-shoulder", "r-elbow", "r-wrist", "l-shoulder", "l-elbow", "l-wrist", "r-hip",
    "r-knee", "r-ankle", "l-hip", "l-knee", "l-ankle", "r-eye", "l-eye", "r-ear", "l-ear",
)  # fmt: skip
NUM_JOINTS = len(JOINT_NAMES)
STAGE_FILM = "stage film"  # `FrameJoints.rendered` of a still of the procedural stage in a film look


@dataclass(frozen=True)
class VideoIndex:
    """Where each frame of a video file sits in time: `pts[t] * time_base` seconds, in order of showing.

    `matrix`: the YCbCr matrix to decode with, "auto" where the stream is tagged. `alpha`: it is see-through
    in places; `decoder`: the one to ask for, "" for ffmpeg's choice. `shown`: which decoded frame each frame
    of the shot is, where frames are held for others; None: each its own.
    """

    path: Path
    time_base: Fraction
    pts: tuple[int, ...]
    matrix: str
    alpha: bool = False
    decoder: str = ""
    shown: tuple[int, ...] | None = None


@dataclass(frozen=True)
class PassSource:
    """One pass on disk.

    `files` is one path per frame of the shot, in order; for a video and for joints.json it is that one file.
    `origin` says where the pass came from: "png", "jpg", "tif", "exr", "json" or "video". `channels` are
    those of an EXR that holds several passes; empty: the pass's usual ones. `files` of joints that are "solo"
    are one a frame, and `channels` names the sensor. `palette`: colour -> id, where a picture's colours are
    others than the ids.
    """

    name: str
    files: tuple[Path, ...]
    origin: str
    video: VideoIndex | None = None
    channels: tuple[str, ...] = ()
    palette: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Shot:
    """What is on disk under one name. No pixels are held; `read_*` fetch windows of them.

    `view` is the one that is read of EXRs with several. `held`: frame (from 0) -> the frame that stands in
    for it, picture and passes, because its own is missing or damaged; `without_motion`: frames whose vectors
    are none for that. `notes`: what was assumed, filled or passed over, for the user and the record.
    """

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
    display: Display = SRGB  # how an EXR's light becomes colours
    view: str | None = None
    colours: str = ""  # a video's colour tags as ffmpeg prints them
    held: Mapping[int, int] = field(default_factory=dict)
    without_motion: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


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
    """The figures of one frame. `camera` is the file's camera record, kept as it was written.

    `rendered`: what the picture of this frame is, "" where the file does not say; `STAGE_FILM` alone is used.
    """

    frame: int
    figures: tuple[Figure, ...]
    camera: Mapping[str, Any] = field(default_factory=dict)
    rendered: str = ""

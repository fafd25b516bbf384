"""A shot's pictures and passes at one size, by frame number; what was read last is held, up to a bound.

The way from each frame to the next is exact where there is a motion pass, else estimated by OpenCV's DIS
(Kroeger et al. 2016) on the shot's own pictures.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import numpy as np

from pipeline.conform import frames_at, nearest
from pipeline.estimate import dis_flow, ways_between
from pipeline.image import Float32Array, UInt8Array
from pipeline.shot import Shot, read_joints, read_motion, read_pass
from pipeline.steady.correspond import Pinhole, Surfaces, facing, read_camera, rim, still_points
from pipeline.steady.light import log_light
from pipeline.steady.metrics import Step
from pipeline.steady.visibility import VISIBLE_NEXT, VISIBLE_PREVIOUS, round_trip, seen_both_ways
from pipeline.steady.warp import BoolArray, in_frame

Origin = Literal["motion pass", "estimated (DIS)"]
SHARED = 0.2  # of the pixels: where fewer are seen in the frame beside, that is another picture
KNOWN_ANYWAY = (
    0.5  # of the pixels: where depth finds so many that ids lose, the ids have changed their numbers
)
PIXEL_BYTES = 60  # of all that is held of a frame
HELD_FRAMES = 40  # two gaps between keys and what is read ahead
LEAST_HELD, MOST_HELD = 64 * 2**20, 512 * 2**20
_Value = TypeVar("_Value")


def motion_origin(shot: Shot) -> Origin:
    """Where the ways of this shot come from."""
    return "motion pass" if "motion" in shot.passes else "estimated (DIS)"


class Footage:
    """Frames 0 .. T - 1 of a shot at `width` x `height`; raises ShotError for what is damaged.

    `hold`: bytes of what was read last that are kept; None: some 40 frames, 64 to 512 MiB.
    """

    def __init__(self, shot: Shot, *, width: int, height: int, hold: int | None = None) -> None:
        self.shot, self.width, self.height = shot, width, height
        wanted = HELD_FRAMES * PIXEL_BYTES * width * height
        self._hold = min(max(wanted, LEAST_HELD), MOST_HELD) if hold is None else hold
        self._size = 0
        self._lock = threading.Lock()  # keys are styled beside the frames between them
        self._held: OrderedDict[tuple[str, int], tuple[Any, int]] = OrderedDict()
        self.renamed = False  # whether ids were found to change their numbers from frame to frame
        self._scale = np.array([width / shot.width, height / shot.height], np.float32)

    def engine(self, t: int) -> UInt8Array:
        """The render's own picture, uint8 RGB [H, W, 3]."""
        size = {"width": self.width, "height": self.height}
        return self._once("engine", t, lambda: frames_at(self.shot, t, t + 1, **size)[0])

    def onward(self, t: int) -> Step:
        """The way t -> t + 1, for t < T - 1."""
        return self._once("onward", t, lambda: self._steps(t)[0])

    def back(self, t: int) -> Step:
        """The way t -> t - 1, for t > 0."""
        return self._once("back", t, lambda: self._steps(t - 1)[1])

    def surfaces(self, t: int) -> Surfaces:
        """What the passes know of frame t."""
        return self._once("surfaces", t, lambda: self._surfaces(t))

    def _steps(self, t: int) -> tuple[Step, Step]:
        """t -> t + 1 and t + 1 -> t; both are kept, since they are wanted in turn."""
        if motion_origin(self.shot) == "motion pass":
            forward, backward = self._motion(t)[0], self._motion(t + 1)[1]
            seen, seen_back = self._seen(t, forward, backward)
            pair = Step(forward, seen), Step(backward, seen_back)
        else:
            (pair,) = ways_between([self.engine(t), self.engine(t + 1)], dis_flow())
            forward, backward = (step.flow for step in pair)
            if (pair[0].seen & round_trip(forward, backward)).mean() < SHARED:  # chance matches over a cut
                nothing = np.zeros_like(pair[0].seen)
                pair = Step(forward, nothing), Step(backward, nothing)
        self._put("onward", t, pair[0])
        self._put("back", t + 1, pair[1])
        return pair

    def _motion(self, t: int) -> tuple[Float32Array, Float32Array]:
        """Frame t's vectors to the next frame and to the one before, in pixels of this size."""

        def read() -> tuple[Float32Array, Float32Array]:
            motion = read_motion(self.shot, t, t + 1)
            size = {"width": self.width, "height": self.height}
            forward, backward = (
                nearest(flow[0], **size) * self._scale for flow in (motion.forward, motion.backward)
            )
            return forward, backward

        return self._once("motion", t, read)

    def _picked(self, name: str, t: int) -> Any:
        """A pass at this size, each value the nearest one; None where the shot has none."""
        if name not in self.shot.passes:
            return None

        def read() -> Any:
            values = read_pass(self.shot, name, t, t + 1)[0]
            return np.ascontiguousarray(nearest(values, width=self.width, height=self.height))

        return self._once(name, t, read)

    def _seen(self, t: int, forward: Float32Array, backward: Float32Array) -> tuple[BoolArray, BoolArray]:
        """Which pixels of frame t are seen in t + 1, and which of t + 1 in t: each bool [H, W]."""
        if "visible" in self.shot.passes:
            here, there = self._picked("visible", t), self._picked("visible", t + 1)
            onward: BoolArray = in_frame(forward) & (here & VISIBLE_NEXT > 0)
            back: BoolArray = in_frame(backward) & (there & VISIBLE_PREVIOUS > 0)
            return onward, back
        ids, depth = (
            np.stack([self._picked(name, n) for n in (t, t + 1)]) if name in self.shot.passes else None
            for name in ("ids", "depth")
        )
        seen = seen_both_ways(forward, backward, ids=ids, depth=depth)
        if ids is None or depth is None or seen[0].mean() >= SHARED:
            return seen
        bare = seen_both_ways(forward, backward, depth=depth)
        if bare[0].mean() < KNOWN_ANYWAY:
            return seen  # a cut
        self.renamed = True
        return bare

    def _surfaces(self, t: int) -> Surfaces:
        depth, ids = self._picked("depth", t), self._picked("ids", t)
        other = self._beside(t)
        flow = None if other is None else (self.onward(t) if other > t else self.back(t)).flow
        camera, still = self.camera(t), None
        if depth is not None and camera is not None and flow is not None and other is not None:
            beside = self.camera(other)
            still = None if beside is None else still_points(depth, camera, beside, flow)
        edges = rim(depth, ids, flow) if flow is not None else np.zeros((self.height, self.width), np.float32)
        squarely = facing(self._picked("normal", t), (self.height, self.width))
        return Surfaces(depth, ids, camera, edges, squarely, still)

    def facts(self, t: int) -> Float32Array:
        """What is looked up along the way to frame t, float32 [H, W, 3]: log light, rim, facing."""

        def make() -> Float32Array:
            surfaces = self.surfaces(t)
            return np.dstack([log_light(self.engine(t)), surfaces.rim, surfaces.facing])

        return self._once("facts", t, make)

    def _beside(self, t: int) -> int | None:
        """The frame after t, or before it at the end and before a cut; None for a single frame."""
        if t + 1 < self.shot.num_frames and (t == 0 or self.onward(t).seen.mean() >= SHARED):
            return t + 1
        return t - 1 if t > 0 else None

    def camera(self, t: int) -> Pinhole | None:
        """The camera of frame t at this size, where joints.json has it."""
        if "joints" not in self.shot.passes:
            return None
        record = read_joints(self.shot, t, t + 1)[0].camera
        return read_camera(record, width=self.width, height=self.height)

    def _once(self, kind: str, t: int, make: Callable[[], _Value]) -> _Value:
        with self._lock:
            held = self._held.get((kind, t))
            if held is not None:
                self._held.move_to_end((kind, t))
                found: _Value = held[0]
                return found
        value = make()  # outside the lock: threads read other frames meanwhile
        self._put(kind, t, value)
        return value

    def _put(self, kind: str, t: int, value: Any) -> None:
        size = _bytes(value)
        with self._lock:
            if (kind, t) in self._held:
                return
            self._held[kind, t] = value, size
            self._size += size
            while self._size > self._hold and len(self._held) > 1:
                self._size -= self._held.popitem(last=False)[1][1]


def _bytes(value: Any) -> int:
    """The memory of an array, or of those in a tuple or a dataclass."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    parts = value if isinstance(value, tuple) else vars(value).values()
    return sum(_bytes(part) for part in parts if isinstance(part, np.ndarray))

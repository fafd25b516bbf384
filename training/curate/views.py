"""How a subject is seen: view and framing, from the renderer's joints, else from the caption's own words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import DatasetError
from pipeline.image import Float32Array
from pipeline.preset import face_angle
from pipeline.shot import STAGE_FILM, Figure, FrameJoints
from pipeline.shot.joints import read_joints_file
from training.captions import names
from training.schema import View

Framing = Literal["closeup", "medium", "full"]
Source = Literal["joints", "detector", "caption", "unknown"]
JOINTS_FILE = "joints.json"

# Degrees between the face and the camera where the next view begins; the sample captions use the same.
FRONT_END, THREE_QUARTER_END, PROFILE_END = 22.0, 62.0, 118.0
_NECK, _R_EAR, _L_EAR, _NOSE, _EYES = 1, 16, 17, 0, (14, 15)  # COCO-18
_HIPS, _ANKLES = (8, 11), (10, 13)
_VIEW_WORDS: tuple[tuple[str, View | Literal["profile"]], ...] = (
    ("three-quarter", "three-quarter"),
    ("3/4 view", "three-quarter"),
    ("profile left", "profile left"),
    ("left profile", "profile left"),
    ("profile right", "profile right"),
    ("right profile", "profile right"),
    ("profile", "profile"),
    ("side view", "profile"),
    ("from the side", "profile"),
    ("back view", "back"),
    ("rear view", "back"),
    ("from behind", "back"),
    ("front view", "front"),
    ("frontal", "front"),
    ("facing the camera", "front"),
)
_FRAMING_WORDS: tuple[tuple[str, Framing], ...] = (
    ("closeup", "closeup"),
    ("close-up", "closeup"),
    ("close up", "closeup"),
    ("headshot", "closeup"),
    ("medium shot", "medium"),
    ("upper body", "medium"),
    ("cowboy shot", "medium"),
    ("full shot", "full"),
    ("full body", "full"),
    ("wide shot", "full"),
)


@dataclass(frozen=True)
class Seen:
    """How one image shows its subject. "profile" alone: the side is not known."""

    view: View | Literal["profile"] | None
    framing: Framing | None
    source: Source
    figure: Figure | None = None
    angle: float | None = None
    """Radians between face and camera, as `angle_of`."""
    is_staged: bool = False
    """Whether its joints.json says that it is a film still of the procedural stage."""


def read_known(images: Path) -> Mapping[int, FrameJoints]:
    """`joints.json` beside a folder of images, by frame number; empty without it. Raises `ShotError`."""
    path = images.parent / JOINTS_FILE
    return read_joints_file(path) if path.is_file() else {}


def joints_of(
    image: Path, known: Mapping[int, FrameJoints], size: tuple[int, int]
) -> Mapping[int, FrameJoints]:
    """Of all the joints those of one image, in its pixels; empty without them. Raises `DatasetError`."""
    joints = known.get(int(image.stem)) if image.stem.isdecimal() else None
    return {} if joints is None else {joints.frame: at_size(joints, size, image=image)}


def look(
    stem: str,
    caption: str,
    known: Mapping[int, FrameJoints],
    *,
    trigger: str,
    detected: FrameJoints | None = None,
) -> Seen:
    """View and framing of the image with this stem: frame N of the joints is image N.

    By the renderer's joints (`at_size`), else by a detector's (`detected`), else by the caption's words.
    """
    joints = known.get(int(stem)) if stem.isdecimal() else None
    source: Source = "joints"
    if joints is None or not joints.figures:
        joints, source = detected, "detector"
    if joints is not None and joints.figures:
        figure = _subject(joints, trigger)
        angle = angle_of(figure, joints.camera)
        staged = joints.rendered == STAGE_FILM and figure.world is not None
        return Seen(view_of(figure, joints.camera), framing_of(figure), source, figure, angle, staged)
    view = next((view for words, view in _VIEW_WORDS if names(caption, words)), None)
    framing = next((framing for words, framing in _FRAMING_WORDS if names(caption, words)), None)
    return Seen(view, framing, "caption" if view or framing else "unknown")


def at_size(joints: FrameJoints, size: tuple[int, int], *, image: Path) -> FrameJoints:
    """The joints in the pixels of `image`, of `size` (W, H), which may be an enlarged or smaller copy.

    Which picture they are of, the camera says; without its width and height they are taken as they are.
    Raises `DatasetError` where the image has another shape: it was cut, and nobody knows where, or turned.
    """
    width, height = joints.camera.get("width"), joints.camera.get("height")
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        return joints
    if (width, height) == size:
        return joints
    by = np.array([size[0] / width, size[1] / height])
    if abs(width * by[1] - size[0]) >= 1.0 and abs(height * by[0] - size[1]) >= 1.0:  # more than rounding
        raise DatasetError(
            f"{image}: {size[0]}x{size[1]} pixels, another shape than its joints' picture ({width}x{height}, "
            f"{image.parent.parent / JOINTS_FILE}, frame {joints.frame}); use the uncut picture, or take the "
            "frame out"
        )
    figures = []
    for figure in joints.figures:
        points = figure.points.copy()
        points[:, :2] = (points[:, :2] + 0.5) * by - 0.5  # pixel centres are at whole numbers
        figures.append(replace(figure, points=points))
    camera = {key: value for key, value in joints.camera.items() if key != "focal"}
    camera |= {"width": size[0], "height": size[1]}
    return replace(joints, figures=tuple(figures), camera=camera)


def view_of(figure: Figure, camera: Mapping[str, Any]) -> View | None:
    """How the camera sees the figure's face; None where the joints do not say."""
    angle = angle_of(figure, camera)
    return None if angle is None else _view(abs(math.degrees(angle)), angle)


def angle_of(figure: Figure, camera: Mapping[str, Any]) -> float | None:
    """Radians between face and camera, positive where the face looks towards the picture's right edge.

    Exact with `world` joints and the camera's position and rotation; otherwise by how nose, eyes and ears lie
    beside one another and which are seen at all, as a detector gives them (`pipeline.preset.face_angle`).
    """
    if figure.world is not None and "position" in camera and "rotation" in camera:
        ears = figure.world[[_R_EAR, _L_EAR]].mean(axis=0)
        face, way = figure.world[_NOSE] - ears, np.asarray(camera["position"]) - ears
        right = np.asarray(camera["rotation"])[0]
        cosine = float(face @ way) / max(float(np.linalg.norm(face) * np.linalg.norm(way)), 1e-9)
        return math.copysign(math.acos(min(max(cosine, -1.0), 1.0)), float(face @ right))
    degrees = face_angle(figure.points)
    return None if degrees is None else math.copysign(math.radians(degrees), _towards_right(figure.points))


def _towards_right(points: Float32Array) -> float:
    """Positive where the front of the face lies to the picture's right of its back."""
    seen = points[:, 2] > 0
    front = [joint for joint in (_NOSE, *_EYES) if seen[joint]]
    back = [joint for joint in (_R_EAR, _L_EAR) if seen[joint]] or [_NECK] * bool(seen[_NECK])
    if not front or not back:
        return 0.0
    return float(points[front, 0].mean() - points[back, 0].mean())


def main_figure(joints: FrameJoints) -> Figure | None:
    """The largest figure of a frame; None where there is nobody."""
    return max(joints.figures, key=lambda figure: float(np.ptp(figure.points[:, 1])), default=None)


def framing_of(figure: Figure) -> Framing:
    """Full where an ankle is in the picture, medium where a hip is, closeup otherwise."""
    inside = figure.points[:, 2] > 0
    if inside[list(_ANKLES)].any():
        return "full"
    return "medium" if inside[list(_HIPS)].any() else "closeup"


def head_of(figure: Figure) -> tuple[NDArray[np.float64], float]:
    """The middle of the head [2] in pixels, x then y, and its distance to the neck, which scales with it.

    For a renderer's joints, which are exact outside the picture too; `find_head` for a detector's.
    """
    return _head(figure, [_R_EAR, _L_EAR])


def find_head(figure: Figure) -> tuple[NDArray[np.float64], float] | None:
    """As `head_of`, by what was seen of the head; None without any of it or without the neck."""
    if figure.world is not None:
        return head_of(figure)
    seen = figure.points[:, 2] > 0
    ears = [joint for joint in (_R_EAR, _L_EAR) if seen[joint]]
    places = ears if len(ears) == 2 else [*ears, *(joint for joint in (_NOSE, *_EYES) if seen[joint])]
    return _head(figure, places) if places and seen[_NECK] else None


def _head(figure: Figure, places: list[int]) -> tuple[NDArray[np.float64], float]:
    head = figure.points[places, :2].mean(axis=0).astype(np.float64)
    return head, float(np.linalg.norm(figure.points[_NECK, :2] - head))


def _view(degrees: float, towards_right: float) -> View:
    if degrees < FRONT_END:
        return "front"
    if degrees < THREE_QUARTER_END:
        return "three-quarter"
    if degrees < PROFILE_END:
        return "profile right" if towards_right > 0 else "profile left"
    return "back"


def _subject(joints: FrameJoints, trigger: str) -> Figure:
    """The figure that bears the trigger's name, else the largest."""
    named = [figure for figure in joints.figures if figure.name.lower() == trigger.lower()]
    return named[0] if named else max(joints.figures, key=lambda figure: float(np.ptp(figure.points[:, 1])))

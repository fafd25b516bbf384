"""{view} from joints: how far the face is turned from the camera, and a name for it that does not chatter."""

from __future__ import annotations

import bisect
import math
import statistics
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.preset.tables import Views

FloatArray = npt.NDArray[np.floating]

# Rows of COCO-18 (docs/architecture.md).
NOSE, R_SHOULDER, L_SHOULDER, R_EYE, L_EYE, R_EAR, L_EAR = 0, 2, 5, 14, 15, 16, 17
_HEAD = (NOSE, R_EYE, L_EYE, R_EAR, L_EAR)
_SMALLEST = 1e-3  # pixels between the ears, halved: less is no head
# Where these sit on a head, in half distances between the ears, from the middle between them: to its left,
# and forward. An adult's: ears 145 mm apart, pupils 63 mm, nose tip about 100 mm and eyes about 80 mm before
# the ears; only the ratios matter.
_MODEL = np.array([[0.0, 1.38], [-0.43, 1.1], [0.43, 1.1], [-1.0, 0.0], [1.0, 0.0]])


def face_angle(
    points: FloatArray,  # [18, 3] x, y in pixels (y down), v; v = 0: not there
    world: FloatArray | None = None,  # [18, 3] metres
    camera: Sequence[float] | None = None,  # [3] the camera's position in the same space
) -> float | None:
    """Degrees by which the head is turned from the camera about its own upright axis: 0 faces it, 180 away.

    With `world` and `camera` by geometry; else from where the nose, eyes and ears lie beside each other in
    the picture, as a head far away would show them (least squares). A figure without any of its face is
    taken to face away where its ears or shoulders are swapped; None: the joints do not say.
    """
    if world is not None and camera is not None:
        return _angle_in_space(world.astype(np.float64), np.asarray(camera, np.float64))
    return _angle_in_picture(points.astype(np.float64))


def name_views(angles: Iterable[float | None], views: Views) -> list[str] | None:
    """A name for each frame; None where no frame has an angle.

    The angle is the median of those within `views.smooth` frames, so that a point that an estimator missed
    decides nothing; a steady turn has the same medians. A name changes only when the angle is `views.margin`
    degrees past the boundary. A frame without an angle keeps the name before it (the first ones: after).
    """
    known = _medians(list(angles), views.smooth)
    first = next((angle for angle in known if angle is not None), None)
    if first is None:
        return None
    now = bisect.bisect_right(views.ends, first)
    names = []
    for angle in known:
        if angle is not None:
            while now < len(views.ends) and angle > views.ends[now] + views.margin:
                now += 1
            while now > 0 and angle < views.ends[now - 1] - views.margin:
                now -= 1
        names.append(views.names[now])
    return names


def _medians(angles: Sequence[float | None], reach: int) -> list[float | None]:
    """Each known angle as the median of the known ones within `reach` frames either way."""
    windows = (angles[max(0, t - reach) : t + reach + 1] for t in range(len(angles)))
    return [
        None if angle is None else statistics.median(each for each in window if each is not None)
        for angle, window in zip(angles, windows, strict=True)
    ]


def _angle_in_space(world: FloatArray, camera: FloatArray) -> float | None:
    middle = (world[R_EAR] + world[L_EAR]) / 2.0
    left = world[L_EAR] - world[R_EAR]
    length = float(np.linalg.norm(left))
    if length == 0.0:
        return None
    left /= length
    forward = world[NOSE] - middle
    forward -= (forward @ left) * left
    reach = float(np.linalg.norm(forward))
    if reach == 0.0:
        return None
    towards = camera - middle
    return math.degrees(math.atan2(abs(float(towards @ left)), float(towards @ forward) / reach))


def _angle_in_picture(points: FloatArray) -> float | None:
    """x = x0 + left * c + forward * s on the head's points; the angle is that of (c, |s|)."""
    seen = [row for row, joint in enumerate(_HEAD) if points[joint, 2] > 0]
    across = points[[_HEAD[row] for row in seen], 0]
    if len(seen) >= 3:
        matrix = np.column_stack([_MODEL[seen], np.ones(len(seen))])
        solution, _, rank, _ = np.linalg.lstsq(matrix, across, rcond=None)
        if rank == 3 and math.hypot(solution[0], solution[1]) > _SMALLEST:
            return math.degrees(math.atan2(abs(float(solution[1])), float(solution[0])))
    if (points[[NOSE, R_EYE, L_EYE], 2] > 0).any():
        return None  # a face, but too little of it
    for right, left in ((R_EAR, L_EAR), (R_SHOULDER, L_SHOULDER)):
        if (points[[right, left], 2] > 0).all():
            return 180.0 if points[left, 0] < points[right, 0] else None
    return None

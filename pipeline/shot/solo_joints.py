"""Keypoints of Unity Perception's SOLO datasets as joints.

A template in annotation_definitions.json, at the dataset's root, says which keypoint is which body part; its
labels are matched by their words ("left_elbow", "LeftElbow", "elbow_l"). Locations are pixels from the upper
left corner, so half a pixel more than ours; states are ours (2 seen, 1 hidden, 0 not there).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ShotError
from pipeline.image import Float32Array
from pipeline.shot.values import JOINT_NAMES, NUM_JOINTS, Figure, FrameJoints

DEFINITIONS = "annotation_definitions.json"
KEYPOINTS = re.compile(r"KeypointAnnotation(Definition)?$")
FEWEST_MATCHED = 8  # body parts: a template with fewer is of something else
SIDES = {"left": "l-", "l": "l-", "right": "r-", "r": "r-"}
PARTS = {each.rpartition("-")[2] for each in JOINT_NAMES}
OTHER_WORDS = {"head": "nose", "hand": "wrist", "foot": "ankle", "upperarm": "shoulder", "upleg": "hip"}
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

Template = Mapping[int, int]  # a keypoint's index -> the joint's


def read_template(root: Path) -> Template | None:
    """Which keypoint is which joint, by the definitions at the dataset's root; None where they say nothing.

    Raises ShotError for a file that is not JSON.
    """
    path = next(
        (place / DEFINITIONS for place in (root, root.parent) if (place / DEFINITIONS).is_file()), None
    )
    if path is None:
        return None
    try:
        listed = json.loads(path.read_text(encoding="utf-8")).get("annotationDefinitions", [])
    except (OSError, ValueError, AttributeError) as error:
        raise ShotError(f"{path}: not valid JSON ({error}); export the dataset again") from error
    for each in listed if isinstance(listed, list) else ():
        if isinstance(each, dict) and KEYPOINTS.search(str(each.get("@type", ""))):
            template = each.get("template")
            points = template.get("keypoints") if isinstance(template, dict) else None
            found = _matched(points if isinstance(points, list) else ())
            if len(found) >= FEWEST_MATCHED:
                return found
    return None


def _matched(points: Sequence[Any]) -> dict[int, int]:
    found: dict[int, int] = {}
    for each in points:
        if isinstance(each, dict) and isinstance(each.get("index"), int):
            name = joint_of(str(each.get("label", "")))
            if name is not None and JOINT_NAMES.index(name) not in found.values():
                found[each["index"]] = JOINT_NAMES.index(name)
    return found


def joint_of(label: str) -> str | None:
    """The joint that a keypoint's label names, None for another part."""
    words = [word.lower() for word in WORD.findall(label)]
    side = next((SIDES[word] for word in words if word in SIDES), "")
    part = "".join(word for word in words if word not in SIDES)
    part = OTHER_WORDS.get(part, part)
    name = side + part if part in PARTS and part not in ("nose", "neck") else part
    return name if name in JOINT_NAMES else None


def frame_joints(values: Sequence[Any], template: Template, number: int, where: str) -> FrameJoints:
    """The figures of one frame from a KeypointAnnotation's values. Raises ShotError where one is none."""
    figures = []
    for entry in values:
        try:
            key, points = int(entry["instanceId"]), np.zeros((NUM_JOINTS, 3), np.float32)
            for point in entry["keypoints"]:
                joint = template.get(point["index"])
                if joint is not None and point["state"] in (1, 2):
                    points[joint] = (point["location"][0] - 0.5, point["location"][1] - 0.5, point["state"])
        except (KeyError, TypeError, IndexError, ValueError) as error:
            raise ShotError(
                f"{where}: a keypoint annotation lacks {error}; expected instanceId and keypoints of index, "
                "location and state; export the dataset again"
            ) from error
        if key > 0 and points[:, 2].any():
            figures.append(Figure(f"figure{key}", key, _with_neck(points)))
    return FrameJoints(number, tuple(sorted(figures, key=lambda figure: figure.id)))


def _with_neck(points: Float32Array) -> Float32Array:
    """A neck between the shoulders, where the template has none (COCO's has none)."""
    neck, right, left = (JOINT_NAMES.index(name) for name in ("neck", "r-shoulder", "l-shoulder"))
    if not points[neck, 2] and points[right, 2] and points[left, 2]:
        points[neck] = (points[right] + points[left]) / 2
        points[neck, 2] = min(points[right, 2], points[left, 2])
    return points

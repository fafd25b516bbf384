"""Joints of photographs, which have none: by OpenPose (`pipeline.estimate`), if its weights are here.

Nothing is fetched. Without the weights the audit goes by the captions' words, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.estimate import choose
from pipeline.image import UInt8Array
from pipeline.shot import Figure, FrameJoints

Detect = Callable[[UInt8Array], FrameJoints]  # a picture uint8 RGB [H, W, 3] -> the people on it


def find_detector(*, folder: Path | None = None, device: str = "cpu") -> Detect:
    """OpenPose's body network, ready to look. Raises `ModelError` where its weights are not at hand.

    Looked for in `folder`, in $LOOKDEV_ANNOTATORS and in the hub's cache.
    """
    (estimate,) = choose(["joints"], folder=folder)
    if estimate.weights is None:
        raise ModelError("OpenPose has no file of weights; name its folder in $LOOKDEV_ANNOTATORS")
    from pipeline.estimate.detectors import openpose_people  # loads torch

    network = openpose_people(estimate.weights, device)

    def detect(picture: UInt8Array) -> FrameJoints:
        people = network(picture)  # [P, 18, 3]
        return FrameJoints(0, tuple(Figure(f"figure{n}", n, points) for n, points in enumerate(people, 1)))

    return detect

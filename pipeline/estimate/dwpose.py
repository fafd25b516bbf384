"""DWPose (Yang et al. 2023) on OpenCV's own network runner: people by YOLOX, then their joints by RTMPose.

controlnet-aux's DWPose needs mmpose, which does not install beside current torch; the same weights are
published as ONNX, as A1111's and ComfyUI's extensions use them, and need nothing but OpenCV. Of the 133
points of a whole body the 17 of COCO's body are used; the neck is put between the shoulders.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelError
from pipeline.estimate.detectors import NUM_JOINTS, Detector
from pipeline.image import Float32Array, UInt8Array, swap_rgb_bgr

YOLOX_SIDE = 640  # pixels; a picture is fitted into the upper left corner, the rest is grey
YOLOX_GREY = 114.0
YOLOX_STRIDES = (8, 16, 32)
PERSON = 0  # COCO's class
LEAST_PERSON = 0.3  # objectness times class, as DWPose's own runner
MOST_OVERLAP = 0.45
POSE_WIDTH, POSE_HEIGHT = 288, 384
POSE_MEAN = np.array([123.675, 116.28, 103.53], np.float32)  # RGB, as its training configuration
POSE_STD = np.array([58.395, 57.12, 57.375], np.float32)
BOX_MARGIN = 1.25  # of the person's box
BINS = 2  # of the simulated coordinates to a pixel (SimCC, Li et al. 2022)
LEAST_JOINT = 0.3
SEEN = 2.0
# COCO's 17 in OpenPose's order; the neck (None) lies between the shoulders.
OF_COCO = (0, None, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
SHOULDERS = (5, 6)


def dwpose_people(weights: Path, people: Path) -> Detector:
    """DWPose: people float32 [P, 18, 3] = x, y in pixels, 2 seen or 0.

    `weights`: dw-ll_ucoco_384.onnx; `people`: yolox_l.onnx. Raises ModelError for files that are not such.
    """
    finder, poser = _network(people), _network(weights)

    def detect(picture: UInt8Array) -> Float32Array:
        sheet, ratio = fitted(picture)
        boxes = people_of(_answer(finder, sheet, people)[0], ratio)
        found = np.zeros((len(boxes), NUM_JOINTS, 3), np.float32)
        for person, box in zip(found, boxes, strict=True):
            cut, corner, scale = cut_out(picture, box)
            across, down = _by_width(_answer(poser, cut, weights), weights)
            person[:] = joints_of(*points_of(across, down), corner, scale)
        return found[found[..., 2].any(axis=1)]

    return detect


def _network(path: Path) -> Any:
    try:
        return cv2.dnn.readNetFromONNX(str(path))
    except cv2.error as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise ModelError(f"{path}: cannot be read as ONNX ({reason}); fetch the file again") from None


def _answer(network: Any, values: Float32Array, path: Path) -> list[NDArray[Any]]:
    """All outputs of a network for values [1, 3, H, W]."""
    try:
        network.setInput(values)
        return list(network.forward(network.getUnconnectedOutLayersNames()))
    except cv2.error as error:
        reason = str(error).strip().splitlines()[0][:120]
        raise ModelError(f"{path}: does not run on a picture ({reason}); is it another network?") from None


def _by_width(outputs: list[NDArray[Any]], path: Path) -> tuple[Float32Array, Float32Array]:
    """The outputs over x and over y, each [K, bins], whatever their order."""
    wanted = (POSE_WIDTH * BINS, POSE_HEIGHT * BINS)
    found = {each.shape[-1]: each[0] for each in outputs if each.ndim == 3}
    if set(found) != set(wanted):
        raise ModelError(f"{path}: answers {[each.shape for each in outputs]}; expected dw-ll_ucoco_384.onnx")
    return found[wanted[0]], found[wanted[1]]


def fitted(picture: UInt8Array) -> tuple[Float32Array, float]:
    """A picture as YOLOX takes it, BGR float32 [1, 3, 640, 640], and its pixels over the picture's."""
    height, width = picture.shape[:2]
    ratio = min(YOLOX_SIDE / height, YOLOX_SIDE / width)
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    sheet = np.full((YOLOX_SIDE, YOLOX_SIDE, 3), YOLOX_GREY, np.float32)
    sheet[: size[1], : size[0]] = cv2.resize(swap_rgb_bgr(picture), size, interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(sheet.transpose(2, 0, 1)[None]), ratio


def people_of(output: NDArray[Any], ratio: float) -> Float32Array:
    """People's boxes float32 [P, 4] = left, top, right, bottom in the picture's pixels, of YOLOX's answer.

    `output` [1, N, 85]: centre and size in strides of each cell, objectness, classes (Ge et al. 2021).
    """
    cells = []
    for stride in YOLOX_STRIDES:
        side = YOLOX_SIDE // stride
        y, x = np.mgrid[:side, :side]
        cells.append(np.stack([x.ravel(), y.ravel(), np.full(side * side, stride)], axis=1))
    grid = np.concatenate(cells).astype(np.float32)
    if output.shape[1:] != (len(grid), 85):
        raise ModelError(f"a YOLOX answers [1, {len(grid)}, 85]; found {list(output.shape)}: another network")
    rows = output[0]
    scores = rows[:, 4] * rows[:, 5 + PERSON]
    likely = scores > LEAST_PERSON
    rows, grid, scores = rows[likely], grid[likely], scores[likely]
    middle = (rows[:, :2] + grid[:, :2]) * grid[:, 2:]
    size = np.exp(rows[:, 2:4]) * grid[:, 2:]
    corners = (middle - size / 2) / ratio
    boxes = np.concatenate([corners, size / ratio], axis=1)  # left, top, width, height
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), LEAST_PERSON, MOST_OVERLAP) if len(boxes) else []
    chosen = boxes[np.asarray(kept, np.intp).ravel()]
    return np.concatenate([chosen[:, :2], chosen[:, :2] + chosen[:, 2:]], axis=1).astype(np.float32)


def cut_out(picture: UInt8Array, box: Float32Array) -> tuple[Float32Array, Float32Array, float]:
    """A person as RTMPose takes it, float32 [1, 3, 384, 288]; where its corner lies, and pixels a pixel."""
    centre = (box[:2] + box[2:]) / 2
    width, height = (box[2:] - box[:2]) * BOX_MARGIN
    scale = float(max(width / POSE_WIDTH, height / POSE_HEIGHT, 1e-3))
    corner = (centre - scale * np.array([POSE_WIDTH, POSE_HEIGHT], np.float32) / 2).astype(np.float32)
    back = np.array([[scale, 0.0, corner[0]], [0.0, scale, corner[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    person = cv2.warpAffine(picture, back, (POSE_WIDTH, POSE_HEIGHT), flags=flags)
    values = (person.astype(np.float32) - POSE_MEAN) / POSE_STD
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None]), corner, scale


def points_of(across: Float32Array, down: Float32Array) -> tuple[Float32Array, Float32Array]:
    """Points [K, 2] in the cut-out's pixels and how sure [K], of SimCC's scores over x and over y."""
    places = np.stack([across.argmax(axis=1), down.argmax(axis=1)], axis=1) / BINS
    return places.astype(np.float32), np.minimum(across.max(axis=1), down.max(axis=1)).astype(np.float32)


def joints_of(points: Float32Array, sure: Float32Array, corner: Float32Array, scale: float) -> Float32Array:
    """A person's joints [18, 3] in the picture's pixels."""
    joints = np.zeros((NUM_JOINTS, 3), np.float32)
    for joint, source in enumerate(OF_COCO):
        sources = SHOULDERS if source is None else (source,)
        if all(sure[each] > LEAST_JOINT for each in sources):
            joints[joint] = (*(corner + scale * points[list(sources)].mean(axis=0)), SEEN)
    return joints

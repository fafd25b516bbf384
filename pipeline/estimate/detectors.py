"""controlnet-aux's networks on one picture: disparity, normals, joints, lines. Torch loads here.

Only the networks are used. Their pictures are drawn by `pipeline.controls`, as those of the renderer's passes
are, with scales that hold for the whole shot.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.controls import annotator_module
from pipeline.estimate.values import loading
from pipeline.image import Float32Array, UInt8Array, resize, swap_rgb_bgr

NUM_JOINTS = 18
MIDAS_SIDE, MIDAS_MULTIPLE = 384, 32  # the shorter side that dpt_hybrid was trained at; what it divides by
LINEART_SIDE, LINEART_MULTIPLE = 512, 64  # as controlnet-aux: its nets were shown pictures of this size
LINEART_BLOCKS = 3  # residual blocks of the published weights
BAE_SIDE, BAE_MULTIPLE = 480, 32  # NormalBae's ScanNet pictures are 640 x 480
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)

Detector = Callable[[UInt8Array], Float32Array]  # a picture uint8 RGB [H, W, 3] -> what is on it


def midas_disparity(weights: Path, device: str) -> Detector:
    """MiDaS (Ranftl et al. 2020, dpt_hybrid): disparity float32 [H, W], near is large, of no fixed scale."""
    with loading(weights):
        network = annotator_module("midas.api").MiDaSInference("dpt_hybrid", str(weights)).to(device)

    def detect(picture: UInt8Array) -> Float32Array:
        small = _sized(picture, MIDAS_SIDE, MIDAS_MULTIPLE).astype(np.float32) / 127.5 - 1.0
        found = _through(network, small, device)[0].float().cpu().numpy()
        return _enlarged(np.maximum(found, 0.0), picture)

    return detect


def bae_normals(weights: Path, device: str) -> Detector:
    """NormalBae (Bae et al. 2021): normals float32 [H, W, 3] in camera space, x right, y up, z toward it."""
    arguments = types.SimpleNamespace(mode="client", architecture="BN", pretrained="scannet")
    arguments.sampling_ratio, arguments.importance_ratio = 0.4, 0.7  # as controlnet-aux
    with loading(weights):
        network = annotator_module("normalbae.nets.NNET").NNET(arguments)
        annotator_module("normalbae").load_checkpoint(str(weights), network)
    network = network.to(device).eval()
    axes = np.array([-1.0, 1.0, 1.0], np.float32)  # its x is left (pipeline/controls/normal.py)

    def detect(picture: UInt8Array) -> Float32Array:
        small = _sized(picture, BAE_SIDE, BAE_MULTIPLE).astype(np.float32) / 255.0
        found = _through(network, (small - IMAGENET_MEAN) / IMAGENET_STD, device)[0][-1][0, :3]
        normals = _enlarged(np.ascontiguousarray(found.movedim(0, -1).float().cpu().numpy()) * axes, picture)
        length = np.linalg.norm(normals, axis=2, keepdims=True)
        unit: Float32Array = np.where(length > 0, normals / np.maximum(length, 1e-6), np.float32(0.0))
        return unit

    return detect


def openpose_people(weights: Path, device: str) -> Detector:
    """OpenPose's body network (Cao et al. 2017): people float32 [P, 18, 3] = x, y in pixels, 2 seen or 0."""
    annotator_module("open_pose.util")  # imports body, which imports it
    with loading(weights):
        network = annotator_module("open_pose.body").Body(str(weights)).to(device)

    def detect(picture: UInt8Array) -> Float32Array:
        candidates, people = network(swap_rgb_bgr(picture))
        points = np.zeros((len(people), NUM_JOINTS, 3), np.float32)
        for person, rows in zip(points, people, strict=True):
            for joint, row in enumerate(rows[:NUM_JOINTS].astype(int)):
                if row >= 0:
                    person[joint] = (*candidates[row][:2], 2.0)
        return points

    return detect


def lineart_lines(weights: Path, device: str) -> Callable[[UInt8Array], UInt8Array]:
    """controlnet-aux's line drawer (Chan et al. 2022): lines uint8 [H, W], white on black.

    Fine or coarse is a matter of the file: sk_model.pth or sk_model2.pth.
    """
    import torch

    with loading(weights):
        network = annotator_module("lineart").Generator(3, 1, LINEART_BLOCKS)
        network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    network = network.to(device).eval()

    def detect(picture: UInt8Array) -> UInt8Array:
        small = _sized(picture, LINEART_SIDE, LINEART_MULTIPLE).astype(np.float32) / 255.0
        paper = _through(network, small, device)[0, 0].float().cpu().numpy()  # 1 = white paper
        lines = (255.0 * (1.0 - paper)).clip(0.0, 255.0).astype(np.float32)
        return np.clip(np.rint(_enlarged(lines, picture)), 0, 255).astype(np.uint8)

    return detect


def _sized(picture: UInt8Array, side: int, multiple: int) -> UInt8Array:
    """The picture with about this shorter side, both sides multiples of `multiple`."""
    scale = side / min(picture.shape[:2])
    height, width = (max(1, round(length * scale / multiple)) * multiple for length in picture.shape[:2])
    sized: UInt8Array = resize(picture[None], height=height, width=width)[0]
    return sized


def _through(network: Any, values: Float32Array, device: str) -> Any:
    """A network's answer to float32 [H, W, 3]."""
    import torch

    with torch.inference_mode():
        tensor = torch.from_numpy(np.ascontiguousarray(values)).to(device).movedim(-1, 0)[None]
        return network(tensor)


def _enlarged(values: Float32Array, picture: UInt8Array) -> Float32Array:
    size = (picture.shape[1], picture.shape[0])
    enlarged: Float32Array = cv2.resize(values, size, interpolation=cv2.INTER_LINEAR)
    return enlarged

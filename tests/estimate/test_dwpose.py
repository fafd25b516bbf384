"""DWPose without its weights: boxes and points by formulas, and real ONNX files of the same shape."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import ModelError
from pipeline.estimate.dwpose import (
    OF_COCO,
    cut_out,
    dwpose_people,
    fitted,
    joints_of,
    people_of,
    points_of,
)

PICTURE = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
CELLS = 80 * 80 + 40 * 40 + 20 * 20


def answer(*people: tuple[float, float, float, float, float]) -> np.ndarray:
    """YOLOX's answer for boxes (left, top, right, bottom, score) in its own pixels, in cells of stride 8."""
    rows = np.zeros((1, CELLS, 85), np.float32)
    for left, top, right, bottom, score in people:
        x, y = (left + right) / 2, (top + bottom) / 2
        cell = int(y // 8) * 80 + int(x // 8)
        rows[0, cell, :4] = (
            x / 8 - x // 8,
            y / 8 - y // 8,
            np.log((right - left) / 8),
            np.log((bottom - top) / 8),
        )
        rows[0, cell, 4], rows[0, cell, 5] = 1.0, score
    return rows


def test_a_picture_is_fitted_into_the_corner_in_opencvs_order() -> None:
    sheet, ratio = fitted(PICTURE)
    assert sheet.shape == (1, 3, 640, 640) and ratio == 2.0
    assert (sheet[0, :, 480:] == 114).all()
    assert abs(sheet[0, 0, :480].mean() - PICTURE[..., 2].mean()) < 1.0  # blue first


def test_boxes_are_pixels_of_the_picture_and_doubles_are_dropped() -> None:
    boxes = people_of(
        answer((100, 60, 180, 300, 0.9), (104, 64, 184, 304, 0.6), (400, 80, 460, 200, 0.2)), 2.0
    )
    np.testing.assert_allclose(boxes, [[50, 30, 90, 150]], atol=1e-3)
    assert people_of(answer(), 2.0).shape == (0, 4)
    with pytest.raises(ModelError, match="another network"):
        people_of(np.zeros((1, 100, 85), np.float32), 2.0)


def test_points_go_back_to_where_the_person_was_cut_out() -> None:
    """The middle of the cut-out is the middle of the box, its pixels a known share of the picture's."""
    box = np.array([50, 30, 90, 150], np.float32)
    values, corner, scale = cut_out(PICTURE, box)
    assert values.shape == (1, 3, 384, 288) and scale == pytest.approx(120 * 1.25 / 384)
    across, down = np.zeros((133, 576), np.float32), np.zeros((133, 768), np.float32)
    across[:, 288], down[:, 384] = 0.9, 0.8
    down[9, 384] = 0.1  # COCO's left wrist is not sure
    joints = joints_of(*points_of(across, down), corner, scale)
    seen = joints[:, 2] > 0
    np.testing.assert_allclose(joints[seen, :2], np.float32([[70, 90]]) + np.zeros((17, 2)), atol=1e-3)
    assert not seen[OF_COCO.index(9)] and seen.sum() == 17


def test_the_neck_lies_between_the_shoulders() -> None:
    points = np.zeros((133, 2), np.float32)
    points[5], points[6] = (10, 4), (20, 8)
    joints = joints_of(points, np.ones(133, np.float32), np.zeros(2, np.float32), 1.0)
    assert joints[1].tolist() == [15, 6, 2] and joints[2, :2].tolist() == [20, 8]


class Constant(torch.nn.Module):
    """Answers with fixed tensors, plus nothing times its input."""

    def __init__(self, *answers: np.ndarray) -> None:
        super().__init__()
        for index, each in enumerate(answers):
            self.register_buffer(f"answer{index}", torch.from_numpy(each))
        self.count = len(answers)

    def forward(self, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        nothing = values.mean() * 0.0
        return tuple(getattr(self, f"answer{index}") + nothing for index in range(self.count))


def write_onnx(
    path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, *answers: np.ndarray
) -> None:
    """A real ONNX file by torch's exporter; its last step wants the package onnx, changes nothing here."""
    from torch.onnx._internal.torchscript_exporter import onnx_proto_utils

    monkeypatch.setattr(onnx_proto_utils, "_add_onnxscript_fn", lambda data, opsets: data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = torch.zeros(1, 3, *size)
        torch.onnx.export(Constant(*answers).eval(), (example,), str(path), dynamo=False, opset_version=13)


def test_people_from_real_onnx_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    across, down = np.zeros((1, 133, 576), np.float32), np.zeros((1, 133, 768), np.float32)
    across[..., 288] = down[..., 384] = 1.0
    write_onnx(tmp_path / "yolox_l.onnx", (640, 640), monkeypatch, answer((100, 60, 180, 300, 0.9)))
    write_onnx(tmp_path / "pose.onnx", (384, 288), monkeypatch, across, down)
    (person,) = dwpose_people(tmp_path / "pose.onnx", tmp_path / "yolox_l.onnx")(PICTURE)
    np.testing.assert_allclose(person, np.float32([[70, 90, 2]]) + np.zeros((18, 3)), atol=1e-3)
    with pytest.raises(ModelError, match=r"yolox_l\.onnx: answers .*; expected dw-ll_ucoco_384\.onnx"):
        dwpose_people(tmp_path / "yolox_l.onnx", tmp_path / "yolox_l.onnx")(PICTURE)


def test_a_file_that_is_no_onnx(tmp_path: Path) -> None:
    (tmp_path / "yolox_l.onnx").write_text("<html>not found</html>")
    with pytest.raises(ModelError, match=r"yolox_l\.onnx: cannot be read as ONNX"):
        dwpose_people(tmp_path / "yolox_l.onnx", tmp_path / "yolox_l.onnx")

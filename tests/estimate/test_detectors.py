"""controlnet-aux's networks: sizes, axes and files. At full size with random weights where marked slow."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.controls import annotator_module, normal_map
from pipeline.errors import ModelError
from pipeline.estimate import detectors
from pipeline.estimate.values import loading
from pipeline.image import resize

PICTURE = np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8)


class Stub(torch.nn.Module):
    """Answers with what it was given, made by `answer`; keeps the size of its input."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer, self.seen = answer, torch.zeros(0)

    def forward(self, values: torch.Tensor) -> Any:
        self.seen = values
        return self.answer(values)


def test_midas_sees_its_own_size_and_answers_at_the_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(lambda values: values.mean(dim=1))
    module = types.SimpleNamespace(MiDaSInference=lambda kind, path: stub)
    monkeypatch.setattr(detectors, "annotator_module", lambda name: module)
    found = detectors.midas_disparity(Path("w.pt"), "cpu")(PICTURE)
    assert stub.seen.shape == (1, 3, 384, 640) and float(stub.seen.abs().max()) <= 1.0
    assert found.shape == (48, 80) and found.dtype == np.float32 and found.min() == 0.0


def test_bae_is_turned_to_our_axes_and_the_control_draws_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector's picture is (n + 1) / 2 * 255 of what the network says: left, up, toward."""
    said = torch.tensor([0.6, 0.48, 0.64])
    stub = Stub(lambda values: ([said[None, :, None, None].expand(1, 3, *values.shape[2:])], None, None))
    modules = {
        "normalbae.nets.NNET": types.SimpleNamespace(NNET=lambda arguments: stub),
        "normalbae": types.SimpleNamespace(load_checkpoint=lambda path, network: network),
    }
    monkeypatch.setattr(detectors, "annotator_module", modules.__getitem__)
    found = detectors.bae_normals(Path("w.pt"), "cpu")(PICTURE)
    assert stub.seen.shape == (1, 3, 480, 800)
    np.testing.assert_allclose(found[20, 40], [-0.6, 0.48, 0.64], atol=1e-5)
    drawn = normal_map(found[None])[0, 20, 40].astype(int)
    assert np.abs(drawn - ((said.numpy() + 1) / 2 * 255)).max() <= 1


def test_openposes_people_are_pixels_of_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    candidates = np.array([[10.0, 20.0, 0.9, 0], [30.0, 40.0, 0.8, 1]])
    rows = -np.ones((1, 20))
    rows[0, 0], rows[0, 17] = 1, 0
    seen: list[np.ndarray] = []

    class Body:
        def __init__(self, path: str) -> None: ...

        def to(self, device: str) -> Body:
            return self

        def __call__(self, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            seen.append(picture)
            return candidates, rows

    monkeypatch.setattr(detectors, "annotator_module", lambda name: types.SimpleNamespace(Body=Body))
    (person,) = detectors.openpose_people(Path("w.pth"), "cpu")(PICTURE)
    np.testing.assert_array_equal(seen[0], PICTURE[..., ::-1])  # OpenCV's order
    assert person[0].tolist() == [30.0, 40.0, 2.0] and person[17].tolist() == [10.0, 20.0, 2.0]
    assert (person[1:17, 2] == 0).all()


def test_lineart_turns_white_paper_to_black(tmp_path: Path) -> None:
    """The real network (17 MB), random weights: its answer is paper, ours are lines; 1 - paper exactly."""
    network = annotator_module("lineart").Generator(3, 1, 3)
    torch.save(network.state_dict(), tmp_path / "sk_model.pth")
    square = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
    lines = detectors.lineart_lines(tmp_path / "sk_model.pth", "cpu")(square)
    assert lines.shape == (64, 64) and lines.dtype == np.uint8
    small = (
        torch.from_numpy(resize(square[None], height=512, width=512)[0]).float().movedim(-1, 0)[None] / 255
    )
    with torch.inference_mode():
        paper = network.eval()(small)[0, 0].numpy()
    expected = cv2.resize(255 * (1 - paper), (64, 64), interpolation=cv2.INTER_LINEAR)
    assert np.abs(lines - expected).max() <= 1.0


@pytest.mark.parametrize(
    "load", [detectors.lineart_lines, detectors.midas_disparity, detectors.openpose_people]
)
def test_a_file_that_is_not_the_network(tmp_path: Path, load: Any) -> None:
    path = tmp_path / "w.pth"
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"w\.pth: cannot be loaded \(.*\); fetch the file again"):
        load(path, "cpu")


@pytest.mark.slow
def test_openpose_at_its_real_size(tmp_path: Path) -> None:
    """The real network with random weights, saved as the file that people have: names without their block."""
    annotator_module("open_pose.util")
    network = annotator_module("open_pose.model").bodypose_model()
    weights = {name.split(".", 1)[1]: values for name, values in network.state_dict().items()}
    torch.save(weights, tmp_path / "body_pose_model.pth")
    people = detectors.openpose_people(tmp_path / "body_pose_model.pth", "cpu")(PICTURE)
    assert people.shape[1:] == (18, 3)


@pytest.mark.slow
def test_normalbae_at_its_real_size(tmp_path: Path) -> None:
    arguments = types.SimpleNamespace(
        mode="client", architecture="BN", pretrained="scannet", sampling_ratio=0.4, importance_ratio=0.7
    )
    with loading(tmp_path):
        network = annotator_module("normalbae.nets.NNET").NNET(arguments)
    weights = {f"module.{name}": values for name, values in network.state_dict().items()}
    torch.save({"model": weights}, tmp_path / "scannet.pt")
    normals = detectors.bae_normals(tmp_path / "scannet.pt", "cpu")(PICTURE)
    assert normals.shape == (48, 80, 3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=2), 1.0, atol=1e-3)


@pytest.mark.slow
def test_midas_at_its_real_size(tmp_path: Path) -> None:
    with loading(tmp_path):
        network = annotator_module("midas.api").DPTDepthModel(
            path=None, backbone="vitb_rn50_384", non_negative=True
        )
    torch.save(network.state_dict(), tmp_path / "dpt_hybrid-midas-501f0c75.pt")
    disparity = detectors.midas_disparity(tmp_path / "dpt_hybrid-midas-501f0c75.pt", "cpu")(PICTURE)
    assert disparity.shape == (48, 80) and np.isfinite(disparity).all() and disparity.min() >= 0.0

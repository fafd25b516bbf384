"""Canny's edges, against controlnet-aux's detector and against a step whose edges are known."""

import numpy as np
import pytest

from pipeline.controls import canny_map


def noisy(seed: int, size: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, size, size, 3), dtype=np.uint8)


def test_it_is_controlnet_aux_s_detector() -> None:
    """The detector resizes to multiples of 64 first; a picture that needs none is drawn alike."""
    import importlib.util
    import sys
    import types
    from pathlib import Path

    spec = importlib.util.find_spec("controlnet_aux")
    assert spec is not None and spec.submodule_search_locations
    root = Path(next(iter(spec.submodule_search_locations)))
    package = types.ModuleType("_aux_for_canny")  # without __init__, which imports every detector
    package.__path__ = [str(root)]
    sys.modules["_aux_for_canny"] = package
    detector = importlib.import_module("_aux_for_canny.canny").CannyDetector()
    frames = noisy(0)
    for low, high in ((100, 200), (400, 900)):
        theirs = [
            detector(frame, low, high, detect_resolution=64, image_resolution=64, output_type="np")
            for frame in frames
        ]
        ours = canny_map(frames, low=low, high=high)
        assert np.array_equal(ours, np.stack(theirs)) and 0 < ours.mean() < 255


def test_a_step_is_an_edge_by_its_contrast() -> None:
    """Sobel 3x3 of a vertical step of c is 4 c, so `high` = 200 takes it from 51 on."""
    frames = np.zeros((3, 16, 16, 3), np.uint8)
    for frame, contrast in zip(frames, (40, 50, 51), strict=True):
        frame[:, 8:] = contrast
    edges = canny_map(frames)
    assert not edges[:2].any()
    columns = np.flatnonzero(edges[2, 8, :, 0])
    assert len(columns) == 1 and columns[0] in (7, 8) and set(np.unique(edges)) == {0, 255}
    assert canny_map(frames, low=50, high=150)[0].any()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="low <= high"):
        canny_map(noisy(1), low=3, high=2)
    with pytest.raises(ValueError, match="frames must be"):
        canny_map(noisy(1)[0])

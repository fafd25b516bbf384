import numpy as np
import pytest

from pipeline.controls import FAR_METRES, NEAR_METRES, depth_map
from pipeline.errors import ShotError


def test_ends_of_the_range_are_white_and_black() -> None:
    depth = np.array([[[NEAR_METRES, 0.1, FAR_METRES, 100.0, np.inf]]], np.float32)
    out = depth_map(depth)
    assert out.shape == (1, 1, 5, 3)
    assert out.dtype == np.uint8
    assert out[0, 0, :, 0].tolist() == [255, 255, 0, 0, 0]
    assert (out == out[..., :1]).all()


def test_value_is_the_formula_by_hand() -> None:
    # z = 2, near 1, far 4: (1/2 - 1/4) / (1 - 1/4) = 1/3 -> 85
    out = depth_map(np.full((1, 1, 1), 2.0, np.float32), near=1.0, far=4.0)
    assert out[0, 0, 0].tolist() == [85, 85, 85]


def test_a_frame_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(0.5, 20.0, (4, 8, 8)).astype(np.float32)
    whole = depth_map(depth)
    for t in range(4):
        np.testing.assert_array_equal(whole[t], depth_map(depth[t : t + 1])[0])


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_depth_that_is_no_distance_is_named(bad: float) -> None:
    depth = np.ones((2, 3, 4), np.float32)
    depth[1, 2, 3] = bad
    with pytest.raises(ShotError, match=r"frame 1 .*\(x=3, y=2\)") as caught:
        depth_map(depth)
    assert "\n" not in str(caught.value)


def test_wrong_shape_and_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\[T, H, W\]"):
        depth_map(np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match="near"):
        depth_map(np.ones((1, 3, 4), np.float32), near=2.0, far=1.0)

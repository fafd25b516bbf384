import subprocess
import sys

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.controls import pose_map, pose_map_points
from pipeline.shot.values import Figure, FrameJoints

NECK, R_SHOULDER, R_ANKLE = 1, 2, 10


def only(*joints: tuple[int, float, float, int]) -> npt.NDArray[np.float32]:
    """One figure with the given (joint, x, y, v) and all others absent."""
    points = np.zeros((1, 18, 3), np.float32)
    for joint, x, y, v in joints:
        points[0, joint] = (x, y, v)
    return points


def centre(picture: npt.NDArray[np.uint8]) -> tuple[float, float]:
    weight = picture.sum(-1).astype(float)
    ys, xs = np.mgrid[: weight.shape[0], : weight.shape[1]]
    return float((xs * weight).sum() / weight.sum()), float((ys * weight).sum() / weight.sum())


@pytest.mark.parametrize(("height", "width"), [(128, 128), (96, 160), (512, 512)])
def test_a_lone_joint_is_a_dot_of_its_colour_at_its_pixel(height: int, width: int) -> None:
    picture = pose_map_points(only((NECK, 40.0, 30.0, 2)), height, width)
    assert picture.shape == (height, width, 3)
    assert picture.dtype == np.uint8
    # the canvas' dot is symmetric around the joint's pixel; at scale 2 it can only lie a quarter pixel off
    np.testing.assert_allclose(centre(picture), (40.0, 30.0), atol=0.26)
    assert picture[30, 40].tolist() == [255, 85, 0]  # OpenPose's colour of the neck


def test_dot_is_centred_to_the_pixel_at_128() -> None:
    np.testing.assert_allclose(
        centre(pose_map_points(only((NECK, 7.0, 100.0, 2)), 128, 128)), (7.0, 100.0), atol=1e-6
    )


def test_sticks_are_thin_at_128() -> None:
    picture = pose_map_points(only((NECK, 20.0, 64.0, 2), (R_SHOULDER, 108.0, 64.0, 2)), 128, 128)
    column = picture[:, 64].sum(-1) > 0  # half way along a level stick
    assert 2 <= column.sum() <= 4  # controlnet-aux's 9 px at a third of the size


def test_absent_joints_are_left_out_and_hidden_ones_drawn() -> None:
    neck = (NECK, 20.0, 64.0, 2)
    alone = pose_map_points(only(neck), 128, 128)
    np.testing.assert_array_equal(pose_map_points(only(neck, (R_SHOULDER, 90.0, 64.0, 0)), 128, 128), alone)
    seen = pose_map_points(only(neck, (R_SHOULDER, 90.0, 64.0, 2)), 128, 128)
    hidden = pose_map_points(only(neck, (R_SHOULDER, 90.0, 64.0, 1)), 128, 128)
    np.testing.assert_array_equal(seen, hidden)
    assert (seen != alone).any()


def test_hidden_face_points_are_left_out_so_that_a_back_is_no_front() -> None:
    neck = (NECK, 64.0, 64.0, 2)
    alone = pose_map_points(only(neck), 128, 128)
    for joint in (0, 14, 15, 16, 17):
        np.testing.assert_array_equal(pose_map_points(only(neck, (joint, 64.0, 30.0, 1)), 128, 128), alone)
        assert (pose_map_points(only(neck, (joint, 64.0, 30.0, 2)), 128, 128) != alone).any()


def test_joint_outside_the_frame_clips() -> None:
    picture = pose_map_points(only((NECK, 64.0, 64.0, 2), (R_SHOULDER, -40.0, 64.0, 1)), 128, 128)
    assert picture[64, 2].any()  # the stick runs out of the frame
    assert not pose_map_points(only((R_ANKLE, 500.0, 500.0, 1)), 128, 128).any()


def test_no_figure_is_black_and_frames_are_apart() -> None:
    figure = Figure("iris", 1, only((NECK, 50.0, 50.0, 2))[0])
    out = pose_map([FrameJoints(1, ()), FrameJoints(2, (figure,)), FrameJoints(3, (figure, figure))], 128, 96)
    assert out.shape == (3, 128, 96, 3)
    assert not out[0].any()
    np.testing.assert_array_equal(out[1], pose_map_points(figure.points[None], 128, 96))
    np.testing.assert_array_equal(out[2], out[1])


def test_wrong_shapes_and_infinite_joints_are_refused() -> None:
    with pytest.raises(ValueError, match="18"):
        pose_map_points(np.zeros((1, 17, 3), np.float32), 128, 128)
    with pytest.raises(ValueError, match="finite"):
        pose_map_points(only((NECK, np.nan, 3.0, 2)), 128, 128)


def test_drawing_leaves_the_real_package_alone_and_is_quiet() -> None:
    code = (
        "import sys, numpy as np; from pipeline.controls import pose_map_points;"
        "pose_map_points(np.ones((1, 18, 3), np.float32), 128, 128);"
        "assert 'controlnet_aux' not in sys.modules; assert 'timm' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

"""Estimates on disk: what they are called, where they lie, how they go on, and when they are made again."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_shot import SIZE, STEP, make_shot

from pipeline.errors import ModelError
from pipeline.estimate import Estimate, choose, detectors, make_estimates, with_finished
from pipeline.estimate.place import folder_of
from pipeline.shot import Shot, open_shot, read_joints, read_motion, read_pass

DIS = Estimate("dis")


@pytest.fixture
def shot(tmp_path: Path) -> Shot:
    return make_shot(tmp_path / "wall")


def bare(shot: Shot, *kept: str) -> Shot:
    return replace(shot, passes={name: shot.passes[name] for name in ("rgb", *kept)})


def files_under(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*") if path.is_file()
    }


def test_motion_is_an_ordinary_pass_that_says_where_it_is_from(shot: Shot) -> None:
    made = make_estimates(bare(shot), [DIS])
    assert {name: made.passes[name].origin for name in ("motion", "visible")} == {
        "motion": "estimated (DIS)",
        "visible": "estimated (DIS)",
    }
    assert made.passes["motion"].files[0].is_relative_to(shot.root / ".lookdev")
    motion, exact = read_motion(made, 0, 5), read_motion(shot, 0, 5)
    inner = (slice(None), slice(12, -12), slice(12, -12))
    np.testing.assert_allclose(motion.forward[inner][:-1], exact.forward[inner][:-1], atol=0.25)
    np.testing.assert_allclose(motion.backward[inner][1:], exact.backward[inner][1:], atol=0.25)
    assert np.isnan(motion.forward[-1]).all() and np.isnan(motion.backward[0]).all()
    visible = read_pass(made, "visible", 0, 5)
    assert (visible[1:-1, 12:-12, 12:-12] == 3).all()
    assert not (visible[0] & 2).any() and not (visible[-1] & 1).any()  # nothing before, nothing after
    again = open_shot(shot.root)  # the hidden folder does not change what the shot is
    assert again == shot


def test_a_stopped_run_goes_on_to_the_same_bytes(shot: Shot, tmp_path: Path) -> None:
    whole = make_estimates(bare(shot), [DIS]).passes["motion"].files[0].parents[1]
    expected = files_under(whole)
    other = bare(make_shot(tmp_path / "other" / "wall"))
    done: list[int] = []

    def stop(what: str, count: int, total: int) -> None:
        assert (what, total) == ("wall: motion and visible estimated (DIS)", 5)
        done.append(count)
        if done == [0, 1, 2]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_estimates(other, [DIS], on_frame=stop)
    folder = folder_of(other, DIS)
    assert with_finished(other) == other and not (folder / "estimate.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    assert len(kept) == 2
    made = make_estimates(other, [DIS], on_frame=stop)
    assert done == [0, 1, 2, 2, 3, 4, 5]
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())
    got = files_under(folder)
    assert {name for name in got if got[name] != expected[name]} <= {"estimate.json"}  # it has the seconds
    assert with_finished(other).passes == made.passes
    assert json.loads(got["estimate.json"])["frames"] == 5
    make_estimates(other, [DIS], on_frame=stop)
    assert len(done) == 7  # nothing to do


def test_pictures_that_change_are_estimated_again(shot: Shot) -> None:
    first = folder_of(bare(shot), DIS)
    assert folder_of(bare(shot), DIS) == first
    os.utime(shot.passes["rgb"].files[2], ns=(1, 1))
    assert folder_of(bare(shot), DIS) != first


def test_where_nothing_may_be_written_beside_the_shot(
    shot: Shot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not Path(path).is_relative_to(shot.root))
    made = make_estimates(bare(shot), [DIS], fallback=tmp_path / "out")
    assert made.passes["motion"].files[0].is_relative_to(tmp_path / "out" / ".lookdev" / "wall")
    assert not (shot.root / ".lookdev").exists()


def test_a_video_keeps_them_beside_it(shot: Shot, tmp_path: Path) -> None:
    video = replace(bare(shot), root=tmp_path / "clip.mp4")
    assert folder_of(video, DIS).parent == tmp_path / ".lookdev" / "clip.mp4"


def test_what_is_seen_along_the_shots_own_motion(shot: Shot) -> None:
    made = make_estimates(bare(shot, "motion"), choose(["visible"]))
    assert made.passes["visible"].origin == "estimated (there and back along the motion pass)"
    assert made.passes["motion"] == shot.passes["motion"]
    seen, exact = read_pass(made, "visible", 0, 5) & 2, read_pass(shot, "visible", 0, 5) & 2
    np.testing.assert_array_equal(seen[1:, :, STEP:], exact[1:, :, STEP:])


def test_the_renderers_ids_tell_what_the_pictures_do_not(shot: Shot) -> None:
    """Where ids change under the estimated vectors, the pixel is not seen, however alike the pictures are."""
    made = make_estimates(bare(shot, "ids"), [DIS])
    assert (read_pass(made, "visible", 1, 2)[0, 12:-12, 12:-12] == 3).all()
    from pipeline.image import write_png

    for t, path in enumerate(shot.passes["ids"].files):  # another surface in every frame
        write_png(path, np.full((SIZE, SIZE), 256 * (t + 1), np.uint16))
    made = make_estimates(bare(shot, "ids"), [DIS])
    assert not read_pass(made, "visible", 0, 5).any()


def test_one_frame_has_no_motion(tmp_path: Path) -> None:
    made = make_estimates(bare(make_shot(tmp_path / "still", num_frames=1)), [DIS])
    assert np.isnan(read_motion(made, 0, 1).forward).all() and not read_pass(made, "visible", 0, 1).any()


def test_disparity_becomes_metres_by_one_line_for_the_shot(
    shot: Shot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.linspace(0.0, 1.0, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    calls: list[int] = []

    def network(weights: Path, device: str) -> detectors.Detector:
        assert weights == tmp_path / "w.pt" and device == "cpu"

        def detect(picture: np.ndarray) -> np.ndarray:
            calls.append(picture.shape[0])
            return 100.0 * (ramp + 0.5 * len(calls))

        return detect

    monkeypatch.setattr(detectors, "midas_disparity", network)
    (tmp_path / "w.pt").write_bytes(b"weights")
    made = make_estimates(bare(shot), [Estimate("midas", tmp_path / "w.pt")], device="cpu")
    assert len(calls) == 5
    depth = read_pass(made, "depth", 0, 5)
    assert made.passes["depth"].origin == "estimated (MiDaS)"
    np.testing.assert_allclose([depth.min(), depth.max()], [0.7, 14.0], rtol=2e-3)  # the control's range
    inverse = 1.0 / depth
    slope, offset = np.polyfit(100.0 * (ramp + 1.5).ravel(), inverse[2].ravel(), 1)
    np.testing.assert_allclose(inverse[2], slope * 100.0 * (ramp + 1.5) + offset, atol=2e-3)
    np.testing.assert_allclose(inverse[3], slope * 100.0 * (ramp + 2.0) + offset, atol=2e-3)  # the same line
    assert not list(made.passes["depth"].files[0].parents[1].glob("raw*"))


def test_people_become_figures(shot: Shot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    person = np.full((18, 3), 2.0, np.float32)
    moved = person + np.float32((30, 0, 0))
    found = iter([np.stack([person, moved])] * 5)
    monkeypatch.setattr(detectors, "openpose_people", lambda weights, device: lambda picture: next(found))
    (tmp_path / "w.pth").write_bytes(b"weights")
    made = make_estimates(bare(shot), [Estimate("openpose", tmp_path / "w.pth")], device="cpu")
    joints = read_joints(made, 0, 5)
    assert [frame.frame for frame in joints] == [1, 2, 3, 4, 5]
    assert all([figure.name for figure in frame.figures] == ["figure1", "figure2"] for frame in joints)
    np.testing.assert_array_equal(joints[4].figures[1].points, moved)


def test_weights_are_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("LOOKDEV_ANNOTATORS", str(tmp_path / "all"))
    with pytest.raises(ModelError) as caught:
        choose(["depth"], folder=tmp_path / "mine")
    said = str(caught.value)
    assert "MiDaS needs dpt_hybrid-midas-501f0c75.pt, which is not here" in said and "\n" not in said
    assert str(tmp_path / "mine") in said and str(tmp_path / "all") in said and "estimate.weights" in said
    for folder in ("all", "mine"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "dpt_hybrid-midas-501f0c75.pt").write_bytes(b"x")
        (chosen,) = choose(["depth"], folder=tmp_path / "mine")
        assert chosen.weights == tmp_path / folder / "dpt_hybrid-midas-501f0c75.pt"
    cached = tmp_path / "torch" / "hub" / "checkpoints" / "raft_large_C_T_SKHT_V2-ff5fadd5.pth"
    with pytest.raises(ModelError, match=r"RAFT needs .*download\.pytorch\.org/models/raft_large"):
        choose(["motion"], by={"motion": "raft"})
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"x")
    assert choose(["motion"], by={"motion": "raft"}) == (Estimate("raft", cached),)
    assert choose(["visible", "motion"]) == (DIS,)  # one method makes both


@pytest.mark.parametrize("place", ["lineart", "lllyasviel/Annotators"])
def test_weights_are_found_where_other_tools_keep_them(tmp_path: Path, place: str) -> None:
    """A1111's extension sorts them by detector, ComfyUI's by repository."""
    file = tmp_path / place / "sk_model2.pth"
    file.parent.mkdir(parents=True)
    file.touch()
    (found,) = choose(["lineart"], by={"lineart": "lineart_coarse"}, folder=tmp_path)
    assert found == Estimate("lineart_coarse", file) and found.passes == ("lineart",)


def test_dwpose_needs_both_files_in_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("LOOKDEV_ANNOTATORS", raising=False)
    place = tmp_path / "yzd-v" / "DWPose"  # as ComfyUI keeps them
    place.mkdir(parents=True)
    (place / "dw-ll_ucoco_384.onnx").touch()
    with pytest.raises(ModelError, match=r"dw-ll_ucoco_384\.onnx and yolox_l\.onnx beside it.*yzd-v/DWPose"):
        choose(["joints"], by={"joints": "dwpose"}, folder=tmp_path)
    (place / "yolox_l.onnx").touch()
    (found,) = choose(["joints"], by={"joints": "dwpose"}, folder=tmp_path)
    assert found == Estimate("dwpose", place / "dw-ll_ucoco_384.onnx") and found.passes == ("joints",)

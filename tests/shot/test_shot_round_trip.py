"""What the writer writes, the reader reads: exactly, except where half precision was asked for."""

from __future__ import annotations

import dataclasses
import wave
import weakref
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from full_shot import H, T, W, make_passes

from pipeline.errors import OutputError, ShotError
from pipeline.image import UInt8Array
from pipeline.shot import (
    HALF_PASSES,
    STAGE_FILM,
    FramePasses,
    iterate_frames,
    open_shot,
    read_frames,
    read_joints,
    read_motion,
    read_pass,
    write_shot,
)


def test_the_shot_knows_itself(shot_root: Path) -> None:
    shot = open_shot(shot_root)
    assert (shot.name, shot.num_frames, shot.width, shot.height) == ("walk", T, W, H)
    assert shot.fps == Fraction(24000, 1001) and shot.characters == ("iris",)
    assert shot.frame_numbers == tuple(range(7, 13))
    assert set(shot.passes) == {"rgb", "depth", "normal", "motion", "ids", "visible", "truth", "joints"}
    assert shot.passes["depth"].origin == "exr" and len(shot.passes["depth"].files) == T
    assert shot.audio is None


def test_every_pass_is_exact(shot_root: Path) -> None:
    shot, wrote = open_shot(shot_root), make_passes()
    assert np.array_equal(read_frames(shot, 0, T), wrote.rgb)
    for name in ("depth", "normal", "ids", "visible", "truth"):
        read = read_pass(shot, name, 2, 5)
        expected = getattr(wrote, name)[2:5]
        assert read.dtype == expected.dtype and np.array_equal(read, expected), name
    motion = read_motion(shot, 0, T)
    assert wrote.motion is not None
    assert np.array_equal(motion.forward, wrote.motion.forward, equal_nan=True)
    assert np.array_equal(motion.backward, wrote.motion.backward, equal_nan=True)


def test_joints_keep_what_their_decimals_allow(shot_root: Path) -> None:
    shot, wrote = open_shot(shot_root), make_passes()
    for read, expected in zip(read_joints(shot, 1, 4), wrote.joints[1:4], strict=True):
        assert read.frame == expected.frame and read.camera == {"focal": 50.0}
        assert (read.figures[0].name, read.figures[0].id) == ("iris", 1)
        assert np.allclose(read.figures[0].points, expected.figures[0].points, atol=0.00051)  # 1/1000 pixel
        world = expected.figures[0].world
        assert read.figures[0].world is not None and world is not None
        assert np.allclose(read.figures[0].world, world, atol=0.000051)  # 1/10 mm


def test_what_a_picture_is_stays_with_its_joints(tmp_path: Path) -> None:
    wrote = make_passes()
    first = dataclasses.replace(wrote.joints[0], rendered=STAGE_FILM)
    passes = dataclasses.replace(wrote, joints=(first, *wrote.joints[1:]))
    shot = write_shot(tmp_path / "staged", [passes], fps=Fraction(24), first_number=7)
    assert [each.rendered for each in read_joints(shot, 0, T)] == [STAGE_FILM] + [""] * (T - 1)


def test_half_is_smaller_and_within_its_precision(shot_root: Path, tmp_path: Path) -> None:
    wrote = make_passes()
    shot = write_shot(tmp_path / "half", [wrote], fps=Fraction(24), half=HALF_PASSES, first_number=7)
    depth = read_pass(shot, "depth", 0, T)
    assert wrote.depth is not None and np.array_equal(np.isinf(depth), np.isinf(wrote.depth))
    hit = np.isfinite(depth)
    assert np.allclose(depth[hit], wrote.depth[hit], rtol=2**-11)  # half keeps 11 significant bits
    assert wrote.motion is not None
    assert np.allclose(
        read_motion(shot, 0, T).forward, wrote.motion.forward, rtol=2**-11, atol=1e-7, equal_nan=True
    )
    sizes = [sum(p.stat().st_size for p in root.glob("depth/*")) for root in (shot.root, shot_root)]
    assert sizes[0] < sizes[1]


def test_windows_of_writing_and_reading_make_no_difference(tmp_path: Path) -> None:
    whole = make_passes()
    parts = [FramePasses(rgb=whole.rgb[a:b], joints=whole.joints[a:b]) for a, b in ((0, 1), (1, 4), (4, 6))]
    shot = write_shot(tmp_path / "parts", parts, fps=Fraction(24), first_number=7)
    assert np.array_equal(np.concatenate(list(iterate_frames(shot, 4))), whole.rgb)
    assert [window.shape[0] for window in iterate_frames(shot, 4)] == [4, 2]
    assert np.array_equal(np.concatenate(list(iterate_frames(shot, 2, start=1, stop=4))), whole.rgb[1:4])
    assert len(read_joints(shot, 0, T)) == T


def test_writing_holds_one_window(tmp_path: Path) -> None:
    made: list[weakref.ref[UInt8Array]] = []
    most = 0

    def windows() -> Iterator[FramePasses]:
        nonlocal most
        for seed in range(8):
            passes = FramePasses(rgb=make_passes(1, seed=seed).rgb.copy())
            made.append(weakref.ref(passes.rgb))
            most = max(most, sum(ref() is not None for ref in made))
            yield passes
            del passes

    write_shot(tmp_path / "long", windows(), fps=Fraction(24))
    assert most <= 2  # the one being written and the one being made


def test_a_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    def windows() -> Iterator[FramePasses]:
        yield make_passes()
        raise RuntimeError("the stage fell over")

    with pytest.raises(RuntimeError, match="fell over"):
        write_shot(tmp_path / "walk", windows(), fps=Fraction(24), first_number=7)
    assert list(tmp_path.iterdir()) == []


def test_a_shot_is_replaced_only_when_asked(shot_root: Path) -> None:
    with pytest.raises(OutputError, match="already there"):
        write_shot(shot_root, [make_passes(2)], fps=Fraction(24), first_number=7)
    shot = write_shot(shot_root, [make_passes(2)], fps=Fraction(24), first_number=7, replace=True)
    assert shot.num_frames == 2 and shot.name == "walk"


def test_a_pass_that_only_some_windows_have_is_no_shot(tmp_path: Path) -> None:
    first, second = make_passes(), make_passes()
    windows = [FramePasses(rgb=first.rgb, depth=first.depth), FramePasses(rgb=second.rgb)]
    with pytest.raises(ShotError, match="6 frames for 12 of rgb; missing 7-12"):
        write_shot(tmp_path / "walk", windows, fps=Fraction(24))
    assert list(tmp_path.iterdir()) == []


def test_arrays_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    wrote = make_passes()
    assert wrote.depth is not None and wrote.ids is not None
    for bad in (
        FramePasses(rgb=wrote.rgb, depth=wrote.depth[:3]),
        FramePasses(rgb=wrote.rgb, ids=wrote.ids + 65536),
        FramePasses(rgb=wrote.rgb, joints=wrote.joints[:2]),
        FramePasses(rgb=wrote.rgb, joints=wrote.joints),  # their numbers start at 7
    ):
        with pytest.raises(ValueError, match="expected"):
            write_shot(tmp_path / "walk", [bad], fps=Fraction(24))


def test_a_plain_folder_of_images_is_a_shot(shot_root: Path) -> None:
    shot = open_shot(shot_root / "rgb")
    assert (shot.name, shot.num_frames, shot.fps) == ("rgb", T, Fraction(24))
    assert set(shot.passes) == {"rgb"}
    assert np.array_equal(read_frames(shot, 0, T), make_passes().rgb)


def test_jpeg_frames_are_read(tmp_path: Path) -> None:
    import cv2

    flat = np.zeros((H, W, 3), np.uint8)
    flat[...] = (30, 60, 200)  # BGR
    for number in (98, 99, 100):
        cv2.imwrite(str(tmp_path / f"take_{number}.jpg"), flat)
    shot = open_shot(tmp_path)
    assert (shot.width, shot.height, shot.frame_numbers) == (W, H, (98, 99, 100))
    frames = read_frames(shot, 0, 3)
    assert np.abs(frames.astype(int) - (200, 60, 30)).max() <= 2  # JPEG's rounding of a flat colour


def test_sound_beside_the_frames_is_found(shot_root: Path) -> None:
    with wave.open(str(shot_root / "audio.wav"), "wb") as sound:
        sound.setparams((1, 2, 48000, 0, "NONE", ""))
        sound.writeframes(bytes(4800))
    assert open_shot(shot_root).audio == shot_root / "audio.wav"
    (shot_root / "audio.wav").write_bytes(b"RIFF")
    with pytest.raises(ShotError, match=r"audio\.wav: holds no sound"):
        open_shot(shot_root)

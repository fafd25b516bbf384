"""Pixel conversions against exact inverses and published values; pictures that are not whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import DatasetError, UserError
from pipeline.image import (
    encode_png,
    linear_to_srgb,
    read_image,
    read_png,
    resize,
    srgb_to_linear,
    swap_rgb_bgr,
    to_tensor,
    to_uint8,
    write_png,
)

RNG = np.random.default_rng(1)


def noise(*shape: int) -> np.ndarray:
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def test_tensor_layout_range_and_exact_inverse() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    levels[..., 1] = 255 - levels[..., 1]
    pixels = to_tensor(levels)
    assert pixels.shape == (1, 3, 16, 16) and pixels.dtype == torch.float32
    assert (pixels[0, 0, 0, 0].item(), pixels[0, 1, 0, 0].item()) == (-1.0, 1.0)  # 0 and 255 are the ends
    assert np.array_equal(to_uint8(pixels), levels)  # every level survives


def test_to_uint8_clips_rounds_and_refuses_nan() -> None:
    values = torch.tensor([-2.0, 2.0, 0.0]).reshape(3, 1, 1)
    assert to_uint8(values).ravel().tolist() == [0, 255, 128]  # 127.5 rounds to even
    with pytest.raises(ValueError, match="nan"):
        to_uint8(torch.full((3, 1, 1), torch.nan))
    with pytest.raises(ValueError, match="float32"):
        to_tensor(np.zeros((4, 4, 3), np.float32))  # type: ignore[arg-type]


def test_srgb_against_published_values() -> None:
    # IEC 61966-2-1: encoded 0.5 is 0.21404114 linear; the linear toe ends at 0.04045 / 12.92.
    encoded = np.array([0.0, 0.04045, 0.5, 1.0], np.float32)
    expected = np.array([0.0, 0.0031308, 0.21404114, 1.0], np.float32)
    assert np.allclose(srgb_to_linear(encoded), expected, atol=1e-6)
    ramp = np.linspace(0, 1, 1001, dtype=np.float32)
    # the toe's and the curve's published constants meet only to 3e-5 in the inverse
    assert np.abs(linear_to_srgb(srgb_to_linear(ramp)) - ramp).max() < 3e-5


def test_swap_is_its_own_inverse() -> None:
    image = noise(5, 7, 3)
    assert np.array_equal(swap_rgb_bgr(image)[..., 0], image[..., 2])
    assert np.array_equal(swap_rgb_bgr(swap_rgb_bgr(image)), image)


def test_halving_is_the_mean_of_four() -> None:
    image = noise(2, 8, 12, 3)
    blocks = image.reshape(2, 4, 2, 6, 2, 3).astype(np.float64).mean(axis=(2, 4))
    # each axis rounds once, so up to half a level twice
    assert np.abs(resize(image, height=4, width=6) - blocks).max() <= 1.0


def test_resize_antialiases_an_axis_that_shrinks_beside_one_that_grows() -> None:
    stripes = np.zeros((8, 64), np.float32)
    stripes[:, ::2] = 1.0  # finest stripes: anything but an average aliases
    out = resize(stripes, height=16, width=16)
    assert out.shape == (16, 16) and np.allclose(out, 0.5, atol=1e-6)


def test_resize_keeps_constants_and_dtype() -> None:
    for dtype in (np.uint8, np.uint16, np.float32):
        flat = np.full((6, 6), 7, dtype)
        out = resize(flat, height=13, width=5)
        assert out.dtype == dtype and np.allclose(out, 7, atol=1e-4)


def test_png_round_trips(tmp_path: Path) -> None:
    colour, gray = noise(9, 7, 3), noise(9, 7)
    deep = RNG.integers(0, 65536, (9, 7), dtype=np.uint16)
    for name, image, kind in (("c", colour, "rgb"), ("g", gray, "gray"), ("d", deep, "uint16")):
        write_png(tmp_path / f"{name}.png", image)
        assert np.array_equal(read_png(tmp_path / f"{name}.png", kind=kind), image)  # type: ignore[arg-type]
    assert np.array_equal(read_image(tmp_path / "g.png"), gray[..., None].repeat(3, axis=2))
    assert encode_png(colour) == encode_png(colour)


def test_numbers_in_a_picture_are_refused(tmp_path: Path) -> None:
    write_png(tmp_path / "c.png", noise(4, 4, 3))
    with pytest.raises(UserError, match=r"c\.png: holds 3 channel\(s\) of uint8; expected one 16-bit"):
        read_png(tmp_path / "c.png", kind="uint16")
    write_png(tmp_path / "d.png", np.zeros((4, 4), np.uint16))
    with pytest.raises(UserError, match="expected one 8-bit"):
        read_png(tmp_path / "d.png", kind="gray")


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_a_cut_file_is_named_not_filled_in(tmp_path: Path, suffix: str, kept: float) -> None:
    import cv2

    _, data = cv2.imencode(suffix, noise(64, 64, 3))
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data.tobytes()[: int(len(data) * kept)])
    with pytest.raises(DatasetError) as caught:
        read_image(path, error=DatasetError)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("where", [0.4, 0.6, 0.8])
def test_damage_inside_a_file_is_named_not_filled_in(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, where: float
) -> None:
    """Twenty flipped bytes: libjpeg decodes them to grey or shifted blocks and only mutters."""
    import cv2

    y, x = np.mgrid[:128, :128]
    picture = np.stack([127 + 90 * np.sin(x / 5 + k) * np.cos(y / 7) for k in range(3)], axis=-1)
    picture = np.clip(picture + RNG.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)
    _, encoded = cv2.imencode(suffix, picture)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded.tobytes())
    assert read_image(path).shape == (128, 128, 3)
    data = bytearray(encoded.tobytes())
    start = int(len(data) * where)
    data[start : start + 20] = bytes(byte ^ 0xFF for byte in data[start : start + 20])
    path.write_bytes(data)
    with pytest.raises(DatasetError, match=r"damaged|corrupt") as caught:
        read_image(path, error=DatasetError)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # the codec's own line stays out of ours


def test_what_others_say_while_a_picture_is_decoded_is_kept(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    import cv2

    write_png(tmp_path / "a.png", noise(4, 4, 3))
    decode = cv2.imdecode

    def talk_and_decode(*arguments: object) -> object:
        os.write(2, b"another thread\nlibpng warning: x\n")
        return decode(*arguments)

    monkeypatch.setattr(cv2, "imdecode", talk_and_decode)
    read_image(tmp_path / "a.png")
    assert capfd.readouterr().err == "another thread\n"


def test_not_an_image_and_not_there(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello, this is text")
    with pytest.raises(UserError, match="not a readable image"):
        read_image(tmp_path / "text.png")
    with pytest.raises(UserError, match="cannot be read"):
        read_image(tmp_path / "nowhere.png")


def test_a_shot_is_planned_without_torch() -> None:
    code = "import sys, pipeline.shot, pipeline.output; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

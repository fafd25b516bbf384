"""Files that people do put among training images: each is named and stops `train` and `dataset audit` before
any model is loaded, or is read rightly and the conversion is said."""

from __future__ import annotations

import io
import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipeline import cli
from pipeline.image import write_png
from training.pictures import read_picture, upright

SIZE = 128  # the miniature's
TOML = 'name = "z"\n[[concept]]\ntrigger = "zorbik"\nclass = "woman"\nkind = "object"\nviews = []\n'
Spoil = Callable[[Path], object]


def pixels(seed: int = 0, side: int = SIZE) -> np.ndarray:
    """Blocks of random colour, uint8 [side, side + 32, 3]."""
    blocks = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8 + 4, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((8, 8, 1), np.uint8))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Three good images with captions, and a dataset file above them."""
    folder = tmp_path / "images"
    folder.mkdir()
    (tmp_path / "dataset.toml").write_text(TOML, encoding="utf-8")
    for number in (1, 2, 3):
        write_png(folder / f"{number}.png", pixels(number))
        (folder / f"{number}.txt").write_text(f"a woman, zorbik, room {number}", encoding="utf-8")
    return folder


def saved(name: str, mode: str = "RGB", **how: object) -> Spoil:
    """2.png gives way to the same picture, saved otherwise."""

    def spoil(folder: Path) -> None:
        (folder / "2.png").unlink()
        Image.fromarray(pixels(2)).convert(mode).save(folder / name, **how)

    return spoil


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(folder: Path) -> None:
    """A PNG of a few kilobytes that says it is 40000 pixels square."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(100_000)))
    (folder / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b""))


def large(folder: Path) -> None:
    """Over the limit, but under Pillow's own."""
    Image.new("1", (11_000, 10_000)).save(folder / "2.png")


def damaged(folder: Path) -> None:
    data = bytearray((folder / "2.png").read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / "2.png").write_bytes(data)


def cut(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        if name != "2.png":
            saved(name)(folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:400])

    return spoil


def animation(name: str) -> Spoil:
    frames = [Image.fromarray(pixels(seed)) for seed in (4, 5, 6)]

    def spoil(folder: Path) -> None:
        (folder / "2.png").unlink()
        frames[0].save(folder / name, save_all=True, append_images=frames[1:], duration=40)

    return spoil


def pair(first: str, second: str) -> Spoil:
    """Two images of these stems, each with its caption."""

    def spoil(folder: Path) -> None:
        for number, stem in enumerate((first, second), start=7):
            write_png(folder / f"{stem}.png", pixels(number))
            (folder / f"{stem}.txt").write_text(f"a woman, zorbik, room {number}")

    return spoil


def alone(folder: Path) -> None:
    for number in (2, 3):
        (folder / f"{number}.png").unlink()
        (folder / f"{number}.txt").unlink()


def renamed_caption(folder: Path) -> None:
    write_png(folder / unicodedata.normalize("NFC", "é.png"), pixels(9))
    (folder / unicodedata.normalize("NFD", "é.txt")).write_text("a woman, zorbik, room 9")


def nested(folder: Path) -> None:
    (folder / "more").mkdir()
    write_png(folder / "more" / "1.png", pixels(8))


def nested_deep(folder: Path) -> None:
    (folder / "more" / "deep").mkdir(parents=True)
    write_png(folder / "more" / "deep" / "1.png", pixels(8))


def caption_folder(folder: Path) -> None:
    (folder / "2.txt").unlink()
    (folder / "2.txt").mkdir()


FATAL: dict[str, tuple[Spoil, str, bool]] = {  # spoil, what is said, whether audit too looks for it
    "empty": (lambda f: (f / "2.png").write_bytes(b""), "2.png: the file is empty", True),
    "text": (lambda f: (f / "2.png").write_text("hello"), "2.png: not a readable image", True),
    "cut PNG": (cut("2.png"), "2.png: the file is cut short", True),
    "cut JPEG": (cut("2.jpg"), "2.jpg: the file is cut short", True),
    "cut WebP": (cut("2.webp"), "2.webp: not a readable image", True),
    "damaged": (damaged, "2.png: not a readable image", True),
    "bomb": (bomb, "2.png: 1600 megapixels; expected at most 100; scale it down", True),
    "huge": (large, "2.png: 110 megapixels; expected at most 100", True),
    "one pixel": (
        lambda f: write_png(f / "2.png", np.zeros((1, 1, 3), np.uint8)),
        "2.png: 1x1 pixels, the model trains at 128x128",
        True,
    ),
    "JPEG as PNG": (saved("2.png", format="JPEG"), "is a JPEG file called .png; rename it to 2.jpg", True),
    "GIF as PNG": (saved("2.png", format="GIF"), "2.png: is a GIF file called .png; save it as PNG", True),
    "GIF": (saved("2.gif"), "2.gif: .gif images are not read; save it as 2.png", True),
    "TIFF": (saved("2.tif"), "2.tif: .tif images are not read", True),
    "animated PNG": (animation("2.png"), "2.png: is animated (3 frames); save the one that is meant", True),
    "animated WebP": (animation("2.webp"), "2.webp: is animated (3 frames)", True),
    "folder inside": (nested, "more: folders inside are not read; move its images up", True),
    "folder deep inside": (nested_deep, "more: folders inside are not read; move its images up", True),
    "folder called as an image": (lambda f: (f / "9.png").mkdir(), "9.png: is a folder, no file", True),
    "folder called as a caption": (caption_folder, "2.txt: is a folder, no file; rename it", True),
    "pipe": (lambda f: os.mkfifo(f / "9.png"), "9.png: is a device or pipe, no file", True),
    "link to itself": (lambda f: (f / "9.png").symlink_to("9.png"), "9.png: is a link to nothing", True),
    "dead link": (lambda f: (f / "9.png").symlink_to("gone.png"), "9.png: is a link to nothing", True),
    "one stem": (saved("1.jpg"), "1.png: 1.jpg has the same stem", True),
    "one name but for case": (pair("Zoe", "zoe"), "zoe.png: Zoe.png is the same name but for case", True),
    "one name but for accents": (
        pair(unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é")),
        "is the same name but for case or accents' encoding",
        True,
    ),
    "only image": (alone, "1.png: the only image of the dataset", True),
    "empty caption": (lambda f: (f / "2.txt").write_text(" \n"), "2.txt: empty caption", False),
    "Latin-1 caption": (
        lambda f: (f / "2.txt").write_bytes("zorbik, café".encode("latin-1")),
        "2.txt: cannot be read as UTF-8",
        False,
    ),
    "UTF-16 caption": (
        lambda f: (f / "2.txt").write_bytes("zorbik, cafe".encode("utf-16-le")),
        "2.txt: holds NUL characters, as UTF-16 does",
        False,
    ),
    "caption of another name": (renamed_caption, "differs in case or in accents' encoding", False),
}  # fmt: skip


@pytest.mark.parametrize("name", FATAL)
def test_what_cannot_be_used_stops_before_training(
    images: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil, expected, audited = FATAL[name]
    spoil(images)
    out = images.parent / "out"
    monkeypatch.setattr("training.session.train", lambda *_, **__: pytest.fail("training started"))
    path = str(images.parent / "dataset.toml")
    assert cli.main(["train", path, "--out", str(out)]) == 2
    said = capsys.readouterr().err
    assert expected in said and said.count("\n") == 1, said
    assert not out.exists()
    check = ["audit", path, "--sheet", str(images.parent / "s.png")] if audited else ["lint", path]
    assert cli.main(["dataset", *check]) == 2
    assert expected in capsys.readouterr().out


def turned(folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    saved("2.jpg", exif=exif, quality=95)(folder)


def sixteen(folder: Path) -> None:
    write_png(folder / "2.png", pixels(2)[..., 0].astype(np.uint16) * 257)


def see_through(folder: Path) -> None:
    rgba = np.dstack([pixels(2), np.full((SIZE, SIZE + 32), 128, np.uint8)])
    Image.fromarray(rgba).save(folder / "2.png")


CONVERTED: dict[str, tuple[Spoil, str]] = {
    "CMYK": (saved("2.jpg", "CMYK"), "2.jpg: is CMYK without a usable colour profile"),
    "CMYK, broken profile": (saved("2.jpg", "CMYK", icc_profile=b"junk"), "2.jpg: is CMYK without a usable"),
    "16 bits": (sixteen, "2.png: has 16 bits a channel; rounded to 8"),
    "turned": (turned, "2.jpg: was taken with the camera turned (EXIF); it is used upright"),
    "see-through": (see_through, "2.png: is see-through in places; laid over black"),
    "broken profile": (
        saved("2.png", icc_profile=b"junk"),
        "has a colour profile that cannot be read",
    ),
}


@pytest.mark.parametrize("name", CONVERTED)
def test_what_can_be_read_rightly_is_converted_and_said(
    images: Path, name: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    from training.dataset import load_dataset
    from training.schema import read_dataset_file

    spoil, expected = CONVERTED[name]
    spoil(images)
    path = images.parent / "dataset.toml"
    assert len(load_dataset(path, read_dataset_file(path), size=SIZE, control_kinds=()).examples) == 3
    assert expected in caplog.text
    assert cli.main(["dataset", "audit", str(path), "--sheet", str(images.parent / "s.png")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert expected in said and "[converted]" in said


@pytest.mark.parametrize("name", ["Grüße ☃ 日本.png", "a'b; rm -rf.png", "x" * 200 + ".png"])
def test_any_name_and_any_letters_in_a_caption_are_fine(images: Path, name: str) -> None:
    from training.dataset import load_dataset
    from training.schema import read_dataset_file

    write_png(images / name, pixels(8))
    # a byte order mark, as Windows editors put it, is no part of the caption
    (images / name).with_suffix(".txt").write_text("\ufeffzorbik, Grüße ☃ 日本", encoding="utf-8")
    path = images.parent / "dataset.toml"
    dataset = load_dataset(path, read_dataset_file(path), size=SIZE, control_kinds=())
    (mine,) = [example for example in dataset.examples if example.path.name == name]
    assert mine.caption == "zorbik, Grüße ☃ 日本"


def test_a_camera_that_was_turned_gives_an_upright_picture(tmp_path: Path) -> None:
    """Against what the orientation's numbers mean: where the stored first row and column are to be seen."""
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3, 1).repeat(3, axis=2)
    plane = stored[..., 0]
    meant = {
        1: plane, 2: plane[:, ::-1], 3: plane[::-1, ::-1], 4: plane[::-1],
        5: plane.T, 6: np.rot90(plane, -1), 7: plane[::-1, ::-1].T, 8: np.rot90(plane),
    }  # fmt: skip
    for turn, expected in meant.items():
        np.testing.assert_array_equal(upright(stored, turn)[..., 0], expected, err_msg=str(turn))
        exif = Image.Exif()
        exif[274] = turn
        Image.fromarray(stored).save(tmp_path / "t.png", exif=exif)
        np.testing.assert_array_equal(read_picture(tmp_path / "t.png").pixels[..., 0], expected)


def test_cmyk_and_depth_come_out_as_the_colours_that_they_mean(tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((16, 16, 3), (200, 100, 50), np.uint8))
    picture.convert("CMYK").save(tmp_path / "c.jpg", quality=100)
    np.testing.assert_allclose(read_picture(tmp_path / "c.jpg").pixels[8, 8], (200, 100, 50), atol=3)
    write_png(tmp_path / "d.png", np.full((4, 4), 40000, np.uint16))
    assert read_picture(tmp_path / "d.png").pixels[0, 0].tolist() == [156] * 3  # 40000 / 257 = 155.6


def test_colours_of_another_profile_become_srgb(tmp_path: Path) -> None:
    """A profile with red and blue changed over: what is stored as red is meant as blue."""
    read = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    named = read.replace("sRGB built-in".encode("utf-16-be"), "swap built-in".encode("utf-16-be"))
    red, blue = read.index(b"rXYZ"), read.index(b"bXYZ")  # the tag table: signature, offset, size
    data = bytearray(named)
    data[red : red + 4], data[blue : blue + 4] = b"bXYZ", b"rXYZ"
    buffer = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), (255, 0, 0), np.uint8)).save(buffer, "PNG", icc_profile=bytes(data))
    (tmp_path / "p.png").write_bytes(buffer.getvalue())
    read_back = read_picture(tmp_path / "p.png")
    assert read_back.notes == ("has the colour profile 'swap built-in'; converted to sRGB",)
    np.testing.assert_allclose(read_back.pixels[0, 0], (0, 0, 255), atol=3)

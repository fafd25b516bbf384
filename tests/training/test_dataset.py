"""A dataset folder: what is read, and every fault as one line that names the file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import DatasetError
from pipeline.image import read_png, write_png
from training.caption_check import check_captions
from training.dataset import Dataset, load_dataset
from training.schema import read_dataset_file

TOML = """
name = "iris"
[[concept]]
trigger = "irisbot"
class = "woman"
kind = "character"
invariant = ["steel skull"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images: 0001 and 0002 of 32x32, 0003 of 64 high and 96 wide; depth for all."""
    rng = np.random.default_rng(0)
    for number, shape in enumerate(((32, 32), (32, 32), (64, 96)), start=1):
        for kind in ("images", "depth"):
            (tmp_path / kind).mkdir(exist_ok=True)
            write_png(tmp_path / kind / f"000{number}.png", rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        (tmp_path / "images" / f"000{number}.txt").write_text(f"irisbot woman, view {number}\n")
    (tmp_path / "dataset.toml").write_text(TOML, encoding="utf-8")
    return tmp_path


def load(folder: Path, *, kinds: tuple[str, ...] = ("depth", "pose")) -> Dataset:
    path = folder / "dataset.toml"
    return load_dataset(path, read_dataset_file(path), size=32, control_kinds=kinds)


def test_reads_images_captions_and_the_controls_that_are_there(folder: Path) -> None:
    dataset = load(folder)
    assert [example.path.name for example in dataset.examples] == ["0001.png", "0002.png", "0003.png"]
    assert [example.caption for example in dataset.examples] == [
        f"irisbot woman, view {n}" for n in (1, 2, 3)
    ]
    assert dataset.control_kinds == ("depth",)
    assert all(example.image.shape == (32, 32, 3) for example in dataset.examples)


def test_a_larger_image_and_its_control_are_cut_to_the_same_centred_square(folder: Path) -> None:
    # A 64x96 picture of vertical bands: its centred square is columns 16..79, halved: 16 bands of 2 pixels.
    bands = np.repeat(np.arange(24, dtype=np.uint8) * 10, 4)
    picture = np.broadcast_to(bands[None, :, None], (64, 96, 3)).copy()
    for kind in ("images", "depth"):
        write_png(folder / kind / "0003.png", picture)
    dataset = load(folder)
    expected = np.repeat(np.arange(4, 20, dtype=np.uint8) * 10, 2)
    np.testing.assert_array_equal(dataset.examples[2].image[5, :, 0], expected)
    np.testing.assert_array_equal(dataset.examples[2].image, dataset.examples[2].controls["depth"])


def test_what_the_cut_leaves_out_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(folder)
    path = folder / "images" / "0003.png"  # 64 x 96: the middle square is 2/3
    assert caplog.messages == [
        f"'irisbot': training sees the middle of 1 of 3 images, of {path} 67 %; "
        "lookdev dataset prepare cuts around a subject"
    ]
    caplog.clear()
    for kind in ("images", "depth"):  # 64 x 70: the middle square is 91 %
        write_png(folder / kind / "0003.png", np.zeros((64, 70, 3), np.uint8))
    load(folder)
    assert caplog.messages == []


def test_controls_can_be_turned_off(folder: Path) -> None:
    (folder / "dataset.toml").write_text(TOML + "controls = []\n", encoding="utf-8")
    assert load(folder).control_kinds == ()


def with_engine(folder: Path) -> list[np.ndarray]:
    """Say `engine` in the dataset file and write a render for each image; returns them."""
    rng = np.random.default_rng(1)
    (folder / "renders").mkdir()
    pictures = [rng.integers(0, 256, (*s, 3), dtype=np.uint8) for s in ((32, 32), (32, 32), (64, 96))]
    for number, picture in enumerate(pictures, start=1):
        write_png(folder / "renders" / f"000{number}.png", picture)
    (folder / "dataset.toml").write_text(TOML + 'engine = "renders"\n', encoding="utf-8")
    return pictures


def test_the_engines_renders_are_read_where_the_file_names_their_folder(folder: Path) -> None:
    pictures = with_engine(folder)
    first, _, third = load(folder).examples
    assert first.engine is not None and third.engine is not None
    np.testing.assert_array_equal(first.engine, pictures[0])
    # The 64x96 render's centred square is columns 16..79, area-averaged by 2; its mean survives rounding.
    assert third.engine.shape == (32, 32, 3)
    assert third.engine.mean() == pytest.approx(pictures[2][:, 16:80].mean(), abs=0.5)


def test_a_folder_called_engine_is_not_used_unless_the_file_says_so(folder: Path) -> None:
    shutil.copytree(folder / "depth", folder / "engine")
    assert [example.engine for example in load(folder).examples] == [None] * 3


def test_the_digest_follows_the_engines_renders(folder: Path) -> None:
    seen = [load(folder).digest()]
    with_engine(folder)
    seen.append(load(folder).digest())
    write_png(folder / "renders" / "0002.png", np.zeros((32, 32, 3), np.uint8))
    seen.append(load(folder).digest())
    assert len(set(seen)) == 3


def test_the_digest_follows_pixels_captions_and_settings(folder: Path) -> None:
    def digest() -> str:
        return load(folder).digest()

    seen = [digest()]
    assert digest() == seen[0]
    (folder / "images" / "0001.txt").write_text("irisbot woman, seen anew")
    seen.append(digest())
    write_png(folder / "depth" / "0002.png", np.zeros((32, 32, 3), np.uint8))
    seen.append(digest())
    (folder / "dataset.toml").write_text(TOML + "[train]\nlr = 0.5\n", encoding="utf-8")
    seen.append(digest())
    (folder / "dataset.toml").write_text(TOML + 'init_text = "steel"\n[train]\nlr = 0.5\n', encoding="utf-8")
    seen.append(digest())
    assert len(set(seen)) == 5


def test_the_digest_is_blind_to_what_changes_no_weight(folder: Path) -> None:
    before = load(folder).digest()
    train = '[train]\ncheckpoint_every = 7\nsample_every = 3\nsamples = ["irisbot"]\n'
    (folder / "dataset.toml").write_text(TOML + train, encoding="utf-8")
    assert load(folder).digest() == before
    captioned = TOML.rstrip() + '\nvariable = ["weather"]\n'
    (folder / "dataset.toml").write_text(captioned, encoding="utf-8")
    assert load(folder).digest() == before


def remove_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def remove_folder(folder: Path) -> None:
    remove_images(folder)
    (folder / "images").rmdir()


def truncate(folder: Path) -> None:
    path = folder / "images" / "0002.png"
    path.write_bytes(path.read_bytes()[:200])


def damage_jpeg(folder: Path) -> None:
    """0002 as a JPEG with twenty bytes flipped half way: it still decodes, to a wrong picture."""
    y, x = np.mgrid[:128, :128]
    picture = np.stack([127 + 90 * np.sin(x / 5 + k) * np.cos(y / 7) for k in range(3)], axis=-1)
    picture += np.random.default_rng(0).normal(0, 8, picture.shape)
    _, encoded = cv2.imencode(".jpg", np.clip(picture, 0, 255).astype(np.uint8))
    data = bytearray(encoded.tobytes())
    middle = len(data) // 2
    data[middle : middle + 20] = bytes(byte ^ 0xFF for byte in data[middle : middle + 20])
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
    (folder / "images" / "0002.png").unlink()
    (folder / "images" / "0002.jpg").write_bytes(data)


def caption(text: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "images" / "0002.txt").write_text(text, encoding="utf-8")


def setting(line: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "dataset.toml").write_text(TOML + line, encoding="utf-8")


def engine(spoil: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: (with_engine(folder), spoil(folder))


def shrink(kind: str) -> Callable[[Path], object]:
    return lambda folder: write_png(folder / kind / "0002.png", np.zeros((16, 32, 3), np.uint8))


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (remove_images, r"concept\[1\]\.images: no images in .*images; expected files ending in \.png"),
        (remove_folder, r"concept\[1\]\.images: no folder .*images; put the training images there"),
        (lambda f: (f / "images/0002.txt").unlink(), r"0002\.png: no caption; write 0002\.txt beside it"),
        (lambda f: (f / "images/0009.txt").write_text("irisbot"), r"0009\.txt: a caption without an image"),
        (truncate, r"0002\.png: the file is cut short"),
        (damage_jpeg, r"0002\.jpg: the file is damaged"),
        (lambda f: (f / "images/0002.png").write_text("hello"), r"0002\.png: not a readable image"),
        (caption("a woman, view 2"), r"0002\.txt: the trigger 'irisbot' is not in the caption; add it"),
        (caption(" \n"), r"0002\.txt: empty caption"),
        (caption("irisbot with a steel skull"), r"0002\.txt: the caption names the invariant 'steel skull'"),
        (shrink("images"), r"0002\.png: 32x16 pixels, the model trains at 32x32; use a larger image"),
        (shrink("depth"), r"depth/0002\.png: 32x16 pixels, but 0002\.png has 32x32"),
        (lambda f: (f / "depth/0002.png").unlink(), r"depth/0002\.png: missing; 0002\.png needs its control"),
        (
            setting('engine = "renders"\n'),
            r"concept\[1\]\.engine: no folder .*renders; put the engine's render",
        ),
        (
            engine(lambda f: (f / "renders/0002.png").unlink()),
            r"renders/0002\.png: missing; 0002\.png needs the engine's render of it, or take engine out of",
        ),
        (engine(shrink("renders")), r"renders/0002\.png: 32x16 pixels, but 0002\.png has 32x32"),
        (setting('controls = ["pose"]\n'), r"concept\[1\]\.controls: no folder .*pose; add it"),
        (setting('controls = ["edges"]\n'), r"the model has no 'edges' control; it has: depth, pose"),
        (lambda f: (f / "images/0002.jpg").write_bytes(b""), r"0002\.png: 0002\.jpg has the same stem"),
        (
            lambda f: (f / "images/0002.caption").write_text("irisbot"),
            r"0002\.caption: captions ending in \.caption are not read; rename it to 0002\.txt",
        ),
        (setting('masks = "masks"\n'), r"concept\[1\]\.masks: no folder .*masks; put the mask of each"),
        (
            lambda f: ((f / "masks").mkdir(), setting('masks = "masks"\n')(f)),
            r"masks/0001\.png: missing; 0001\.png needs its mask, or take masks out of",
        ),
    ],
)
def test_a_fault_is_one_line_that_names_the_file(
    folder: Path, spoil: Callable[[Path], object], expected: str
) -> None:
    spoil(folder)
    with pytest.raises(DatasetError, match=expected) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_several_faults_are_counted(folder: Path) -> None:
    for path in (folder / "images").glob("*.txt"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"0001\.png: no caption.*\(and 2 more faults\)"):
        load(folder)


def test_captions_longer_than_the_context_are_refused(folder: Path) -> None:
    dataset = load(folder, kinds=())
    check_captions(dataset, count_tokens=lambda text: len(text.split()), max_tokens=4)
    with pytest.raises(DatasetError, match=r"0001\.txt: 4 tokens, the text encoder reads 3; shorten"):
        check_captions(dataset, count_tokens=lambda text: len(text.split()), max_tokens=3)


def check(folder: Path, train: str) -> None:
    """Read the folder with this [train] table and count words for tokens; the limit is 4."""
    (folder / "dataset.toml").write_text(TOML.replace("woman", "tall woman") + train, encoding="utf-8")
    check_captions(load(folder, kinds=()), count_tokens=lambda text: len(text.split()), max_tokens=4)


def test_captions_with_the_class_word_are_counted_where_they_are_trained(folder: Path) -> None:
    for number in (1, 2, 3):
        (folder / "images" / f"000{number}.txt").write_text("irisbot here")
    (folder / "images" / "0002.txt").write_text("irisbot in the room")  # 4 words; "tall woman in the room": 5
    check(folder, "")
    expected = (
        r"0002\.txt: with 'tall woman' for 'irisbot' \(train\.prior_weight\) 5 tokens, .* reads 4; shorten"
    )
    with pytest.raises(DatasetError, match=expected):
        check(folder, "[train]\nprior_weight = 0.5\n")


def test_sample_prompts_longer_than_the_context_are_refused(folder: Path) -> None:
    expected = r"dataset\.toml:train\.samples\[2\]: 5 tokens, the text encoder reads 4; shorten the prompt"
    with pytest.raises(DatasetError, match=expected):
        check(folder, '[train]\nsamples = ["irisbot", "irisbot stands in a hall"]\n')


def test_keys_about_the_images_alone_make_no_other_training(folder: Path) -> None:
    before = load(folder).digest()
    more = 'views = ["front"]\nexceptions = ["long hair"]\nweight = 3.0\n'
    (folder / "dataset.toml").write_text(TOML + more, encoding="utf-8")
    assert load(folder).digest() == before  # one concept: any weight is all of it


def test_masks_are_read_and_part_of_the_training(folder: Path) -> None:
    shutil.copytree(folder / "depth", folder / "masks")
    without = load(folder)
    (folder / "dataset.toml").write_text(TOML + 'masks = "masks"\n', encoding="utf-8")
    dataset = load(folder)
    assert without.examples[0].mask is None
    for one in dataset.examples:
        assert one.mask is not None and one.mask.shape == one.image.shape[:2] and one.mask.any()
    assert dataset.digest() != without.digest()
    black = np.zeros_like(read_png(folder / "masks/0001.png"))
    write_png(folder / "masks/0001.png", black)
    with pytest.raises(DatasetError, match=r"masks/0001\.png: all black where 0001\.png is looked at; paint"):
        load(folder)


def test_a_trigger_that_holds_another_is_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "hall").mkdir()
    shutil.copy(folder / "images/0001.png", folder / "hall/0001.png")
    (folder / "hall/0001.txt").write_text("irisbot hall")
    hall = '[[concept]]\ntrigger = "irisbot hall"\nclass = "hall"\nkind = "place"\nimages = "hall"\n'
    (folder / "dataset.toml").write_text(TOML + hall, encoding="utf-8")
    load(folder, kinds=())
    assert "concept[2].trigger: 'irisbot hall' says the trigger 'irisbot' of concept[1] too" in caplog.text


def test_concepts_get_equal_exposure_whatever_their_folders(folder: Path) -> None:
    """Three images against one: the one is shown three times, unless weights or repeats say otherwise."""
    (folder / "hall").mkdir()
    shutil.copy(folder / "images/0001.png", folder / "hall/0001.png")
    (folder / "hall/0001.txt").write_text("vaulthall")
    hall = '[[concept]]\ntrigger = "vaulthall"\nclass = "hall"\nkind = "place"\nimages = "hall"\n'
    for first, second, expected in (
        ("", "", (1, 3)),
        ("weight = 2.0\n", "", (2, 3)),
        ("", "repeats = 2\n", (1, 2)),
    ):
        (folder / "dataset.toml").write_text(TOML + first + hall + second, encoding="utf-8")
        assert tuple(concept.repeats for concept in load(folder, kinds=()).file.concept) == expected

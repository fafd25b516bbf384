"""`dataset prepare`: cuts around subjects, buckets, never enlarged; what belongs to an image follows."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline import cli
from pipeline.image import read_image, write_png
from pipeline.shot import STAGE_FILM, Figure, FrameJoints, write_joints
from pipeline.shot.joints import read_joints_file
from samples.stage.datasets import CONCEPTS
from training.class_images import with_class_images
from training.curate.frame import Box, box_of_figure, box_of_mask, cut_around
from training.curate.matte import over
from training.curate.views import head_of
from training.dataset import load_dataset
from training.schema import read_dataset_file

OTTO = Path(__file__).resolve().parents[3] / "samples" / CONCEPTS["otto"].folder
TOML = """name = "z"
[[concept]]
trigger = "zorbik"
class = "woman"
kind = "character"
masks = "masks"
engine = "engine"
"""
TWICE = TOML.split("\n", 1)[1].replace("zorbik", "other")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two wide pictures of a bright square, with masks, an engine's render, depth and joints."""
    root = tmp_path / "old"
    frames = []
    for number, left in ((1, 40), (2, 380)):
        rng = np.random.default_rng(number)
        picture = rng.integers(0, 90, (300, 600, 3)).astype(np.uint8)
        picture[80:240, left : left + 160] = (250, 200, 150)
        mask = np.zeros((300, 600), np.uint8)
        mask[80:240, left : left + 160] = 255
        for name, values in (("images", picture), ("engine", picture // 2), ("depth", picture // 3)):
            write_png(root / name / f"{number}.png", values)
        write_png(root / "masks" / f"{number}.png", mask)
        (root / "images" / f"{number}.txt").write_text(f"a woman, zorbik, {number}\n")
        points = np.zeros((18, 3), np.float32)
        points[0], points[1] = (left + 80, 90, 2), (left + 80, 200, 1)
        points[4] = (5, 5, 2) if left > 40 else (595, 5, 2)
        frames.append(
            FrameJoints(number, (Figure("zorbik", 1, points),), {"focal": 1.0, "position": [0, 0, 1]})
        )
    write_joints(root / "joints.json", frames)
    (root / "dataset.toml").write_text(TOML)
    return root


def run(root: Path, *arguments: str) -> int:
    out = root.parent / "new"
    return cli.main(["dataset", "prepare", str(root / "dataset.toml"), "--out", str(out), *arguments])


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_everything_follows_the_cut_and_the_originals_stay(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(dataset)
    assert run(dataset) == 0
    said = capsys.readouterr().out
    assert "subject by its mask" in said and "2 images, 2 of 128x128" in said
    assert contents(dataset) == before
    new = dataset.parent / "new"
    report = json.loads((new / "prepare.json").read_text())
    for number, left in ((1, 40), (2, 380)):
        box = report[number - 1]["box"]
        assert box["top"] <= 80 and box["top"] + box["height"] >= 240  # the subject whole, with room
        assert box["left"] <= left and box["left"] + box["width"] >= left + 160
        image = read_image(new / "images" / f"{number}.png")
        mask = read_image(new / "masks" / f"{number}.png").max(axis=2)
        assert image.shape == (128, 128, 3) and mask.shape == (128, 128)
        # mask and image were cut alike: inside it is the square's colour, outside the dark noise
        assert np.abs(image[mask == 255].astype(int) - (250, 200, 150)).max() <= 1
        assert image[mask == 0].max() <= 90
        for name, share in (("engine", 2), ("depth", 3)):
            part = read_image(new / name / f"{number}.png").astype(int)
            assert np.abs(part - image.astype(int) // share).max() <= 2
        assert (new / "images" / f"{number}.txt").read_text() == f"a woman, zorbik, {number}\n"
        (figure,) = read_joints_file(new / "joints.json")[number].figures
        scale = 128 / box["width"]
        expected = ((left + 80.5) - box["left"]) * scale - 0.5
        assert figure.points[0, 0] == pytest.approx(expected, abs=0.01) and figure.points[0, 2] == 2
        assert figure.points[4, 2] == 0  # outside the new picture
        assert "focal" not in read_joints_file(new / "joints.json")[number].camera
    path = new / "dataset.toml"
    data = load_dataset(path, read_dataset_file(path), size=128, control_kinds=("depth",))
    np.testing.assert_array_equal(data.examples[0].image, read_image(new / "images" / "1.png"))
    assert run(dataset) == 2
    assert "is not empty; choose another folder" in capsys.readouterr().err


def test_class_images_come_along_as_they_are(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = dataset / "dataset.toml"
    toml.write_text(TOML + 'prior_images = "women"\n[train]\nprior_weight = 1.0\n')
    assert run(dataset) == 2
    assert "concept[1].prior_images: no folder" in capsys.readouterr().err
    write_png(dataset / "women" / "a.png", np.full((200, 160, 3), 90, np.uint8))
    (dataset / "women" / "a.txt").write_text("a woman")
    assert run(dataset) == 0
    new = dataset.parent / "new"
    assert (new / "women" / "a.png").read_bytes() == (dataset / "women" / "a.png").read_bytes()
    data = load_dataset(
        new / "dataset.toml", read_dataset_file(new / "dataset.toml"), size=128, control_kinds=()
    )
    assert [each.caption for each in with_class_images(data, bucket_step=0).priors] == ["a woman"]


def test_captions_may_come_after_the_cut(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """docs/datasets.md has it in this order: what a caption says of framing depends on the cut."""
    (dataset / "images" / "2.txt").unlink()
    assert run(dataset) == 0
    said = {line.split(":")[0]: line for line in capsys.readouterr().out.splitlines()}
    new = dataset.parent / "new" / "images"
    assert said[f"{new}/2.png"].endswith("; no caption yet") and "no caption" not in said[f"{new}/1.png"]
    assert (new / "1.txt").is_file() and not (new / "2.txt").exists()
    file = str(dataset.parent / "new" / "dataset.toml")
    assert cli.main(["dataset", "caption", file, "--plain", "--yes"]) == 0
    assert (new / "2.txt").read_text().startswith("a woman, zorbik")


def test_nothing_is_written_outside_of_out(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Images beside the dataset file: their control folders and joints stand one folder higher."""
    inner = dataset / "images" / "dataset.toml"
    inner.write_text(TOML.replace('masks = "masks"\nengine = "engine"\n', 'images = "."\n'))
    assert run(inner.parent) == 2
    assert "concept[1].images: the dataset file's own folder; move" in capsys.readouterr().err
    assert not (dataset / "new").exists()


def test_the_background_gives_way_to_a_colour(dataset: Path) -> None:
    assert run(dataset, "--background", "#102030") == 0
    image = read_image(dataset.parent / "new" / "images" / "1.png")
    mask = read_image(dataset.parent / "new" / "masks" / "1.png").max(axis=2)
    assert (image[mask == 0] == (0x10, 0x20, 0x30)).all()


def test_half_covered_pixels_are_mixed() -> None:
    alpha = np.array([[0, 128, 255]], np.uint8)
    mixed = over(np.full((1, 3, 3), 200, np.uint8), alpha, (100, 0, 0))
    assert mixed.tolist() == [[[100, 0, 0], [150, 100, 100], [200, 200, 200]]]


def test_a_sample_is_cut_around_its_joints_and_still_holds_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(OTTO, tmp_path / "old")
    text = (tmp_path / "old" / "dataset.toml").read_text().replace("[train]", "[train]\nsize = 64")
    (tmp_path / "old" / "dataset.toml").write_text(text)
    assert run(tmp_path / "old") == 0
    assert "20 of 64x64" in capsys.readouterr().out
    before = read_joints_file(tmp_path / "old" / "joints.json")
    after = read_joints_file(tmp_path / "new" / "joints.json")
    for number, frame in before.items():
        figure, moved = frame.figures[0], after[number].figures[0]
        seen = figure.points[:, 2] > 0
        assert (moved.points[seen, 2] > 0).all(), number  # every joint that was in the picture still is
        assert after[number].rendered == STAGE_FILM  # the recogniser may still be asked
        assert (after[number].camera["width"], after[number].camera["height"]) == (64, 64)


def test_joints_follow_images_that_were_made_smaller_after_they_were_rendered(tmp_path: Path) -> None:
    """Halved, then prepared: the joints are where those of the whole images are, at half the size."""
    for name, step in (("whole", 1), ("half", 2)):
        old = tmp_path / name / "old"
        shutil.copytree(OTTO, old)
        for path in (
            path for folder in ("images", "engine", "depth", "pose") for path in (old / folder).glob("*.png")
        ):
            write_png(path, np.ascontiguousarray(read_image(path)[::step, ::step]))
        text = (old / "dataset.toml").read_text().replace("[train]", f"[train]\nsize = {128 // step}")
        (old / "dataset.toml").write_text(text)
        assert run(old, "--no-crop") == 0
    whole, half = (read_joints_file(tmp_path / name / "new" / "joints.json") for name in ("whole", "half"))
    for number, frame in whole.items():
        before, after = frame.figures[0].points, half[number].figures[0].points
        np.testing.assert_allclose(after[:, :2] + 0.5, (before[:, :2] + 0.5) / 2, atol=2e-3)
        assert (after[:, 2] == before[:, 2]).all()


def test_a_picture_with_other_pixels_is_no_film_still_any_more(tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(OTTO, old)
    for path in (old / "images").glob("*.png"):
        mask = np.zeros((128, 128), np.uint8)
        mask[16:, 32:96] = 255
        write_png(old / "masks" / path.name, mask)
    toml = old / "dataset.toml"
    toml.write_text(toml.read_text().replace('images = "images"', 'images = "images"\nmasks = "masks"'))
    assert run(old, "--background", "grey") == 0
    frames = read_joints_file(tmp_path / "new" / "joints.json")
    assert len(frames) == 20 and {frame.rendered for frame in frames.values()} == {""}


@pytest.mark.parametrize(
    ("subject", "size", "step", "expected"),
    [
        (None, (512, 512), 64, (512, 512)),
        (None, (1024, 512), 64, (704, 320)),
        (None, (300, 900), 64, None),
        (Box(100, 100, 200, 100), (1000, 1000), 64, (640, 384)),
        (Box(0, 0, 1000, 1000), (1000, 1000), 64, (512, 512)),
        (Box(400, 400, 10, 10), (1000, 1000), 0, (512, 512)),
        (None, (500, 900), 0, None),
    ],
)
def test_buckets_are_whole_never_enlarged_and_hold_the_subject(
    subject: Box | None, size: tuple[int, int], step: int, expected: tuple[int, int] | None
) -> None:
    height, width = size
    cut = cut_around(subject, height=height, width=width, base=512, step=step)
    if expected is None and step == 0:
        assert cut.size is None
        return
    assert cut.size is not None
    box = cut.box
    assert box.top >= 0 and box.left >= 0
    assert box.top + box.height <= height and box.left + box.width <= width
    assert cut.size[0] <= box.height and cut.size[1] <= box.width  # never enlarged
    assert cut.size[0] * cut.size[1] <= 512 * 512
    assert step == 0 or (cut.size[0] % step, cut.size[1] % step) == (0, 0)
    assert box.width / box.height == pytest.approx(cut.size[1] / cut.size[0], rel=0.01)
    if subject is not None:
        assert box.top <= subject.top and box.left <= subject.left
        assert box.top + box.height >= subject.top + subject.height
        assert box.left + box.width >= subject.left + subject.width
        assert cut.size[0] * cut.size[1] >= 0.75 * 512 * 512


def test_boxes_of_masks_and_figures() -> None:
    mask = np.zeros((20, 30), np.uint8)
    assert box_of_mask(mask) is None
    mask[3:7, 10:21] = 255
    assert box_of_mask(mask) == Box(3, 10, 4, 11)
    points = np.zeros((18, 3), np.float32)
    points[:, 2] = 2
    points[:, 0], points[:, 1] = 50, np.linspace(40, 140, 18)
    points[[16, 17]] = ((45, 40, 2), (55, 40, 2))
    points[1] = (50, 60, 2)
    figure = Figure("z", 1, points)
    box = box_of_figure(figure, head_of(figure), height=200, width=100)
    assert box is not None and box.top == 20 and box.left == 36 and box.top + box.height == 129


@pytest.mark.parametrize(
    ("spoil", "arguments", "part"),
    [
        (lambda r: (r / "images/2.txt").write_text(""), (), "2.txt: empty caption"),
        (lambda r: (r / "images/2.png").write_bytes(b"x"), (), "2.png: not a readable image"),
        (lambda r: (r / "masks/2.png").unlink(), (), "masks/2.png: missing; 2.png needs its mask"),
        (lambda r: write_png(r / "masks/2.png", np.ones((9, 9), np.uint8)), (), "9x9 pixels, 2.png has"),
        (lambda r: (r / "engine/1.png").unlink(), (), "engine/1.png: missing; 1.png needs it"),
        (lambda r: None, ("--background", "teel"), "--background teel: no colour; expected a name"),
        (lambda r: None, ("--upscale", "no.safetensors"), "no.safetensors: not there; expected an upscaling"),
        (
            lambda r: (r / "dataset.toml").write_text(TOML.replace('"masks"', '"../masks"')),
            (),
            "concept[1].masks: '../masks' lies outside the dataset's folder",
        ),
        (
            lambda r: (r / "dataset.toml").write_text(TOML + TWICE),
            (),
            "shares images, joints.json or control folders with 'zorbik'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_prepared_is_one_line(
    dataset: Path, spoil: object, arguments: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(spoil)
    spoil(dataset)
    assert run(dataset, *arguments) == 2
    said = capsys.readouterr().err
    assert part in said and said.count("\n") == 1
    assert not (dataset.parent / "new" / "dataset.toml").exists()


def test_a_faulty_image_is_told_before_anything_is_written(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = dataset / "images" / "2.png"
    path.write_bytes(path.read_bytes()[:3000])
    assert run(dataset) == 2
    assert "2.png: the file is cut short (3000 bytes)" in capsys.readouterr().err
    assert not (dataset.parent / "new").exists()


@pytest.mark.parametrize(
    ("place", "part"),
    [
        ("kohya.txt", "is a file; expected a folder to write to"),
        ("images/new", "among the images; choose another with --out"),
        ("images", "is not empty"),
        ("loop", "loop"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_one_line(
    dataset: Path, place: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (dataset / "kohya.txt").write_text("x")
    (dataset / "loop").symlink_to("loop")
    before = sorted(dataset.rglob("*"))
    assert cli.main(["dataset", "prepare", str(dataset / "dataset.toml"), "--out", str(dataset / place)]) == 2
    said = capsys.readouterr().err
    assert part in said and said.count("\n") == 1
    assert sorted(dataset.rglob("*")) == before


def test_without_rembg_a_background_is_one_line(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("U2NET_HOME", str(dataset / "none"))
    (dataset / "dataset.toml").write_text(TOML.replace('masks = "masks"\n', ""))
    assert run(dataset, "--background", "white") == 2
    said = capsys.readouterr().err
    wanted = (
        "not installed" if importlib.util.find_spec("rembg") is None else "not there; put rembg's network"
    )
    assert wanted in said and said.count("\n") == 1


def test_a_matte_of_the_real_rembg(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A network that calls bright what is bright, through rembg itself; where the extra is installed."""
    pytest.importorskip("rembg")
    onnx = pytest.importorskip("onnx")
    shapes = {"x": [1, 3, 320, 320], "y": [1, 1, 320, 320]}
    sides = [onnx.helper.make_tensor_value_info(name, 1, shape) for name, shape in shapes.items()]
    axis = onnx.helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [1])
    mean = onnx.helper.make_node("ReduceMean", ["x", "axis"], ["y"], keepdims=1)
    graph = onnx.helper.make_graph([mean], "bright", sides[:1], sides[1:], [axis])
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), dataset / "bright.onnx")
    (dataset / "dataset.toml").write_text(TOML.replace('masks = "masks"\n', ""))
    assert run(dataset, "--background", "black", "--matte", str(dataset / "bright.onnx")) == 0
    assert "matted; subject by its matte" in capsys.readouterr().out
    image = read_image(dataset.parent / "new" / "images" / "1.png").astype(int)
    assert image.max() > 200 and image.min() < 15  # the square stays, the noise went dark
    (dataset / "broken.onnx").write_bytes(b"x")
    shutil.rmtree(dataset.parent / "new")
    assert run(dataset, "--background", "black", "--matte", str(dataset / "broken.onnx")) == 2
    assert "cannot be loaded by rembg" in capsys.readouterr().err


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Real-ESRGAN of the compact kind, twice, with random weights, as spandrel itself builds it."""
    import torch
    from safetensors.torch import save_file
    from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

    torch.manual_seed(0)
    network = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=2, upscale=2)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_file(network.state_dict(), path)
    torch.save(network.state_dict(), path.with_suffix(".pth"))
    return path


def small(root: Path) -> None:
    for name in ("images", "masks", "engine", "depth"):
        for path in (root / name).glob("*.png"):
            write_png(path, np.ascontiguousarray(read_image(path)[::3, ::3]))
    (root / "joints.json").unlink()


def test_what_is_too_small_is_enlarged_by_the_users_model(
    dataset: Path, upscaler: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small(dataset)  # 200 x 100
    assert run(dataset) == 2
    assert "1.png: 200x100 pixels, at least" in capsys.readouterr().err
    assert not (dataset.parent / "new").exists()
    assert run(dataset, "--upscale", str(upscaler)) == 0
    assert "enlarged 2x by RealESRGAN Compact" in capsys.readouterr().out
    new = dataset.parent / "new"
    assert read_image(new / "images" / "1.png").shape == (128, 128, 3)
    mask = read_image(new / "masks" / "1.png").max(axis=2)
    assert 0.2 < (mask > 127).mean() < 1.0


def test_an_upscaler_keeps_the_picture_in_tiles_as_whole(
    upscaler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.curate import upscale

    picture = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)
    model = upscale.load_upscaler(upscaler)
    whole = model.enlarge(picture)
    assert model.scale == 2 and whole.shape == (140, 180, 3)
    monkeypatch.setattr(upscale, "TILE", 32)
    np.testing.assert_allclose(model.enlarge(picture).astype(int), whole, atol=1)


def test_weights_that_may_run_code_need_a_flag(
    upscaler: Path, tmp_path: Path, dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pickle

    from training.curate.upscale import load_upscaler

    pth = upscaler.with_suffix(".pth")
    assert run(dataset, "--upscale", str(pth)) == 2
    assert "may hold more than weights; take .safetensors, or add --allow-pickle" in capsys.readouterr().err
    assert load_upscaler(pth, allow_pickle=True).scale == 2

    class Evil:
        def __reduce__(self) -> object:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "evil.pth").write_bytes(pickle.dumps(Evil()))
    assert run(dataset, "--upscale", str(tmp_path / "evil.pth"), "--allow-pickle") == 2
    assert "holds no plain weights" in capsys.readouterr().err and not (tmp_path / "ran").exists()
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    assert run(dataset, "--upscale", str(tmp_path / "other.safetensors")) == 2
    assert "is no upscaler that spandrel knows" in capsys.readouterr().err

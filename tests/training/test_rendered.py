"""Picking by likeness: held-out images rendered as a user renders, and compared with what they should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from narrow_files import Case
from small_clip import tiny_sdxl

from pipeline import cli
from pipeline.diffuse import ControlUse, Img2ImgSettings, img2img
from pipeline.errors import DatasetError
from pipeline.image import UInt8Array, write_png
from pipeline.models import LoraUse, Model, apply_loras, load_embeddings, load_model
from pipeline.models import load as load_module
from pipeline.models import vae as vae_module
from pipeline.models.textual_inversion import EmbeddingUse
from training import rendered, run, sheet, steps
from training.dataset import Dataset, load_dataset
from training.example import Example
from training.likeness import distance, look_distance
from training.loop import Trainer
from training.schema import Concept, ConceptKind, read_dataset_file

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
MakeDataset = Callable[[str], Path]
SHORT = "batch = 1\nrank = 2\nlr = 0.01\ncontrol_probability = 0.5\nprecision = 'fp32'\n"
PICKED = SHORT + "steps = 6\nvalidation = 2\nvalidate_every = 2\npick = 'likeness'\ncheckpoint_every = 3\n"


@pytest.fixture(autouse=True)
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw one sample in one step: these tests are about the weights."""
    monkeypatch.setattr(sheet, "NUM_SAMPLES", 1)
    monkeypatch.setattr(sheet, "STEPS", 1)


def noise(seed: int, size: int = 128) -> UInt8Array:
    coarse = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


@pytest.fixture
def make_rendered(make_dataset: MakeDataset, tmp_path: Path) -> MakeDataset:
    """`make_dataset` with an engine render of each image."""

    def make(train: str) -> Path:
        path = make_dataset(train)
        for number in range(1, 5):
            write_png(tmp_path / "engine" / f"{number:04d}.png", noise(number))
        text = path.read_text(encoding="utf-8").replace("[train]", 'engine = "engine"\n[train]')
        path.write_text(text, encoding="utf-8")
        return path

    return make


def dataset_of(path: Path) -> Dataset:
    return load_dataset(path, read_dataset_file(path), size=128, control_kinds=("depth", "pose"))


def concept(trigger: str, kind: str) -> Concept:
    return Concept.model_validate({"trigger": trigger, "class": "woman", "kind": kind})


def record_of(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "training.json").read_text(encoding="utf-8"))
    return record


def weights_of(out: Path, name: str = "checkpoint.pt") -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(out / name, weights_only=True)["trained"]
    return state


def test_the_pictures_are_those_of_a_render(make_rendered: MakeDataset, random_model: Path) -> None:
    """Five of them, one without pose: each is what `img2img` makes of it alone."""
    file = dataset_of(make_rendered(SHORT))
    some = list(file.examples)
    some.append(replace(some[0], controls={"depth": some[0].controls["depth"]}, caption="irisbot woman"))
    model = load_model(random_model, controls=("depth", "pose"))
    made = rendered.render(model, some, seed=40)
    for number, example in enumerate(some):
        assert example.engine is not None
        alone = Img2ImgSettings(
            prompt=example.caption,
            strength=0.5,
            steps=10,
            guidance=1.0,
            controls=tuple(ControlUse(kind) for kind in sorted(example.controls)),
        )
        controls = {kind: picture[None] for kind, picture in example.controls.items()}
        expected = img2img(model, example.engine[None], controls, alone, [40 + number])[0]
        # The bytes do not depend on the batch but for float32 rounding of other kernels.
        assert np.abs(made[number].astype(int) - expected).max() <= 1
    assert not np.array_equal(made[0], made[4])


def test_distance_is_in_the_mask_and_a_styles_is_of_colour() -> None:
    image, picture = noise(1), noise(2)
    example = Example(Path("1.png"), image, "irisbot", 0, {})
    whole = np.ones((128, 128), bool)
    assert rendered.distance_to(example, picture, kind="place") == distance(picture, image, mask=whole)
    assert rendered.distance_to(example, picture, kind="style") == look_distance(picture, image)
    mask = np.zeros((128, 128), np.uint8)
    mask[32:96, 32:96] = 255
    inside = picture.copy()
    inside[32:96, 32:96] = image[32:96, 32:96]
    masked = replace(example, mask=mask)
    assert rendered.distance_to(masked, inside, kind="character") < 0.01
    assert rendered.distance_to(masked, picture, kind="character") > 0.2
    assert rendered.distance_to(masked, inside, kind="style") == look_distance(inside, image)


@pytest.mark.parametrize("kind", ["character", "style"])
def test_a_distance_is_the_same_at_the_size_of_sdxl(kind: ConceptKind) -> None:
    """The scales of the measures are 128's."""
    coarse = [cv2.resize(noise(seed)[:8, :8], (128, 128), interpolation=cv2.INTER_CUBIC) for seed in (1, 2)]
    image, picture = coarse
    mask = np.zeros((128, 128), np.uint8)
    mask[32:96, 32:96] = 255
    small = rendered.distance_to(Example(Path("1.png"), image, "", 0, {}, mask=mask), picture, kind=kind)
    image, picture, mask = (cv2.resize(each, (1024, 1024)) for each in (image, picture, mask))
    large = rendered.distance_to(Example(Path("1.png"), image, "", 0, {}, mask=mask), picture, kind=kind)
    assert large == pytest.approx(small, rel=0.05)


def test_a_concept_is_the_mean_of_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [Example(Path("1.png"), noise(0), "a", of, {}, engine=noise(9)) for of in (0, 1, 1)]
    made = [noise(1), noise(2), noise(3)]
    monkeypatch.setattr(rendered, "render", lambda *_, **__: made)
    concepts = [concept("iris", "character"), concept("VaultFilm", "style")]
    model: Any = None
    found = rendered.distances(model, some, concepts, seed=0)
    assert found["iris"] == distance(made[0], noise(0), mask=np.ones((128, 128), bool))
    both = [look_distance(picture, noise(0)) for picture in made[1:]]
    assert found["VaultFilm"] == pytest.approx(sum(both) / 2)


def read_result(kind: str, folder: Path, out: Path) -> Model:
    """A fresh model with what a training left, as a render has it."""
    if kind == "full":
        return load_model(out / "iris", controls=("depth", "pose"))
    model = load_model(folder, controls=("depth", "pose"))
    if kind != "embedding":
        apply_loras(model, [LoraUse(out / "iris.safetensors")])
    if kind in ("embedding", "pivotal"):
        load_embeddings(model, [EmbeddingUse(out / "embeddings" / "irisbot.safetensors", "irisbot")])
    return model


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("lora", "text_lr = 0.01\nema = 0.5\nconv_rank = 2\n"),
        ("pivotal", "optimizer = 'schedulefree'\nvectors = 2\n"),
        ("embedding", "embedding_lr = 0.5\n"),
        ("full", "gradient_checkpointing = true\n"),
    ],
)
def test_the_result_is_the_weights_that_render_best_and_a_kill_changes_nothing(
    make_rendered: MakeDataset,
    random_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    extra: str,
) -> None:
    monkeypatch.setattr(rendered, "STEPS", 2)
    path = make_rendered(f"kind = '{kind}'\n{PICKED}{extra}")
    out = tmp_path / "whole"
    run.train_from_file(path, out=out, progress=False)
    record = record_of(out)
    found = {each["step"]: each["irisbot"] for each in record["distances"]}
    assert list(found) == [2, 4, 6] and len(set(found.values())) == 3
    assert record["picked"] == min(found, key=lambda step: found[step])
    held_out = dataset_of(path).split()[1]
    read = rendered.distances(
        read_result(kind, random_model, out), held_out.examples, held_out.file.concept, seed=0
    )
    # Merged into the weights here, added beside them there: a few pixels differ by one of 255.
    assert read["irisbot"] == pytest.approx(found[record["picked"]], abs=2e-4)

    interrupted = tmp_path / "cut"
    for last in (1, 3, 4):  # before the first validation, after it was picked, and at a validation
        with monkeypatch.context() as patch:
            stop_after(patch, last)
            with pytest.raises(KeyboardInterrupt):
                run.train_from_file(path, out=interrupted, progress=False)
    run.train_from_file(path, out=interrupted, progress=False)
    again = record_of(interrupted)
    assert [again[key] for key in ("distances", "validation", "picked")] == [
        record[key] for key in ("distances", "validation", "picked")
    ]
    assert again["outputs"] == record["outputs"]  # digests of all files
    name = f"best-{record['picked']:06d}.pt"
    assert [path.name for path in interrupted.glob("best*")] == [name]
    picked, unbroken = (weights_of(folder, name) for folder in (interrupted, out))
    assert all(torch.equal(picked[name], unbroken[name]) for name in unbroken)


def test_a_run_that_judges_otherwise_once_it_goes_on_still_has_its_best(
    make_rendered: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, whose numbers are not the same to the bit: step 4 was the best before the kill only."""
    out = tmp_path / "out"
    path = make_rendered(PICKED)
    for scores, last in (([0.3, 0.1], 5), ([0.4, 0.5], None)):
        with monkeypatch.context() as patch:
            given = iter(scores)
            patch.setattr(steps, "distances", lambda *_, given=given, **__: {"irisbot": next(given)})
            if last is None:
                run.train_from_file(path, out=out, progress=False)
                break
            stop_after(patch, last)
            with pytest.raises(KeyboardInterrupt):
                run.train_from_file(path, out=out, progress=False)
    record = record_of(out)
    assert [each["irisbot"] for each in record["distances"]] == [0.3, 0.4, 0.5] and record["picked"] == 2
    assert [path.name for path in out.glob("best*")] == ["best-000002.pt"]


def stop_after(patch: pytest.MonkeyPatch, last: int) -> None:
    """Break off before the step after `last`, with the checkpoint of every third step alone on disk."""
    plain = Trainer.take_step

    def take_step(self: Trainer) -> float:
        if self.step == last:
            raise KeyboardInterrupt
        return plain(self)

    patch.setattr(Trainer, "take_step", take_step)


def test_rendering_touches_nothing_that_learns(make_rendered: MakeDataset, tmp_path: Path) -> None:
    """By whatever it is picked, the last step's weights are the same to the bit."""
    settings = SHORT + "steps = 3\nvalidation = 2\nvalidate_every = 1\ntext_lr = 0.001\n"
    for pick in ("last", "validation", "likeness"):
        path = make_rendered(f"{settings}pick = '{pick}'\n")
        run.train_from_file(path, out=tmp_path / pick, progress=False)
    last = weights_of(tmp_path / "last")
    for pick in ("validation", "likeness"):
        other = weights_of(tmp_path / pick)
        assert all(torch.equal(other[name], value) for name, value in last.items())
    losses = [record_of(tmp_path / pick)["validation"] for pick in ("last", "validation", "likeness")]
    assert losses[0] == losses[1] == losses[2]
    assert record_of(tmp_path / "last")["distances"] == []


def test_the_mean_over_the_concepts_decides_and_it_is_shown(
    make_rendered: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two concepts with two steps alike: the earlier one is the result, in spite of the losses."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = make_rendered(PICKED + "tensorboard = true\nkeep_every = 2\n")
    text = path.read_text(encoding="utf-8")
    first = text[text.index("[[concept]]") : text.index("[train]")]
    path.write_text(text.replace("[train]", first.replace('"irisbot"', '"IRISBOT2"') + "[train]"))
    for caption in (tmp_path / "images").glob("*.txt"):
        caption.write_text(caption.read_text(encoding="utf-8") + ", IRISBOT2", encoding="utf-8")
    plain, shown = steps.distances, []
    given = iter([(0.4, 0.2), (0.1, 0.3), (0.2, 0.2)])

    def found(*arguments: Any, **keywords: Any) -> dict[str, float]:
        assert set(plain(*arguments, **keywords)) == {"irisbot", "IRISBOT2"}
        return dict(zip(("irisbot", "IRISBOT2"), next(given), strict=True))

    monkeypatch.setattr(steps, "distances", found)
    monkeypatch.setattr(
        steps.TrainProgress, "judged", lambda _, loss, distance: shown.append((loss, distance))
    )
    out = tmp_path / "out"
    result = run.train_from_file(path, out=out, progress=False)
    record = record_of(out)
    assert record["picked"] == 4
    assert record["distances"][1] == {"step": 4, "irisbot": 0.1, "IRISBOT2": 0.3}
    kept = torch.load(out / "best-000004.pt", weights_only=True)
    assert kept["step"] == 4
    assert [round(distance, 6) for _, distance in shown] == [0.3, 0.2, 0.2]
    assert all(loss > 0.0 for loss, _ in shown)
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("distance/IRISBOT2")] == [2, 4, 6]
    assert [round(event.value, 4) for event in events.Scalars("distance/irisbot")] == [0.4, 0.1, 0.2]
    assert events.Scalars("validation/irisbot")
    assert result.result.read_bytes() != (out / "checkpoints" / "iris-000006.safetensors").read_bytes()


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_checkpoint_of_these_shapes_is_picked_by_likeness(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file in the original layout, narrow; no controls, two text encoders for SDXL."""
    case = Case(family, tmp_path)
    for module in (load_module, vae_module):
        monkeypatch.setattr(module, "architecture", lambda family: case.spec)
    monkeypatch.setattr(sheet, "write_sheet", lambda *_: write_png(_[2], np.zeros((8, 8, 3), np.uint8)))
    for number in range(3):
        for folder in ("images", "engine"):
            write_png(tmp_path / folder / f"{number}.png", noise(number + 10 * (folder == "engine"), 96))
        (tmp_path / "images" / f"{number}.txt").write_text("woman, irisbot, a hall", encoding="utf-8")
    path = tmp_path / "dataset.toml"
    path.write_text(
        f'model = "{case.path}"\nname = "iris"\n[[concept]]\ntrigger = "irisbot"\nclass = "woman"\n'
        'kind = "character"\nengine = "engine"\n[train]\nsteps = 2\nbatch = 1\nsize = 64\nrank = 2\n'
        "text_lr = 1e-2\nlr = 1e-2\nwarmup = 0.0\nvalidation = 1\nvalidate_every = 1\npick = 'likeness'\n",
        encoding="utf-8",
    )
    run.train_from_file(path, out=tmp_path / "out", progress=False)
    record = record_of(tmp_path / "out")
    found = {each["step"]: each["irisbot"] for each in record["distances"]}
    assert list(found) == [1, 2] and found[1] != found[2]
    assert record["picked"] == min(found, key=lambda step: found[step])


def test_guidance_is_the_familys(random_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        rendered, "img2img", lambda m, frames, c, settings, s, prompts: asked.append(settings) or frames
    )
    some = [Example(Path("1.png"), noise(0), "a hall", 0, {}, engine=noise(9))]
    for model in (load_model(random_model, controls=()), tiny_sdxl(random_model)):
        rendered.render(model, some, seed=0)
    assert [each.guidance for each in asked] == [1.0, 5.5]


def test_the_miniature_itself_is_nearer_after_learning(tmp_path: Path) -> None:
    """Iris, real weights: a few steps take the rendered held-out images nearer to the truth."""
    text = (SAMPLES / "characters" / "iris" / "dataset.toml").read_text(encoding="utf-8")
    head = text[: text.index("[train]")]
    for folder in ("images", "engine"):
        head = head.replace(f'{folder} = "{folder}"', f'{folder} = "{SAMPLES}/characters/iris/{folder}"')
    path = tmp_path / "dataset.toml"
    path.write_text(
        head + "[train]\nsteps = 24\nbatch = 2\nrank = 8\nlr = 3e-3\nengine_probability = 1.0\n"
        "validation = 2\nvalidate_every = 8\npick = 'likeness'\n",
        encoding="utf-8",
    )
    run.train_from_file(path, out=tmp_path / "out", progress=False)
    record = record_of(tmp_path / "out")
    found = {each["step"]: each["iris"] for each in record["distances"]}
    assert list(found) == [8, 16, 24] and found[24] < 0.97 * found[8], found
    assert record["picked"] == min(found, key=lambda step: found[step])


def test_without_engine_renders_it_is_one_line_and_nothing_is_started(
    make_dataset: MakeDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_dataset(PICKED)
    assert cli.main(["train", str(path), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "train.pick = 'likeness' needs engine renders of the held-out images" in line
    assert "'irisbot' has none" in line and "take pick = 'validation', which needs none" in line
    assert not (tmp_path / "out").exists()


def test_a_mask_that_shows_too_little_is_told_before_the_first_step(
    make_rendered: MakeDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "take_step", lambda _: pytest.fail("a step was taken"))
    path = make_rendered(PICKED)
    for number in range(1, 5):
        mask = np.zeros((128, 128, 3), np.uint8)
        mask[:7, :9] = 255
        write_png(tmp_path / "masks" / f"{number:04d}.png", mask)
    text = path.read_text(encoding="utf-8").replace("engine =", 'masks = "masks"\nengine =')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"of 'irisbot' inside its mask, which has 63 white pixels there"):
        run.train_from_file(path, out=tmp_path / "out", progress=False)

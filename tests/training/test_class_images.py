"""Class images: read, drawn one for one, weighed; without them nothing is what it was not before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_material import small_material

from pipeline.errors import DatasetError
from pipeline.image import write_png
from pipeline.models import load_model
from training.adapters.table import build
from training.class_images import with_class_images
from training.dataset import Dataset, load_dataset
from training.draws import draw
from training.loop import Trainer
from training.material import Material, prepare
from training.priors import prior_draw
from training.schema import TrainSettings, read_dataset_file

MakeDataset = Callable[[str], Path]


def with_folder(path: Path, *, captions: tuple[str, ...] = ("", "a woman in a hall")) -> Dataset:
    """The dataset at `path` with two class images, of which the first has no caption."""
    folder = path.parent / "women"
    folder.mkdir(exist_ok=True)
    for number, caption in enumerate(captions):
        write_png(folder / f"{number}.png", np.full((128, 160, 3), 40 * number, np.uint8))
        if caption:
            (folder / f"{number}.txt").write_text(caption, encoding="utf-8")
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("[train]", 'prior_images = "women"\n[train]'), encoding="utf-8")
    data = load_dataset(path, read_dataset_file(path), size=128, control_kinds=())
    return with_class_images(data, bucket_step=0)


def test_class_images_are_read_with_the_class_for_a_caption_and_count_in_the_digest(
    make_dataset: MakeDataset,
) -> None:
    path = make_dataset("prior_weight = 1.0")
    plain = load_dataset(path, read_dataset_file(path), size=128, control_kinds=())
    data = with_folder(path)
    assert [example.caption for example in data.priors] == ["woman", "a woman in a hall"]
    assert [example.image.shape for example in data.priors] == [(128, 128, 3)] * 2
    assert with_class_images(plain, bucket_step=0) == plain
    assert len({plain.digest(), data.digest(), replace(data, priors=data.priors[:1]).digest()}) == 3


def test_faults_are_one_line(make_dataset: MakeDataset, tmp_path: Path) -> None:
    path = make_dataset("")
    with pytest.raises(
        DatasetError, match=r"'irisbot' has prior_images, which train\.prior_weight = 0 leaves"
    ):
        with_folder(path)
    path = make_dataset("prior_weight = 1.0")
    with pytest.raises(DatasetError, match=r"1\.txt: says the trigger 'irisbot'; class images"):
        with_folder(path, captions=("", "irisbot in a hall"))
    for file in (tmp_path / "women").iterdir():
        file.unlink()
    data = load_dataset(path, read_dataset_file(path), size=128, control_kinds=())
    with pytest.raises(DatasetError, match=r"concept\[1\]\.prior_images: no images in"):
        with_class_images(data, bucket_step=0)
    (tmp_path / "women").rmdir()
    with pytest.raises(DatasetError, match=r"prior_images: no folder .*women; put images of 'woman' there"):
        with_class_images(data, bucket_step=0)


def priors() -> Material:
    """Three class images of the second concept."""
    latents = tuple(torch.full((4, 16, 16), 0.1 * i) for i in range(3))
    return replace(
        small_material(),
        latents=latents,
        engine=tuple(map(torch.zeros_like, latents)),
        has_engine=torch.zeros(3, dtype=torch.bool),
        sizes=torch.full((3, 6), 64.0),
        captions=("woman", "a woman", "women"),
        triggers=("irisbot",) * 3,
        plain=("woman", "a woman", "women"),
        concepts=(1, 1, 1),
        shares=(0.0, 1.0),
    )


def test_each_image_of_a_concept_with_class_images_brings_one_along() -> None:
    settings = TrainSettings(batch=40, caption_dropout=1.0)
    chosen = draw(small_material(), [0, 1] * 20, 3, settings, 1000)

    def drawn(step: int, concepts: tuple[int, int]) -> list[int] | None:
        one = prior_draw(priors(), chosen, concepts, step=step, settings=settings, num_timesteps=1000)
        assert one is None or (all(one.keep_caption) and not one.from_engine.any())
        return None if one is None else one.indices

    assert drawn(3, (0, 0)) is None
    some = drawn(3, (0, 1))
    assert some is not None and len(some) == 20 and set(some) == {0, 1, 2}
    assert drawn(3, (0, 1)) == some and drawn(4, (0, 1)) != some
    assert len(drawn(3, (1, 1)) or ()) == 40


def test_the_loss_of_a_step_is_the_two_parts_of_it(random_model: Path) -> None:
    """Rows of a concept with class images add the images' loss; the others keep the base's prediction."""
    settings = TrainSettings(batch=2, rank=2, prior_weight=0.5, caption_dropout=0.0, steps=2)
    two = replace(small_material(), concepts=(0, 1), shares=(1.0, 1.0))

    def trainer(of: Material | None) -> Trainer:
        trained = build(load_model(random_model, controls=()), settings)
        return Trainer(trained, two, settings, precision="fp32", priors=of)

    ours, plain = trainer(priors()), trainer(None)
    chosen = draw(two, [0, 1], 0, settings, 1000)
    also = prior_draw(priors(), chosen, two.concepts, step=0, settings=settings, num_timesteps=1000)
    assert also is not None and len(also.indices) == 1
    # An untrained LoRA says what the base says: the base's prediction adds nothing to either.
    expected = float(plain.loss(chosen).detach())
    images = ours._denoising(priors(), also, [priors().captions[i] for i in also.indices])
    expected += 0.5 * float(images.detach()) / 2  # one image of a batch of two
    assert float(ours._gradients(chosen)) == pytest.approx(expected, rel=1e-5)
    assert float(images.detach()) > 0.01
    for rows, of in (([0], priors()), ([0, 1], None)):
        assert trainer(of)._without_class_images(chosen) == rows


def test_material_of_class_images_is_prepared_as_any_other(
    make_dataset: MakeDataset, random_model: Path
) -> None:
    data = with_folder(make_dataset("prior_weight = 1.0"))
    made = prepare(load_model(random_model, controls=()), replace(data, examples=data.priors))
    assert made.captions == ("woman", "a woman in a hall") and made.concepts == (0, 0)
    assert not made.controls and not torch.equal(made.latents[0], made.latents[1])

"""The dataset as the loop eats it: latents, controls and masks, all of it on the model's device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.image import UInt8Array, to_tensor
from pipeline.models import Model, encode_images
from training.cache import Cache
from training.captions import without_trigger
from training.dataset import Dataset
from training.example import Example


@dataclass(frozen=True)
class Material:
    """Index i everywhere is example i of the dataset; sizes differ from bucket to bucket."""

    latents: tuple[Tensor, ...]  # N of [C, h, w] float32
    controls: Mapping[str, tuple[Tensor, ...]]  # kind -> N of [3, H, W] float32 in [0, 1]; zeros if none
    has_control: Mapping[str, Tensor]  # kind -> [N] bool
    engine: tuple[Tensor, ...]  # N of [C, h, w] float32, latents of the engine's pictures; zeros if none
    has_engine: Tensor  # [N] bool
    masks: (
        tuple[Tensor, ...] | None
    )  # N of [1, h, w] float32 in [0, 1], ones if none; None: no example has one
    sizes: Tensor  # [N, 6] float32: H, W of the picture, top and left of the crop, H, W of the crop
    captions: tuple[str, ...]
    triggers: tuple[str, ...]  # what caption dropout leaves
    plain: tuple[str, ...]  # captions with the trigger replaced by the class word
    concepts: tuple[int, ...]
    shares: tuple[float, ...]  # each concept's part of all exposures, any scale

    @property
    def buckets(self) -> tuple[int, ...]:
        """[N]: equal numbers, equal sizes."""
        known: dict[tuple[int, ...], int] = {}
        return tuple(known.setdefault(tuple(each.shape), len(known)) for each in self.latents)


def prepare(model: Model, dataset: Dataset, *, cache: Cache | None = None) -> Material:
    """Encode every image once (the VAE's mean) and lay out the rest. The VAE is not needed after this.

    Images are encoded one by one, so an image's latents depend on nothing but the image, and a latent out of
    the cache is that of a fresh start to the bit.
    """
    examples = dataset.examples
    file = dataset.file
    kept = cache if cache is not None else Cache.empty()
    latents = tuple(_encoded(model, each.image, kept) for each in examples)
    concepts = [file.concept[each.concept] for each in examples]
    masks = None
    if any(each.mask is not None for each in examples):
        masks = tuple(_mask(each, latent) for each, latent in zip(examples, latents, strict=True))
    return Material(
        latents=latents,
        engine=tuple(
            torch.zeros_like(latent) if each.engine is None else _encoded(model, each.engine, kept)
            for each, latent in zip(examples, latents, strict=True)
        ),
        has_engine=torch.tensor([each.engine is not None for each in examples]),
        controls={kind: _controls(model, dataset, kind) for kind in dataset.control_kinds},
        has_control={
            kind: torch.tensor([kind in each.controls for each in examples]) for kind in dataset.control_kinds
        },
        masks=masks,
        sizes=torch.tensor(
            [(*each.original, *each.corner, *each.image.shape[:2]) for each in examples], dtype=torch.float32
        ),
        captions=tuple(each.caption for each in examples),
        triggers=tuple(concept.trigger for concept in concepts),
        plain=tuple(
            without_trigger(each.caption, trigger=concept.trigger, class_word=concept.class_word)
            for each, concept in zip(examples, concepts, strict=True)
        ),
        concepts=tuple(each.concept for each in examples),
        shares=dataset.shares,
    )


def _encoded(model: Model, image: UInt8Array, cache: Cache) -> Tensor:
    """Latents [C, h, w] float32 of an image [H, W, 3], on the model's device."""
    key = cache.image_key(image)
    found = cache.get(key)
    if found is None:
        with torch.no_grad():
            found = encode_images(model, image[None])[0].float()
        cache.put(key, found)
    return found.to(model.device)


def _controls(model: Model, dataset: Dataset, kind: str) -> tuple[Tensor, ...]:
    pictures = [each.controls.get(kind, np.zeros_like(each.image)) for each in dataset.examples]
    return tuple((to_tensor(p[None], device=model.device)[0] + 1.0) / 2.0 for p in pictures)


def _mask(example: Example, latent: Tensor) -> Tensor:
    """[1, h, w]: the share of each latent's pixels that lies inside the mask."""
    if example.mask is None:
        return torch.ones_like(latent[:1])
    pixels = torch.from_numpy(example.mask.astype(np.float32) / 255.0)[None]  # [1, H, W]
    height, width = latent.shape[-2:]
    inside = torch.nn.functional.adaptive_avg_pool2d(pixels, (height, width))
    return inside.to(latent.device)

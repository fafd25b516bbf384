"""Settings that depend on the model, filled in; and those that do nothing, said."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pipeline.errors import ModelError
from pipeline.models import FAMILIES, Family, find_model
from pipeline.models.find import PICKLES
from pipeline.models.hub import is_hub_id
from training.dataset import Dataset
from training.schema import DatasetFile

log = logging.getLogger(__name__)

EXPOSURES = 100  # of each image, where the file says no steps (field practice for about 20 images)
_LOW_RANK = ("lora", "dora", "loha", "lokr")
_OF_LAYERS = frozenset({"rank", "alpha", "conv_rank", "layout"})
_OF_WORDS = frozenset({"vectors", "embedding_lr"})
_OF_MODELS = frozenset({"save_dtype", "single_file"})
# kind -> keys of [train] that it has no use for
UNUSED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **dict.fromkeys(_LOW_RANK, _OF_WORDS | _OF_MODELS),
        "embedding": _OF_LAYERS | _OF_MODELS | {"lr", "text_lr", "text_stop", "prior_weight"},
        "pivotal": _OF_MODELS,
        "full": _OF_LAYERS | _OF_WORDS,
    }
)
# kind -> the key of a concept that it has no use for, if there is one
_UNUSED_IN_CONCEPTS: Mapping[str, str | None] = MappingProxyType(
    {
        **dict.fromkeys((*_LOW_RANK, "full"), "init_text"),
        "embedding": "prior_images",
        "pivotal": None,
    }
)


def model_of(path: Path, file: DatasetFile) -> str | Path:
    """What `find_model` is asked for: a family's name, a file or folder beside the dataset file, a hub id."""
    beside = path.parent / file.model
    if file.model in FAMILIES or (is_hub_id(file.model) and not beside.exists()):
        return file.model
    return beside


def find_base(path: Path, file: DatasetFile, *, offline: bool = False) -> tuple[Family, Path]:
    """The family of the dataset file's model and where it lies. Raises `ModelError` that names the file."""
    try:
        return find_model(model_of(path, file), offline=offline)
    except ModelError as error:
        told = str(error)
        if Path(file.model).suffix.lower() in PICKLES and "is a pickle" in told:
            told = f"'{file.model}' is a pickle, which can run code; training takes .safetensors: convert it"
        raise ModelError(f"{path}:model: {told}") from None


def resolved(path: Path, file: DatasetFile, family: Family) -> DatasetFile:
    """The file with what suits its model wherever it says nothing: rates, alpha, batch, the text's end.

    A key that the kind has no use for is said in the log: it is legal, so one file can try several kinds.
    """
    train = file.train
    given, unused = train.model_fields_set, UNUSED[train.kind]
    for key in sorted(given & unused):
        log.warning("%s:train.%s: not used by kind '%s'", path, key, train.kind)
    if train.engine_strength is not None and (
        train.engine_probability == 0.0 or all(concept.engine is None for concept in file.concept)
    ):
        log.warning(
            "%s:train.engine_strength: not used; nothing trains the way from an engine's render", path
        )
    suits: dict[str, Any] = {
        "lr": family.full_rate if train.kind == "full" else family.lora_rate,
        "alpha": family.alpha_share * train.rank,
        "batch": family.batch,
    }
    if train.kind in _LOW_RANK and train.optimizer != "prodigy":
        suits |= {"text_lr": family.text_rate, "text_stop": family.text_stop}
    chosen = {key: value for key, value in suits.items() if key not in given | unused}
    for key, value in chosen.items():
        log.info("%s:train.%s: %g, for kind '%s' on %s", path, key, value, train.kind, family.title)
    if train.kind == "embedding":  # words are all that learns there: once they stop nothing is left to do
        chosen["text_stop"] = 1.0
        chosen["prior_weight"] = 0.0  # the class's own words do not learn: the prior holds by itself
    useless = _UNUSED_IN_CONCEPTS[train.kind]
    for number, concept in enumerate(file.concept, start=1):
        if useless is not None and getattr(concept, useless) is not None:
            log.warning("%s:concept[%d].%s: not used by kind '%s'", path, number, useless, train.kind)
    concepts = tuple(each.model_copy(update={useless: None} if useless else {}) for each in file.concept)
    return file.model_copy(update={"train": train.model_copy(update=chosen), "concept": concepts})


def with_steps(data: Dataset) -> Dataset:
    """The dataset with steps for `EXPOSURES` of each image that is trained on, where its file says none.

    Raises `DatasetError` where `train.validation` leaves nothing to train on.
    """
    train = data.file.train
    if "steps" in train.model_fields_set:
        return data
    images = sum(not each.is_mirrored for each in data.split()[0].examples)
    steps = math.ceil(EXPOSURES * images / train.step_images)
    log.info("%s:train.steps: %d, for %d exposures of each of %d images", data.path, steps, EXPOSURES, images)
    return data.with_steps(steps)

"""Settings that depend on the model, filled in; and those that do nothing, said."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline.models import Family
from training.schema import DatasetFile

log = logging.getLogger(__name__)

_OF_LAYERS = frozenset({"rank", "alpha", "conv_rank", "layout"})
_OF_WORDS = frozenset({"vectors", "embedding_lr"})
_OF_MODELS = frozenset({"save_dtype", "single_file"})
# kind -> keys of [train] that it has no use for
UNUSED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        **dict.fromkeys(("lora", "dora", "loha", "lokr"), _OF_WORDS | _OF_MODELS),
        "embedding": _OF_LAYERS | _OF_MODELS | {"lr", "text_lr"},
        "pivotal": _OF_MODELS,
        "full": _OF_LAYERS | _OF_WORDS,
    }
)


def resolved(path: Path, file: DatasetFile, family: Family) -> DatasetFile:
    """The file with the learning rate that suits its model where it says none.

    A key that the kind has no use for is said in the log: it is legal, so one file can try several kinds.
    """
    train = file.train
    for key in sorted(train.model_fields_set & UNUSED[train.kind]):
        log.warning("%s:train.%s: not used by kind '%s'", path, key, train.kind)
    if "lr" in train.model_fields_set or "lr" in UNUSED[train.kind]:
        return file
    rate = family.full_rate if train.kind == "full" else family.lora_rate
    log.info("%s:train.lr: %g, for kind '%s' on %s", path, rate, train.kind, family.title)
    return file.model_copy(update={"train": train.model_copy(update={"lr": rate})})

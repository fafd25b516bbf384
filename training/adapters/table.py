"""The table of kinds: what `train.kind` names -> what builds it into a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from pipeline.models import Model
from training.adapters import embedding, full, low_rank, pivotal
from training.adapters.trained import Trained
from training.schema import Concept, Kind, TrainSettings

Builder = Callable[[Model, TrainSettings, Sequence[Concept]], Trained]

KINDS: Mapping[Kind, Builder] = MappingProxyType(
    {
        **dict.fromkeys(("lora", "dora", "loha", "lokr"), low_rank.build),
        "embedding": embedding.build,
        "pivotal": pivotal.build,
        "full": full.build,
    }
)


def build(model: Model, settings: TrainSettings, concepts: Sequence[Concept] = ()) -> Trained:
    """Make of a freshly loaded, frozen model one that learns what `settings.kind` says."""
    return KINDS[settings.kind](model, settings, concepts)

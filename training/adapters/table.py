"""The table of kinds: what `train.kind` names -> what builds it into a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from pipeline.models import Model
from training.adapters import low_rank
from training.adapters.trained import Trained
from training.schema import Concept, Kind, TrainSettings

Builder = Callable[[Model, TrainSettings, Sequence[Concept]], Trained]

KINDS: Mapping[Kind, Builder] = MappingProxyType(
    {"lora": low_rank.build, "dora": low_rank.build, "loha": low_rank.build, "lokr": low_rank.build}
)


def build(model: Model, settings: TrainSettings, concepts: Sequence[Concept] = ()) -> Trained:
    """Make of a freshly loaded, frozen model one that learns what `settings.kind` says."""
    return KINDS[settings.kind](model, settings, concepts)

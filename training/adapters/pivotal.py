"""Pivotal tuning: a word for each trigger and a LoRA, learned together (after Roich et al. 2021)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pipeline.models import Model
from training.adapters import embedding, low_rank
from training.adapters.trained import Job, Role
from training.schema import Concept, TrainSettings

_WORD, _LORA = "word:", "lora:"


@dataclass(frozen=True)
class Pivotal:
    """An embedding and a LoRA that belong together."""

    words: embedding.Embedding
    lora: low_rank.LowRank

    @property
    def model(self) -> Model:
        """See `Trained`."""
        return self.lora.model

    @property
    def parameters(self) -> Mapping[Role, Sequence[nn.Parameter]]:
        """See `Trained`."""
        return {**self.lora.parameters, **self.words.parameters}

    def state(self) -> dict[str, Tensor]:
        """See `Trained`."""
        words = {_WORD + key: value for key, value in self.words.state().items()}
        return words | {_LORA + key: value for key, value in self.lora.state().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Trained`."""
        for mark, part in ((_WORD, self.words), (_LORA, self.lora)):
            part.load({key.removeprefix(mark): value for key, value in state.items() if key.startswith(mark)})

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """See `Trained`."""
        with self.words.disabled(), self.lora.disabled():
            yield

    def export(self, job: Job) -> tuple[Path, ...]:
        """See `Trained`: the embeddings, then the LoRA, whose metadata name them by file and digest."""
        embeddings = self.words.export(job)
        return (*embeddings, *self.lora.export(job, embeddings=embeddings))


def build(model: Model, settings: TrainSettings, concepts: Sequence[Concept]) -> Pivotal:
    """Words for the triggers, and the layers that the settings ask for."""
    return Pivotal(
        words=embedding.build(model, settings, concepts),
        lora=low_rank.build(model, settings, concepts, kind="lora"),
    )

"""Embeddings (textual inversion, Gal et al. 2022): a new word for each trigger learns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pipeline.models import Model
from pipeline.models.new_words import NewWords, add_words
from training import export
from training.adapters.trained import Job, Role
from training.schema import Concept, TrainSettings

FOLDER = "embeddings"


@dataclass(frozen=True)
class Embedding:
    """A word for each trigger."""

    model: Model
    words: NewWords

    @property
    def parameters(self) -> Mapping[Role, Sequence[nn.Parameter]]:
        """See `Trained`; one for each text encoder."""
        return {"embedding": self.words.vectors}

    def state(self) -> dict[str, Tensor]:
        """See `Trained`."""
        return self.words.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Trained`."""
        self.words.load(state)

    def disabled(self) -> AbstractContextManager[None]:
        """See `Trained`; the triggers are then read as plain text."""
        return self.words.unknown()

    def export(self, job: Job) -> tuple[Path, ...]:
        """See `Trained`: a file for each trigger, in a folder as A1111 has one."""
        paths = tuple(job.folder / FOLDER / f"{word}{job.mark}.safetensors" for word in self.words.rows)
        for word, path in zip(self.words.rows, paths, strict=True):
            self.words.write(word, path, metadata=export.embedding_metadata(self.model, job, word))
        return paths


def build(model: Model, settings: TrainSettings, concepts: Sequence[Concept]) -> Embedding:
    """Give the model a word for each trigger, which starts as its `init_text`, else as its class.

    Raises ModelError for a text without tokens, a trigger that is taken, too many vectors.
    """
    words = {each.trigger: (each.init_text or each.class_word, settings.vectors) for each in concepts}
    return Embedding(model, add_words(model, words))

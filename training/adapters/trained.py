"""What a training changes, as the loop sees it: parameters, state, the base's own prediction, the result.

How a step is taken (`training.loop`) knows nothing of LoRA, embeddings or whole networks; what is trained
knows nothing of steps. A kind is a builder in `training.adapters.table`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from torch import Tensor, nn

from pipeline.models import Model
from training.dataset import Dataset

Role = Literal["unet", "text", "embedding"]
"""What parameters belong to: the UNet, the text encoders' layers, new words' vectors."""


@dataclass(frozen=True)
class Job:
    """What `Trained.export` is told: whose model and images, where to, and which training it is."""

    folder: Path
    dataset: Dataset
    base: Path
    """The folder or file that the model came from."""
    stamp: str
    """Goes into the metadata of the files: same stamp, same training."""
    mark: str = ""
    """Ends the names of the files: of a step on the way."""
    step: int | None = None
    """Steps that the weights have taken; None: all of the dataset file's."""

    @property
    def steps(self) -> int:
        """Steps that the weights have taken."""
        return self.dataset.file.train.steps if self.step is None else self.step

    @property
    def name(self) -> str:
        """The result's name."""
        return self.dataset.file.name + self.mark


class Trained(Protocol):
    """A part of a model that learns. It is built into the model that it came from."""

    @property
    def model(self) -> Model:
        """The model that it is built into."""

    @property
    def parameters(self) -> Mapping[Role, Sequence[nn.Parameter]]:
        """All that learns, float32, in a fixed order; a role of which nothing learns is left out.

        Text has to be encoded anew in each step where "text" or "embedding" is in it.
        """

    def state(self) -> dict[str, Tensor]:
        """A snapshot of all parameters, float32 on the CPU, for an exact resume."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a snapshot back, bit for bit. Raises ModelError where it is not of the same settings."""

    def disabled(self) -> AbstractContextManager[None]:
        """Inside, the model computes as the base does, text encoders too."""

    def export(self, job: Job) -> tuple[Path, ...]:
        """Write the result, each file whole or not at all; the main one last, it is the last of the paths.

        The same parameters, dataset and stamp give the same bytes. Raises OutputError, and ModelError where
        the file would not be read back whole.
        """


def trains_text(trained: Trained) -> bool:
    """Whether a prompt's embedding changes while it is trained."""
    return not trained.parameters.keys().isdisjoint(("text", "embedding"))

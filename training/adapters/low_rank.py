"""LoRA, DoRA, LoHa, LoKr: changes beside the layers' weights, of few numbers."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from pipeline.models import Model, inject_lora, load_lora_state, lora_disabled, lora_state
from training import export
from training.adapters.trained import Job, Role
from training.schema import Concept, TrainSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LowRank:
    """Layers that are injected beside a model's own."""

    model: Model
    parameters: Mapping[Role, Sequence[nn.Parameter]]
    kind: str

    def state(self) -> dict[str, Tensor]:
        """See `Trained`; kohya's keys."""
        return lora_state(self.model)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """See `Trained`."""
        load_lora_state(self.model, state)

    @contextlib.contextmanager
    def disabled(self) -> Iterator[None]:
        """See `Trained`."""
        self.model.said.clear()
        with lora_disabled(self.model):
            yield
        self.model.said.clear()

    def export(self, job: Job, *, embeddings: Sequence[Path] = ()) -> tuple[Path, ...]:
        """See `Trained`: A1111's sidecar, and the LoRA; `embeddings` are files that belong to it."""
        path = job.folder / f"{job.name}.safetensors"
        export.write(path, self.model, job, kind=self.kind, embeddings=embeddings)
        if self.kind == "dora":
            log.warning("%s: a DoRA; A1111 and ComfyUI scale it otherwise than it was trained", path)
        return path.with_suffix(".json"), path


def build(
    model: Model, settings: TrainSettings, concepts: Sequence[Concept], *, kind: str | None = None
) -> LowRank:
    """Inject the layers that the settings ask for; `kind`: of them, `settings.kind` if None."""
    kind = kind or settings.kind
    lora = inject_lora(
        model,
        kind=kind,
        rank=settings.rank,
        alpha=settings.alpha,
        conv_rank=settings.conv_rank,
        text_encoder=settings.text_lr > 0,
        seed=settings.seed,
        fused=True,
    )
    parameters: dict[Role, Sequence[nn.Parameter]] = {"unet": lora.unet_parameters}
    if lora.text_parameters:
        parameters["text"] = lora.text_parameters
    return LowRank(model, parameters, kind)

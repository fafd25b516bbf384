"""One training from its dataset file to the LoRA file: the spine.

read dataset -> finished already? -> train (`training.session`)

OUT/<name>.safetensors   the LoRA, kohya format       OUT/<name>.json   A1111's sidecar
OUT/samples.png          what it does                 OUT/samples/      the same while training, if asked for
OUT/checkpoint.pt        where the next run goes on
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DatasetError, ModelError
from pipeline.files import file_digest
from pipeline.models import FAMILIES, Family, find_model
from pipeline.models.architectures import architecture
from training.dataset import Dataset, load_dataset
from training.schema import read_dataset_file

DEFAULT_OUT = Path("out") / "loras"
_MODEL_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind."""

    lora: Path
    steps: int
    seconds: float
    """Spent on steps, over all the runs that this training took."""
    images_per_second: float
    samples: Path
    """A contact sheet, PNG: training image | controls | before | after."""


def train_from_file(
    dataset: Path,
    *,
    out: Path | None = None,
    steps: int | None = None,
    progress: bool = True,
    device: str | None = None,
) -> TrainResult:
    """Train the LoRA that a dataset file describes, or go on with it, or return at once if it is done.

    `out` is the folder of the results, `out/loras/<name>` if None; `steps` overrides the file's;
    `device` None is "cuda" where there is one, else "cpu". An unfinished training of the same images,
    settings and model goes on at its step and ends with the bytes of an uninterrupted one; any other
    starts afresh. How often it is saved and sampled, and with which prompts, makes no other training.

    Raises `DatasetError`, `ModelError` and `OutputError`; KeyboardInterrupt after the checkpoint is saved.
    """
    data, model, folder = _read(dataset, steps)
    weights = model_digest(folder, data.control_kinds)
    digest = hashlib.sha256(f"{data.digest()} {weights}".encode()).hexdigest()

    from training import session  # loads torch: not before the files have been looked at

    results = session.Results(out if out is not None else DEFAULT_OUT / data.file.name, data.file.name)
    seconds = session.seconds_if_finished(data, results, digest=digest)
    if seconds is None:
        seconds = session.train(data, model, results, digest=digest, progress=progress, device=device)
    settings = data.file.train
    return TrainResult(
        lora=results.lora,
        steps=settings.steps,
        seconds=seconds,
        images_per_second=settings.steps * settings.batch / max(seconds, 1e-9),
        samples=results.samples,
    )


def model_digest(folder: Path, control_kinds: Sequence[str]) -> str:
    """sha256 over the files that a training with these controls reads of a model folder; loads nothing.

    Raises `ModelError` for a file that cannot be read; what is missing is for `load_model` to tell.
    """
    state = hashlib.sha256()
    for part in (*_MODEL_PARTS, *(f"controlnet_{kind}" for kind in sorted(control_kinds))):
        for path in sorted(path for path in (folder / part).rglob("*") if path.is_file()):
            try:
                content = file_digest(path)
            except OSError as error:
                raise ModelError(f"{path}: cannot be read ({error.strerror}); check the file") from None
            state.update(f"{path.relative_to(folder).as_posix()}\0{content}\0".encode())
    return state.hexdigest()


def _check_trainable(family: Family, model: Path) -> None:
    """Refuse what training cannot take yet: two text encoders, and models that are one file."""
    if len(architecture(family.name).text_encoders) > 1:
        raise ModelError(
            f"model {model}: is {family.title}, which training does not take yet; expected the miniature "
            '("mini") or a Stable Diffusion 1.5 folder in diffusers layout'
        )
    if not model.is_dir():
        raise ModelError(
            f"model {model}: is one file, which training does not take yet; expected the miniature "
            '("mini") or a folder in diffusers layout'
        )


def _read(path: Path, steps: int | None) -> tuple[Dataset, str | Path, Path]:
    """The checked dataset, the model's name or path, and its folder. Loads no weights."""
    file = read_dataset_file(path)
    if steps is not None and steps < 1:
        raise DatasetError(f"--steps {steps}: expected 1 or more")
    model: str | Path = file.model if file.model in FAMILIES else path.parent / file.model
    family, folder = find_model(model)
    _check_trainable(family, folder)
    data = load_dataset(path, file, size=family.default_size, control_kinds=family.control_kinds)
    return data if steps is None else data.with_steps(steps), model, folder

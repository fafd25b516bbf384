"""One training from its dataset file to its result: the spine. Other kinds than LoRA: docs/training.md.

read dataset -> finished already? -> train (`training.session`)

OUT/<name>.safetensors   the LoRA, kohya format       OUT/<name>.json   A1111's sidecar
OUT/training.json        settings, digests, exposure, losses; written last
OUT/samples.png          what it does                 OUT/samples/      the same while training, if asked for
OUT/checkpoint.pt        where the next run goes on
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DatasetError, ModelError
from pipeline.files import file_digest, known_digest
from pipeline.models import Family
from training.class_images import with_class_images
from training.dataset import Dataset, load_dataset
from training.resolve import find_base, model_of, resolved, with_steps
from training.schema import TrainSettings, read_dataset_file
from training.step_settings import MAX_STEPS

DEFAULT_OUT = Path("out") / "loras"
_MODEL_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind."""

    result: Path
    """The LoRA, the (last) embedding, or the model's folder."""
    steps: int
    seconds: float
    """Spent on steps, over all the runs that this training took."""
    images_per_second: float
    samples: Path
    """A contact sheet, PNG: training image | controls | before | after."""
    was_done: bool = field(default=False, compare=False)
    """Whether all of it was there before: nothing was trained."""


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
    from training.places import check_places
    from training.steps import Results

    results = Results(out if out is not None else DEFAULT_OUT / data.file.name, data.file.name)
    before = done = session.finished(data, results, digest=digest)
    if done is None:
        check_places(results, data)
        with _file_named(dataset):
            session.train(
                data, model, results, digest=digest, weights=weights, progress=progress, device=device
            )
        done = session.finished(data, results, digest=digest)
    assert done is not None
    settings = data.file.train
    return TrainResult(
        result=done.result,
        steps=settings.steps,
        seconds=done.seconds,
        images_per_second=settings.steps * settings.step_images / max(done.seconds, 1e-9),
        samples=results.samples,
        was_done=before is not None,
    )


def check(dataset: Path, *, steps: int | None = None) -> None:
    """Raise what `train_from_file` would of a dataset file, its images and its model's place."""
    _read(dataset, steps)


@contextlib.contextmanager
def _file_named(dataset: Path) -> Iterator[None]:
    """Faults of a setting that show only while training name the file, as those do that reading it finds."""
    try:
        yield
    except DatasetError as error:
        is_named = not str(error).startswith("train.") or str(error).startswith(f"{dataset}:")
        raise DatasetError(str(error) if is_named else f"{dataset}:{error}") from None


def model_digest(folder: Path, control_kinds: Sequence[str]) -> str:
    """sha256 over the files that a training with these controls reads of a model; loads nothing.

    `folder` may be one file, too.

    Raises `ModelError` for a file that cannot be read; what is missing is for `load_model` to tell.
    """
    state = hashlib.sha256()
    if folder.is_file():
        return known_digest(folder)
    for part in (*_MODEL_PARTS, *(f"controlnet_{kind}" for kind in sorted(control_kinds))):
        for path in sorted(path for path in (folder / part).rglob("*") if path.is_file()):
            try:
                content = file_digest(path)
            except OSError as error:
                raise ModelError(f"{path}: cannot be read ({error.strerror}); check the file") from None
            state.update(f"{path.relative_to(folder).as_posix()}\0{content}\0".encode())
    return state.hexdigest()


def _read(path: Path, steps: int | None) -> tuple[Dataset, str | Path, Path]:
    """The checked dataset, the model's name or path, and its folder or file. Loads no weights."""
    file = read_dataset_file(path)
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise DatasetError(f"--steps {steps}: expected a number from 1 to {MAX_STEPS}")
    model = model_of(path, file)
    family, place = find_base(path, file)
    file = resolved(path, file, family)
    bucket_step = family.bucket_step if file.train.buckets else 0
    data = load_dataset(
        path,
        file,
        size=_size(path, file.train, family),
        # those that the model has: most folders and all single files have none
        control_kinds=[kind for kind in family.control_kinds if (place / f"controlnet_{kind}").is_dir()],
        bucket_step=bucket_step,
    )
    data = with_class_images(data, bucket_step=bucket_step)
    return data.with_steps(steps) if steps is not None else with_steps(data), model, place


def _size(path: Path, train: TrainSettings, family: Family) -> int:
    """The side that images are cut to. Raises `DatasetError` where the model cannot take it."""
    if train.size is None or train.size == family.default_size:
        return family.default_size
    if family.bucket_step == 0:
        raise DatasetError(
            f"{path}:train.size: {train.size}; {family.title} trains at {family.default_size}: take size out"
        )
    if train.size % family.bucket_step:
        raise DatasetError(
            f"{path}:train.size: {train.size}; {family.title} needs a multiple of {family.bucket_step}"
        )
    return train.size

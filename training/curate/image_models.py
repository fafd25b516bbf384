"""Models of transformers that look at images: where they lie, and how they are read in silence."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.models.hub import hub_snapshot, is_hub_id

_UNREAD = (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError, RuntimeError)


def model_folder(name: str | Path, *, kind: str, files: Sequence[str]) -> Path:
    """The folder of a model given by its path, or by its hub id where the hub's cache has it.

    Raises `ModelError`; `kind` says what was expected ("image").
    """
    if is_hub_id(name):
        try:
            return hub_snapshot(str(name), offline=True, allow_patterns=files)
        except ModelError:
            raise ModelError(
                f"--model {name}: is not in the hub's cache, and nothing is fetched here; give its folder"
            ) from None
    if not (Path(name) / "config.json").is_file():
        article = "an" if kind[0] in "aeiou" else "a"
        raise ModelError(f"--model {name}: no config.json there; expected a folder of {article} {kind} model")
    return Path(name)


@contextlib.contextmanager
def reading(folder: Path, *, kind: str) -> Iterator[None]:
    """Inside, transformers says nothing, and what it lets through of broken files is `ModelError`."""
    from huggingface_hub.errors import StrictDataclassError
    from safetensors import SafetensorError

    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (*_UNREAD, SafetensorError, StrictDataclassError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(f"{folder}: is no {kind} model that transformers reads ({reason})") from None

"""Files and folders of the Hugging Face hub: from its cache on this machine, else fetched. No torch here."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from pipeline.errors import ModelError

_ID = re.compile(r"[\w.-]+/[\w.-]+")
_INDEX = "*.safetensors.index.json"  # names the parts of weights that are kept in several files


def is_hub_id(name: str | Path) -> bool:
    """Whether a value reads as "org/name": one slash, no spaces, no file of weights, nothing on disk."""
    text = str(name)
    is_file = text.lower().endswith((".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".gguf"))
    named = _ID.fullmatch(text) is not None and not is_file
    return named and not text.startswith((".", "~")) and not Path(text).exists()


def hub_file(repo: str, filename: str, *, offline: bool) -> Path:
    """A file of a hub repository, by its path there; in the hub's cache (HF_HOME, HF_HUB_CACHE).

    What is in the cache is taken as it is, without a look at the network, so that a film keeps its bytes.
    `offline`, like HF_HUB_OFFLINE in the environment, forbids fetching what is not. Raises ModelError, one
    line.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    what = f"{filename} of https://huggingface.co/{repo}"
    try:
        return Path(hf_hub_download(repo, filename, local_files_only=True))
    except HFValidationError as error:
        raise _no_name(what, error) from None
    except LocalEntryNotFoundError:
        _refuse_offline(what, offline)
    path = _fetched(what, repo, [filename]) / filename
    if not path.is_file():
        raise ModelError(f"{what}: is not in the cache, and the hub has no such file or cannot be reached")
    return path


def hub_snapshot(repo: str, *, offline: bool, allow_patterns: Sequence[str]) -> Path:
    """The folder of a hub repository, with the files that match `allow_patterns` (fnmatch, "unet/*").

    The cached folder is taken as it is where every pattern has a file in it, and where weights in several
    files are all there; else what is missing is fetched. Offline it is taken where it has any such file: what
    a model needs beyond is the loader's to say. Raises ModelError, one line.
    """
    what = f"https://huggingface.co/{repo}"
    folder = _cached_folder(what, repo, allow_patterns)
    if folder is not None:
        if _is_whole(folder, allow_patterns):
            return folder
        if _may_not_fetch(offline) and _has_any(folder, allow_patterns):
            return folder
    _refuse_offline(what, offline)
    fetched = _fetched(what, repo, allow_patterns)
    if not _has_any(fetched, allow_patterns):
        raise ModelError(f"{what}: has none of the files asked for ({', '.join(allow_patterns)})")
    return fetched


def _cached_folder(what: str, repo: str, patterns: Sequence[str]) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns), local_files_only=True))
    except HFValidationError as error:
        raise _no_name(what, error) from None
    except LocalEntryNotFoundError as error:
        incomplete = getattr(error, "snapshot_path", None)  # newer hubs say where what they have is
        return None if incomplete is None else Path(incomplete)


def _is_whole(folder: Path, patterns: Sequence[str]) -> bool:
    if not all(_has_any(folder, [pattern]) for pattern in patterns):
        return False
    return all((index.parent / part).is_file() for index in folder.rglob(_INDEX) for part in _parts(index))


def _has_any(folder: Path, patterns: Sequence[str]) -> bool:
    """Whether any file in the folder matches any of the patterns; a link to nothing is no file."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns for name in names)


def _parts(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ModelError(
            f"{index}: is no index of weights ({type(error).__name__}); delete it and fetch the model again"
        ) from None


def _may_not_fetch(offline: bool) -> bool:
    from huggingface_hub import constants

    return offline or constants.HF_HUB_OFFLINE


def _refuse_offline(what: str, offline: bool) -> None:
    from huggingface_hub import constants

    if _may_not_fetch(offline):
        by = "--offline" if offline else "HF_HUB_OFFLINE"
        raise ModelError(
            f"{what}: is not in the cache {constants.HF_HUB_CACHE}, and {by} forbids fetching it"
        )


def _fetched(what: str, repo: str, patterns: Sequence[str]) -> Path:
    """A download; whatever the network, the hub or the disk say is one line.

    `snapshot_download` for a single file too: `hf_hub_download` tries a dead network six times, 24 seconds.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    # With the errors of the http package below, whose name changes with huggingface_hub's version.
    transport = cast(tuple[type[Exception], ...], HfHubHTTPError.__bases__)
    broken: tuple[type[Exception], ...] = (OSError, ValueError, RuntimeError, *transport)
    try:
        return Path(snapshot_download(repo, allow_patterns=list(patterns)))
    except LocalEntryNotFoundError as error:
        reason = _line(error.__cause__ or error)
        raise ModelError(f"{what}: is not in the cache, and the hub cannot be reached ({reason})") from None
    except GatedRepoError:
        raise ModelError(
            f"{what}: its owner asks for an agreement; accept it there and log in (hf auth login)"
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(
            f"{what}: the hub has no such repository, or it is private; mend its name or log in "
            "(hf auth login)"
        ) from None
    except broken as error:
        raise ModelError(f"{what}: cannot be fetched ({_line(error)}); try again") from None


def _no_name(what: str, error: Exception) -> ModelError:
    return ModelError(f"{what}: is no name of a repository ({_line(error)}); expected owner/name")


def _line(error: BaseException) -> str:
    """The first line of what an error says, short."""
    said = str(error).strip()
    return said.splitlines()[0][:160] if said else type(error).__name__

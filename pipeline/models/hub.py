"""Files of the Hugging Face hub: from its local cache first, else fetched. No torch here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import ModelError


def hub_snapshot(repo: str, *, offline: bool, allow_patterns: Sequence[str]) -> Path:
    """The folder of a repository "org/name" with the files that match. Raises ModelError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = list(allow_patterns)
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns, local_files_only=True))
    except LocalEntryNotFoundError:
        if offline or os.environ.get("HF_HUB_OFFLINE") == "1":
            raise ModelError(f"{repo}: is not in the hub's cache here; run once without --offline") from None
    try:
        return Path(snapshot_download(repo, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise ModelError(f"{repo}: cannot be fetched from the hub ({type(error).__name__})") from None

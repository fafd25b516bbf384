"""Files appear whole or not at all, and a failed write is one clear line.

Everything that lookdev writes goes through `whole_file` (or `write_bytes`): the bytes go to a hidden
neighbour that is renamed when complete, so a kill or a full disk leaves the old file or the new one whole.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import OutputError

PARTIAL = ".partial"  # the mark of an unfinished neighbour; safe to delete when nothing is running
UNFINISHED = re.compile(r"^\.(.+)\.partial(?:-\d+)?(\.[^.]*)?$")


def partial_path(path: Path, *, own: bool = False) -> Path:
    """The hidden neighbour that stands in for `path` while it is written; it keeps the suffix.

    `own`: with this process's number in its name, for files that another program writes. That program may
    outlive a killed process by a moment, and must not then write into the file of the process that follows.
    """
    mark = f"{PARTIAL}-{os.getpid()}" if own else PARTIAL
    return path.with_name(f".{path.stem}{mark}{path.suffix}")


def clear_partials(folder: Path) -> None:
    """Remove what killed processes left unfinished right in `folder`; nothing may be writing there."""
    with writing(folder):
        for entry in folder.iterdir():
            if UNFINISHED.match(entry.name) and not entry.is_dir():
                entry.unlink(missing_ok=True)


def final_path(path: Path) -> Path:
    """What `path` will be called when its unfinished parts are renamed: the name a user knows."""
    return Path(*(UNFINISHED.sub(r"\1\2", part) for part in path.parts))


def output_error(path: Path, error: OSError) -> OutputError:
    """The one line for an operating-system error met while writing `path`."""
    path = final_path(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError(f"{path}: the disk is full; free some space or choose another output folder")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return OutputError(f"{path}: no permission to write there; choose another output folder")
    reason = error.strerror or str(error)
    return OutputError(f"{path}: cannot be written ({reason}); check the output folder")


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any OSError raised inside into the OutputError that names `path`."""
    try:
        yield
    except OSError as error:
        raise output_error(path, error) from error


@contextlib.contextmanager
def whole_file(path: Path, *, own: bool = False) -> Iterator[Path]:
    """Yield a neighbour of `path` to write; it becomes `path` on success and vanishes on any failure.

    Missing parent folders are made; `own` is `partial_path`'s. Raises OutputError when the system refuses
    (full disk, no permission).
    """
    partial = partial_path(path, own=own)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            os.replace(partial, path)
    finally:
        with contextlib.suppress(OSError):  # nothing to clear where the folder itself could not be made
            partial.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` whole or not at all. Raises OutputError."""
    with whole_file(path) as partial:
        partial.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` to `path` whole or not at all. Raises OutputError."""
    write_bytes(path, text.encode("utf-8"))


def file_digest(path: Path) -> str:
    """sha256 of a file as hex, read in blocks. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_digest(path: Path, *, skip: int = 0) -> str:
    """`file_digest` for large files that are asked for again: read once a process while the stamp stays.

    `skip`: bytes at the start that are left out. Raises OSError.
    """
    status = path.stat()
    return _digest_past(path, skip, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _digest_past(path: Path, skip: int, size: int, changed: int) -> str:
    with path.open("rb") as file:
        file.seek(skip)
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(file: Path, root: Path) -> list[str | int]:
    """A file's identity without reading it: its name under `root`, size and time of change."""
    status = file.stat()
    base = root if root.is_dir() else root.parent
    name = file.relative_to(base) if file.is_relative_to(base) else file
    return [name.as_posix(), status.st_size, status.st_mtime_ns]

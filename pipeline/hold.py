"""One render to a folder at a time; a second one is told who holds it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.errors import OutputError
from pipeline.files import writing

LOCK = ".lock"


@contextlib.contextmanager
def held(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder against a second render into it; the system lets go of it when the process ends.

    `shared`: beside others that hold it so, as workers on one shot do, and against all that do not. Folders
    that this made and that are still empty at the end go again. Raises OutputError, which says who, when
    another process holds it. Without `fcntl` (Windows) nothing is held.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]  # deepest first
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / LOCK, shared=shared):
            yield
    finally:
        for place in made:
            with contextlib.suppress(OSError):  # not empty: there are results in it
                place.rmdir()


@contextlib.contextmanager
def _locked(path: Path, *, shared: bool) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    import fcntl

    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        with writing(path.parent):
            lock = path.open("a+", encoding="utf-8")  # not "w": that would wipe the holder's name
        with lock:
            try:
                fcntl.flock(lock, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"{path.parent}: another render is writing here{_holder(lock)}; wait for it or choose "
                    "another --out"
                ) from None
            if not _is_still(path, lock.fileno()):
                continue  # its holder removed it between our opening and locking: it holds nobody off
            if shared:  # others may hold it too, so the file stays, with the first one's name
                lock.seek(0)
                if not lock.read():
                    _sign(lock)
                yield
                return
            with writing(path.parent):
                _sign(lock)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _sign(lock: IO[str]) -> None:
    since = datetime.datetime.now(datetime.UTC).isoformat(sep=" ", timespec="seconds")
    lock.truncate(0)
    json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": since}, lock)
    lock.flush()


def _holder(lock: IO[str]) -> str:
    """ " (process 12 on host, since ...)", or nothing where the holder has not signed yet."""
    lock.seek(0)
    try:
        holder = json.load(lock)
        return f" (process {holder['pid']} on {holder['host']}, since {holder['since']})"
    except (ValueError, KeyError, TypeError):
        return ""


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that `path` names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False

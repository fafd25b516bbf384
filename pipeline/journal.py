"""What a render leaves on disk while it runs, so that an interrupted one goes on where it stopped.

OUT/<shot>/plan.json            the plan that the frames belong to; written before the first frame
           keys/timeline.json, key.0001.png ...   method "keys": which frames are keys, and these as styled
           frames/styled.0001.png   each whole or not there
           <shot>.mp4, record.json  written at the end; record.json last, so its presence means done

plan.json also keeps the seconds spent on these frames, over all runs (a run that was killed adds none), how
many frames' worth of pixels were denoised, and notes on what came up while they were made.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError
from pipeline.files import write_text, writing
from pipeline.image import UInt8Array, is_whole_png, read_png, write_png
from pipeline.plan import Plan, plan_as_json


@dataclass(frozen=True)
class Journal:
    """The folder of one shot's render and the plan that it is for."""

    folder: Path
    plan: Plan

    @property
    def video(self) -> Path:
        return self.folder / f"{self.plan.shot}.mp4"

    @property
    def record(self) -> Path:
        return self.folder / "record.json"

    @property
    def frames(self) -> Path:
        return self.folder / "frames"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def frame(self, index: int) -> Path:
        """The file of the frame with this index (0-based); it carries the source's frame number."""
        return self.frames / f"styled.{self.plan.frame_numbers[index]:04d}.png"

    def is_done(self) -> bool:
        """Whether this very plan was rendered to the end and its results are still there."""
        return _read_json(self.record).get("digest") == self.plan.digest and self.video.is_file()

    def begin(self) -> None:
        """Make the folder ready: keep frames that belong to this plan, remove those of another."""
        with writing(self.folder):
            self.frames.mkdir(parents=True, exist_ok=True)
            self.record.unlink(missing_ok=True)
            if not self._belongs():
                stale = [*self.frames.glob("styled.*.png"), *self.keys.glob("key.*.png")]
                for file in (*stale, *self.keys.glob("timeline.*")):
                    file.unlink()
        self._write_plan()

    def seconds(self) -> dict[str, float]:
        """Seconds by stage that all runs so far spent on this plan's frames."""
        spent = _read_json(self._plan_file).get("seconds_spent") if self._belongs() else None
        return spent if isinstance(spent, dict) else {}

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add what a run spent to the total."""
        before = self.seconds()
        added = {name: before.get(name, 0.0) + value for name, value in seconds.items()}
        self._write_plan(seconds_spent=before | added)

    def denoised(self) -> float:
        """How many frames' worth of pixels the model has made, over all runs."""
        stored = _read_json(self._plan_file).get("denoised_frames") if self._belongs() else None
        return float(stored) if isinstance(stored, int | float) else 0.0

    def add_denoised(self, frames: float) -> None:
        """Add what a run has denoised to the total."""
        self._write_plan(denoised_frames=self.denoised() + frames)

    def notes(self) -> tuple[str, ...]:
        """What came up while these frames were made, over all runs; the plan's own notes are not among it."""
        stored = _read_json(self._plan_file).get("run_notes") if self._belongs() else None
        return tuple(str(note) for note in stored) if isinstance(stored, list) else ()

    def add_notes(self, notes: Sequence[str]) -> None:
        """Keep notes for the record, each once. The folder must have begun."""
        if new := [note for note in notes if note not in self.notes()]:
            self._write_plan(run_notes=[*self.notes(), *new])

    def tidy(self) -> None:
        """Take the plan away again where no frame came of it: there is nothing to go on with."""
        if any(self.frames.glob("styled.*.png")) or any(self.keys.glob("key.*.png")):
            return
        with contextlib.suppress(OSError):
            for file in (*self.keys.glob("timeline.*"), self._plan_file):
                file.unlink(missing_ok=True)
            for folder in (self.keys, self.frames):
                if folder.exists():
                    folder.rmdir()

    @property
    def _plan_file(self) -> Path:
        return self.folder / "plan.json"

    def _belongs(self) -> bool:
        """Whether the frames on disk are this plan's."""
        return _read_json(self._plan_file).get("frames_digest") == self.plan.frames_digest

    def _write_plan(self, **changed: Any) -> None:
        """The plan with what was counted so far, some of it changed."""
        counted = {
            "seconds_spent": self.seconds(),
            "denoised_frames": self.denoised(),
            "run_notes": list(self.notes()),
        }
        data = plan_as_json(self.plan) | counted | changed
        write_text(self._plan_file, json.dumps(data, indent=1) + "\n")

    def has(self, start: int, stop: int) -> bool:
        """Whether every frame of the window is there and whole."""
        return all(is_whole_png(self.frame(index)) for index in range(start, stop))

    def is_complete(self) -> bool:
        """Whether every frame is there and belongs to this plan."""
        return self._belongs() and self.has(0, self.plan.num_frames)

    def write(self, start: int, frames: UInt8Array) -> None:
        """Write frames [T, H, W, 3] from index `start` on. Raises OutputError."""
        for offset, frame in enumerate(frames):
            write_png(self.frame(start + offset), frame)

    def read(self, index: int) -> UInt8Array:
        """One styled frame, uint8 RGB [H, W, 3]."""
        frame: UInt8Array = read_png(self.frame(index), error=OutputError)
        return frame

    def read_all(self) -> Iterator[UInt8Array]:
        """Every styled frame in order, each as [1, H, W, 3]."""
        for index in range(self.plan.num_frames):
            yield self.read(index)[None]


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder against a second render into it; the system lets go of it when the process ends.

    Folders that this made and that are still empty at the end go again. Raises OutputError when another
    process holds it. Without `fcntl` (Windows) nothing is held.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]  # deepest first
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / ".lock"):
            yield
    finally:
        for place in made:
            with contextlib.suppress(OSError):  # not empty: there are results in it
                place.rmdir()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    import fcntl

    while True:
        with writing(path.parent):
            lock = path.open("w", encoding="ascii")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"{path.parent}: another render is writing here; wait for it or choose another --out"
                ) from None
            if not _is_still(path, lock.fileno()):
                continue  # its holder removed it between our opening and locking: it holds nobody off
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that `path` names now."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the file is missing or was not written by us."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}

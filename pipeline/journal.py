"""What a render leaves on disk while it runs, so that an interrupted one goes on where it stopped.

OUT/<shot>/plan.json            the plan that the frames belong to; written before the first frame
           keys/timeline.json, key.0001.png ...   method "keys": which frames are keys, and these as styled
           frames/styled.0001.png   each whole or not there
           <shot>.mp4 (or .mov, or exr/ and <shot>.wav), record.json
                                    written at the end; record.json last, so its presence means done

plan.json also keeps what each single frame depends on, so that of another plan's frames those stay that would
be the same in this one; the seconds spent on these frames, over all runs (a run that was killed adds none);
how many frames' worth of pixels were denoised; and what came up while they were made.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import OutputError
from pipeline.files import clear_partials, write_text, writing
from pipeline.image import UInt8Array, is_whole_png, read_png, write_png
from pipeline.plan import Plan, parameters, plan_as_json

TIMELINE = "timeline.json"


@dataclass(frozen=True)
class Journal:
    """The folder of one shot's render and the plan that it is for.

    `span`: the frames (start, stop) that this process makes, where several share a shot; None: all.
    """

    folder: Path
    plan: Plan
    span: tuple[int, int] | None = None

    @property
    def video(self) -> Path:
        """What is made of the frames: a video, or the folder of a sequence."""
        return self.folder / self.plan.result

    @property
    def sound(self) -> Path:
        """The sound beside a sequence; a video holds its own."""
        return self.folder / f"{self.plan.shot}.wav"

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

    def sequence(self) -> tuple[str, ...]:
        """The file names of the frames as an EXR sequence."""
        return tuple(f"{self.plan.shot}.{number:04d}.exr" for number in self.plan.frame_numbers)

    def is_done(self) -> bool:
        """Whether this very plan was rendered to the end and its results are still there."""
        if _read_json(self.record).get("digest") != self.plan.digest:
            return False
        if self.plan.output.format == "exr":
            return all((self.video / name).is_file() for name in self.sequence())
        if self.plan.output.format == "png":
            return all(self.frame(index).is_file() for index in range(self.plan.num_frames))
        return self.video.is_file()

    def begin(self) -> None:
        """Make the folder ready: keep the frames that this plan would make just so, remove the others."""
        with writing(self.folder):
            self.frames.mkdir(parents=True, exist_ok=True)
            if self.plan.method == "keys":
                self.keys.mkdir(exist_ok=True)
            self.record.unlink(missing_ok=True)
            clear_partials(self.folder)
            clear_partials(self.frames)
            if not self._belongs():
                self._remove_stale()
        self._note()

    def _remove_stale(self) -> None:
        """Remove what an earlier plan made and this one would make otherwise."""
        before, now = self._stored_digests(), self._frame_digests()
        kept = {name for name, digest in now.items() if before.get(name) == digest}
        for frame in self.frames.glob("styled.*.png"):
            if frame.name not in kept:
                frame.unlink()
        keys = () if self.plan.method == "keys" else self.keys.glob("key.*.png")  # each says what it is of
        for file in (*keys, *self.keys.glob("timeline.*")):
            file.unlink()
        for video in (self.folder / f"{self.plan.shot}{suffix}" for suffix in (".mp4", ".mov", ".wav")):
            video.unlink(missing_ok=True)
        for picture in (self.folder / "exr").glob("*.exr"):
            picture.unlink()

    def kept(self) -> int:
        """How many frames are there already that this plan would make just so."""
        stored, now = self._stored_digests(), self._frame_digests()
        return sum(
            stored.get(name) == digest and is_whole_png(self.frames / name) for name, digest in now.items()
        )

    def timeline(self) -> Path | None:
        """The file that says which frames of this plan are keys, once that was decided."""
        file = self.keys / TIMELINE
        return file if file.is_file() and self._belongs() else None

    def key(self, index: int) -> Path:
        """The file of the styled key with this index; it carries the source's frame number."""
        return self.keys / f"key.{self.plan.frame_numbers[index]:04d}.png"

    def keep_keys(self, indices: Iterable[int]) -> None:
        """Remove the keys of an earlier plan that are none of this one's."""
        kept = {self.key(index) for index in indices}
        with writing(self.keys):
            for file in set(self.keys.glob("key.*.png")) - kept:
                file.unlink()

    def num_keys(self) -> int:
        """How many styled keys of this plan are there."""
        return sum(is_whole_png(key) for key in self.keys.glob("key.*.png")) if self._belongs() else 0

    def _frame_digests(self) -> dict[str, str]:
        names = (self.frame(index).name for index in range(self.plan.num_frames))
        return dict(zip(names, self.plan.frame_digests, strict=True))

    def _stored_digests(self) -> dict[str, str]:
        stored = _read_json(self._plan_file).get("frame_digests")
        return stored if isinstance(stored, dict) else {}

    def seconds(self) -> dict[str, float]:
        """Seconds by stage that all runs so far spent on this plan's frames."""
        spent = self._stored("seconds_spent")
        return spent if isinstance(spent, dict) else {}

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add what a run spent to the total."""
        before = self.seconds()
        added = {name: before.get(name, 0.0) + value for name, value in seconds.items()}
        self._note(seconds_spent=before | added)

    def denoised(self) -> float:
        """How many frames' worth of pixels the model has made, over all runs."""
        stored = self._stored("denoised_frames")
        return float(stored) if isinstance(stored, int | float) else 0.0

    def add_denoised(self, frames: float) -> None:
        """Add what a run has denoised to the total."""
        self._note(denoised_frames=self.denoised() + frames)

    def notes(self) -> tuple[str, ...]:
        """What came up while these frames were made, over all runs; the plan's own notes are not among it."""
        return self._list("run_notes")

    def add_notes(self, notes: Sequence[str]) -> None:
        """Keep notes for the record, each once. The folder must have begun."""
        self._add("run_notes", notes)

    def machines(self) -> tuple[str, ...]:
        """What these frames were computed on, over all runs."""
        return self._list("machines")

    def add_machine(self, machine: str) -> None:
        """Keep for the record what frames are computed on. The folder must have begun."""
        self._add("machines", [machine])

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

    def _stored(self, name: str) -> Any:
        """A value that earlier runs of this plan left in plan.json, or None."""
        return _read_json(self._plan_file).get(name) if self._belongs() else None

    def _list(self, name: str) -> tuple[str, ...]:
        stored = self._stored(name)
        return tuple(str(each) for each in stored) if isinstance(stored, list) else ()

    def _add(self, name: str, values: Sequence[str]) -> None:
        before = self._list(name)
        if new := [value for value in values if value not in before]:
            self._note(**{name: [*before, *new]})

    def _note(self, **values: Any) -> None:
        """Write plan.json: the plan, what earlier runs of it left, and `values` over that.

        Of several processes on one shot none does: they tell the one that began the journal.
        """
        if self.span is not None:
            return
        kept = {
            "seconds_spent": self.seconds(),
            "denoised_frames": self.denoised(),
            "run_notes": self.notes(),
            "machines": self.machines(),
        }
        digests = {"frame_digests": self._frame_digests()}
        write_text(
            self._plan_file, json.dumps(plan_as_json(self.plan) | kept | digests | values, indent=1) + "\n"
        )

    def todo(self, groups: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those groups of frames (start, stop) that this process is to make and that are not there whole."""
        first, last = self.span or (0, self.plan.num_frames)
        return [group for group in groups if first <= group[0] < last and not self.has(*group)]

    def has(self, start: int, stop: int) -> bool:
        """Whether every frame of the window is there and whole."""
        return all(is_whole_png(self.frame(index)) for index in range(start, stop))

    def is_complete(self) -> bool:
        """Whether every frame is there and belongs to this plan."""
        return self._belongs() and self.has(0, self.plan.num_frames)

    def write(self, start: int, frames: UInt8Array) -> None:
        """Write frames [T, H, W, 3] from index `start` on. Raises OutputError."""
        for offset, frame in enumerate(frames):
            texts = {"parameters": parameters(self.plan, start + offset)}
            write_png(self.frame(start + offset), frame, texts=texts)

    def read(self, index: int) -> UInt8Array:
        """One styled frame, uint8 RGB [H, W, 3]."""
        frame: UInt8Array = read_png(self.frame(index), error=OutputError)
        return frame

    def read_all(self) -> Iterator[UInt8Array]:
        """Every styled frame in order, each as [1, H, W, 3]."""
        for index in range(self.plan.num_frames):
            yield self.read(index)[None]


def _read_json(path: Path) -> dict[str, Any]:
    """A JSON object, or an empty one where the file is missing or was not written by us."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}

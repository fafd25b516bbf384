"""Where each key of a resolved preset was written, so that a message names the file to mend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Location = tuple[int | str, ...]


@dataclass(frozen=True)
class Origin:
    """A place in one file; `file` None: on the command line, by --set."""

    file: Path | None
    location: Location

    def __str__(self) -> str:
        """`file:section.key`, or `--set section.key`."""
        if self.file is None:
            return f"--set {dotted(self.location)}"
        return f"{self.file}:{dotted(self.location)}" if self.location else str(self.file)


class Origins:
    """Locations of the resolved preset -> where they were written. What is not known belongs to the root."""

    def __init__(self, root: Path) -> None:
        self._known: dict[Location, Origin] = {(): Origin(root, ())}

    def find(self, location: Location) -> Origin:
        """The origin of the location, or of the nearest table or list around it, in that file's terms."""
        for length in range(len(location), -1, -1):
            known = self._known.get(location[:length])
            if known is not None:
                return Origin(known.file, known.location + location[length:])
        raise AssertionError("the root is always known")

    def written(self, location: Location) -> Origin | None:
        """Where exactly this key was written; None where no file and no --set gave it."""
        return self._known.get(location)

    def note(self, value: Any, location: Location, origin: Origin) -> None:
        """`value`, with all that is in it, now stands at `location`."""
        for stale in [known for known in self._known if known[: len(location)] == location != ()]:
            del self._known[stale]
        if location:
            self._known[location] = origin
        inside: Iterable[tuple[int | str, Any]] = ()
        if isinstance(value, Mapping):
            inside = value.items()
        elif isinstance(value, list):
            inside = enumerate(value)
        for key, item in inside:
            self.note(item, (*location, key), Origin(origin.file, (*origin.location, key)))

    def touch(self, location: Location, origin: Origin) -> None:
        """A table at `location` got keys from `origin`; what is known inside it stays."""
        self._known[location] = origin


def dotted(location: Location) -> str:
    """("control", 0, "weight") -> "control[0].weight"."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")

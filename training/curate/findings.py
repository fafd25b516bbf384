"""What the checks of a dataset find: one line each, with where it is and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One fault. An error spoils the training; a warning should be looked at."""

    level: Level
    rule: str
    """The rule's name, as in docs/datasets.md."""
    where: str
    """A file, or `file:concept[1]`."""
    text: str
    """What was found; what to do."""

    def __str__(self) -> str:
        return f"{self.where}: {self.text} [{self.rule}]"


def has_errors(findings: Iterable[Finding]) -> bool:
    """Whether any of the findings is an error."""
    return any(finding.level == "error" for finding in findings)

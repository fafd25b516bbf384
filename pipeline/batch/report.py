"""batch.json: how far a batch is and how it ended, whole at any moment.

{"lookdev": "0.1.0", "state": "running" | "finished" | "interrupted", "started": ..., "updated": ...,
 "seconds": 812.4, "shots": [{"shot": "corridor_walk", "source": ..., "preset": ..., "state": "rendered" |
 "was done" | "failed" | "waiting", "frames": 48, "rendered": 48, "seconds": 40.2, "result": ...,
 "failure": "", "notes": []}]}
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.batch.jobs import Job, JobOutcome
from pipeline.errors import OutputError
from pipeline.files import write_text

log = logging.getLogger(__name__)


class Report:
    """The file and what it tells."""

    def __init__(self, path: Path, jobs: Sequence[Job]) -> None:
        """Write it for the first time. Raises OutputError."""
        self._path, self._lock = path, threading.Lock()
        self._rows = {job: _row(job) | {"state": "waiting"} for job in jobs}
        self._started, self._clock = _now(), time.perf_counter()
        self._write("running")

    def add(self, outcome: JobOutcome) -> None:
        """Tell how a job ended."""
        with self._lock:
            self._rows[outcome.job] |= _ending(outcome)
            self._try_to_write("running")

    def close(self) -> None:
        """Tell that nothing more will come."""
        waiting = any(row["state"] == "waiting" for row in self._rows.values())
        self._try_to_write("interrupted" if waiting else "finished")

    def _try_to_write(self, state: str) -> None:
        """A disk that is full must not cost the shots that are still to come."""
        try:
            self._write(state)
        except OutputError as error:
            log.warning("%s", error)

    def _write(self, state: str) -> None:
        data = {
            "lookdev": importlib.metadata.version("lookdev"),
            "state": state,
            "started": self._started,
            "updated": _now(),
            "seconds": round(time.perf_counter() - self._clock, 3),
            "shots": list(self._rows.values()),
        }
        write_text(self._path, json.dumps(data, indent=1) + "\n")


def _row(job: Job) -> dict[str, Any]:
    preset = None if job.preset is None else str(job.preset)
    return {"shot": job.name, "source": str(job.shot), "preset": preset}


def _ending(outcome: JobOutcome) -> dict[str, Any]:
    result = outcome.result
    if result is None:
        return {"state": "failed", "failure": outcome.failure}
    return {
        "shot": result.shot,
        "state": "was done" if result.skipped else "rendered",
        "frames": result.num_frames,
        "rendered": result.num_rendered,
        "seconds": round(result.seconds, 3),
        "result": str(result.video),
        "notes": list(result.notes),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

"""What a batch would do, before it does it: what is there, what is to be made, how long that takes.

The time comes from the records of renders in the output folder: seconds for the same model and method are
taken to grow with pixels and with passes of the UNet; or from a stated rate. No torch is loaded.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.batch.jobs import Job, JobOutcome, Names, Prepared, Settings, prepare
from pipeline.batch.tasks import guarded
from pipeline.journal import Journal
from pipeline.plan import plan_as_json

VAE_PASSES = 4.5  # a KL-VAE's way there and back at 512x512 costs as much as so many of SD 1.5's UNet


@dataclass(frozen=True)
class Forecast:
    """What a batch would do with one job. `failure`: why nothing, in one line.

    num_kept: frames that are there. seconds: for those that are not; None where nothing tells.
    """

    job: Job
    name: str = ""
    num_frames: int = 0
    num_kept: int = 0
    is_done: bool = False
    method: str = ""
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    failure: str = ""


def forecast(
    jobs: Sequence[Job], settings: Settings, *, seconds_per_frame: float | None = None
) -> Iterator[Forecast]:
    """One for each job, as soon as it is known; `seconds_per_frame` goes before what records say."""
    rates, names = _rates(settings.out), Names()
    for job in jobs:
        prepared = guarded(job, lambda job=job: _prepare(job, settings, names))  # type: ignore[misc]
        if isinstance(prepared, JobOutcome):
            yield Forecast(job, failure=prepared.failure)
            continue
        yield _forecast(prepared, settings, rates, seconds_per_frame)


def _prepare(job: Job, settings: Settings, names: Names) -> Prepared:
    prepared = prepare(job, settings)
    names.take(prepared.shot.name, job)
    return prepared


def _forecast(
    prepared: Prepared, settings: Settings, rates: Mapping[tuple[str, str], float], stated: float | None
) -> Forecast:
    plan = prepared.plan
    journal = Journal(settings.out / plan.shot, plan)
    is_done = journal.is_done()
    num_kept = plan.num_frames if is_done else journal.kept()
    missing = plan.num_frames - num_kept
    rate = rates.get((plan.model, plan.method))
    seconds = None
    if missing == 0:
        seconds = 0.0
    elif stated is not None:
        seconds = stated * missing
    elif rate is not None:
        seconds = rate * _work(plan_as_json(plan)) * missing / plan.num_frames
    return Forecast(
        job=prepared.job,
        name=plan.shot,
        num_frames=plan.num_frames,
        num_kept=num_kept,
        is_done=is_done,
        method=plan.method,
        seconds=seconds,
        notes=plan.notes,
    )


def _rates(out: Path) -> dict[tuple[str, str], float]:
    """Seconds for a unit of work by (model, method), from the records in `out`."""
    spent: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0])
    for path in sorted(out.glob("*/record.json")):
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            key = (record["settings"]["model"], record["settings"]["method"])
            seconds, work = float(record["seconds"]["frames"]), _work(record["settings"])
        except (OSError, ValueError, KeyError, TypeError):  # another command's record, or an older one's
            continue
        spent[key][0] += seconds
        spent[key][1] += work
    return {key: seconds / work for key, (seconds, work) in spent.items() if seconds and work}


def _work(settings: Mapping[str, Any]) -> float:
    """Pixels times passes of a plan as JSON, over all its frames."""
    looks = settings["looks"]
    starts = [start for start, _ in looks] + [settings["num_frames"]]
    passes = 0.0
    for (start, look), stop in zip(looks, starts[1:], strict=True):
        executed = min(int(look["steps"] * look["strength"]), look["steps"])
        guided = 1 if look["guidance"] == 1.0 else 2
        passes += (stop - start) * (executed * guided + VAE_PASSES)
    return passes * float(settings["width"] * settings["height"])

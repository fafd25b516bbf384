"""What a batch would do, before it does it: what is there, what is to be made, how long that takes.

Time comes from the records of renders in the output folder (`costs.py`), or from a stated rate. No torch is
loaded, nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.batch.costs import Costs, costs
from pipeline.batch.jobs import Job, JobOutcome, Names, Prepared, Settings, prepare
from pipeline.batch.keyframes import KeyFrames, key_frames
from pipeline.batch.tasks import guarded
from pipeline.journal import Journal
from pipeline.plan import plan_as_json


@dataclass(frozen=True)
class Forecast:
    """What a batch would do with one job. `failure`: why nothing, in one line.

    num_kept: frames that are there. keys: of method "keys", unless it is done. seconds: for frames that are
    not there; None where nothing tells.
    """

    job: Job
    name: str = ""
    num_frames: int = 0
    num_kept: int = 0
    is_done: bool = False
    method: str = ""
    keys: KeyFrames | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()
    failure: str = ""


def forecast(
    jobs: Sequence[Job], settings: Settings, *, seconds_per_frame: float | None = None
) -> Iterator[Forecast]:
    """One for each job, as soon as it is known; `seconds_per_frame` goes before what records say."""
    known, names = costs(settings.out), Names()
    for job in jobs:

        def foretell(job: Job = job) -> Forecast:
            prepared = prepare(job, settings)
            names.take(prepared.shot.name, job)
            return _forecast(prepared, settings, known, seconds_per_frame)

        found = guarded(job, foretell)
        yield Forecast(job, failure=found.failure) if isinstance(found, JobOutcome) else found


def _forecast(prepared: Prepared, settings: Settings, known: Costs, stated: float | None) -> Forecast:
    plan = prepared.plan
    journal = Journal(settings.out / plan.shot, plan)
    is_done = journal.is_done()
    num_kept = plan.num_frames if is_done else journal.kept()
    missing = plan.num_frames - num_kept
    by_keys = plan.method == "keys" and not is_done
    keys = key_frames(prepared.shot, plan, journal) if by_keys else None
    seconds: float | None = 0.0
    if missing and stated is not None:
        seconds = stated * missing
    elif missing:
        styled = _styled(keys, missing, plan.num_frames)
        seconds = known.seconds(plan_as_json(plan), styled=styled, frames=missing)
    return Forecast(
        job=prepared.job,
        name=plan.shot,
        num_frames=plan.num_frames,
        num_kept=num_kept,
        is_done=is_done,
        method=plan.method,
        keys=keys,
        seconds=seconds,
        notes=plan.notes,
    )


def _styled(keys: KeyFrames | None, missing: int, num_frames: int) -> float:
    """Frames' worth of pixels that the model has yet to make."""
    if keys is None:
        return missing
    ahead = (keys.num_alone + keys.crops) * missing / num_frames  # those of frames that are there are made
    return keys.num_keys - keys.num_kept + ahead

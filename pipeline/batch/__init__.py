"""A folder of shots: find them, give each its preset, render what is not done, here or by several workers."""

from pipeline.batch.cluster import ray_crew
from pipeline.batch.forecast import Forecast, forecast
from pipeline.batch.jobs import (
    Job,
    JobOutcome,
    Settings,
    check_presets,
    default_preset,
    find_jobs,
    preset_for,
)
from pipeline.batch.keyframes import KeyFrames
from pipeline.batch.local import default_workers, local_crew
from pipeline.batch.run import run_batch

__all__ = [
    "Forecast",
    "Job",
    "JobOutcome",
    "KeyFrames",
    "Settings",
    "check_presets",
    "default_preset",
    "default_workers",
    "find_jobs",
    "forecast",
    "local_crew",
    "preset_for",
    "ray_crew",
    "run_batch",
]

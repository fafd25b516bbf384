"""Shot + Preset + model row -> Plan: every number resolved, a digest, no torch.

The plan reads metadata only, so it is the place where a render that cannot work is refused before
anything heavy is loaded. Two digests key what is on disk: `frames_digest` covers all that decides the
styled pixels, `digest` also what decides the video made from them; `frame_digests` split the first by frame,
`key_digest` by passes of keys.
"""

from pipeline.plan.digest import input_files, model_files, model_key, plan_as_json
from pipeline.plan.frame_digests import key_digest
from pipeline.plan.make import check_preset, make_plan
from pipeline.plan.parameters import parameters
from pipeline.plan.sources import Stamps, check_sources, source_stamps
from pipeline.plan.values import Plan, PlannedControl, PlannedEmbedding, PlannedLora, PlannedRegion, runs

__all__ = [
    "Plan",
    "PlannedControl",
    "PlannedEmbedding",
    "PlannedLora",
    "PlannedRegion",
    "Stamps",
    "check_preset",
    "check_sources",
    "input_files",
    "key_digest",
    "make_plan",
    "model_files",
    "model_key",
    "parameters",
    "plan_as_json",
    "runs",
    "source_stamps",
]

"""Shot + Preset + model row -> Plan: every number resolved, a digest, no torch.

The plan reads metadata only, so it is the place where a render that cannot work is refused before
anything heavy is loaded. Two digests key what is on disk: `frames_digest` covers all that decides the
styled pixels, `digest` also what decides the video made from them.
"""

from pipeline.plan.digest import input_files, model_files, plan_as_json
from pipeline.plan.make import check_preset, make_plan
from pipeline.plan.values import Plan, PlannedControl, PlannedEmbedding, PlannedLora, PlannedRegion

__all__ = [
    "Plan",
    "PlannedControl",
    "PlannedEmbedding",
    "PlannedLora",
    "PlannedRegion",
    "check_preset",
    "input_files",
    "make_plan",
    "model_files",
    "plan_as_json",
]

"""Per-shot presets: TOML files that extend one another, read into a strict schema."""

from pipeline.preset.beats import Look, Mix, resolve_looks, steady_looks, unused_variables, uses_view
from pipeline.preset.chain import find_preset
from pipeline.preset.new import write_new
from pipeline.preset.ranges import turning_points
from pipeline.preset.read import DEFAULT_PRESET, PICTURES_PRESET, load_preset
from pipeline.preset.sampling import SCHEDULERS, SPEEDS, WEB_NAMES, HubFile, Speed
from pipeline.preset.schema import Beat, Preset
from pipeline.preset.show import as_toml, json_schema
from pipeline.preset.speed import set_by_speed, speed_notes
from pipeline.preset.tables import MERGED, Control, Embedding, Lora, Output, Steering, Temporal, Views
from pipeline.preset.views import face_angle, name_views

__all__ = [
    "DEFAULT_PRESET",
    "MERGED",
    "PICTURES_PRESET",
    "SCHEDULERS",
    "SPEEDS",
    "WEB_NAMES",
    "Beat",
    "Control",
    "Embedding",
    "HubFile",
    "Look",
    "Lora",
    "Mix",
    "Output",
    "Preset",
    "Speed",
    "Steering",
    "Temporal",
    "Views",
    "as_toml",
    "face_angle",
    "find_preset",
    "json_schema",
    "load_preset",
    "name_views",
    "resolve_looks",
    "set_by_speed",
    "speed_notes",
    "steady_looks",
    "turning_points",
    "unused_variables",
    "uses_view",
    "write_new",
]

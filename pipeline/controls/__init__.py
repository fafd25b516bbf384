"""Control images for ControlNets, drawn from the renderer's passes and the picture (docs/controls.md)."""

from pipeline.controls.annotators import annotator_module
from pipeline.controls.canny import HIGH_THRESHOLD, LOW_THRESHOLD, canny_map
from pipeline.controls.depth import FAR_METRES, NEAR_METRES, depth_map
from pipeline.controls.lineart import lineart_map, lines_map
from pipeline.controls.normal import normal_map
from pipeline.controls.pose import pose_map, pose_map_points
from pipeline.controls.softedge import softedge_map

__all__ = [
    "FAR_METRES",
    "HIGH_THRESHOLD",
    "LOW_THRESHOLD",
    "NEAR_METRES",
    "annotator_module",
    "canny_map",
    "depth_map",
    "lineart_map",
    "lines_map",
    "normal_map",
    "pose_map",
    "pose_map_points",
    "softedge_map",
]

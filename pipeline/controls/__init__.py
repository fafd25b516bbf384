"""Control images for ControlNets, drawn from the renderer's own passes: depth and pose."""

from pipeline.controls.depth import FAR_METRES, NEAR_METRES, depth_map
from pipeline.controls.pose import pose_map, pose_map_points

__all__ = ["FAR_METRES", "NEAR_METRES", "depth_map", "pose_map", "pose_map_points"]

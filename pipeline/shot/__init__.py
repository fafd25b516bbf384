"""What is on disk: shot folders, plain image folders and videos, opened once and read by window."""

from pipeline.shot.area import Area, mask_files, read_area
from pipeline.shot.joints import write_joints
from pipeline.shot.open import open_shot
from pipeline.shot.probe import MotionFinding, probe_motion, probe_picture
from pipeline.shot.probe_depth import DepthFinding, probe_depth
from pipeline.shot.read import iterate_frames, read_as, read_frames, read_joints, read_motion, read_pass
from pipeline.shot.values import (
    JOINT_NAMES,
    NUM_JOINTS,
    STAGE_FILM,
    Figure,
    FrameJoints,
    Motion,
    PassSource,
    Shot,
    VideoIndex,
)
from pipeline.shot.video import VIDEO_SUFFIXES
from pipeline.shot.write import (
    HALF_PASSES,
    FramePasses,
    write_depth_encoding,
    write_frame_passes,
    write_motion_encoding,
    write_shot,
    write_sidecar,
)

__all__ = [
    "HALF_PASSES",
    "JOINT_NAMES",
    "NUM_JOINTS",
    "STAGE_FILM",
    "VIDEO_SUFFIXES",
    "Area",
    "DepthFinding",
    "Figure",
    "FrameJoints",
    "FramePasses",
    "Motion",
    "MotionFinding",
    "PassSource",
    "Shot",
    "VideoIndex",
    "iterate_frames",
    "mask_files",
    "open_shot",
    "probe_depth",
    "probe_motion",
    "probe_picture",
    "read_area",
    "read_as",
    "read_frames",
    "read_joints",
    "read_motion",
    "read_pass",
    "write_depth_encoding",
    "write_frame_passes",
    "write_joints",
    "write_motion_encoding",
    "write_shot",
    "write_sidecar",
]

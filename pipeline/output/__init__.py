"""What leaves the house: videos, contact sheets, records, and the question whether there is room."""

from pipeline.output.compare import contact_sheet, side_by_side, write_contact_sheet
from pipeline.output.encode import VideoSettings, encode_video
from pipeline.output.record import (
    Record,
    input_digests,
    package_versions,
    read_record,
    write_record,
)
from pipeline.output.space import check_space, render_bytes
from pipeline.output.strip import write_strip

__all__ = [
    "Record",
    "VideoSettings",
    "check_space",
    "contact_sheet",
    "encode_video",
    "input_digests",
    "package_versions",
    "read_record",
    "render_bytes",
    "side_by_side",
    "write_contact_sheet",
    "write_record",
    "write_strip",
]

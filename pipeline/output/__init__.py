"""What leaves the house: videos, contact sheets, records, and the question whether there is room."""

from pipeline.output.codecs import CODECS
from pipeline.output.compare import contact_sheet, side_by_side, write_contact_sheet
from pipeline.output.encode import VideoSettings, encode_video, write_sound
from pipeline.output.record import (
    Record,
    input_digests,
    package_versions,
    read_record,
    write_record,
)
from pipeline.output.review import Review, write_review
from pipeline.output.sequence import write_exr_sequence
from pipeline.output.space import check_space, render_bytes
from pipeline.output.strip import write_strip

__all__ = [
    "CODECS",
    "Record",
    "Review",
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
    "write_exr_sequence",
    "write_record",
    "write_review",
    "write_sound",
    "write_strip",
]

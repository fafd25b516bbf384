"""The ways a video can be stored, one row each: container, pixels, ffmpeg's options, the sound it carries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# x264 and x265 give other bytes with another number of threads, which is by the machine's cores unless said.
THREADS = 4


@dataclass(frozen=True)
class Codec:
    """One way to store a video.

    muxer: ffmpeg's name of the container. encoder: its options; {crf}, {preset} and
    {profile} are filled in. pixels: its pixel format by profile, "" for every other. copied_sound: what the
    container carries as it is; other_sound: what else is made of.
    """

    muxer: str
    encoder: tuple[str, ...]
    pixels: Mapping[str, str]
    copied_sound: tuple[str, ...]
    other_sound: tuple[str, ...]

    def options(self, *, crf: int, preset: str, profile: str) -> list[str]:
        """The encoder's options, pixel format last."""
        said = [part.format(crf=crf, preset=preset, profile=profile) for part in self.encoder]
        return [*said, "-pix_fmt", self.pixel_format(profile)]

    def pixel_format(self, profile: str) -> str:
        """ffmpeg's name of how pixels are stored."""
        return self.pixels.get(profile, self.pixels[""])


_MP4_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "opus")  # what MP4 carries and players play
_AAC = ("-c:a", "aac", "-b:a", "192k")
_X265 = (
    f"log-level=error:info=0:frame-threads=2:pools={THREADS}"  # info=0: no build and machine in the stream
)

CODECS: Mapping[str, Codec] = MappingProxyType(
    {
        "h264": Codec(
            muxer="mp4",
            encoder=(
                *("-c:v", "libx264", "-preset", "{preset}", "-crf", "{crf}"),
                *("-threads", str(THREADS), "-movflags", "+faststart"),
            ),
            pixels={"": "yuv420p"},
            copied_sound=_MP4_SOUND,
            other_sound=_AAC,
        ),
        # hvc1: the tag that QuickTime and Safari play; ffmpeg's own choice, hev1, they do not.
        "h265": Codec(
            muxer="mp4",
            encoder=(
                *("-c:v", "libx265", "-preset", "{preset}", "-crf", "{crf}", "-x265-params", _X265),
                *("-tag:v", "hvc1", "-movflags", "+faststart"),
            ),
            pixels={"": "yuv420p"},
            copied_sound=_MP4_SOUND,
            other_sound=_AAC,
        ),
        # apl0: the maker's mark of Apple's own encoder; some editors refuse or slow down on another.
        "prores": Codec(
            muxer="mov",
            encoder=("-c:v", "prores_ks", "-profile:v", "{profile}", "-vendor", "apl0"),
            pixels={"": "yuv422p10le", "4444": "yuv444p10le"},
            copied_sound=("aac", "mp3", "ac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s16be", "pcm_s24be"),
            other_sound=("-c:a", "pcm_s24le"),
        ),
    }
)

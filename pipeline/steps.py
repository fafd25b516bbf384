"""The way from each frame of a shot to the next: exact from its passes, else estimated from its pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ShotError
from pipeline.footage import Footage, motion_origin
from pipeline.image import UInt8Array, resize
from pipeline.shot import Shot, iterate_frames
from pipeline.steady.metrics import Step

WINDOW = 8  # frames read at a time
ASPECT_TOLERANCE = 0.02  # a render may be cropped or padded to even sizes


def film_name(styled: Shot, shot: Shot) -> str:
    """What results about a film of a shot are called: lookdev's own frames all lie in a folder `frames`."""
    named = styled.name == shot.name or styled.name.startswith(f"{shot.name}_")
    return styled.name if named else f"{shot.name}_{styled.name}"


def check_fits(styled: Shot, shot: Shot) -> None:
    """Raise ShotError unless `styled` is a film of this shot: as many frames, at least two, and its shape."""
    if styled.num_frames != shot.num_frames:
        raise ShotError(
            f"{styled.root} has {styled.num_frames} frames, the shot {shot.root} {shot.num_frames}; "
            "expected as many: give the shot that it was made from"
        )
    if shot.num_frames < 2:
        raise ShotError(f"{shot.root} has one frame; expected at least two: nothing moves in one")
    aspect, wanted = styled.width / styled.height, shot.width / shot.height
    if abs(aspect / wanted - 1.0) > ASPECT_TOLERANCE:
        raise ShotError(
            f"{styled.root} is {styled.width}x{styled.height}, the shot {shot.root} {shot.width}x"
            f"{shot.height}; expected the same shape: scale it without cropping"
        )


def used_files(shot: Shot) -> list[Path]:
    """The files of the passes that `iterate_ways` reads."""
    if motion_origin(shot) != "motion pass":
        names: tuple[str, ...] = ("rgb",)
    elif "visible" in shot.passes:
        names = ("motion", "visible")
    else:
        names = ("motion", "ids", "depth")
    return [file for name in names if name in shot.passes for file in shot.passes[name].files]


def each_frame(shot: Shot, *, width: int, height: int, start: int = 0) -> Iterator[UInt8Array]:
    """The shot's pictures from `start` on at the given size, uint8 RGB [H, W, 3]; a window is held."""
    for window in iterate_frames(shot, WINDOW, start=start):
        yield from resize(window, height=height, width=width)


def iterate_steps(shot: Shot, *, width: int, height: int) -> Iterator[Step]:
    """The T - 1 steps t -> t + 1 at the given size, one at a time; see `iterate_ways`."""
    for onward, _ in iterate_ways(shot, width=width, height=height):
        yield onward


def iterate_ways(shot: Shot, *, width: int, height: int, start: int = 0) -> Iterator[tuple[Step, Step]]:
    """The pairs of steps t -> t + 1 and t + 1 -> t from t = `start` on, at the given size, one at a time.

    With a motion pass the flow is exact. What is seen in both frames then comes from the `visible` pass, else
    from ids and depth, else from going there and back. Without one, flow is estimated on the shot's own
    pictures. Raises ShotError for a damaged pass.
    """
    footage = Footage(shot, width=width, height=height)
    for t in range(start, shot.num_frames - 1):
        yield footage.onward(t), footage.back(t + 1)

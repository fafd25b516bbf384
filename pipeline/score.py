"""How steady, sharp and true a styled film is, measured along its shot's motion (docs/measures.md).

Everything streams: memory does not grow with the shot.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from pipeline.conform import nearest
from pipeline.files import write_text
from pipeline.footage import Origin, motion_origin
from pipeline.image import UInt8Array
from pipeline.output.plot import write_plot
from pipeline.shot import Shot, open_shot, read_pass
from pipeline.steady.metrics import (
    LONG_RANGE,
    Step,
    chain,
    laplacian_energy,
    luma_deviation,
    pair_error,
)
from pipeline.steady.picture import depth_edge_agreement
from pipeline.steps import check_fits, each_frame, film_name, iterate_steps

PANELS = {
    "E_warp to the next frame": {"styled": "e_warp", "source": "source"},
    f"E_warp over {LONG_RANGE} frames, drift from the first": {"8 frames": "e_warp_long", "drift": "drift"},
    f"luma's deviation along {LONG_RANGE} frames": {"styled": "luma_deviation"},
    "Laplacian energy": {"styled": "energy", "source": "source_energy"},
    "depth edges drawn": {"styled": "depth_edges"},
}


@dataclass(frozen=True)
class FrameScore:
    """One frame's measures; None where it has none (the last frames, a cut, no depth pass).

    Squared errors are of pictures in [0, 1]. `energy`, `source_energy`: Laplacian energy of the styled and of
    the source's frame. `luma_deviation`: standard deviation of the luma along the trajectories of the next
    LONG_RANGE frames. `depth_edges`: how surely the scene's depth edges are drawn, 0.5 = by chance.
    """

    frame: int
    e_warp: float | None
    source: float | None
    e_warp_long: float | None
    drift: float | None
    luma_deviation: float | None
    energy: float
    source_energy: float
    depth_edges: float | None


@dataclass(frozen=True)
class Score:
    """A styled film's measures: per frame, and whose motion they were taken along.

    `name` names files about this film of this shot; `video` and `shot` are the paths that were given.
    """

    name: str
    video: str
    shot: str
    motion: Origin
    frames: tuple[FrameScore, ...]

    def means(self) -> dict[str, float | None]:
        """The mean of each measure over the frames that have it; `ratio`: E_warp to the source's;
        `sharpness`: all Laplacian energy over all of the source's.
        """
        means: dict[str, float | None] = {}
        for each in fields(FrameScore):
            if each.name == "frame":
                continue
            values = [v for frame in self.frames if (v := getattr(frame, each.name)) is not None]
            means[each.name] = float(np.mean(values)) if values else None
        styled, source = means["e_warp"], means["source"]
        means["ratio"] = styled / source if styled is not None and source else None
        energy, source_energy = means.pop("energy"), means.pop("source_energy")
        means["sharpness"] = energy / source_energy if energy is not None and source_energy else None
        return means


def score_video(video: Path, shot: Shot) -> Score:
    """Measure `video` (a video file or a folder of frames) against the shot it was made from.

    Raises ShotError when it cannot be read, or differs from the shot in its frames or its shape.
    """
    styled = open_shot(video)
    check_fits(styled, shot)
    frames = tuple(_frame_scores(styled, shot))
    return Score(film_name(styled, shot), str(video), str(shot.root), motion_origin(shot), frames)


def write_score(score: Score, path: Path) -> None:
    """The score as JSON, whole or not at all. Raises OutputError."""
    values: Mapping[str, object] = {
        "video": score.video,
        "shot": score.shot,
        "motion": score.motion,
        "means": score.means(),
        "frames": [asdict(frame) for frame in score.frames],
    }
    write_text(path, json.dumps(values, indent=1) + "\n")


def plot_score(score: Score, path: Path) -> None:
    """The measures over the frames, as a PNG. Raises OutputError."""
    panels: dict[str, dict[str, list[float | None]]] = {
        caption: {name: [getattr(frame, key) for frame in score.frames] for name, key in lines.items()}
        for caption, lines in PANELS.items()
    }
    numbers = [frame.frame for frame in score.frames]
    write_plot(path, numbers, panels, title=f"{score.name}, motion: {score.motion}")


def _frame_scores(styled: Shot, shot: Shot) -> Iterator[FrameScore]:
    """Frame t is finished when t + LONG_RANGE is known, so `held` is all that is kept."""
    size = {"width": styled.width, "height": styled.height}
    steps = iterate_steps(shot, **size)
    held: deque[_Held] = deque()
    first: UInt8Array | None = None
    from_first: Step | None = None
    films = (each_frame(film, **size) for film in (styled, shot))
    for t, (ours, theirs) in enumerate(zip(*films, strict=True)):
        drift = None
        if first is None:
            first = ours
        else:
            step = next(steps)
            held[-1].step = step
            from_first = step if from_first is None else chain(from_first, step)
            drift = pair_error(first, ours, from_first)
        held.append(_Held(t, ours, theirs, drift))
        if len(held) > LONG_RANGE:
            yield _finished(held, styled, shot)
            held.popleft()
    while held:
        yield _finished(held, styled, shot)
        held.popleft()


@dataclass
class _Held:
    """A frame that waits for the frames after it."""

    t: int
    styled: UInt8Array
    source: UInt8Array
    drift: float | None
    step: Step | None = None  # to the next frame, once that is read


def _finished(held: deque[_Held], styled: Shot, shot: Shot) -> FrameScore:
    now = held[0]
    step, total = now.step, now.step
    fetched = []  # (styled frame, way from this frame to it)
    for onward, later in zip(held, list(held)[1:], strict=False):
        assert onward.step is not None
        total = onward.step if onward is now else chain(total, onward.step)  # type: ignore[arg-type]
        fetched.append((later.styled, total))
    whole = len(fetched) == LONG_RANGE
    return FrameScore(
        frame=styled.frame_numbers[now.t],
        e_warp=None if step is None else pair_error(now.styled, held[1].styled, step),
        source=None if step is None else pair_error(now.source, held[1].source, step),
        e_warp_long=pair_error(now.styled, *fetched[-1]) if whole else None,
        drift=now.drift,
        luma_deviation=luma_deviation(now.styled, fetched) if whole else None,
        energy=laplacian_energy(now.styled),
        source_energy=laplacian_energy(now.source),
        depth_edges=_depth_edges(shot, now, styled),
    )


def _depth_edges(shot: Shot, now: _Held, styled: Shot) -> float | None:
    if "depth" not in shot.passes:
        return None
    depth = nearest(read_pass(shot, "depth", now.t, now.t + 1)[0], width=styled.width, height=styled.height)
    return depth_edge_agreement(now.styled, depth)

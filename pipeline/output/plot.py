"""Measures over a film's frames as a picture of small plots."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from pipeline.files import write_bytes

Lines = Mapping[str, Sequence[float | None]]
INCHES_WIDE, INCHES_A_PANEL, DOTS_PER_INCH = 8.0, 1.6, 100


def write_plot(path: Path, numbers: Sequence[int], panels: Mapping[str, Lines], *, title: str) -> None:
    """A PNG of one plot below the other over the frame numbers.

    `panels`: caption -> line name -> one value per frame, None where there is none. Raises OutputError.
    """
    from matplotlib.figure import Figure

    figure = Figure((INCHES_WIDE, INCHES_A_PANEL * len(panels)), DOTS_PER_INCH, layout="constrained")
    rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (caption, lines) in zip(rows, panels.items(), strict=True):
        for name, values in lines.items():
            axes.plot(
                numbers, np.array(values, np.float64), label=name, linewidth=1.2, marker=".", markersize=3
            )  # None becomes nan
        axes.set_title(caption, loc="left", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=7, loc="upper right")
    rows[-1].set_xlabel("frame", fontsize=8)
    figure.suptitle(title, fontsize=10, parse_math=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", metadata={"Software": None})
    write_bytes(path, picture.getvalue())

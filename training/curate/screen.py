"""What `lookdev dataset audit` shows: a table and a contact sheet of coverage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from pipeline.image import UInt8Array, resize
from pipeline.output import write_contact_sheet
from training.curate.audit import Audit, Audited
from training.curate.faces import ITA_CLASSES

_CELL = 128  # pixels
_FRAMINGS = ("closeup", "medium", "full", "unknown")
_MOST = 6  # images in one cell of the sheet's row; more would make it too wide


def coverage_table(audit: Audit) -> Table:
    """One row for view, framing, light and background: how many images of each; missing views as 0."""
    table = Table("coverage", title=f"{audit.folder.concept.trigger}: {len(audit.images)} images")
    table.add_column("images of each", overflow="fold")
    for what, counts in audit.coverage.items():
        if what == "face tone":
            continue
        shown = dict(counts.most_common())
        if what == "view":
            shown.update({view: 0 for view in audit.folder.concept.wanted_views if view not in shown})
        if what == "background":
            table.add_row(what, f"{len(shown)} different, the commonest in {max(shown.values(), default=0)}")
            continue
        cells = (f"{name} [red]0[/red]" if not count else f"{name} {count}" for name, count in shown.items())
        table.add_row(what, ", ".join(cells))
    tones = audit.coverage.get("face tone")
    if tones:
        named = ", ".join(f"{name} {tones[name]}" for _, name in ITA_CLASSES if tones[name])
        table.add_row("face tone (ITA)", f"{named}; of {sum(tones.values())} faces, light included")
    lightness = [image.measures.lightness for image in audit.images]
    if lightness:
        low, middle, high = np.percentile(lightness, (0, 50, 100))
        table.add_row("lightness", f"mean L* {low:.0f} to {high:.0f}, half below {middle:.0f}")
        smallest = min(audit.images, key=lambda image: min(image.measures.width, image.measures.height))
        table.add_row("resolution", f"from {smallest.measures.width}x{smallest.measures.height}")
        table.add_row("sharpness", f"from {min(image.measures.sharpness for image in audit.images):.2f}")
        table.add_row("views from", ", ".join(sorted({image.seen.source for image in audit.images})))
        if audit.compared is not None:
            table.add_row("compared", audit.compared.by)
            first = ", ".join(image.still.path.name for image in audit.look_first)
            if first:
                table.add_row("least like the others", first)
    return table


def write_coverage(path: Path, audits: Sequence[Audit]) -> None:
    """Write the contact sheet: a row for each concept and view, images by framing; wanted views stay empty.

    Raises OutputError.
    """
    rows, names = [], []
    for audit in audits:
        views: list[str] = [*audit.folder.concept.wanted_views]
        views += [view for view in audit.coverage["view"] if view not in views]
        for view in views:
            found = [image for image in audit.images if (image.seen.view or "unknown") == view]
            found.sort(key=lambda image: _FRAMINGS.index(image.seen.framing or "unknown"))
            for start in range(0, max(1, len(found)), _MOST):
                part = found[start : start + _MOST]
                rows.append([_cell(image) for image in part] + [_blank()] * (_MOST - len(part)))
                names.append(f"{audit.folder.concept.trigger} {view}" + (" NONE" if not found else ""))
    write_contact_sheet(path, rows, [""] * _MOST, row_captions=names)


def _cell(image: Audited) -> UInt8Array:
    height, width = image.picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = image.picture[top : top + side, left : left + side]
    return np.asarray(resize(square, height=_CELL, width=_CELL), np.uint8)


def _blank() -> UInt8Array:
    return np.zeros((_CELL, _CELL, 3), np.uint8)

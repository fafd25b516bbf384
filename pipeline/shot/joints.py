"""joints.json: the figures' joints of each frame, read strictly and written small."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ShotError
from pipeline.files import write_text
from pipeline.image import Float32Array
from pipeline.shot.values import NUM_JOINTS, Figure, FrameJoints

JOINTS_KIND = "coco18"
POINT_DECIMALS = 3  # 1/1000 pixel
WORLD_DECIMALS = 4  # 1/10 mm


def read_joints_file(path: Path) -> Mapping[int, FrameJoints]:
    """All frames of a joints.json, number -> FrameJoints. Raises ShotError naming the frame and figure.

    The parsed file is kept while it does not change (about 1 kB a frame), so reading by windows parses once.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise ShotError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    return _parse_file(path, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=8)
def _parse_file(path: Path, mtime_ns: int, size: int) -> Mapping[int, FrameJoints]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ShotError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        raise ShotError(f"{path}: not UTF-8 text; expected JSON; export the joints again") from error
    except json.JSONDecodeError as error:
        raise ShotError(
            f"{path}:{error.lineno}: not valid JSON ({error.msg}); export the joints again"
        ) from error
    if not isinstance(record, dict) or not isinstance(record.get("frames"), list):
        raise ShotError(f"{path}: no list 'frames' at the top; expected the layout in docs/architecture.md")
    if record.get("joints") != JOINTS_KIND:
        raise ShotError(
            f"{path}: joints = {record.get('joints')!r}; expected {JOINTS_KIND!r}; export that order"
        )
    frames: dict[int, FrameJoints] = {}
    for index, entry in enumerate(record["frames"]):
        frame = _parse_frame(entry, f"{path}: frames[{index}]")
        if frame.frame in frames:
            raise ShotError(
                f"{path}: frames[{index}]: frame {frame.frame} is there twice; expected each once"
            )
        frames[frame.frame] = frame
    return frames


def _parse_frame(entry: Any, where: str) -> FrameJoints:
    if not isinstance(entry, dict) or not isinstance(entry.get("frame"), int):
        raise ShotError(f'{where}: no whole number \'frame\'; expected {{"frame": 1, "figures": [...]}}')
    where = f"{where} (frame {entry['frame']})"
    figures = entry.get("figures")
    if not isinstance(figures, list):
        raise ShotError(f"{where}: no list 'figures'; expected one entry per figure, or an empty list")
    camera = entry.get("camera") or {}
    if not isinstance(camera, dict):
        raise ShotError(f"{where}: 'camera' is {type(camera).__name__}; expected an object")
    rendered = entry.get("rendered", "")
    if not isinstance(rendered, str):
        raise ShotError(f"{where}: 'rendered' is {type(rendered).__name__}; expected text, or leave it out")
    parsed = tuple(_parse_figure(figure, f"{where}: figures[{i}]") for i, figure in enumerate(figures))
    return FrameJoints(frame=entry["frame"], figures=parsed, camera=camera, rendered=rendered)


def _parse_figure(entry: Any, where: str) -> Figure:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ShotError(f'{where}: no \'name\'; expected {{"name": "iris", "id": 1, "points": [...]}}')
    where = f"{where} ({entry['name']})"
    if not isinstance(entry.get("id"), int) or entry["id"] < 1:
        raise ShotError(
            f"{where}: id = {entry.get('id')!r}; expected the figure's number in the ids pass, from 1"
        )
    points = _parse_points(entry.get("points"), f"{where}: points")
    if not np.isin(points[:, 2], (0, 1, 2)).all():
        raise ShotError(f"{where}: points: v is not 0, 1 or 2; expected 2 seen, 1 hidden, 0 not there")
    world = entry.get("world")
    parsed_world = None if world is None else _parse_points(world, f"{where}: world")
    return Figure(name=entry["name"], id=entry["id"], points=points, world=parsed_world)


def _parse_points(value: Any, where: str) -> Float32Array:
    rows = value if isinstance(value, list) else []
    is_table = len(rows) == NUM_JOINTS and all(isinstance(row, list) and len(row) == 3 for row in rows)
    if not is_table:
        raise ShotError(f"{where}: {len(rows)} rows; expected {NUM_JOINTS} rows of three numbers")
    for joint, row in enumerate(rows):
        if not all(_is_number(number) for number in row):
            raise ShotError(f"{where}[{joint}]: {row}; expected three finite numbers")
    points = np.array(rows, np.float32)  # [J, 3]
    points.setflags(write=False)  # the parsed file is shared between readers
    return points


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def write_joints(path: Path, frames: Sequence[FrameJoints]) -> None:
    """Write joints.json (one line per frame) with points to 1/1000 pixel and world to 1/10 mm.

    Raises OutputError, and ValueError for points that are not finite [18, 3].
    """
    lines = ",\n".join(json.dumps(_frame_record(frame), allow_nan=False) for frame in frames)
    write_text(path, f'{{"joints": "{JOINTS_KIND}", "frames": [\n{lines}\n]}}\n')


def _frame_record(frame: FrameJoints) -> dict[str, Any]:
    figures = []
    for figure in frame.figures:
        record = {"name": figure.name, "id": figure.id, "points": _rows(figure.points, POINT_DECIMALS)}
        if figure.world is not None:
            record["world"] = _rows(figure.world, WORLD_DECIMALS)
        figures.append(record)
    whole = {"frame": frame.frame, "figures": figures, "camera": dict(frame.camera)}
    return {**whole, "rendered": frame.rendered} if frame.rendered else whole


def _rows(points: Float32Array, decimals: int) -> list[list[float]]:
    if points.shape != (NUM_JOINTS, 3):
        raise ValueError(f"points are {points.shape}; expected ({NUM_JOINTS}, 3)")
    return [[round(float(number), decimals) for number in row] for row in points]

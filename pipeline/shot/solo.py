"""Unity Perception's SOLO datasets: `sequence.N/stepM.frame_data.json` names each frame's files.

The JSON's `filename` is believed, never the pattern of the names (com.unity.perception, SoloSchema.md). One
sequence is one shot; its steps are the frames.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipeline.errors import ShotError
from pipeline.shot.layers import pass_channels
from pipeline.shot.naming import PassFrames
from pipeline.shot.sequence import EXR_SUFFIXES
from pipeline.shot.solo_joints import KEYPOINTS, frame_joints, read_template
from pipeline.shot.values import FrameJoints

FRAME_FILE = re.compile(r"^step\.?(?P<step>\d+)\.frame(?:_data)?\.json$", re.IGNORECASE)
ANNOTATIONS = (  # the end of an annotation's "@type" -> the pass that it is; the first one counts
    ("DepthAnnotation", "depth"),
    ("NormalAnnotation", "normal"),
    ("InstanceSegmentationAnnotation", "ids"),
    ("SemanticSegmentationAnnotation", "ids"),
)
INSTANCES = "InstanceSegmentationAnnotation"
ID_STEP = 256  # an id is 256 * figure + part
RANGE_NOTE = "depth: measured along each ray (strategy Range), not along the view axis; passed over"
NORMALS_NOTE = "normals: Perception does not say whether they are camera space, which the control needs"
NEAREST_RATE = 1e-4  # time stamps are 32-bit floats: a rate this near to a whole one is that


@dataclass(frozen=True)
class Solo:
    """One sequence: its passes by step, the rate of its time stamps (None: they say none), and notes.

    `joints`: the JSON of each step where keypoints are those of people; `palette`: instances' colour -> id.
    """

    passes: Mapping[str, PassFrames]
    fps: Fraction | None
    notes: tuple[str, ...]
    sensor: str = ""
    joints: Mapping[int, Path] = field(default_factory=dict)
    palette: tuple[tuple[int, int], ...] = ()


def is_solo(root: Path) -> bool:
    """Whether a folder is a SOLO sequence, or a dataset of them."""
    return bool(_frame_files(root)) or any(_frame_files(folder) for folder in _sequences(root))


def _sequences(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("sequence.*") if path.is_dir())


def _frame_files(folder: Path) -> dict[int, Path]:
    matches = ((FRAME_FILE.match(path.name), path) for path in folder.iterdir())
    return dict(sorted((int(match["step"]), path) for match, path in matches if match is not None))


def read_solo(root: Path, sensor: str | None) -> Solo:
    """The passes of a SOLO sequence, or of a dataset that has one sequence, seen by one sensor.

    `sensor` is a capture's id; None: the first one's. Raises ShotError where there are several sequences, and
    for JSON that is not as the schema says.
    """
    folder = root
    if not _frame_files(root):
        sequences = [each for each in _sequences(root) if _frame_files(each)]
        if len(sequences) != 1:
            names = ", ".join(each.name for each in sequences[:4])
            raise ShotError(
                f"{root}: holds {len(sequences)} sequences ({names} ...); expected one shot; give one "
                "of them, or all to lookdev batch"
            )
        (folder,) = sequences
    files: dict[str, dict[int, Path]] = {}
    times, sensors = [], set()
    notes: list[str] = []
    palette: dict[int, int] = {}
    joints: dict[int, Path] = {}
    for step, path in _frame_files(folder).items():
        record = _load(path)
        captures = _captures(record, path)
        sensor = sensor or str(captures[0].get("id", ""))
        sensors |= {str(each.get("id", "")) for each in captures}
        capture = _of_sensor(captures, sensor, path)
        for name, file in _files(capture, path).items():
            files.setdefault(name, {})[step] = file
        palette |= _palette(capture)
        if _keypoints(capture) is not None:
            joints[step] = path
        if any(_is_range(each) for each in _annotations(capture)) and not notes:
            notes.append(RANGE_NOTE)
        times.append(record.get("timestamp"))
    if len(sensors) > 1:
        listed = ", ".join(sorted(sensors))
        notes.append(f"of the sensors {listed}, {sensor} is read; set view in shot.toml for another")
    if joints and read_template(folder) is None:
        notes.append("keypoints: no annotation_definitions.json says which body parts they are; passed over")
        joints = {}
    if "normal" in files:
        notes.append(NORMALS_NOTE)
    return Solo(
        passes={name: PassFrames(frames, _channels(frames, name)) for name, frames in files.items()},
        fps=_rate(times),
        notes=tuple(notes),
        sensor=sensor or "",
        joints=joints,
        palette=tuple(sorted(palette.items())),
    )


def read_solo_joints(path: Path, sensor: str, number: int) -> FrameJoints:
    """The keypoints of one frame's JSON as joints. Raises ShotError."""
    capture = _of_sensor(_captures(_load(path), path), sensor, path)
    template = read_template(path.parent)
    values = _keypoints(capture)
    return frame_joints(values or (), template or {}, number, str(path))


def _annotations(capture: Mapping[str, Any]) -> list[dict[str, Any]]:
    listed = capture.get("annotations")
    return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def _keypoints(capture: Mapping[str, Any]) -> list[Any] | None:
    for each in _annotations(capture):
        if KEYPOINTS.search(str(each.get("@type", ""))) and isinstance(each.get("values"), list):
            values: list[Any] = each["values"]
            return values
    return None


def _palette(capture: Mapping[str, Any]) -> dict[int, int]:
    """An instance's colour as r * 65536 + g * 256 + b -> its id."""
    found = {}
    for each in _annotations(capture):
        listed = each.get("instances") if str(each.get("@type", "")).endswith(INSTANCES) else None
        for instance in listed if isinstance(listed, list) else ():
            try:
                red, green, blue = (int(value) for value in instance["color"][:3])
                found[red << 16 | green << 8 | blue] = ID_STEP * int(instance["instanceId"])
            except (KeyError, TypeError, ValueError):
                continue  # its colour stays its id
    return found


def _is_range(annotation: Mapping[str, Any]) -> bool:
    """Whether it holds distances along each ray, not along the view axis."""
    kind = str(annotation.get("@type", ""))
    return kind.endswith("DepthAnnotation") and str(annotation.get("measurementStrategy", "")) == "Range"


def _load(path: Path) -> Mapping[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ShotError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise ShotError(f"{path}: not valid JSON ({error}); export the dataset again") from error
    if not isinstance(record, dict):
        raise ShotError(f"{path}: not an object; expected a frame as SoloSchema.md has it")
    return record


def _captures(record: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    listed = record.get("captures")
    captures = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if not any(isinstance(each.get("filename"), str) for each in captures):
        raise ShotError(
            f"{path}: no capture with a filename; expected an RGB camera's; check Perception's labelers"
        )
    return [each for each in captures if isinstance(each.get("filename"), str)]


def _of_sensor(captures: Sequence[Mapping[str, Any]], sensor: str, path: Path) -> Mapping[str, Any]:
    capture = next((each for each in captures if str(each.get("id", "")) == sensor), None)
    if capture is None:
        ids = ", ".join(str(each.get("id", "")) for each in captures)
        raise ShotError(
            f"{path}: no capture of sensor {sensor!r}; expected one; it has {ids}; set view in shot.toml"
        )
    return capture


def _files(capture: Mapping[str, Any], path: Path) -> dict[str, Path]:
    """The files of a frame's passes, as its JSON names them."""
    found = {"rgb": _file(capture, path)}
    for ending, name in ANNOTATIONS:
        for each in _annotations(capture):
            fits = str(each.get("@type", "")).endswith(ending) and each.get("filename")
            if name not in found and fits and not _is_range(each):
                found[name] = _file(each, path)
    return found


def _file(entry: Mapping[str, Any], path: Path) -> Path:
    """The file that an entry names: beside its JSON, or from the dataset's root."""
    name = str(entry["filename"]).replace("\\", "/")
    for base in (path.parent, path.parent.parent):
        if (base / name).is_file():
            return base / name
    raise ShotError(f"{path}: names {name!r}, which is not there; expected it beside the JSON; copy it there")


def _channels(frames: Mapping[int, Path], name: str) -> tuple[str, ...]:
    first = next(iter(frames.values()))
    if first.suffix.lower() not in EXR_SUFFIXES:
        return ()
    return pass_channels(first, name, view=None, layer=None)


def _rate(times: Sequence[Any]) -> Fraction | None:
    """The rate of time stamps in seconds or (as the schema says) milliseconds; None where they say none."""
    known = [float(each) for each in times if isinstance(each, int | float)]
    if len(known) < 2 or len(known) < len(times) or known[-1] <= known[0]:
        return None
    step = (known[-1] - known[0]) / (len(known) - 1)
    rate = 1.0 / step if step < 1.0 else 1000.0 / step
    whole = round(rate)
    return (
        Fraction(whole) if abs(rate - whole) < NEAREST_RATE * rate else Fraction(rate).limit_denominator(1001)
    )

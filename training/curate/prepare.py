"""A dataset made ready to train: images cut to their subject and to aspect buckets, the rest following.

read -> matte -> find the subject -> cut -> enlarge where it is too small -> down to the bucket -> write

The new dataset has the layout of the old one. The originals are only read; every file appears whole, and
dataset.toml last, so that a folder with one is finished.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.errors import DatasetError, OutputError
from pipeline.files import write_text
from pipeline.image import UInt8Array, read_image, resize, write_png
from pipeline.models import FAMILIES
from pipeline.shot import Figure, FrameJoints, write_joints
from training.curate.detect import Detect
from training.curate.frame import Box, Cut, box_of_figure, box_of_mask, cut_around
from training.curate.matte import Matte, over
from training.curate.scan import Folder, Still, scan
from training.curate.upscale import Upscaler
from training.curate.views import JOINTS_FILE, find_head, joints_of, look, read_known
from training.folders import IMAGE_SUFFIXES, copy_file, folder_beside, raise_first
from training.pictures import read_picture
from training.schema import DatasetFile

REPORT = "prepare.json"


@dataclass(frozen=True)
class Settings:
    """What to do. `matte` and `upscaler` are models of the user's; without them nothing needs torch."""

    size: int
    """Pixels that the model trains at."""
    step: int
    """Pixels between aspect buckets; 0: one square."""
    crop: bool = True
    """Cut around the subject of characters and objects."""
    background: tuple[int, int, int] | None = None
    """The colour to put behind the subject; None leaves the background."""
    matte: Matte | None = None
    upscaler: Upscaler | None = None
    detect: Detect | None = None


@dataclass(frozen=True)
class Done:
    """One image: what was done, in words."""

    path: Path
    source: tuple[int, int]  # (H, W)
    box: Box
    size: tuple[int, int]  # (H, W)
    notes: tuple[str, ...]

    def __str__(self) -> str:
        height, width = self.source
        kept = f"{self.box.width}x{self.box.height} at ({self.box.left}, {self.box.top})"
        text = f"{self.path}: {width}x{height}, kept {kept}, now {self.size[1]}x{self.size[0]}"
        return "; ".join([text, *self.notes])


def prepare(path: Path, file: DatasetFile, out: Path, settings: Settings) -> Iterator[Done]:
    """Write the dataset file at `path`, prepared, into `out`; yields each image when it is written.

    Captions may still be missing: what they say of framing depends on the cut.

    Raises `DatasetError` for the first image, caption, mask or joints that cannot be used, before anything
    is written (but for control pictures and engine's renders), `OutputError` where `out` holds something or
    the system refuses.
    """
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; expected a folder to write to; choose another with --out")
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out}: is not empty; choose another folder with --out")
    folders = scan(path, file)
    for folder in folders:
        if folder.path.resolve() in (out.resolve(), *out.resolve().parents):
            raise OutputError(f"{out}: lies in {folder.path}, among the images; choose another with --out")
    faults = [fault for folder in folders for fault in folder.faults if fault.rule != "no-caption"]
    raise_first([f"{fault.where}: {fault.text}" for fault in faults])
    for number, folder in enumerate(folders):
        _inside(folder)
        advice = f"images of '{folder.concept.class_word}'"
        folder_beside(path.parent, folder.concept.prior_images, "prior_images", folder.where, advice=advice)
        for other in folders[:number]:
            if other.path.parent == folder.path.parent and (other.path == folder.path or _has_more(folder)):
                raise DatasetError(
                    f"{folder.where}.images: shares images, joints.json or control folders with "
                    f"'{other.concept.trigger}', which a cut would spoil; give each concept its own folder"
                )
    for folder in folders:
        _look_through(folder, settings)
    records = []
    for folder in folders:
        known = read_known(folder.path)
        moved: list[FrameJoints] = []
        for still in folder.stills:
            done, joints = _one(folder, still, out, known, settings)
            records.append(done)
            if joints is not None:
                moved.append(joints)
            yield done
        _class_images(folder, out)
        if moved:
            write_joints((out / folder.concept.images).parent / JOINTS_FILE, moved)
    report = [{"image": str(each.path), "source": each.source, "box": vars(each.box), "size": each.size,
               "notes": each.notes} for each in records]  # fmt: skip
    write_text(out / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    write_text(out / path.name, _text(path, file))


def _look_through(folder: Folder, settings: Settings) -> None:
    """Raise `DatasetError` for the first image, mask or joints that cannot be used, before all writing."""
    known = read_known(folder.path)
    for still in folder.stills:
        picture = read_picture(still.path).pixels
        height, width = picture.shape[:2]
        joints_of(still.path, known, (width, height))
        _mask(folder, still, picture)
        whole = cut_around(None, height=height, width=width, base=settings.size, step=settings.step)
        if whole.size is None and settings.upscaler is None:
            raise _too_small(still, (height, width), settings)


def _too_small(still: Still, size: tuple[int, int], settings: Settings) -> DatasetError:
    return DatasetError(
        f"{still.path}: {size[1]}x{size[0]} pixels, at least a quarter of {settings.size}x{settings.size} "
        "expected; use a larger image or --upscale MODEL"
    )


def _one(
    folder: Folder, still: Still, out: Path, known: Mapping[int, FrameJoints], settings: Settings
) -> tuple[Done, FrameJoints | None]:
    read = read_picture(still.path)
    picture, notes = read.pixels, list(read.notes)
    height, width = picture.shape[:2]
    own = joints_of(still.path, known, (width, height))
    mask = _mask(folder, still, picture)
    if settings.background is not None:
        if mask is None:
            if settings.matte is None:
                raise DatasetError(f"{still.path}: has no mask and no matte; see --background")
            mask = settings.matte(picture)
            notes.append("matted")
        picture = over(picture, mask, settings.background)
    subject = None
    if settings.crop and folder.concept.kind in ("character", "object"):
        subject, by = _subject(folder, still, read.pixels, mask, own, settings)
        notes.append(f"subject by {by}" if subject is not None else "subject not found: not cut around it")
    cut = cut_around(subject, height=height, width=width, base=settings.size, step=settings.step)
    scale = 1
    if settings.upscaler is not None and _is_small(cut, settings.size):
        picture, scale = settings.upscaler.enlarge(picture), settings.upscaler.scale
        notes.append(f"enlarged {scale}x by {settings.upscaler.name}")
        larger = None if subject is None else _times(subject, scale)
        cut = cut_around(
            larger, height=height * scale, width=width * scale, base=settings.size, step=settings.step
        )
    if cut.size is None:
        raise _too_small(still, (height, width), settings)
    target = out / folder.concept.images / f"{still.path.stem}.png"
    write_png(target, _cut(picture, cut.box, cut.size))
    if still.caption:
        copy_file(still.caption_path, target.with_suffix(".txt"))
    else:
        notes.append("no caption yet")
    _follow(folder, still, out, cut, scale, (height, width))
    if _is_small(cut, settings.size):
        notes.append(f"smaller than {settings.size}x{settings.size}; never enlarged without --upscale")
    source = Box(*(round(side / scale) for side in dataclasses.astuple(cut.box)))
    changed = settings.background is not None or scale > 1
    moved = next((_moved(joints, cut, scale, changed=changed) for joints in own.values()), None)
    return Done(target, (height, width), source, cut.size, tuple(notes)), moved


def _is_small(cut: Cut, size: int) -> bool:
    return cut.size is None or cut.size[0] * cut.size[1] < 0.75 * size * size


def _times(box: Box, scale: int) -> Box:
    return Box(box.top * scale, box.left * scale, box.height * scale, box.width * scale)


def _cut(picture: UInt8Array, box: Box, size: tuple[int, int]) -> UInt8Array:
    part = picture[box.top : box.top + box.height, box.left : box.left + box.width]
    return np.asarray(resize(part, height=size[0], width=size[1]), np.uint8)


def _subject(
    folder: Folder,
    still: Still,
    picture: UInt8Array,
    mask: UInt8Array | None,
    known: Mapping[int, FrameJoints],
    settings: Settings,
) -> tuple[Box | None, str]:
    """Where the subject is, and how that is known."""
    height, width = picture.shape[:2]
    if mask is not None and (box := box_of_mask(mask)) is not None:
        return box, "its mask" if folder.concept.masks is not None else "its matte"
    detected = None
    if not known and settings.detect is not None and folder.concept.kind == "character":
        detected = settings.detect(picture)
    seen = look(still.path.stem, "", known, trigger=folder.concept.trigger, detected=detected)
    if seen.figure is not None:
        found = box_of_figure(seen.figure, find_head(seen.figure), height=height, width=width)
        if found is not None:
            return found, seen.source
    if settings.matte is not None and (box := box_of_mask(settings.matte(picture))) is not None:
        return box, "its matte"
    return None, ""


def _mask(folder: Folder, still: Still, picture: UInt8Array) -> UInt8Array | None:
    if folder.concept.masks is None:
        return None
    path = folder.root / folder.concept.masks / f"{still.path.stem}.png"
    if not path.is_file():
        raise DatasetError(f"{path}: missing; {still.path.name} needs its mask")
    return np.asarray(_alike(path, still, picture.shape[:2]).max(axis=2), np.uint8)


def _alike(path: Path, still: Still, size: tuple[int, ...]) -> UInt8Array:
    """A picture that belongs to an image, of the same size (H, W). Raises `DatasetError`."""
    picture = read_image(path, error=DatasetError)
    if picture.shape[:2] != size:
        found, wanted = (f"{shape[1]}x{shape[0]}" for shape in (picture.shape, size))
        raise DatasetError(f"{path}: {found} pixels, {still.path.name} has {wanted}; make it the same size")
    return picture


def _follow(folder: Folder, still: Still, out: Path, cut: Cut, scale: int, size: tuple[int, int]) -> None:
    """Cut the image's mask, engine's render and control pictures as the image was."""
    assert cut.size is not None, "the caller has refused what fits no bucket"
    names = [name for name in (folder.concept.masks, folder.concept.engine) if name is not None]
    places = [(folder.root / name, out / name) for name in names]
    home = (out / folder.concept.images).parent
    places += [(place, home / place.name) for place in _control_folders(folder)]
    for source, target in places:
        path = source / f"{still.path.stem}.png"
        if not path.is_file():
            raise DatasetError(f"{path}: missing; {still.path.name} needs it, or take the folder away")
        picture = _alike(path, still, size)
        if scale > 1:
            picture = np.asarray(resize(picture, height=size[0] * scale, width=size[1] * scale), np.uint8)
        write_png(target / path.name, _cut(picture, cut.box, cut.size))


def _class_images(folder: Folder, out: Path) -> None:
    """Copy the images of the class as they are, with their captions: training cuts them to buckets itself."""
    name = folder.concept.prior_images
    for path in sorted((folder.root / name).iterdir()) if name is not None else ():
        if path.is_file() and path.suffix.lower() in (*IMAGE_SUFFIXES, ".txt"):
            copy_file(path, out / str(name) / path.name)


def _control_folders(folder: Folder) -> list[Path]:
    """The folders of control pictures beside a concept's images."""
    kinds = sorted({kind for family in FAMILIES.values() for kind in family.control_kinds})
    return [folder.path.parent / kind for kind in kinds if (folder.path.parent / kind).is_dir()]


def _has_more(folder: Folder) -> bool:
    """Whether joints or control pictures stand beside the images."""
    return bool(_control_folders(folder)) or (folder.path.parent / JOINTS_FILE).is_file()


def _moved(joints: FrameJoints, cut: Cut, scale: int, *, changed: bool) -> FrameJoints:
    """The joints in the new picture's pixels; what lies outside it is not there (v = 0).

    `changed`: the picture has pixels that its renderer did not make, so it is not said to be that one's.
    """
    assert cut.size is not None, "the caller has refused what fits no bucket"
    figures = []
    for figure in joints.figures:
        points = np.array(figure.points, np.float32)
        for axis, start, length, new in (
            (0, cut.box.left, cut.box.width, cut.size[1]),
            (1, cut.box.top, cut.box.height, cut.size[0]),
        ):  # pixel centres are at whole numbers
            points[:, axis] = ((points[:, axis] + 0.5) * scale - start) * (new / length) - 0.5
        inside = (points[:, :2] >= -0.5) & (points[:, :2] <= np.array(cut.size[::-1]) - 0.5)  # [18, 2]
        points[~inside.all(axis=1), 2] = 0.0
        figures.append(Figure(figure.name, figure.id, points, figure.world))
    # not its focal length, which was the old picture's
    camera = {key: joints.camera[key] for key in ("position", "rotation", "space") if key in joints.camera}
    camera |= {"width": cut.size[1], "height": cut.size[0]}
    rendered = "" if changed else joints.rendered
    return replace(joints, figures=tuple(figures), camera=camera, rendered=rendered)


def _inside(folder: Folder) -> None:
    """Refuse folders that cannot be laid out alike under another root."""
    concept = folder.concept
    if not Path(concept.images).parts:  # what stands beside the images would be written beside --out
        raise DatasetError(
            f"{folder.where}.images: the dataset file's own folder; move the images into a folder beside it"
        )
    for key in ("images", "masks", "engine", "prior_images"):
        name: str | None = getattr(concept, key)
        if name is not None and (Path(name).is_absolute() or ".." in Path(name).parts):
            raise DatasetError(
                f"{folder.where}.{key}: '{name}' lies outside the dataset's folder; move it beside the file"
            )


def _text(path: Path, file: DatasetFile) -> str:
    """The dataset file as it is, a model folder named from its new place."""
    text = path.read_text(encoding="utf-8-sig")
    if file.model in FAMILIES or not (path.parent / file.model).exists():
        return text
    absolute = json.dumps(str((path.parent / file.model).resolve()), ensure_ascii=False)
    return re.sub(r"(?m)^model\s*=.*$", lambda _: f"model = {absolute}", text, count=1)


def colour(text: str) -> tuple[int, int, int]:
    """A colour's name or #rrggbb as RGB. Raises `DatasetError`."""
    from PIL import ImageColor

    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError:
        raise DatasetError(f"--background {text}: no colour; expected a name or #rrggbb") from None
    return red, green, blue


def sizes(done: Sequence[Done]) -> str:
    """How many images of each size, for the user."""
    counts: dict[tuple[int, int], int] = {}
    for each in done:
        counts[each.size] = counts.get(each.size, 0) + 1
    return ", ".join(f"{count} of {w}x{h}" for (h, w), count in sorted(counts.items()))

"""Coverage of a dataset: what its images show, what they lack, and which do not belong.

read images -> measure each -> compare them -> findings, a list of what to shoot or drop
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.errors import DatasetError
from pipeline.image import UInt8Array, read_image
from pipeline.shot import FrameJoints
from training.buckets import choose_bucket, kept_share
from training.curate.compare import Compared, Shown, compare
from training.curate.detect import Detect
from training.curate.faces import Face, face_of
from training.curate.features import Features
from training.curate.findings import Finding, Level
from training.curate.measure import (
    BLURRED_BELOW,
    SAME_ABOVE,
    TOO_BRIGHT,
    TOO_DARK,
    Measures,
    measure,
    same_picture,
)
from training.curate.scan import Folder, Still, scan
from training.curate.views import Seen, find_head, joints_of, look, read_known
from training.dataset import ONE_IMAGE
from training.pictures import read_picture
from training.schema import DatasetFile

ONE_SIDED = 0.8  # share of the images with the same light or background that the trigger will take over
SAME_BACKGROUND = 12.0  # delta E of the picture's borders
ABOUT_FILES = ("no-images", "same-stem", "unread-image")  # of a folder's faults; the rest are about captions
SHOOT = ("views", "light", "background")  # rules that more images answer
LOOK_FIRST = 4  # images
KEPT_BELOW = 0.5  # share of an image that a crop to its bucket leaves
MIN_IMAGES = 5  # with fewer, a share says nothing


Bucket = functools.partial[tuple[int, int] | None]  # (H, W) of a picture -> the size it trains at, if any


@dataclass(frozen=True)
class Audited:
    """One image with all that was found out about it."""

    still: Still
    picture: UInt8Array  # [H, W, 3]
    measures: Measures
    seen: Seen
    face: Face | None  # None from behind, too small, or where the head is not known


@dataclass(frozen=True)
class Audit:
    """One concept: its images, counts for the table, and findings."""

    folder: Folder
    images: tuple[Audited, ...]
    findings: tuple[Finding, ...]
    coverage: dict[str, Counter[str]] = field(default_factory=dict)
    """"view", "framing", "light", "background", "face tone" -> how many images of each."""
    compared: Compared | None = None
    """Who is on the images; None for what is no character."""

    @property
    def look_first(self) -> tuple[Audited, ...]:
        """The images least like the others of their trigger: where an eye should look first."""
        ranked = self.compared.ranked if self.compared is not None else ()
        return tuple(self.images[index] for index in ranked[:LOOK_FIRST])


@dataclass(frozen=True)
class Eyes:
    """Models that look at images which come without what a renderer knows, where they are at hand."""

    detect: Detect | None = None  # the joints of images of characters
    features: Callable[[], Features | None] = lambda: None  # by which images are compared; asked when needed


def audit_dataset(
    path: Path,
    file: DatasetFile,
    *,
    size: int,
    bucket_step: int = 0,
    eyes: Eyes = Eyes(),
) -> tuple[Audit, ...]:
    """Audit every concept of the dataset file at `path`, for a model that trains at `size` pixels.

    `bucket_step`: with aspect buckets, pixels between them.

    An image that cannot be read is a finding. Raises `ShotError` for a broken joints.json.
    """
    folders = scan(path, file)
    alone = sum(len(folder.stills) for folder in folders) == 1
    bucket = functools.partial(choose_bucket, base=size, step=bucket_step)
    return tuple(_audit_concept(folder, bucket, alone=alone, eyes=eyes) for folder in folders)


def needs_detector(path: Path, file: DatasetFile) -> bool:
    """Whether there are images of characters whose joints no joints.json gives."""
    for folder in scan(path, file):
        known = read_known(folder.path)
        stems = [still.path.stem for still in folder.stills]
        if folder.concept.kind == "character" and not all(s.isdecimal() and int(s) in known for s in stems):
            return True
    return False


def _audit_concept(folder: Folder, bucket: Bucket, *, alone: bool, eyes: Eyes) -> Audit:
    findings = [fault for fault in folder.faults if fault.rule in ABOUT_FILES]
    if len(folder.stills) == 1:
        level: Level = "error" if alone else "warning"
        findings.append(Finding(level, "one-image", str(folder.stills[0].path), ONE_IMAGE))
    known = read_known(folder.path)
    images = []
    for still in folder.stills:
        try:
            picture = read_picture(still.path)
        except DatasetError as error:
            findings.append(Finding("error", "unreadable", str(still.path), _without_path(error, still)))
            continue
        findings += [Finding("warning", "converted", str(still.path), note) for note in picture.notes]
        height, width = picture.pixels.shape[:2]
        try:
            own = joints_of(still.path, known, (width, height))
        except DatasetError as error:
            findings.append(Finding("error", "joints", str(still.path), _without_path(error, still)))
            own = {}
        images.append(_examine(folder, still, picture.pixels, known=own, detect=eyes.detect))
        findings += _mask_faults(folder, still, picture.pixels)
    findings += [*_each(images, bucket), *_pairs(images)]
    compared = None
    if folder.concept.kind == "character":
        shown = [Shown(each.picture, each.seen, each.measures.lightness < TOO_DARK) for each in images]
        compared = compare(shown, eyes.features)
        findings += _strangers(images, compared)
    coverage = _coverage(images)
    if images:
        findings += _gaps(folder, coverage, len(images))
    findings.sort(key=lambda finding: (finding.level != "error", finding.rule, finding.where))
    return Audit(folder, tuple(images), tuple(findings), coverage, compared)


def _without_path(error: DatasetError, still: Still) -> str:
    return str(error).removeprefix(f"{still.path}: ")


def _examine(
    folder: Folder,
    still: Still,
    picture: UInt8Array,
    *,
    known: Mapping[int, FrameJoints],
    detect: Detect | None,
) -> Audited:
    measures = measure(picture)
    stem, trigger = still.path.stem, folder.concept.trigger
    seen = look(stem, still.caption, known, trigger=trigger)
    if seen.figure is None and detect is not None and folder.concept.kind == "character":
        seen = look(stem, still.caption, known, trigger=trigger, detected=detect(picture))
    head = find_head(seen.figure) if seen.figure is not None else None
    face = None
    if head is not None and measures.lightness >= TOO_DARK and seen.view not in (None, "back"):
        face = face_of(picture, *head)
    return Audited(still, picture, measures, seen, face)


def _mask_faults(folder: Folder, still: Still, picture: UInt8Array) -> Iterator[Finding]:
    """What is wrong with an image's mask, where the concept has masks."""
    if folder.concept.masks is None:
        return
    path = folder.root / folder.concept.masks / f"{still.path.stem}.png"
    if not path.is_file():
        yield Finding("error", "mask", str(path), f"missing; {still.path.name} needs its mask")
        return
    try:
        mask = read_image(path, error=DatasetError).max(axis=2)
    except DatasetError as error:
        yield Finding("error", "mask", str(path), str(error).removeprefix(f"{path}: "))
        return
    if mask.shape != picture.shape[:2]:
        found, wanted = (f"{shape[1]}x{shape[0]}" for shape in (mask.shape, picture.shape))
        yield Finding("error", "mask", str(path), f"{found} pixels, {still.path.name} has {wanted}")
    elif not mask.any():
        yield Finding("error", "mask", str(path), "all black: nothing of the image would be learned")
    elif mask.min() > 127:
        yield Finding("warning", "mask", str(path), "all white: it masks nothing; drop it, or draw it")


def _each(images: Sequence[Audited], bucket: Bucket) -> Iterator[Finding]:
    """Faults that an image has by itself."""
    for image in images:
        where, found = str(image.still.path), image.measures
        fits = bucket(found.height, found.width)
        if fits is not None:
            kept = kept_share(found.height, found.width, bucket=fits)
            if kept < KEPT_BELOW:
                text = (
                    f"{found.width}x{found.height}: training sees the middle {kept:.0%} of it; "
                    "cut it to what matters; lookdev dataset prepare cuts characters and objects"
                )
                yield Finding("warning", "cropped", where, text)
        else:
            size = bucket.keywords["base"]
            text = (
                f"{found.width}x{found.height} pixels, the model trains at {size}x{size}; use a larger image"
            )
            yield Finding("error", "resolution", where, text)
        if found.lightness < TOO_DARK or found.lightness > TOO_BRIGHT:
            state = "dark" if found.lightness < TOO_DARK else "bright"
            text = f"nearly all {state} (mean L* {found.lightness:.0f} of 100); drop it or expose it again"
            yield Finding("warning", "luminance", where, text)
        elif found.sharpness < BLURRED_BELOW:
            text = f"blurred (sharpness {found.sharpness:.2f}, sharp from 0.6); drop it or use another frame"
            yield Finding("warning", "blurred", where, text)


def _pairs(images: Sequence[Audited]) -> Iterator[Finding]:
    """Images that are nearly one of those before them."""
    for index, image in enumerate(images):
        alike = [(same_picture(image.measures, other.measures), other) for other in images[:index]]
        likeness, twin = max(alike, key=lambda pair: pair[0], default=(0.0, image))
        if likeness >= SAME_ABOVE:
            text = f"nearly the same picture as {twin.still.path.name} ({likeness:.0%}); drop one of them"
            yield Finding("warning", "duplicate", str(image.still.path), text)


def _strangers(images: Sequence[Audited], compared: Compared) -> Iterator[Finding]:
    for index, what in compared.strangers.items():
        text = f"does not look like the others: {what}; look at it, or drop it"
        yield Finding("warning", "outlier", str(images[index].still.path), text)


def _coverage(images: Sequence[Audited]) -> dict[str, Counter[str]]:
    return {
        "view": Counter(image.seen.view or "unknown" for image in images),
        "framing": Counter(image.seen.framing or "unknown" for image in images),
        "light": Counter(image.measures.light for image in images),
        "background": Counter(_backgrounds(images)),
        "face tone": Counter(image.face.tone for image in images if image.face is not None),
    }


def _backgrounds(images: Sequence[Audited]) -> Iterator[str]:
    """A name for each image's background: the first image whose borders have about the same colours."""
    leaders: list[Audited] = []
    for image in images:
        for leader in leaders:
            apart = np.linalg.norm((image.measures.border - leader.measures.border).reshape(-1, 3), axis=1)
            if float(apart.mean()) < SAME_BACKGROUND:
                yield f"as {leader.still.path.stem}"
                break
        else:
            leaders.append(image)
            yield f"as {image.still.path.stem}"


def _gaps(folder: Folder, coverage: dict[str, Counter[str]], num_images: int) -> Iterator[Finding]:
    """What the images lack, to be shot."""
    concept, views = folder.concept, coverage["view"]
    known = num_images - views["unknown"]
    missing = [view for view in concept.wanted_views if not views[view]]
    if views["profile"]:  # of an unknown side: it may be the missing one
        missing = [view for view in missing if not view.startswith("profile")]
    if missing and known >= ONE_SIDED * num_images:
        text = f"no image from: {', '.join(missing)}; shoot these, or take them out of views"
        yield Finding("warning", "views", folder.where, text)
    if num_images < MIN_IMAGES:
        return
    sides = {"light": concept.kind != "style", "background": concept.kind not in ("place", "style")}
    for what, matters in sides.items():
        commonest, count = coverage[what].most_common(1)[0]
        if matters and count >= ONE_SIDED * num_images:
            text = f"{count} of {num_images} images have the same {what} ({commonest}); shoot others"
            yield Finding("warning", what, folder.where, text)


def to_do(audit: Audit) -> tuple[list[str], list[str]]:
    """(what to shoot, what to drop or look at), one line each."""
    shoot = [finding.text for finding in audit.findings if finding.rule in SHOOT]
    drop: dict[str, list[str]] = {}
    for finding in audit.findings:
        if finding.where in {str(image.still.path) for image in audit.images} or finding.rule == "unreadable":
            drop.setdefault(Path(finding.where).name, []).append(finding.rule)
    return shoot, [f"{name}: {', '.join(rules)}" for name, rules in sorted(drop.items())]

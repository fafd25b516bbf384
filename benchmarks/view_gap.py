"""What a training loses when its dataset lacks a view, and whether the audit said so beforehand.

    python -m benchmarks.view_gap --hero otto

One character is trained twice with the same exposures: on all images and without the profiles; with --others
a third time, without as many images of other views. Held-out moments in profile and from behind are judged:
is it the character (12 cast members), and is it that view (its head against the heads of the same moment
turned to the other views)?
Datasets, LoRAs, renders and choices are kept under --out; an interrupted training goes on.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.moment_styling import Trained, styled
from benchmarks.moments import SIZE, Moment, Split, moments
from benchmarks.table import Value, markdown
from benchmarks.variants import SAMPLES, Part, Still, Variant, is_profile, write_variant
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.image import UInt8Array
from pipeline.output import write_contact_sheet
from samples.stage import captions
from samples.stage.datasets import joints_of
from samples.stage.render import render
from samples.stage.scene import Scene
from training import likeness
from training.curate.audit import audit_dataset, to_do
from training.curate.views import head_of, view_of
from training.run import train_from_file
from training.schema import View, read_dataset_file

WANTED = 0.90  # issue 4, figure 3
VIEWS = ("profile view", "back view", "front view")
TURNS = tuple(np.radians((0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)))
FRAMINGS = ("closeup", "medium")  # a head in a full shot has a few pixels
SHEET_ROWS = 3  # of each view
Row = dict[str, Value]


def without_profiles(all_stills: Sequence[Still]) -> list[Still]:
    """All but the profiles."""
    return [still for still in all_stills if not is_profile(still)]


def without_others(all_stills: Sequence[Still]) -> list[Still]:
    """As many images fewer, but every view stays: what is dropped are the last of the commonest views."""
    kept = list(all_stills)
    for _ in range(sum(map(is_profile, all_stills))):
        counts = Counter(still.view for still in kept if not is_profile(still))
        commonest, _ = counts.most_common(1)[0]
        kept.remove([still for still in kept if still.view == commonest][-1])
    return kept


def datasets(hero: str, out: Path, *, others: bool = True) -> dict[str, Path]:
    """Label -> dataset file: the sample as it is, and one or two made of it, shown as often in all."""
    fewer = {"without profiles": without_profiles}
    if others:
        fewer["as many others fewer"] = without_others
    found = {"all views": SAMPLES[hero] / "dataset.toml"}
    for label, keep in fewer.items():
        found[label] = write_variant(Variant(f"{hero}-{label.replace(' ', '-')}", (Part(hero, keep),)), out)
    return found


def audit_lines(path: Path) -> list[str]:
    """What `lookdev dataset audit` asks to shoot."""
    audits = audit_dataset(path, read_dataset_file(path), size=SIZE[0])
    return [line for each in audits for line in to_do(each)[0]]


@dataclass(frozen=True)
class Seen:
    """One styled moment: who it is taken for, from where, and how far head and figure are from the truth."""

    who: str
    view: bool | None
    """Whether the view is recognised; None where the head is too small to tell."""
    figure: float
    head: float | None


@dataclass(frozen=True)
class Truths:
    """What a moment is judged against: the cast in the role, and the head in every view.

    `heads`: (view, film [H, W, 3]), the true one first; `mask` [H, W]: where all of them show the head.
    """

    cast: Mapping[str, UInt8Array]
    heads: Sequence[tuple[View | None, UInt8Array]]
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, moment: Moment) -> Truths:
        """Render them."""
        return cls(moment.rivals("who"), *turned_heads(moment))


def turned_heads(moment: Moment) -> tuple[list[tuple[View | None, UInt8Array]], NDArray[np.bool_]]:
    """The moment with its figure turned by TURNS, heads laid on one another; and the mask of `Truths`."""
    found: list[tuple[View | None, UInt8Array]] = []
    common = np.ones(SIZE[::-1], np.bool_)
    place = np.zeros(2)
    for number, turn in enumerate(TURNS):
        role = moment.scene.roles[0]
        facing = replace(role.performance, yaw=role.performance.yaw + turn)
        scene = replace(moment.scene, roles=(replace(role, performance=facing),))
        frame = moment.frame if number == 0 else render(scene, moment.number, size=SIZE)
        joints = joints_of(frame, scene, 1)
        middle, _ = head_of(joints.figures[0])
        place = middle if number == 0 else place
        shift = np.array([[1, 0, place[0] - middle[0]], [0, 1, place[1] - middle[1]]], np.float32)
        head = (frame.ids >> 8 == 1) & np.isin(frame.ids & 0xFF, likeness.HEAD_PARTS)
        common &= cv2.warpAffine(head.astype(np.uint8), shift, SIZE, flags=cv2.INTER_NEAREST) > 0
        film = cv2.warpAffine(frame.film, shift, SIZE, flags=cv2.INTER_LINEAR)
        found.append((view_of(joints.figures[0], joints.camera), np.asarray(film, np.uint8)))
    return found, common


def seen(moment: Moment, picture: UInt8Array, truths: Truths, hero: str) -> Seen:
    """Judge a picture [H, W, 3] of the moment."""
    ids = moment.frame.ids
    region = likeness.figure_region(ids, 1)
    who, distances = likeness.forced_choice(picture, truths.cast, mask=region, parts=ids)
    if int(truths.mask.sum()) < likeness.MIN_REGION_PIXELS:
        return Seen(who, None, distances[hero], None)
    apart = [likeness.distance(picture, film, mask=truths.mask) for _, film in truths.heads]
    nearest, _ = truths.heads[int(np.argmin(apart))]
    return Seen(who, nearest == truths.heads[0][0], distances[hero], apart[0])


def row(label: str, wanted: str, judged: Sequence[Seen], hero: str, best: Sequence[Seen]) -> Row:
    """One training in one view; `best` are the same moments by the training on all images."""
    heads = [each.head for each in judged if each.head is not None]
    worse = np.array([a.figure - b.figure for a, b in zip(judged, best, strict=True)])
    return {
        "view": wanted,
        "trained on": label,
        "frames": len(judged),
        f"nearest to {hero}": float(np.mean([each.who == hero for each in judged])),
        "view recognised": float(np.mean([each.view for each in judged if each.view is not None])),
        "of heads": len(heads),
        "distance, figure": float(np.mean([each.figure for each in judged])),
        "distance, head": float(np.mean(heads)),
        "figure, to all views": f"{worse.mean():+.3f} +- {worse.std() / np.sqrt(len(worse)):.3f}",
    }


@click.command(help=__doc__)
@click.option("--hero", type=click.Choice(["iris", "otto"]), default="otto", show_default=True)
@click.option("--others", is_flag=True, help="also train without as many images of other views")
@click.option("--frames", type=click.IntRange(min=1), default=20, show_default=True, help="for each view")
@click.option("--split", type=click.Choice(["tuning", "held-out"]), default="held-out", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/concepts"), show_default=True)
def main(hero: str, others: bool, frames: int, split: Split, out: Path) -> None:
    try:
        trained = []
        for label, path in datasets(hero, out / "datasets", others=others).items():
            asked = audit_lines(path) or ["nothing"]
            click.echo(f"audit, {label}: shoot: {'; '.join(asked)}")
            result = train_from_file(path, out=out / "loras" / read_dataset_file(path).name)
            trained.append(Trained(label, lora=result.result))
        rows, pictures = measure([*trained, Trained("base, no training")], hero, split, frames, out)
        click.echo(markdown(rows))
        click.echo(f"\nwanted: {WANTED:.2f} in profile and from behind, all views")
        stem = out / f"views-{hero}-{split}"
        write_text(stem.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
        columns = ["engine", *(each.label for each in trained), "film truth"]
        write_contact_sheet(stem.with_suffix(".png"), pictures, columns, height=192)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    click.echo(f"{stem}.json, {stem}.png")


def measure(
    trained: Sequence[Trained], hero: str, split: Split, count: int, out: Path
) -> tuple[list[Row], list[list[UInt8Array]]]:
    """The table, the first of `trained` being on all images; and rows of pictures for the sheet."""
    rows: list[Row] = []
    pictures: list[list[UInt8Array]] = []
    for wanted in VIEWS:
        chosen = moments(hero, split, count, wanted=partial(_shows, view=wanted))
        truths = [Truths.of(moment) for moment in chosen]
        frames = [styled(each, chosen, out / "styled") for each in trained]
        judged = [
            [seen(m, picture, truth, hero) for m, picture, truth in zip(chosen, own, truths, strict=True)]
            for own in frames
        ]
        rows += [row(t.label, wanted, own, hero, judged[0]) for t, own in zip(trained, judged, strict=True)]
        for number in range(min(SHEET_ROWS, count)):
            of_each = [own[number] for own in frames[:-1]]
            pictures.append([chosen[number].frame.engine, *of_each, chosen[number].frame.film])
    return rows, pictures


def _shows(scene: Scene, number: int, *, view: str) -> bool:
    """Whether the moment shows this view, large enough to judge a head."""
    return scene.move.framing in FRAMINGS and captions.view_of(scene, number) == view


if __name__ == "__main__":
    main()

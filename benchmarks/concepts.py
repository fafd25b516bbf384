"""Several concepts in one LoRA: is each one there, and is it gone without its trigger?

    lookdev train samples/multi/dataset.toml
    python -m benchmarks.concepts --lora out/loras/multi/multi.safetensors

Every picture is judged on three axes against film truths of the same moment: who (12 cast members), where
(the set in the materials of 7 places), look (6 film looks). Beside the LoRA stands the base with the same
prompts. Renders, truths and choices are kept under --out. Settings are tried with `--split tuning`; the
figures are `held-out`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np

from benchmarks.judging import Choice, judge
from benchmarks.moment_styling import SETTINGS, Trained, key_of, styled, words_beside
from benchmarks.moments import ALL, AXES, AXIS, CONCEPTS, NONE, Moment, Split, moments, stored_rivals
from benchmarks.table import Value, markdown
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.image import UInt8Array
from pipeline.output import write_contact_sheet
from pipeline.steady.picture import psnr

WANTED, SPREAD, LEAK = 0.95, 0.05, 0.05  # issue 4, figure 2
SHEET_ROWS = 2  # of each group
Row = dict[str, Value]


@dataclass(frozen=True)
class Judged:
    """A styled moment and the choice on each axis that can be judged in it."""

    moment: Moment
    picture: UInt8Array
    choices: Mapping[str, Choice]


def judged(
    trained: Trained, chosen: Sequence[Moment], split: Split, out: Path, axes: Sequence[str] = AXES
) -> list[Judged]:
    """The moments styled and judged; what an earlier run left is read. Raises ModelError and OutputError."""
    frames = styled(trained, chosen, out / "styled")
    path = out / "choices" / f"{key_of(trained, chosen)}-{'-'.join(axes)}.json"
    if not path.exists():
        made = [
            {axis: dict(choice.distances) for axis, choice in judge(moment, frame, rivals).items()}
            for moment, frame in zip(chosen, frames, strict=True)
            for rivals in [stored_rivals(moment, split, out / "truths", axes)]
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(made))
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [
        Judged(moment, frame, {axis: Choice.of(distances) for axis, distances in each.items()})
        for moment, frame, each in zip(chosen, frames, stored, strict=True)
    ]


def share(group: Sequence[Judged], axis: str, name: str | None = None) -> float:
    """Of the moments judged on an axis, the share nearest to `name`, to what is truly there if None."""
    seen = [each for each in group if axis in each.choices]
    hits = [each.choices[axis].nearest == (name or each.moment.right[axis]) for each in seen]
    return float(np.mean(hits)) if hits else float("nan")


def concept_row(label: str, concept: str, group: Sequence[Judged]) -> Row:
    """One concept under its trigger: how often it is found, and whether the others come with it."""
    axis = AXIS[concept]
    seen = [each.choices[axis] for each in group if axis in each.choices]
    margins = [
        min(value for name, value in choice.distances.items() if name != concept) / choice.distances[concept]
        for choice in seen
    ]
    row: Row = {
        "concept": concept,
        "render": label,
        "frames": len(seen),
        "right": share(group, axis),
        "chance": 1.0 / len(seen[0].distances),
        "margin, median": float(np.median(margins)),
        "most chosen": ", ".join(f"{n} {c}" for n, c in Counter(c.nearest for c in seen).most_common(3)),
    }
    others = [share(group, AXIS[other], other) for other in CONCEPTS if not _is_there(other, group)]
    row["another concept seen"] = max(others)
    row["PSNR, dB"] = float(np.mean([psnr(each.picture, each.moment.frame.film) for each in group]))
    return row


def leak_row(label: str, group: Sequence[Judged]) -> Row:
    """Moments without a trigger: the share taken for each concept, and what is still right."""
    row: Row = {"render": label, "frames": len(group)}
    row |= {f"taken for {concept}": share(group, AXIS[concept], concept) for concept in CONCEPTS}
    row |= {f"{axis} right": share(group, axis) for axis in AXES}
    row["PSNR, dB"] = float(np.mean([psnr(each.picture, each.moment.frame.film) for each in group]))
    return row


def together_row(label: str, group: Sequence[Judged]) -> Row:
    """A character, the place and the look asked for in one prompt."""
    row: Row = {"render": label, "frames": len(group)}
    row |= {f"{axis} right": share(group, axis) for axis in AXES}
    row["PSNR, dB"] = float(np.mean([psnr(each.picture, each.moment.frame.film) for each in group]))
    return row


def _is_there(concept: str, group: Sequence[Judged]) -> bool:
    return all(each.moment.right[AXIS[concept]] == concept for each in group)


def verdict(rows: Sequence[Row], leaks: Sequence[Row], label: str) -> Row:
    """What the issue asks of the LoRA called `label`, in one row."""
    right = [float(row["right"]) for row in rows if row["render"] == label]
    leak = next(row for row in leaks if row["render"] == label)
    return {
        "worst concept": min(right),
        "wanted at least": WANTED,
        "spread": max(right) - min(right),
        "wanted at most": SPREAD,
        "leak, worst": max(float(leak[f"taken for {concept}"]) for concept in CONCEPTS),
        "wanted at most ": LEAK,
    }


@click.command(help=__doc__)
@click.option("--lora", type=click.Path(path_type=Path), required=True)
@click.option("--frames", type=click.IntRange(min=1), default=32, show_default=True, help="for each concept")
@click.option("--split", type=click.Choice(["tuning", "held-out"]), default="held-out", show_default=True)
@click.option("--strength", type=click.FloatRange(0.0, 1.0), default=SETTINGS.strength, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/concepts"), show_default=True)
def main(lora: Path, frames: int, split: Split, strength: float, out: Path) -> None:
    words = words_beside(lora)
    trained = [
        Trained("with LoRA", lora=lora, embeddings=words, strength=strength),
        Trained("base", strength=strength),
    ]
    groups = {group: moments(group, split, frames) for group in (*CONCEPTS, NONE)}
    groups[ALL] = moments(ALL, split, max(frames // 2, 1))
    try:
        seen = {
            (each.label, group): judged(each, chosen, split, out)
            for each in trained
            for group, chosen in groups.items()
        }
        labels = [each.label for each in trained]
        rows = [concept_row(label, c, seen[label, c]) for c in CONCEPTS for label in labels]
        leaks = [leak_row(label, seen[label, NONE]) for label in labels]
        together = [together_row(label, seen[label, ALL]) for label in labels]
        results = {
            "each under its trigger": rows,
            "without a trigger": leaks,
            "a character, the place and the look in one prompt": together,
            "verdict": [verdict(rows, leaks, labels[0])],
        }
        for title, table in results.items():
            click.echo(f"\n### {title}\n\n{markdown(table)}")
        stem = f"concepts-{lora.stem}-{split}"
        write_text(out / f"{stem}.json", json.dumps(results, indent=1) + "\n")
        write_sheet(out / f"{stem}.png", {key: group[:SHEET_ROWS] for key, group in seen.items()}, labels)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    click.echo(f"\n{out / stem}.json, {out / stem}.png")


def write_sheet(path: Path, seen: Mapping[tuple[str, str], Sequence[Judged]], labels: Sequence[str]) -> None:
    """engine | base | with LoRA | film truth, a row a moment. Raises OutputError."""
    rows, names = [], []
    for group in (*CONCEPTS, NONE, ALL):
        for number, each in enumerate(seen[labels[0], group]):
            pictures = [seen[label, group][number].picture for label in reversed(labels)]
            rows.append([each.moment.frame.engine, *pictures, each.moment.frame.film])
            names.append(each.moment.name)
    write_contact_sheet(
        path, rows, ["engine", *reversed(labels), "film truth"], row_captions=names, height=192
    )


if __name__ == "__main__":
    main()

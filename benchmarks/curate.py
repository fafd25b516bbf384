"""Issue 4, figure 1: the faults planted in datasets are found, and clean datasets raise no alarm.

    python -m benchmarks.curate [--seed N ...] [--out FOLDER]

First the samples, on which the thresholds were set; then fresh datasets of the stage: the rest of the cast, a
place and a style with other seeds, each clean, and each character spoiled anew with the same 15 kinds of
fault. A character of whom a seed drew no picture of some view has that one fault to be found, and is not
counted as clean. What is missed and what is raised for nothing is listed, line by line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.table import Value, markdown
from samples.stage.captions import VIEWS
from samples.stage.cast import CAST
from samples.stage.datasets import CONCEPTS, character_of, write_concept
from samples.stage.spoiled import FOLDER, PLANTED, Planted, spoiled_of, write_spoiled
from training.curate.audit import audit_dataset
from training.curate.findings import Finding
from training.curate.lint import lint_dataset
from training.curate.tokens import load_tokens
from training.schema import read_dataset_file

SAMPLES = Path(__file__).resolve().parents[1] / "samples"
SIZE = 128  # pixels the miniature trains at
# No threshold was set on these; two variants of the rule were compared on all but 2007 (docs/log.md).
SEEDS = (2004, 2005, 2006, 2007)


@dataclass(frozen=True)
class Outcome:
    """One dataset: what was planted, and what lint and audit said against it."""

    name: str
    planted: tuple[Planted, ...]
    missed: tuple[Planted, ...]
    false: tuple[Finding, ...]
    """Findings that nobody planted."""
    seen_first: int
    """Planted strangers among the images that the audit says to look at first."""


def check(folder: Path) -> tuple[list[Finding], set[str]]:
    """All that lint and audit say of a dataset folder, and the images to look at first."""
    path = folder / "dataset.toml"
    file = read_dataset_file(path)
    found = lint_dataset(path, file, tokens=load_tokens(path, file))
    first: set[str] = set()
    for audit in audit_dataset(path, file, size=SIZE):
        found += audit.findings
        first |= {image.still.path.name for image in audit.look_first}
    return found, first


def judge(name: str, folder: Path, planted: Sequence[Planted] = ()) -> Outcome:
    """Hold what is said of a dataset against what was planted in it."""
    found, first = check(folder)
    seen = sum(fault.rule == "outlier" and fault.where in first for fault in planted)
    missed = tuple(fault for fault in planted if not any(_finds(each, fault) for each in found))
    false = tuple(each for each in found if not any(_finds(each, fault) for fault in planted))
    return Outcome(name, tuple(planted), missed, false, seen)


def _finds(finding: Finding, fault: Planted) -> bool:
    return finding.rule == fault.rule and finding.where.endswith(fault.where)


def samples() -> Iterator[Outcome]:
    """The datasets that ship."""
    for name, concept in CONCEPTS.items():
        yield judge(name, SAMPLES / concept.folder)
    yield judge("android", SAMPLES / FOLDER, PLANTED)


def fresh(seed: int, out: Path) -> Iterator[Outcome]:
    """Datasets rendered anew under `out`: the whole cast clean and spoiled, a place and a style clean."""
    for member in CAST:
        clean = write_concept(character_of(member), out / "clean" / member.name, seed=seed)
        yield judge(f"{member.name}, {seed}", clean, lacking(clean))
        folder = write_spoiled(out / "spoiled" / member.name, seed=seed, subject=spoiled_of(member))
        yield judge(f"{member.name} spoiled, {seed}", folder, PLANTED)
    for name in ("vaulthall", "vaultfilm"):
        yield judge(f"{name}, {seed}", write_concept(CONCEPTS[name], out / "clean" / name, seed=seed))


def lacking(folder: Path) -> tuple[Planted, ...]:
    """The fault of a clean dataset that a draw left without one of the views, by the stage's own captions."""
    said = " ".join(path.read_text(encoding="utf-8") for path in (folder / "images").glob("*.txt"))
    return () if all(view in said for view in VIEWS) else (Planted("views", "concept[1]"),)


def summary(outcomes: Sequence[Outcome], title: str) -> dict[str, Value]:
    """One row of the table."""
    planted = sum(len(each.planted) for each in outcomes)
    clean = [each for each in outcomes if not each.planted]
    strangers = sum(fault.rule == "outlier" for each in outcomes for fault in each.planted)
    missed = [fault for each in outcomes for fault in each.missed]
    unseen = sum(fault.rule == "outlier" for fault in missed)
    return {
        "datasets": title,
        "with faults": len(outcomes) - len(clean),
        "planted, but for strangers": planted - strangers,
        "found": planted - strangers - len(missed) + unseen,
        "strangers": strangers,
        "strangers found": strangers - unseen,
        "among the first to look at": sum(each.seen_first for each in outcomes),
        "false in these": sum(len(each.false) for each in outcomes if each.planted),
        "clean": len(clean),
        "clean without an alarm": sum(not each.false for each in clean),
        "false in clean": sum(len(each.false) for each in clean),
    }


def lines(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What went wrong, a line each."""
    for each in outcomes:
        yield from (f"missed   {each.name}: {fault.rule} at {fault.where}" for fault in each.missed)
        for finding in each.false:
            where = f"{Path(finding.where).name}: {finding.text} [{finding.rule}]"
            yield f"{'false' if each.planted else 'alarm':8} {each.name}: {where}"


@click.command()
@click.option("--seed", "seeds", type=int, multiple=True, help=f"Fresh datasets of these; default: {SEEDS}.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep the fresh datasets here.")
def main(seeds: Sequence[int], out: Path | None) -> None:
    """Print the figure."""
    outcomes = list(samples())
    rows = [summary(outcomes, "samples")]
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds or SEEDS:
            made = list(fresh(seed, (out or Path(scratch)) / str(seed)))
            rows.append(summary(made, f"fresh, seed {seed}"))
            outcomes += made
    click.echo(markdown(rows))
    for line in lines(outcomes):
        click.echo(line)


if __name__ == "__main__":
    main()

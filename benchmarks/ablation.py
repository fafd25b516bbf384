"""What the training strategy is worth: one change at a time, the same exposures, seeds and moments.

    python -m benchmarks.ablation

Captions and kinds are tried on one character, equal exposure on all four concepts in folders of uneven size.
Likeness: moments under the trigger, nearest of 12 cast members. Leak: moments of ordinary people without a
trigger that are taken for the character. Bleed: moments under the place's trigger taken for a character.
Datasets, LoRAs, renders and choices are kept under --out; an interrupted training goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks.concepts import Judged, judged, share
from benchmarks.moment_styling import Trained
from benchmarks.moments import AXIS, CONCEPTS, NONE, Moment, Split, moments
from benchmarks.table import Value, markdown
from benchmarks.variants import Part, Still, Variant, write_variant
from pipeline.errors import UserError
from pipeline.files import write_text
from samples.stage.captions import attributes
from samples.stage.cast import BY_NAME
from training.run import train_from_file

HERO = "iris"
STEPS = 80  # of 8 images: 32 exposures an image, a quarter of what the samples take, so that ways differ
UNEVEN = {"steps": 100, "text_lr": 1e-3}  # 16 exposures an image on average; rates as samples/multi
FEW = ("otto", "VaultHall")  # the concepts that have few images there
NUM_FEW = 5
Row = dict[str, Value]


def everything(caption: str) -> str:
    """The caption with the character's own attributes in words too: what negative captioning leaves out."""
    said = ", ".join(attributes(BY_NAME[HERO]))
    return caption.replace(f", {HERO},", f", {HERO}, {said},", 1)


def bare(caption: str) -> str:
    """Nothing but the trigger."""
    return f"a person, {HERO}"


def few(stills: Sequence[Still]) -> list[Still]:
    """Every fourth image: views and framings still take turns."""
    return list(stills)[:: len(stills) // NUM_FEW][:NUM_FEW]


CAPTIONS: Mapping[str, Callable[[str], str]] = {
    "negative captions": str,
    "everything captioned": everything,
    "trigger alone": bare,
}


def caption_variants() -> dict[str, Variant]:
    """Label -> dataset of the character with other captions."""
    return {
        label: Variant(
            f"{HERO}-{label.replace(' ', '-')}",
            (Part(HERO, said=said, invariant=said is str),),
            train={"steps": STEPS},
        )
        for label, said in CAPTIONS.items()
    }


def kind_variants() -> dict[str, Variant]:
    """Label -> dataset of the character for the other kinds; `negative captions` is the LoRA."""
    told = Part(HERO, init_text=", ".join(attributes(BY_NAME[HERO])))
    eight: dict[str, int | float | str] = {"kind": "embedding", "vectors": 8}
    ways: dict[str, tuple[Part, dict[str, int | float | str]]] = {
        "embedding": (Part(HERO), {"kind": "embedding"}),
        "embedding of 8 vectors": (Part(HERO), eight),
        "the same with init_text": (told, eight),
        "full": (Part(HERO), {"kind": "full", "lr": 1e-4}),  # the sample's rate is a LoRA's
    }
    return {
        label: Variant(f"{HERO}-{label.replace(' ', '-')}", (part,), train={"steps": STEPS, **train})
        for label, (part, train) in ways.items()
    }


def exposure_variants() -> dict[str, Variant]:
    """Label -> dataset of all four concepts in folders of 20, 5, 5 and 20 images."""
    parts = tuple(Part(concept, few) if concept in FEW else Part(concept) for concept in CONCEPTS)
    return {
        "equal exposure": Variant("uneven-equal", parts, train=UNEVEN),
        "as the folders are": Variant("uneven-folders", parts, by_folder=True, train=UNEVEN),
    }


@dataclass(frozen=True)
class Run:
    """A finished training, ready to style with."""

    trained: Trained
    seconds: float


def run(label: str, variant: Variant, out: Path) -> Run:
    """Write the dataset and train on it, or return what an earlier call trained."""
    done = train_from_file(write_variant(variant, out / "datasets"), out=out / "loras" / variant.name)
    kind = variant.train.get("kind", "lora")
    if kind == "embedding":
        return Run(Trained(label, embeddings=(done.result,)), done.seconds)
    if kind == "full":
        return Run(Trained(label, model=done.result), done.seconds)
    return Run(Trained(label, lora=done.result), done.seconds)


def named(moment: Moment) -> Moment:
    """The moment with the character's attributes in the prompt, as `everything` captions them."""
    return Moment(moment.name, moment.scene, moment.number, everything(f"a person, {HERO},").rstrip(","))


def character_row(label: str, seconds: float, own: Sequence[Judged], ordinary: Sequence[Judged]) -> Row:
    """Likeness under the trigger, leak without it."""
    seen = [each.choices["who"] for each in own if "who" in each.choices]
    others = [min(v for n, v in choice.distances.items() if n != HERO) for choice in seen]
    return {
        "trained": label,
        "likeness": share(own, "who", HERO),
        "distance to own": sum(choice.distances[HERO] for choice in seen) / len(seen),
        "nearest other": sum(others) / len(others),
        "leak": share(ordinary, "who", HERO),
        "others still right": share(ordinary, "who"),
        "seconds": seconds,
    }


def exposure_row(label: str, seconds: float, groups: Mapping[str, Sequence[Judged]]) -> Row:
    """How often each concept is found under its trigger, and the worst leak without one."""
    right = {concept: share(groups[concept], AXIS[concept]) for concept in CONCEPTS}
    row: Row = {"trained": label, **right}
    row["worst"] = min(right.values())
    row["spread"] = max(right.values()) - min(right.values())
    row["distance, few images"] = _mean_distance(groups, FEW)
    row["distance, many"] = _mean_distance(groups, [each for each in CONCEPTS if each not in FEW])
    row["leak, worst"] = max(share(groups[NONE], AXIS[concept], concept) for concept in CONCEPTS)
    row["seconds"] = seconds
    return row


def _mean_distance(groups: Mapping[str, Sequence[Judged]], concepts: Sequence[str]) -> float:
    found = [
        each.choices[AXIS[concept]].distances[concept]
        for concept in concepts
        for each in groups[concept]
        if AXIS[concept] in each.choices
    ]
    return sum(found) / len(found)


@click.command(help=__doc__)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["captions", "kinds", "exposure"]),
    help="all if absent",
)
@click.option("--frames", type=click.IntRange(min=1), default=20, show_default=True, help="for each group")
@click.option("--split", type=click.Choice(["tuning", "held-out"]), default="held-out", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/concepts"), show_default=True)
def main(parts: tuple[str, ...], frames: int, split: Split, out: Path) -> None:
    makers = {"captions": captions_table, "kinds": kinds_table, "exposure": exposure_table}
    results: dict[str, list[Row]] = {}
    try:
        for part in parts or makers:
            results[part] = makers[part](frames, split, out)
            click.echo(f"\n### {part}\n\n{markdown(results[part])}")
            write_text(out / f"ablation-{part}-{split}.json", json.dumps(results[part], indent=1) + "\n")
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None


def captions_table(frames: int, split: Split, out: Path) -> list[Row]:
    """The character under each way of captioning; the base first."""
    runs = [Run(Trained("not trained"), 0.0)]
    runs += [run(label, variant, out) for label, variant in caption_variants().items()]
    return character_table(runs, frames, split, out)


def kinds_table(frames: int, split: Split, out: Path) -> list[Row]:
    """The character as a LoRA, an embedding and a whole model, on the same images and steps."""
    lora = run("LoRA", caption_variants()["negative captions"], out)
    others = [run(label, variant, out) for label, variant in kind_variants().items()]
    return character_table([lora, *others], frames, split, out)


def character_table(runs: Sequence[Run], frames: int, split: Split, out: Path) -> list[Row]:
    """A row for each run, and one with the attributes in the prompt where captions had them."""
    own, ordinary = moments(HERO, split, frames), moments(NONE, split, frames)
    rows = []
    for each in runs:
        without = judged(each.trained, ordinary, split, out, ("who",))
        label = each.trained.label
        under = judged(each.trained, own, split, out, ("who",))
        rows.append(character_row(label, each.seconds, under, without))
        if label == "everything captioned":
            told = judged(each.trained, [named(moment) for moment in own], split, out, ("who",))
            rows.append(character_row(f"{label}, prompts name it too", each.seconds, told, without))
    return rows


def exposure_table(frames: int, split: Split, out: Path) -> list[Row]:
    """All four concepts in uneven folders, each concept and each image alike."""
    groups = {group: moments(group, split, frames) for group in (*CONCEPTS, NONE)}
    rows = []
    for label, variant in exposure_variants().items():
        each = run(label, variant, out)
        seen = {group: judged(each.trained, chosen, split, out) for group, chosen in groups.items()}
        rows.append(exposure_row(label, each.seconds, seen))
    return rows


if __name__ == "__main__":
    main()

"""How still and how true: the temporal methods on stage shots whose film look is known.

    python -m benchmarks.temporal [--split tuning] [--shot orbit ...] [--out out/temporal]

Eight shots of 48 frames (`benchmarks/film_shots.py`), styled by each method with the hero's LoRA, depth and
pose; beside them what people do today to the same frame-by-frame result: smoothing along optical flow (DIS,
no passes) and a deflicker. Both were tuned on the tuning split, for PSNR. `keys, DIS` is `keys` with
estimated motion in the place of motion, visible, ids and normals (depth and joints stay: the controls need
them). Then two shots that defeat propagation. Renders are kept under
--out; the seconds are those of the first run, so take a fresh --out on an idle machine. Processor seconds are
of the whole call with the model loaded, all threads together: others on the machine hardly change them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import click
import numpy as np

from benchmarks.film_shots import DEFEATING, KINDS, FilmShot, Split, film_shots, stage
from benchmarks.perceptual import Perceptual
from benchmarks.rivals import deflicker, smooth_along_flow
from benchmarks.table import Value, markdown
from pipeline import models
from pipeline.errors import UserError
from pipeline.files import write_text
from pipeline.image import UInt8Array, read_png
from pipeline.output import read_record, write_contact_sheet
from pipeline.plan import make_plan
from pipeline.preset import Beat, Control, Lora, Preset, Temporal
from pipeline.render import render_shot
from pipeline.shot import Shot, read_frames, read_pass
from pipeline.steady.metrics import Step, e_warp, sharpness_ratio
from pipeline.steady.picture import psnr, ssim
from pipeline.steps import iterate_steps
from pipeline.styling import load_stylist

Method = Literal["frame", "blend", "keys"]
KEPT: dict[str, models.Model] = {}  # the model, loaded once: its loading is in no figure
ESTIMATED = ("motion", "visible", "normal", "ids")  # passes that estimated motion stands in for
MEASURES = ("PSNR, dB", "SSIM", "LPIPS-like", "E_warp ratio", "E_warp, x 1e-4", "sharpness")


@dataclass(frozen=True)
class Film:
    """One shot with its truth and its ways; frames uint8 RGB [T, H, W, 3]."""

    film: FilmShot
    shot: Shot
    truth: UInt8Array
    source: UInt8Array
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, film: FilmShot, folder: Path) -> Film:
        shot = stage(film, folder)
        steps = tuple(iterate_steps(shot, width=shot.width, height=shot.height))
        count = shot.num_frames
        return cls(film, shot, read_pass(shot, "truth", 0, count), read_frames(shot, 0, count), steps)


@dataclass(frozen=True)
class Styled:
    """A film styled; seconds, processor seconds and share of pixels denoised, a frame; None where we did not
    make it now.
    """

    frames: UInt8Array
    seconds: float | None = None
    processor: float | None = None
    denoised: float | None = None


def preset_of(film: FilmShot, lora: Path, method: Method, noise: Literal["fixed", "mirrored"]) -> Preset:
    """The look of the shipped presets for a film shot; a pulse of the light is a beat."""
    pulse, beats = film.scene.pulse, tuple[Beat, ...]()
    if pulse is not None:
        middle = round((pulse.first + pulse.last) / 2.0) + 1
        words: dict[str, str | int | float] = {"light": f"{pulse.colour} {film.scene.light_side}"}
        beats = (Beat(frames=(middle, middle), ease=(pulse.last - pulse.first) / 2.0, vars=words),)
    return Preset(
        prompt=film.prompt(f"a person, {film.hero}"),
        strength=0.5,
        steps=10,
        guidance=1.0,
        seed=7,
        size=(128, 128),
        vars={"light": film.light},
        control=(Control(kind="depth"), Control(kind="pose")),
        lora=(Lora.model_validate({"path": str(lora.resolve())}),),
        beat=beats,
        temporal=Temporal(method=method, noise=noise, until=0.0),
    )


def styled(film: Film, loras: Path, out: Path, method: Method, *, estimated: bool = False) -> Styled:
    """A film by one of our methods; what is there from an earlier run is not made again."""
    shot = film.shot
    if estimated:
        shot = replace(shot, passes={k: v for k, v in shot.passes.items() if k not in ESTIMATED})
    lora = loras / film.film.hero / f"{film.film.hero}.safetensors"
    # what the noise does to a key cancels in the mean with its mirror image
    preset = preset_of(film.film, lora, method, "mirrored" if method == "keys" else "fixed")
    started = time.process_time()
    result = render_shot(shot, preset, out / (f"{method}-dis" if estimated else method), kept=KEPT)
    processor = None if result.skipped else (time.process_time() - started) / result.num_frames
    record = read_record(result.record)
    files = sorted((result.video.parent / "frames").glob("styled.*.png"))
    seconds = record.seconds["frames"] / record.num_frames
    return Styled(np.stack([read_png(file) for file in files]), seconds, processor, record.denoised)


def load_model(film: Film, loras: Path) -> None:
    """Load the model, so that no film's figures hold it."""
    lora = loras / film.film.hero / f"{film.film.hero}.safetensors"
    load_stylist(make_plan(film.shot, preset_of(film.film, lora, "frame", "fixed")), kept=KEPT)


def methods_of(film: Film, loras: Path, out: Path) -> dict[str, Styled]:
    """A film by every method, and the rivals on the frame-by-frame result."""
    frame = styled(film, loras, out, "frame")
    return {
        "engine frame": Styled(film.source),
        "film truth": Styled(film.truth),
        "frame": frame,
        "blend": styled(film, loras, out, "blend"),
        "keys": styled(film, loras, out, "keys"),
        "keys, DIS": styled(film, loras, out, "keys", estimated=True),
        "frame + DIS smoothing": Styled(smooth_along_flow(frame.frames)),
        "frame + deflicker": Styled(deflicker(frame.frames)),
    }


def measure(film: Film, result: Styled, perceptual: Perceptual) -> dict[str, float]:
    """The figures of one result; see docs/measures.md."""
    pairs = list(zip(result.frames, film.truth, strict=True))
    own = e_warp(result.frames, film.steps)
    return {
        "PSNR, dB": float(np.mean([psnr(*pair) for pair in pairs])),
        "SSIM": float(np.mean([ssim(*pair) for pair in pairs])),
        "LPIPS-like": perceptual.distance(result.frames, film.truth),
        "E_warp ratio": own / e_warp(film.source, film.steps),
        "E_warp, x 1e-4": 1e4 * own,
        "sharpness": sharpness_ratio(result.frames, film.truth),
    }


Figures = Mapping[str, Mapping[str, Mapping[str, float]]]  # shot -> method -> measure -> value


def over_shots(figures: Figures, results: Mapping[str, Mapping[str, Styled]]) -> list[dict[str, Value]]:
    """One row a method: the means over the shots."""
    rows: list[dict[str, Value]] = []
    shots = list(figures)
    for method in figures[shots[0]]:
        row: dict[str, Value] = {"method": method}
        for name in MEASURES:
            row[name] = float(np.mean([figures[shot][method][name] for shot in shots]))
        row["sharpness to frame's"] = float(
            np.mean([figures[s][method]["sharpness"] / figures[s]["frame"]["sharpness"] for s in shots])
        )
        for name in ("seconds", "processor", "denoised"):
            values = [getattr(results[shot][method], name) for shot in shots]
            title = {"processor": "processor seconds"}.get(name, name)
            row[f"{title} a frame"] = "" if None in values else float(np.mean(values))
        rows.append(row)
    return rows


def by_shot(figures: Figures) -> list[dict[str, Value]]:
    """One row a shot: keys against frame, the rivals, and estimated motion."""
    rivals = ("frame + DIS smoothing", "frame + deflicker")
    rows: list[dict[str, Value]] = []
    for shot, methods in figures.items():
        keys, frame = methods["keys"], methods["frame"]
        best = {
            "PSNR, dB": max(methods[rival]["PSNR, dB"] for rival in rivals),
            "E_warp ratio": min(methods[rival]["E_warp ratio"] for rival in rivals),
            "sharpness": max(methods[rival]["sharpness"] for rival in rivals),
        }
        row: dict[str, Value] = {"shot": shot}
        row["PSNR: keys - frame"] = keys["PSNR, dB"] - frame["PSNR, dB"]
        row["best rival - frame"] = best["PSNR, dB"] - frame["PSNR, dB"]
        row["keys, DIS - frame"] = methods["keys, DIS"]["PSNR, dB"] - frame["PSNR, dB"]
        for label, value in (("keys", keys), ("best rival", best), ("keys, DIS", methods["keys, DIS"])):
            row[f"E_warp: {label} / frame"] = value["E_warp ratio"] / frame["E_warp ratio"]
        row["sharpness: keys / frame"] = keys["sharpness"] / frame["sharpness"]
        row["best rival / frame "] = best["sharpness"] / frame["sharpness"]
        better = {
            "PSNR": keys["PSNR, dB"] > best["PSNR, dB"],
            "E_warp": keys["E_warp ratio"] < best["E_warp ratio"],
            "sharpness": keys["sharpness"] > best["sharpness"],
        }
        row["keys best in"] = "all" if all(better.values()) else ", ".join(k for k, v in better.items() if v)
        rows.append(row)
    return rows


def gate(films: Sequence[Film], loras: Path, out: Path) -> list[dict[str, Value]]:
    """What `keys` does where propagation must lose: by which methods, and its worst frame against `frame`."""
    rows: list[dict[str, Value]] = []
    for film in films:
        frame, keys = (styled(film, loras, out, method).frames for method in ("frame", "keys"))
        timeline = json.loads((out / "keys" / film.film.name / "keys" / "timeline.json").read_text("utf-8"))
        against = [psnr(k, t) - psnr(f, t) for k, f, t in zip(keys, frame, film.truth, strict=True)]
        rows.append(
            {
                "shot": film.film.name,
                "stretches": len(timeline),
                "methods": ", ".join(sorted({stretch["method"] for stretch in timeline})),
                "worst frame, dB to frame": float(min(against)),
                "why": timeline[0]["why"],
            }
        )
    return rows


def write_sheets(results: Mapping[str, Mapping[str, Styled]], out: Path) -> None:
    """For each shot five frames by each method."""
    for shot, methods in results.items():
        times = np.linspace(0, len(methods["frame"].frames) - 1, 5).round().astype(int)
        rows = [[result.frames[t] for t in times] for result in methods.values()]
        captions = [f"frame {t + 1}" for t in times]
        write_contact_sheet(out / f"{shot}.png", rows, captions, row_captions=list(methods), height=192)


@click.command(help=__doc__)
@click.option("--split", type=click.Choice(["tuning", "held out"]), default="held out", show_default=True)
@click.option("--shot", "names", multiple=True, type=click.Choice(list(KINDS)), help="all eight if absent")
@click.option(
    "--loras", type=click.Path(path_type=Path), default=Path("out/loras"), show_default=True,
    help="where iris/ and otto/ are (lookdev train samples/characters/NAME/dataset.toml)",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), default=Path("out/temporal"), show_default=True)
def main(split: Split, names: tuple[str, ...], loras: Path, out: Path) -> None:
    out = out / split.replace(" ", "_")
    perceptual = Perceptual.load()
    results: dict[str, dict[str, Styled]] = {}
    figures: dict[str, dict[str, dict[str, float]]] = {}
    try:
        for each in film_shots(split, names=names or None):
            film = Film.of(each, out / "shots")
            if not KEPT:
                load_model(film, loras)
            results[each.name] = methods_of(film, loras, out)
            figures[each.name] = {
                method: measure(film, result, perceptual) for method, result in results[each.name].items()
            }
            click.echo(f"{each.name}: done", err=True)
        defeated = [Film.of(each, out / "shots") for each in film_shots(split, names=DEFEATING)]
        gated = gate(defeated, loras, out)
    except UserError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(2) from None
    tables: Mapping[str, Callable[[], list[dict[str, Value]]]] = {
        "means over the shots": lambda: over_shots(figures, results),
        "by shot": lambda: by_shot(figures),
        "the gate": lambda: gated,
    }
    for title, table in tables.items():
        click.echo(f"\n### {title}\n\n{markdown(table())}")
    write_sheets(results, out)
    write_text(out / "temporal.json", json.dumps({"figures": figures, "gate": gated}, indent=1) + "\n")
    click.echo(f"\n{out / 'temporal.json'}")


if __name__ == "__main__":
    main()

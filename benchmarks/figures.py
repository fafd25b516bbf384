"""The figures of the slice on held-out shots: likeness, picture, structure, steadiness (docs/measures.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.held_out import HERO, HeldOut, Truth
from benchmarks.renders import Renderer, Variant
from pipeline.image import UInt8Array
from pipeline.shot import read_frames, read_joints, read_pass
from pipeline.steady.metrics import LONG_RANGE, Step, drift, e_warp, sharpness_ratio
from pipeline.steady.picture import depth_edge_agreement, joint_agreement, psnr, ssim
from pipeline.steps import iterate_steps
from training.likeness import MIN_REGION_PIXELS, figure_region, forced_choice, share

Row: TypeAlias = dict[str, str | float | int]


@dataclass(frozen=True)
class Case:
    """A held-out shot, its truth, and how its hero is asked for."""

    shot: HeldOut
    truth: Truth
    prompt: str
    lora: Path

    @property
    def film(self) -> UInt8Array:
        """The film truth of the hero, uint8 [T, H, W, 3]."""
        return self.truth.cast[self.shot.hero]

    @property
    def engine(self) -> UInt8Array:
        """The source render, uint8 [T, H, W, 3]."""
        frames: UInt8Array = read_frames(self.truth.shot, 0, self.truth.shot.num_frames)
        return frames


def likeness(cases: Sequence[Case], renderer: Renderer, *, strength: float) -> list[Row]:
    """Figure 1: who each frame's figure is nearest to, with the LoRA and without, same prompt."""
    rows: list[Row] = []
    for hero in sorted({case.shot.hero for case in cases}):
        own = [case for case in cases if case.shot.hero == hero]
        for label, with_lora in (("with LoRA", True), ("without", False), ("engine frame", None)):
            choices: list[str] = []
            margins: list[float] = []
            for case in own:
                frames = case.engine if with_lora is None else _styled(case, renderer, with_lora, strength)
                for name, distances in judged(case, frames):
                    choices.append(name)
                    others = min(value for member, value in distances.items() if member != hero)
                    margins.append(others / max(distances[hero], 1e-6))
            rows.append(
                {
                    "hero": hero,
                    "render": label,
                    "frames": len(choices),
                    "nearest to hero": share(choices, hero),
                    "margin, median": float(np.median(margins)) if margins else float("nan"),
                    "most chosen": ", ".join(f"{name} {n}" for name, n in Counter(choices).most_common(3)),
                }
            )
    return rows


def judged(case: Case, frames: UInt8Array) -> Iterable[tuple[str, dict[str, float]]]:
    """The forced choice of every frame [T, H, W, 3] in which the hero can be judged."""
    for index, frame in enumerate(frames):
        ids = case.truth.ids[index]
        region = figure_region(ids, HERO)
        if int(region.sum()) >= MIN_REGION_PIXELS:
            truths = {name: film[index] for name, film in case.truth.cast.items()}
            yield forced_choice(frame, truths, mask=region, parts=ids)


def picture(cases: Sequence[Case], renderer: Renderer, *, strengths: Sequence[float]) -> list[Row]:
    """Figure 2: PSNR and SSIM to the film truth, with LoRA and controls, by strength."""
    rows = [_picture_row("engine frame", [(case.engine, case.film) for case in cases])]
    for strength in strengths:
        pairs = [(_styled(case, renderer, True, strength), case.film) for case in cases]
        rows.append(_picture_row(f"strength {strength:g}", pairs))
    for row in rows[1:]:
        row["gain, dB"] = float(row["PSNR, dB"]) - float(rows[0]["PSNR, dB"])
    return rows


def _picture_row(label: str, pairs: Sequence[tuple[UInt8Array, UInt8Array]]) -> Row:
    return {
        "render": label,
        "PSNR, dB": _over_frames(pairs, psnr),
        "SSIM": _over_frames(pairs, ssim),
        "gain, dB": 0.0,
    }


def structure(cases: Sequence[Case], renderer: Renderer, *, strength: float) -> list[Row]:
    """Figure 3: depth edges, joints and PSNR with depth + pose control against without, at one strength."""
    makers: Mapping[str, Callable[[Case], UInt8Array]] = {
        "depth + pose": lambda c: renderer.frames(c.truth.shot, c.prompt, Variant(c.lora, strength)),
        "no control": lambda c: renderer.frames(
            c.truth.shot, c.prompt, Variant(c.lora, strength, controls=False)
        ),
        "film truth": lambda c: c.film,
        "engine frame": lambda c: c.engine,
    }
    rows: list[Row] = []
    for label, make in makers.items():
        edges: list[float] = []
        found = looked_for = 0
        pairs = []
        for case in cases:
            frames, shot = make(case), case.truth.shot
            depth = read_pass(shot, "depth", 0, shot.num_frames)
            joints = read_joints(shot, 0, shot.num_frames)
            pairs.append((frames, case.film))
            for index, frame in enumerate(frames):
                agreement = depth_edge_agreement(frame, depth[index])
                if agreement is not None:
                    edges.append(agreement)
                points = np.concatenate([figure.points for figure in joints[index].figures])
                hits, tries = joint_agreement(frame, case.film[index], points)
                found, looked_for = found + hits, looked_for + tries
        rows.append(
            {
                "render": label,
                "depth edges": float(np.mean(edges)) if edges else float("nan"),
                "joints in place": found / looked_for if looked_for else float("nan"),
                "joints": looked_for,
                "PSNR, dB": _over_frames(pairs, psnr),
            }
        )
    return rows


def steadiness(cases: Sequence[Case], renderer: Renderer, *, strength: float) -> list[Row]:
    """Figure 4: E_warp, long range, drift and sharpness of blending against frame by frame."""
    variants: Mapping[str, Callable[[Case], UInt8Array]] = {
        "engine frame": lambda c: c.engine,
        "film truth": lambda c: c.film,
        "frame by frame, fresh noise": lambda c: _timed(c, renderer, strength, "frame", "fresh"),
        "frame by frame, fixed noise": lambda c: _timed(c, renderer, strength, "frame", "fixed"),
        "blend, fresh noise": lambda c: _timed(c, renderer, strength, "blend", "fresh"),
        "blend, fixed noise": lambda c: _timed(c, renderer, strength, "blend", "fixed"),
    }
    measured = {label: [_steady(case, make(case)) for case in cases] for label, make in variants.items()}
    floor = [shot["E_warp"] for shot in measured["engine frame"]]
    rows: list[Row] = []
    for label, shots in measured.items():
        by_noise = measured.get(f"frame by frame, {label.removeprefix('blend, ')}", shots)
        row: Row = {"render": label}
        for name in ("E_warp", f"E_warp, {LONG_RANGE} frames", "drift"):
            row[f"{name}, x 1e-4"] = 1e4 * _mean(shot[name] for shot in shots)
        row["ratio to source"] = _mean(a["E_warp"] / max(b, 1e-9) for a, b in zip(shots, floor, strict=True))
        row["to frame by frame"] = _mean(
            a["E_warp"] / b["E_warp"] for a, b in zip(shots, by_noise, strict=True)
        )
        row["sharpness to truth"] = _mean(shot["sharpness"] for shot in shots)
        row["PSNR, dB"] = _mean(shot["PSNR"] for shot in shots)
        rows.append(row)
    return rows


def _steady(case: Case, frames: UInt8Array) -> dict[str, float]:
    """The temporal measures of one render of one shot."""
    steps = steps_of(case)
    long_enough = len(steps) >= LONG_RANGE
    drifts = [value for value in drift(frames, steps) if value is not None]
    return {
        "E_warp": e_warp(frames, steps),
        f"E_warp, {LONG_RANGE} frames": e_warp(frames, steps, span=LONG_RANGE)
        if long_enough
        else float("nan"),
        "drift": _mean(drifts),
        "sharpness": sharpness_ratio(frames, case.film),
        "PSNR": _over_frames([(frames, case.film)], psnr),
    }


def steps_of(case: Case) -> list[Step]:
    """The exact way from each frame of the shot to the next."""
    shot = case.truth.shot
    return list(iterate_steps(shot, width=shot.width, height=shot.height))


def _styled(case: Case, renderer: Renderer, with_lora: bool, strength: float) -> UInt8Array:
    lora = case.lora if with_lora else None
    return renderer.frames(case.truth.shot, case.prompt, Variant(lora, strength))


def _timed(case: Case, renderer: Renderer, strength: float, method: Any, noise: Any) -> UInt8Array:
    variant = Variant(case.lora, strength, method=method, noise=noise)
    return renderer.frames(case.truth.shot, case.prompt, variant)


def _over_frames(
    pairs: Iterable[tuple[UInt8Array, UInt8Array]], measure: Callable[[UInt8Array, UInt8Array], float]
) -> float:
    """The mean of a measure over all frames of all (render, truth) pairs."""
    return _mean(measure(frame, truth) for a, b in pairs for frame, truth in zip(a, b, strict=True))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))

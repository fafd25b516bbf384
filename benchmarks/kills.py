"""A batch that is killed at random moments and started again: the same bytes? What is repeated?

    python -m benchmarks.kills [--kills 100] [--seed 1]

Three small shots (three methods, a sound track, ProRes and EXR beside H.264). Each trial starts the batch in
a process of its own, kills it (SIGKILL) at a random moment, looks at what lies there, and starts it again to
the end. The processes are forked from this one, which has torch loaded already, so that the moments fall into
the batch and not into imports.

Loading the model is half of so small a batch, so a tenth of the kills fall into the time before the first
picture, and the others evenly at random into the rest, counted from the trial's own first picture. A kill
that comes after the end is no kill: its moment is drawn again.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import click

import pipeline
from benchmarks.table import Value, markdown
from pipeline.files import UNFINISHED
from pipeline.image import is_whole_png
from pipeline.models.families import FAMILIES
from pipeline.shot import FramePasses, write_shot
from pipeline.shot.video import ffmpeg_path

SIZE = 32
MODEL = "mini"
WINDOW = FAMILIES[MODEL].frames_at_once  # frames that share a forward pass
PRESET = f"""
model = "{MODEL}"
prompt = "film look"
strength = 0.6
steps = 3
guidance = 1.0
size = [{SIZE}, {SIZE}]
[temporal]
method = "{{method}}"
[output]
format = "{{format}}"
"""
SHOTS = {"alley": (9, "frame", "h264"), "hall": (13, "keys", "prores"), "wall": (5, "blend", "exr")}
BEFORE_FIRST = 0.1  # of the kills
POLL_SECONDS = 0.002


@dataclass(frozen=True)
class Trial:
    """What one kill did. `moment`: its seconds after `since`; `stage`: what was there by then.

    whole: nothing unfinished had its final name. same: the end's bytes are those of an undisturbed batch.
    repeated: frames and keys that were there whole at the kill and were made again.
    """

    since: str
    moment: float
    stage: str
    whole: bool
    same: bool
    repeated: int


def write_shots(root: Path) -> None:
    """The three shots, each with its preset; `wall` has sound."""
    for name, (num_frames, method, output) in SHOTS.items():
        write_shot(root / name, [_passes(num_frames)], fps=Fraction(24))
        text = PRESET.format(method=method, format=output)
        (root / name / "preset.toml").write_text(text, encoding="utf-8")
    tone = f"sine=frequency=440:duration={SHOTS['alley'][0] / 24}"
    sound = str(root / "alley" / "audio.wav")
    subprocess.run([ffmpeg_path(), "-v", "error", "-f", "lavfi", "-i", tone, sound], check=True)


def _passes(num_frames: int) -> FramePasses:
    """A slope of colours that slides to the right by one pixel a frame, with what blending needs."""
    import numpy as np

    from pipeline.shot import Motion

    y, x = np.mgrid[:SIZE, :SIZE]
    moved = x - np.arange(num_frames)[:, None, None]  # [T, H, W]
    waves = [np.sin(moved / 5 + k) * np.cos(y / (5 + k)) for k in range(3)]
    forward = np.zeros((num_frames, SIZE, SIZE, 2), np.float32)
    forward[..., 0] = 1.0
    backward = -forward
    forward[-1], backward[0] = np.nan, np.nan
    return FramePasses(
        rgb=(127.5 + 90 * np.stack(waves, axis=-1)).astype(np.uint8),
        depth=np.full((num_frames, SIZE, SIZE), 3.0, np.float32),
        motion=Motion(forward=forward, backward=backward),
    )


def start(shots: Path, out: Path) -> int:
    """Start the batch in a child process with a group of its own; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        from pipeline.cli import main as lookdev

        code = lookdev(["batch", str(shots), "--out", str(out)])
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """The exit code of a child, negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(out: Path) -> dict[str, bytes]:
    """Every finished file that must be the same, by its name in `out`; records without their times."""
    found = {}
    for path in sorted(out.glob("*/**/*")):
        name = path.relative_to(out).as_posix()
        if path.name == "record.json":
            record = json.loads(path.read_text(encoding="utf-8"))
            for key in ("created", "seconds", "denoised"):  # what all runs spent
                del record[key]
            found[name] = json.dumps(record, sort_keys=True).encode()
        elif path.is_file() and path.name not in ("plan.json", ".lock"):
            found[name] = path.read_bytes()
    return found


def what_is_there(out: Path, truth: Mapping[str, bytes]) -> tuple[str, bool, dict[Path, int]]:
    """A killed batch's folder: how far it is, whether every visible file is whole, its frames' times."""
    files = [path for path in out.rglob("*") if path.is_file() and not UNFINISHED.match(path.name)]
    pictures = [path for path in files if path.name.startswith(("styled.", "key."))]
    made = {path: path.stat().st_mtime_ns for path in pictures}
    whole = all(is_whole_png(path) for path in files if path.suffix == ".png")
    for path in files:
        name = path.relative_to(out).as_posix()
        if path.suffix in (".mp4", ".mov", ".exr"):
            whole &= path.read_bytes() == truth[name]
        elif path.suffix == ".json":
            whole &= _is_json(path)
    done = sum(path.name == "record.json" for path in files)
    stage = f"{done} of {len(SHOTS)} shots, {len(made)} pictures" if made else "before the first picture"
    return stage, whole, made


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Moment:
    """When to kill: `seconds` after the start, or after the batch's first picture is there."""

    since: str  # "start" or "first picture"
    seconds: float

    def wait(self, out: Path, child: int) -> bool:
        """Sleep until then; False where the child ended before its first picture was seen."""
        while self.since != "start" and first_picture(out) is None:
            if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return False
            time.sleep(POLL_SECONDS)
        time.sleep(self.seconds)
        return True


def first_picture(out: Path) -> Path | None:
    """A styled frame or key that is there."""
    return next((path for name in ("keys/key.*", "frames/styled.*") for path in out.glob(f"*/{name}")), None)


def run_trial(shots: Path, out: Path, moment: Moment, truth: Mapping[str, bytes]) -> Trial | None:
    """Start, kill at a moment, look, start again to the end, compare; None: it ended before."""
    child = start(shots, out)
    moment.wait(out, child)
    os.kill(child, signal.SIGKILL)
    if wait(child) != -signal.SIGKILL:
        return None
    stage, whole, before = what_is_there(out, truth)
    code = wait(start(shots, out))
    repeated = sum(path.stat().st_mtime_ns != changed for path, changed in before.items())
    same = code == 0 and contents(out) == truth
    return Trial(moment.since, moment.seconds, stage, whole, same=same, repeated=repeated)


def kill_batches(folder: Path, *, num_kills: int, seed: int = 1) -> list[Trial]:
    """`num_kills` trials in `folder`, at random moments of a batch's time.

    A kill that comes after the end is no kill; the next moments are then drawn from a shorter time.
    """
    _load_what_children_need()
    shots = folder / "shots"
    write_shots(shots)
    seconds = dict(zip(("start", "first picture"), undisturbed(shots, folder / "truth"), strict=True))
    truth, rng = contents(folder / "truth"), random.Random(seed)
    trials: list[Trial] = []
    while len(trials) < num_kills:
        since = "start" if len(trials) < BEFORE_FIRST * num_kills else "first picture"
        out, moment = folder / "out", Moment(since, rng.uniform(0.0, seconds[since]))
        trial = run_trial(shots, out, moment, truth)
        if trial is None:
            seconds[since] = min(seconds[since], moment.seconds)
        else:
            trials.append(trial)
        shutil.rmtree(out, ignore_errors=True)  # where it was killed before it made it
    return trials


def undisturbed(shots: Path, out: Path) -> tuple[float, float]:
    """Render the batch to its end; seconds to its first picture, and from there."""
    started = time.perf_counter()
    child = start(shots, out)
    while (
        first_picture(out) is None
        and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(POLL_SECONDS)
    first = time.perf_counter()
    if wait(child) != 0:
        raise RuntimeError("the undisturbed batch failed")
    return first - started, time.perf_counter() - first


def _load_what_children_need() -> None:
    """Every module of the render side and what they load late; no computation: forks and threads clash."""
    for module in pkgutil.walk_packages(pipeline.__path__, "pipeline."):
        importlib.import_module(module.name)
    for name in ("OpenEXR", "peft", "transformers.models.clip.modeling_clip", "rich.live"):
        importlib.import_module(name)


def rows(trials: Sequence[Trial]) -> list[dict[str, Value]]:
    """The table: one row for each stage that kills fell into, and the sum."""
    groups: dict[str, list[Trial]] = {}
    for trial in sorted(trials, key=lambda trial: (trial.since != "start", trial.moment)):
        groups.setdefault(trial.stage.partition(",")[0], []).append(trial)
    return [_row(stage, group) for stage, group in [*groups.items(), ("all", list(trials))]]


def _row(stage: str, trials: Sequence[Trial]) -> dict[str, Value]:
    return {
        "killed with": stage,
        "kills": len(trials),
        "same bytes at the end": sum(trial.same for trial in trials),
        "no partial file under its final name": sum(trial.whole for trial in trials),
        "most pictures repeated": max(trial.repeated for trial in trials),
        "mean": sum(trial.repeated for trial in trials) / len(trials),
    }


@click.command(help=__doc__)
@click.option("--kills", default=100, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="also write every trial as JSON")
def main(kills: int, seed: int, out: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        trials = kill_batches(Path(name), num_kills=kills, seed=seed)
    click.echo(markdown(rows(trials)))
    click.echo(f"wanted: all the same, all whole, at most {WINDOW} pictures made again (one forward pass)")
    if out is not None:
        out.write_text(json.dumps([dataclasses.asdict(trial) for trial in trials], indent=1) + "\n")
    good = all(trial.same and trial.whole and trial.repeated <= WINDOW for trial in trials)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()

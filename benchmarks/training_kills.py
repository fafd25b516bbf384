"""`lookdev train` killed (SIGKILL) at random moments and started again: the same bytes at the end?

    python -m benchmarks.training_kills [--kills 20] [--seed 1]

Trainings of a few steps on the miniature, each with other state to carry over: AdamW with a moving average,
accumulation, a text encoder that stops half way and a pick by validation; Prodigy on a DoRA; the
schedule-free optimizer on word and LoRA together, with a pick by likeness. Each trial starts one in a process
of its own, kills it and starts it again to the end (half of them are killed once more on the way). The
moment is drawn in the training's own time: after so many checkpoints, each number as likely, and then
somewhere before the next one would come, by an undisturbed training. So a machine that is busy at times does
not move the kills to the training's beginning. The processes are forked from this one, which has torch loaded
already.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np

import pipeline
import training
from benchmarks.table import Value, markdown
from pipeline.files import UNFINISHED
from pipeline.image import write_png

STEPS, EVERY = 12, 3  # steps, and steps between checkpoints
POLL = 0.002  # seconds between looks at the checkpoint
SETTINGS: Mapping[str, str] = {
    "adamw": """text_lr = 1e-4
text_stop = 0.5
ema = 0.9
accumulate = 2
validation = 1
validate_every = 4
pick = "validation"
noise_offset = 0.05
prior_weight = 0.3
keep_every = 6""",
    "prodigy": """kind = "dora"
optimizer = "prodigy"
lr = 1.0
gradient_checkpointing = true
keep_every = 7""",
    "schedulefree": """kind = "pivotal"
optimizer = "schedulefree"
vectors = 2
validation = 1
pick = "likeness"
validate_every = 5""",
}


@dataclass(frozen=True)
class Trial:
    """What kills did to one training.

    `delays`: seconds from the checkpoint (or the start) that each kill waited for. `steps`: of the
    checkpoint that it left, 0 for none. `whole`: nothing unfinished had its final name.
    """

    settings: str
    delays: tuple[float, ...]
    steps: tuple[int, ...]
    whole: bool
    same: bool


def write_dataset(folder: Path, settings: str) -> Path:
    """Six pictures of coarse noise with captions and renders; a checkpoint every third step."""
    rng = np.random.default_rng(0)
    for number in range(6):
        for name in ("images", "engine"):
            coarse = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            write_png(folder / name / f"{number}.png", coarse.repeat(8, axis=0).repeat(8, axis=1))
        caption = f"a person, irisbot, place {number}"
        (folder / "images" / f"{number}.txt").write_text(caption, encoding="utf-8")
    path = folder / "dataset.toml"
    path.write_text(
        'model = "mini"\nname = "iris"\n[[concept]]\ntrigger = "irisbot"\nclass = "person"\nkind = "object"\n'
        'engine = "engine"\n'
        f"[train]\nsteps = {STEPS}\nbatch = 1\nrank = 4\ncheckpoint_every = {EVERY}\n{settings}\n",
        encoding="utf-8",
    )
    return path


def start(dataset: Path, out: Path) -> int:
    """Start `lookdev train` in a child process; returns its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        from pipeline.cli import main as lookdev
        from training import sheet

        sheet.NUM_SAMPLES = sheet.STEPS = 1  # the pictures are not what is killed here
        code = lookdev(["train", str(dataset), "--out", str(out)])
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """The child's exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(out: Path) -> dict[str, bytes]:
    """Bytes of all results but the record and the checkpoint, which hold seconds."""
    own = {"training.json", "checkpoint.pt"}
    files = (path for path in out.rglob("*") if path.is_file() and path.name not in own)
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in files
        if not UNFINISHED.match(path.name)
    }


def saved_step(out: Path) -> tuple[int, bool]:
    """The step in the checkpoint, 0 without one, and whether every file there is whole."""
    import torch
    from safetensors.torch import load_file

    step, whole = 0, True
    for path in out.rglob("*") if out.is_dir() else ():
        if UNFINISHED.match(path.name) or not path.is_file():
            continue
        try:
            if path.suffix == ".pt":
                state = torch.load(path, weights_only=True)
                step = state["step"] if path.name == "checkpoint.pt" else step
            elif path.suffix == ".safetensors":
                load_file(path)
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
        except Exception:  # whatever is wrong with it, it is not whole
            whole = False
    return step, whole


def follow(child: int, out: Path, saves: int | None = None) -> list[float]:
    """Seconds until each new checkpoint, until there were `saves` of them or the child has ended."""
    path, begun, found = out / "checkpoint.pt", time.perf_counter(), list[float]()
    known = _state(path)
    while saves is None or len(found) < saves:
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        now = _state(path)
        if now != known:
            known = now
            found.append(time.perf_counter() - begun)
        elif ended:
            break
        time.sleep(POLL)
    return found


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def run_trial(
    name: str,
    dataset: Path,
    out: Path,
    truth: Mapping[str, bytes],
    gaps: Sequence[float],
    kills: int,
    rng: random.Random,
) -> Trial | None:
    """Start, kill and look so many times, then start to the end and compare.

    `gaps` are an undisturbed training's seconds until its first checkpoint, from one to the next, and after
    the last. None where a training ended before its kill.
    """
    step, steps, delays, whole = 0, list[int](), list[float](), True
    for _ in range(kills):
        saves = rng.randint(0, (STEPS - step) // EVERY)
        passed = step // EVERY + saves  # checkpoints of the whole training
        delay = rng.uniform(0.0, gaps[0] if saves == 0 else gaps[passed])
        child = start(dataset, out)
        follow(child, out, saves)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        if wait(child) != -signal.SIGKILL:
            return None
        step, fine = saved_step(out)
        steps.append(step)
        delays.append(delay)
        whole &= fine
    code = wait(start(dataset, out))
    return Trial(name, tuple(delays), tuple(steps), whole, same=code == 0 and contents(out) == truth)


def kill_trainings(folder: Path, *, num_kills: int, seed: int) -> list[Trial]:
    """Trials until there were `num_kills` trainings that were killed, the settings in turn."""
    _load_what_children_need()
    rng = random.Random(seed)
    trials: list[Trial] = []
    gaps, truths, datasets = {}, {}, {}
    for name, settings in SETTINGS.items():
        datasets[name], out = write_dataset(folder / name, settings), folder / name / "truth"
        begun, child = time.perf_counter(), start(folder / name / "dataset.toml", out)
        saved = follow(child, out)
        if wait(child) != 0 or len(saved) != STEPS // EVERY:
            raise RuntimeError(f"the undisturbed training '{name}' failed, or saved {len(saved)} times")
        gaps[name] = np.diff([0.0, *saved, time.perf_counter() - begun]).tolist()
        truths[name] = contents(out)
    while len(trials) < num_kills:
        name = list(SETTINGS)[len(trials) % len(SETTINGS)]
        out = folder / name / "out"
        trial = run_trial(name, datasets[name], out, truths[name], gaps[name], 1 + len(trials) % 2, rng)
        if trial is not None:
            trials.append(trial)
            click.echo(f"{trial.settings}: killed at steps {trial.steps}, same bytes: {trial.same}", err=True)
        shutil.rmtree(out, ignore_errors=True)
    return trials


def _load_what_children_need() -> None:
    """Every module of both sides and what they load late; no computation: forks and threads clash."""
    for package in (pipeline, training):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in ("diffusers.loaders", "peft", "prodigyopt", "schedulefree", "rich.live"):
        importlib.import_module(name)
    importlib.import_module("transformers.models.clip.modeling_clip")


@click.command(help=__doc__)
@click.option("--kills", default=20, show_default=True, help="trainings that are killed")
@click.option("--seed", default=1, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="also write every trial as JSON")
def main(kills: int, seed: int, out: Path | None) -> None:
    with tempfile.TemporaryDirectory() as name:
        trials = kill_trainings(Path(name), num_kills=kills, seed=seed)
    groups = {each: [trial for trial in trials if trial.settings == each] for each in SETTINGS} | {
        "all": trials
    }
    rows: list[dict[str, Value]] = [
        {
            "settings": each,
            "trainings killed": len(some),
            "kills": sum(len(trial.steps) for trial in some),
            "kills after the first checkpoint": sum(step > 0 for trial in some for step in trial.steps),
            "all files whole": sum(trial.whole for trial in some),
            "same bytes at the end": sum(trial.same for trial in some),
        }
        for each, some in groups.items()
        if some
    ]
    click.echo(markdown(rows))
    if out is not None:
        out.write_text(json.dumps([asdict(trial) for trial in trials], indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if all(trial.same and trial.whole for trial in trials) else 1)


if __name__ == "__main__":
    main()

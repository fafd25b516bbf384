"""Train the built-in miniature: `python -m samples.miniature.train --minutes N`.

Stage images, tokenizer, autoencoder, then UNet, text encoder and ControlNets jointly. Everything is kept
in the state folder, so it can be stopped at any moment and goes on where it was; `--export` writes the
package's weights.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from pipeline.models import load_model
from samples.miniature import autoencoder, data, joint, model

_LOG = logging.getLogger("miniature")
FROM_PACKAGE = "from_package"  # marks a state folder that goes on from the committed weights
PACKAGE = Path(__file__).parents[2] / "pipeline" / "models" / "mini"


def _log_line(state: Path, **values: Any) -> None:
    _LOG.info(", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items()))
    with (state / "log.jsonl").open("a") as out:
        out.write(json.dumps(values) + "\n")


def prepare(
    state: Path, *, num_images: int, workers: int, vae_minutes: float, device: str, precision: str, seed: int
) -> None:
    """Images, tokenizer and autoencoder: whatever of them is not there yet."""
    from samples.stage.captions import corpus

    if adopt_package(state):
        _LOG.info("going on from the committed weights in %s", PACKAGE)
    data.make(state / "stage", num_images, seed=seed, workers=workers)
    if not (state / "tokenizer").exists():
        tokenizer = model.build_tokenizer(corpus(), state / "tokenizer_raw")
        _whole_folder(state / "tokenizer", tokenizer.save_pretrained)
    if not (state / "vae").exists():
        torch.manual_seed(seed)
        vae = model.build_vae().to(memory_format=torch.channels_last)
        images = data.load(state / "stage")
        autoencoder.train_vae(
            vae,
            images,
            state / "vae.pt",
            minutes=vae_minutes,
            device=device,
            precision=precision,
            seed=seed,
            log=_LOG.info,
        )
        _whole_folder(state / "vae", vae.save_pretrained)


def _whole_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Write a folder beside itself and rename it, so that a kill leaves a whole one or none."""
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    write(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def load_parts(state: Path, seed: int) -> model.Parts:
    """Modules with the trained autoencoder; the rest from the package's weights where they fit, else
    random.
    """
    from diffusers import AutoencoderKL
    from transformers import CLIPTokenizer

    torch.manual_seed(seed)
    tokenizer = CLIPTokenizer.from_pretrained(state / "tokenizer")
    parts = model.Parts(
        unet=model.build_unet(),
        vae=AutoencoderKL.from_pretrained(state / "vae").eval().requires_grad_(False),
        text_encoder=model.build_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id),
        tokenizer=tokenizer,
        controlnets={kind: model.build_controlnet() for kind in model.CONTROL_KINDS},
        scheduler=model.build_scheduler(),
    )
    if (state / FROM_PACKAGE).exists():
        packaged = load_model(PACKAGE)
        parts.unet.load_state_dict(packaged.unet.state_dict())
        parts.text_encoder.load_state_dict(packaged.text_encoder.state_dict())
        for kind, net in parts.controlnets.items():
            net.load_state_dict(packaged.controlnets[kind].state_dict())
    return parts


def adopt_package(state: Path) -> bool:
    """Start an empty state folder from the committed weights: tokenizer, autoencoder, and later the rest."""
    if (state / "vae").exists() or not (PACKAGE / "unet").is_dir():
        return False
    (state / FROM_PACKAGE).touch()
    _whole_folder(state / "tokenizer", lambda folder: shutil.copytree(PACKAGE / "tokenizer", folder))
    _whole_folder(state / "vae", load_model(PACKAGE).vae.save_pretrained)
    return True


def _latents(state: Path, parts: model.Parts, rank: int, world: int, device: str) -> joint.LatentSet:
    images = data.load(state / "stage")
    mine = slice(rank, None, world)
    # named by the autoencoder that made them, so that another one never reads them
    weights = (state / "vae" / "diffusion_pytorch_model.safetensors").read_bytes()
    cache = state / f"latents_{hashlib.sha256(weights).hexdigest()[:8]}_{rank}_of_{world}_{len(images)}.pt"
    if not cache.exists():
        vae = parts.vae.to(device)
        flat = np.repeat(images.engine[mine][..., None], 3, axis=-1)
        both = {
            "film": autoencoder.encode(vae, images.film[mine], device),
            "engine": autoencoder.encode(vae, flat, device),
        }
        torch.save(both, cache.with_suffix(".part"))
        cache.with_suffix(".part").replace(cache)
    both = torch.load(cache, weights_only=True)
    return joint.LatentSet(
        both["film"], both["engine"], images.depth[mine].copy(), images.pose[mine].copy(), images.words[mine]
    )


def work(
    rank: int,
    world: int,
    state: Path,
    minutes: float,
    batch: int,
    device: str,
    precision: str,
    report_every: float,
    freeze_controls: bool,
    rate: float,
    seed: int,
) -> None:
    """One worker of the joint training; workers meet every few steps to average their weights (gloo)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    if device == "cpu":
        torch.set_num_threads(1 if world > 1 else torch.get_num_threads())
    if world > 1:
        dist.init_process_group(
            "gloo", rank=rank, world_size=world, init_method=f"file://{state / 'rendezvous'}"
        )
    parts = load_parts(state, seed)
    latents = _latents(state, parts, rank, world, device)
    if not (state / FROM_PACKAGE).exists():
        _awaken(parts, latents)
    trainer = joint.Trainer.fresh(parts, device, precision)
    if (state / "joint.pt").exists():
        trainer.load(state / "joint.pt")
    if freeze_controls:
        trainer.freeze_controls()
    rng = np.random.default_rng((seed, rank, trainer.step))
    noise = torch.Generator().manual_seed(seed + 1000 * rank + trainer.step)
    alphas = parts.scheduler.alphas_cumprod.to(device)
    source = joint.batches(latents, parts.tokenizer, rng, batch, device)
    last_save, last_report, losses = trainer.seconds, trainer.seconds, []
    while (share := trainer.seconds / (60.0 * minutes)) < 1.0:
        clock = time.monotonic()
        for _ in range(joint.MEET_EVERY):
            kinds = joint.CONTROL_CHOICES[int(rng.choice(4, p=joint.CONTROL_ODDS))]
            losses.append(trainer.descend(next(source), alphas, noise, kinds, precision))
            trainer.advance(joint.rate_at(share, trainer.step, peak=rate))
        trainer.meet(world)
        trainer.samples += joint.MEET_EVERY * batch * world
        trainer.seconds = _agreed(trainer.seconds + time.monotonic() - clock, world)
        if rank > 0:
            continue
        if trainer.step % (10 * joint.MEET_EVERY) < joint.MEET_EVERY:
            _log_line(
                state,
                step=trainer.step,
                samples=trainer.samples,
                minutes=trainer.seconds / 60.0,
                loss=float(torch.stack(losses).mean()),
            )
            losses = []
        if trainer.seconds - last_save > 120.0:
            trainer.save(state / "joint.pt")
            last_save = trainer.seconds
        if 0.0 < 60.0 * report_every < trainer.seconds - last_report:
            report(trainer, state)
            last_report = trainer.seconds
    if rank == 0:
        trainer.save(state / "joint.pt")
        if report_every > 0.0:
            report(trainer, state)


def _awaken(parts: model.Parts, latents: joint.LatentSet) -> None:
    """Scale fresh ControlNets to their own control pictures; what a checkpoint holds is loaded over it."""
    depth = torch.from_numpy(latents.depth[:32]).float().div(255.0)[:, None].repeat(1, 3, 1, 1)
    pose = torch.from_numpy(latents.pose[:32]).permute(0, 3, 1, 2).float().div(255.0)
    for kind, pictures in (("depth", depth), ("pose", pose)):
        model.awaken(parts.controlnets[kind], pictures)


def _agreed(seconds: float, world: int) -> float:
    """The first worker's clock, so that all stop at the same step."""
    spent = torch.tensor([seconds], dtype=torch.float64)
    if world > 1:
        dist.broadcast(spent, 0)
    return float(spent)


def report(trainer: joint.Trainer, state: Path) -> None:
    """Score the averaged weights on held-out frames and write the contact sheet."""
    from pipeline.image import write_png
    from samples.miniature.evaluate import as_model, score

    result = score(as_model(trainer.average))
    _log_line(
        state, step=trainer.step, samples=trainer.samples, minutes=trainer.seconds / 60.0,
        styled_db=result.styled, engine_db=result.engine, right_choice=result.right,
    )  # fmt: skip
    write_png(state / f"sheet_{trainer.samples:07d}.png", result.sheet)


@click.command()
@click.option(
    "--minutes", type=float, required=True, help="Whole budget of the joint training, earlier runs included."
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--state", type=click.Path(path_type=Path), default=Path("state/miniature"), show_default=True)
@click.option("--images", "num_images", default=16000, show_default=True)
@click.option("--vae-minutes", default=12.0, show_default=True)
@click.option("--workers", default=2, show_default=True, help="Processes on a CPU; 1 on an accelerator.")
@click.option("--batch", default=8, show_default=True, help="Images a worker takes per step.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option("--report-every", default=8.0, show_default=True, help="Minutes between scores; 0: none.")
@click.option(
    "--freeze-controls",
    is_flag=True,
    help="Train UNet and text encoder alone: a cheaper step, once structure is learnt.",
)
@click.option("--rate", default=joint.PEAK_RATE, show_default=True, help="Learning rate at its highest.")
@click.option("--seed", default=0, show_default=True)
@click.option(
    "--export/--no-export", default=False, help="Write the averaged weights into the package at the end."
)
def main(
    minutes: float,
    device: str,
    state: Path,
    num_images: int,
    vae_minutes: float,
    workers: int,
    batch: int,
    precision: str,
    report_every: float,
    freeze_controls: bool,
    rate: float,
    seed: int,
    export: bool,
) -> None:
    """Train the built-in miniature; run it again to go on."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    state = state.resolve()
    state.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault(
        "OMP_WAIT_POLICY", "PASSIVE"
    )  # active waiting starves the other worker on a shared machine
    workers = workers if device == "cpu" else 1
    prepare(
        state,
        num_images=num_images,
        workers=max(workers, 2),
        vae_minutes=vae_minutes,
        device=device,
        precision=precision,
        seed=seed,
    )
    (state / "rendezvous").unlink(missing_ok=True)
    arguments = (workers, state, minutes, batch, device, precision, report_every, freeze_controls, rate, seed)
    if workers > 1:
        spawn(work, args=arguments, nprocs=workers)  # type: ignore[no-untyped-call]
    else:
        work(0, *arguments)
    if export:
        export_weights(state, seed)


def export_weights(state: Path, seed: int = 0) -> None:
    """Write the averaged weights of a state folder into the package, fp16."""
    parts = load_parts(state, seed)
    trainer = joint.Trainer.fresh(parts, "cpu")
    trainer.load(state / "joint.pt")
    fresh = state / "package"
    shutil.rmtree(fresh, ignore_errors=True)
    model.save(trainer.average, fresh)
    for part in sorted(path for path in fresh.iterdir() if path.is_dir()):
        _whole_folder(PACKAGE / part.name, lambda folder, part=part: shutil.copytree(part, folder))  # type: ignore[misc]


if __name__ == "__main__":
    main()

"""The training loop: one pure step after another on what is trained (`training.adapters`).

A step depends on the weights, the optimizer's state and its own number only (`training.schedule`,
`training.order`), so a training that was stopped and resumed ends with the bytes of one that ran through.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import DatasetError
from training import losses, schedule
from training.adapters.trained import Role, Trained, trains_text
from training.average import Average, result_weights
from training.cache import Cache
from training.conditioning import Texts
from training.draws import Draw, draw, parts, run_order, step_indices
from training.material import Material
from training.optimizers import build_optimizer, set_rates
from training.parallel import Workers
from training.precision import check_scale, gradient_scaler, make_fast, recompute_activations
from training.predict import Networks, noise_schedule
from training.priors import prior_draw
from training.schema import TrainSettings

log = logging.getLogger(__name__)

# A word has no weight near zero to fall back to: decay would pull it out of the vocabulary.
_NO_DECAY: Mapping[Role, Mapping[str, float]] = {"embedding": {"weight_decay": 0.0}}
_TEXT_ROLES: tuple[Role, ...] = ("text", "embedding")


class Trainer:
    """What is trained, its optimizer, and `step`: the number of steps taken."""

    def __init__(
        self,
        trained: Trained,
        material: Material,
        settings: TrainSettings,
        *,
        precision: str,
        cache: Cache | None = None,
        workers: Workers | None = None,
        priors: Material | None = None,
    ) -> None:
        """`priors` are class images."""
        self.priors = priors
        self.trained, self.material, self.settings, self.precision = trained, material, settings, precision
        self.model, self.device = trained.model, trained.model.device
        self.workers = workers if workers is not None else Workers()
        self.step = 0
        make_fast(self.model, precision)
        if settings.gradient_checkpointing:
            recompute_activations(self.model)
        self.alphas_cumprod, self.prediction_type = noise_schedule(self.model.scheduler_config)
        self.order = run_order(material, settings)
        rates: Mapping[Role, float] = {
            "unet": settings.lr,
            "text": settings.text_lr,
            "embedding": settings.embedding_lr,
        }
        groups: list[dict[str, Any]] = [
            {"params": list(parameters), "base_lr": rates[role], "role": role, **_NO_DECAY.get(role, {})}
            for role, parameters in trained.parameters.items()
        ]
        self.parameters: list[torch.nn.Parameter] = [p for group in groups for p in group["params"]]
        self.optimizer = build_optimizer(groups, settings)
        self.scaler = gradient_scaler(self.device, precision)
        self.average = Average(self.parameters, decay=settings.ema) if settings.ema > 0 else None
        self.texts = Texts(self.model, cache if cache is not None else Cache.empty())
        self.networks = Networks(self.model, precision)

    @property
    def text_learns(self) -> bool:
        """Whether the next step changes what a caption says."""
        return trains_text(self.trained) and self.step < self.settings.text_steps

    @property
    def rates(self) -> dict[str, float]:
        """The last step's learning rate of each role."""
        return {group["role"]: float(group["lr"]) for group in self.optimizer.param_groups}

    def timed_step(self) -> tuple[float, float]:
        """`take_step`; returns (loss, seconds)."""
        started = time.perf_counter()
        loss = self.take_step()
        return loss, time.perf_counter() - started

    def take_step(self) -> float:
        """One optimizer step; returns the loss. Raises `DatasetError` where it is not finite."""
        settings = self.settings
        factor = schedule.learning_rate_factor(
            self.step, settings.steps, shape=settings.lr_shape, warmup_share=settings.warmup
        )
        set_rates(self.optimizer, factor)
        self._stop_text_in_time()
        indices = step_indices(self.order, self.step, settings)
        chosen = draw(self.material, indices, self.step, settings, len(self.alphas_cumprod))
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._gradients(chosen)
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, settings.max_grad_norm)
        finite = loss if self.scaler.is_enabled() else loss + norm  # a scaler steps over infinite gradients
        if not bool(torch.isfinite(finite)):
            raise DatasetError(f"train.lr: the loss is not finite at step {self.step + 1}; lower lr")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        check_scale(self.scaler, self.step + 1)
        self.step += 1
        if self.average is not None:
            self.average.update(self.step)
        return float(loss)

    def _gradients(self, chosen: Draw) -> Tensor:
        """Backward through all parts of a step; returns its loss.

        An image weighs 1 / B of the step, whatever part it is in.
        """
        count = len(chosen.indices)
        loss = torch.zeros((), device=self.device)
        for part in parts(chosen.of(self.workers.rows(count)), batch=self.settings.batch):
            share = self.loss(part) * (len(part.indices) / count)
            self.scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            loss = loss + share.detach()
        for part in parts(self._class_images(chosen), batch=self.settings.batch):
            assert self.priors is not None
            captions = [self.priors.captions[i] for i in part.indices]
            weight = self.settings.prior_weight * len(part.indices) / count
            share = self._denoising(self.priors, part, captions) * weight
            self.scaler.scale(share).backward()  # type: ignore[no-untyped-call]
            loss = loss + share.detach()
        self.workers.sum_gradients(self.parameters)
        return self.workers.sum(loss)

    def _stop_text_in_time(self) -> None:
        """Freeze the text encoder once its part of the steps is over: its captions can be kept then."""
        if not trains_text(self.trained) or self.text_learns:
            return
        for group in self.optimizer.param_groups:
            if group["role"] in _TEXT_ROLES and group["params"][0].requires_grad:
                for parameter in group["params"]:
                    parameter.requires_grad_(False)

    def loss(self, chosen: Draw) -> Tensor:
        """The weighted denoising loss of one part, plus prior preservation where asked."""
        noisy, wanted, weight, area = self._task(self.material, chosen)
        captions = [
            self.material.captions[i] if keep else self.material.triggers[i]
            for i, keep in zip(chosen.indices, chosen.keep_caption, strict=True)
        ]
        said = self.predict(noisy, captions, chosen)
        loss = losses.weighted_mse(said, wanted, weight, area)
        rows = self._without_class_images(chosen)
        if self.settings.prior_weight > 0 and rows:
            chosen, noisy, weight = chosen.of(rows), noisy[rows], weight[rows] * (len(rows) / len(weight))
            plain = [self.material.plain[i] for i in chosen.indices]
            with torch.no_grad(), self.trained.disabled():
                before = self.predict(noisy, plain, chosen, fresh=trains_text(self.trained))
            now = self.predict(noisy, plain, chosen)
            loss = loss + self.settings.prior_weight * losses.weighted_mse(now, before, weight)
        return loss

    def _class_images(self, chosen: Draw) -> Draw | None:
        """What this process takes of the class images that a step brings along."""
        if self.priors is None:
            return None
        drawn = prior_draw(
            self.priors,
            chosen,
            self.material.concepts,
            step=self.step,
            settings=self.settings,
            num_timesteps=len(self.alphas_cumprod),
        )
        return None if drawn is None else drawn.of(self.workers.rows(len(drawn.indices)))

    def _without_class_images(self, chosen: Draw) -> list[int]:
        """The rows that keep the base's own prediction instead."""
        have = set() if self.priors is None else set(self.priors.concepts)
        return [row for row, i in enumerate(chosen.indices) if self.material.concepts[i] not in have]

    def _denoising(self, material: Material, chosen: Draw, captions: list[str]) -> Tensor:
        """The plain denoising loss of one part of other material than the training's."""
        noisy, wanted, weight, area = self._task(material, chosen)
        read = self.texts.fresh if self.text_learns else self.texts.kept
        said = self.networks.predict(noisy, read(captions), material, chosen)
        return losses.weighted_mse(said, wanted, weight, area)

    def held_out_loss(self, material: Material, chosen: Draw) -> Tensor:
        """The denoising loss of one part of other material, without gradients."""
        with torch.no_grad():
            noisy, wanted, weight, area = self._task(material, chosen)
            captions = [material.captions[i] for i in chosen.indices]
            said = self.networks.predict(noisy, self.texts.fresh(captions), material, chosen)
            return losses.weighted_mse(said, wanted, weight, area)

    def _task(self, material: Material, chosen: Draw) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Noisy latents [B, C, h, w], what should be said of them, weights [B], areas [B, 1, h, w]."""
        device, settings, kind = self.device, self.settings, self.prediction_type
        latents = torch.stack([material.latents[i] for i in chosen.indices])  # [B, C, h, w]
        noise, timesteps = torch.stack(chosen.noise).to(device), chosen.timesteps.to(device)
        snr = losses.signal_to_noise(self.alphas_cumprod, timesteps)
        weight = losses.min_snr_weight(snr, gamma=settings.min_snr_gamma, prediction_type=kind)
        if bool(chosen.from_engine.any()):
            engine = torch.stack([material.engine[i] for i in chosen.indices])
            rows = chosen.from_engine.to(device)
            pulled, even = losses.restyling_noise(
                noise, latents, engine, self.alphas_cumprod, chosen.start.to(device)
            )
            noise = torch.where(rows.view(-1, 1, 1, 1), pulled, noise)
            weight = weight * torch.where(rows, even, 1.0)
        noisy = losses.add_noise(latents, noise, self.alphas_cumprod, timesteps)
        wanted = losses.target(latents, noise, self.alphas_cumprod, timesteps, prediction_type=kind)
        area = None
        if material.masks is not None:
            masks = torch.stack([material.masks[i] for i in chosen.indices])
            area = losses.mask_area(masks, outside=settings.mask_outside)
        return noisy, wanted, weight, area

    def predict(self, noisy: Tensor, captions: list[str], chosen: Draw, *, fresh: bool = False) -> Tensor:
        """The UNet's output [B, C, h, w] for noisy latents under these captions."""
        read = self.texts.fresh if fresh or self.text_learns else self.texts.kept
        return self.networks.predict(noisy, read(captions), self.material, chosen)

    @contextlib.contextmanager
    def result(self) -> Iterator[None]:
        """Inside, the weights are those of the result (`training.average`)."""
        with result_weights(self.parameters, self.optimizer, self.average):
            yield

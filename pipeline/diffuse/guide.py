"""What steers each step: the prompt, classifier-free guidance, and the ControlNets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pipeline.diffuse.condition import condition, rows_of
from pipeline.diffuse.settings import ControlUse, Img2ImgSettings, Prompts
from pipeline.errors import ModelError
from pipeline.image import to_tensor
from pipeline.models import Model

_HINT = "controlnet_cond_embedding"  # diffusers' name of the layers that read a control image

_AS_IT_IS = nn.Identity()  # one for all, so that a compiled network sees the same each time


@dataclass(frozen=True)
class _Steer:
    """One ControlNet at work. `hint` is what it makes of its image, [n * B, C, h, w], the same at every step;
    or the image itself, [n * B, 3, H, W], where the network mixes the two in ways of its own.
    """

    use: ControlUse
    net: Any
    hint: torch.Tensor
    is_read: bool


@dataclass(frozen=True)
class Guide:
    """Predicts noise (or velocity) under prompt and controls, with classifier-free guidance in one pass.

    n = 2 with guidance (negative first), else 1; rows are [negative of B frames, prompt of B frames].
    """

    model: Model
    text: torch.Tensor  # [n * B, L, width]
    added: Mapping[str, Any]  # further arguments of UNet and ControlNets
    steers: tuple[_Steer, ...]
    guidance: float

    @classmethod
    def prepare(
        cls,
        model: Model,
        controls: Mapping[str, npt.NDArray[np.uint8]],
        settings: Img2ImgSettings,
        shape: tuple[int, ...],  # B, H, W
        *,
        prompts: Sequence[Prompts] | None = None,  # [B]
    ) -> Guide:
        """`controls` and `prompts` as `img2img` takes them.

        Raises ModelError for a control without image or ControlNet.
        """
        told = prompts or [(settings.prompt, settings.negative)] * shape[0]
        halves = [[prompt for prompt, _ in told]]
        if settings.guidance != 1.0:
            halves.insert(0, [negative for _, negative in told])
        rows = [prompt for half in halves for prompt in half]
        text, added = rows_of(condition(model, rows, settings.clip_skip), shape[1:])
        steers = tuple(
            _steer(model, use, _control_image(model, controls, use.kind, shape[0]), len(halves))
            for use in settings.controls
        )
        return cls(model=model, text=text, added=added, steers=steers, guidance=settings.guidance)

    def of(self, rows: torch.Tensor) -> Guide:
        """The same for the frames `rows` [b] alone."""
        added = {
            name: {key: _of_frames(value, rows, self.halves) for key, value in told.items()}
            for name, told in self.added.items()
        }
        text = _of_frames(self.text, rows, self.halves)
        steers = tuple(
            replace(steer, hint=_of_frames(steer.hint, rows, self.halves)) for steer in self.steers
        )
        return replace(self, text=text, added=added, steers=steers)

    def told(self, prompts: Sequence[Prompts], settings: Img2ImgSettings, size: tuple[int, ...]) -> Guide:
        """The same under other words, [B] of them; `size` is H, W in pixels."""
        rows = [prompt for prompt, _ in prompts]
        if self.halves == 2:
            rows = [*(negative for _, negative in prompts), *rows]
        text, added = rows_of(condition(self.model, rows, settings.clip_skip), size)
        return replace(self, text=text, added=added)

    @property
    def halves(self) -> int:
        """n: 2 with guidance, else 1."""
        return 1 if self.guidance == 1.0 else 2

    @contextlib.contextmanager
    def hints_given(self) -> Iterator[None]:
        """Inside, the ControlNets take their hints ready made.

        A ControlNet reads its image anew at every step and for both halves of the guidance, and gets the same
        each time; here it is read once a frame.
        """
        readers = [(each.net, getattr(each.net, _HINT)) for each in self.steers if each.is_read]
        for net, _ in readers:
            setattr(net, _HINT, _AS_IT_IS)
        try:
            yield
        finally:
            for net, reader in readers:
                setattr(net, _HINT, reader)

    def predict(self, noisy: torch.Tensor, t: torch.Tensor, step: int, num_steps: int) -> torch.Tensor:
        """float32 [B, C, h, w] from scaled noisy latents [B, C, h, w]."""
        halves = self.halves
        x = noisy.to(self.model.dtype).repeat(halves, 1, 1, 1)  # [n * B, C, h, w]
        down, mid = self._residuals(x, t, step, num_steps)
        out: torch.Tensor = self.model.unet(
            x,
            t,
            encoder_hidden_states=self.text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
            **self.added,
        )[0].float()
        if halves == 1:
            return out
        without, with_prompt = out.chunk(2)
        return without + self.guidance * (with_prompt - without)

    def _residuals(
        self, x: torch.Tensor, t: torch.Tensor, step: int, num_steps: int
    ) -> tuple[list[torch.Tensor] | None, torch.Tensor | None]:
        """The sum of all ControlNets that steer this step, or nothing."""
        down: list[torch.Tensor] | None = None
        mid: torch.Tensor | None = None
        for steer in self.steers:
            if not steer.use.steers(step, num_steps):
                continue
            more, more_mid = steer.net(
                x,
                t,
                encoder_hidden_states=self.text,
                controlnet_cond=steer.hint,
                conditioning_scale=steer.use.weight,
                return_dict=False,
                **self.added,
            )
            down = list(more) if down is None else [a + b for a, b in zip(down, more, strict=True)]
            mid = more_mid if mid is None else mid + more_mid
        return down, mid


def _of_frames(values: torch.Tensor, rows: torch.Tensor, halves: int) -> torch.Tensor:
    """[n * B, ...] -> [n * b, ...]."""
    return values.reshape(halves, -1, *values.shape[1:])[:, rows].flatten(0, 1)


def _steer(model: Model, use: ControlUse, image: torch.Tensor, halves: int) -> _Steer:
    """`image` [B, 3, H, W] in [0, 1]."""
    net = model.controlnets[use.kind]
    reader = getattr(net, _HINT, None)
    hint = image if reader is None else reader(image)
    return _Steer(use=use, net=net, hint=hint.repeat(halves, 1, 1, 1), is_read=reader is not None)


def _control_image(
    model: Model, controls: Mapping[str, npt.NDArray[np.uint8]], kind: str, batch: int
) -> torch.Tensor:
    """uint8 [B, H, W, 3] -> [0, 1], [B, 3, H, W] in the model's dtype."""
    if kind not in model.controlnets:
        there = ", ".join(model.controlnets) or "none"
        raise ModelError(
            f"control '{kind}': model '{model.family.name}' has no such ControlNet; there are: {there}"
        )
    if kind not in controls:
        raise ModelError(
            f"control '{kind}': no control images were made; have: {', '.join(controls) or 'none'}"
        )
    if len(controls[kind]) != batch:
        raise ValueError(f"img2img: {len(controls[kind])} '{kind}' control images for {batch} frames")
    return to_tensor(controls[kind], device=model.device).add(1.0).div(2.0).to(model.dtype)

"""Several processes that train as one: each takes a part of every step's images, gradients are summed.

Start them with `accelerate launch -m pipeline.cli train ...`, or with `lookdev train --gpus N`. Every process
draws the same random numbers for the whole step and takes its own rows; so N processes train what one does,
but for the order in which float32 gradients are added.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.errors import DatasetError
from training.interrupt import deferred_interrupt

_CPU = "ACCELERATE_USE_CPU"  # accelerate's own flag for its workers


@dataclass(frozen=True)
class Workers:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.rank == 0

    def rows(self, num_images: int) -> list[int]:
        """The rows of a step that this process takes; neighbours stay together, they share a size."""
        return list(range(num_images * self.rank // self.count, num_images * (self.rank + 1) // self.count))

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes, in one message. One that no process has stays None: an
        optimizer leaves its parameter alone then, where zeros would let moments and decay go on.
        """
        if self.count == 1:
            return
        parts = [(torch.zeros_like(p) if p.grad is None else p.grad).flatten().float() for p in parameters]
        known = torch.tensor([float(p.grad is not None) for p in parameters], device=parts[0].device)
        summed = self.sum(torch.cat([*parts, known]))
        start, known = 0, summed[-len(known) :]
        for each, processes in zip(parameters, known.tolist(), strict=True):
            part = summed[start : start + each.numel()]
            start += each.numel()
            if processes > 0:
                # Laid out in memory as the parameter is: fused optimizers walk both side by side.
                each.grad = torch.empty_like(each).copy_(part.view_as(each))

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.count == 1:
            return value
        from accelerate.utils import reduce

        total: Tensor = reduce(value, reduction="sum")
        return total

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether it is so in at least one process."""
        return flag if self.count == 1 else bool(self.sum(torch.tensor(float(flag), device=device)) > 0)

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def join(device: str | None) -> tuple[Workers, str | None]:
    """This process's place among those that were launched together, and its device; alone otherwise.

    Raises `DatasetError` where accelerate does not join them: each would train alone, into the same files.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched < 2:
        return Workers(), device
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # accelerate joins processes without GPUs only where it is told that there are none
    on_cpu = device == "cpu" if device else parse_flag_from_env(_CPU) or not torch.cuda.is_available()
    state = PartialState(cpu=on_cpu)
    if state.num_processes != launched:
        raise DatasetError(
            f"{launched} processes were launched and accelerate joins {state.num_processes} of them; start "
            "one alone"
        )
    return Workers(rank=state.process_index, count=state.num_processes), str(state.device)


def launch(num_processes: int, arguments: Sequence[str], *, cpu: bool = False) -> int:
    """Run `lookdev ARGUMENTS` in so many processes through accelerate, a GPU each; the exit code.

    Ctrl-C is the processes' to act on: they finish their step and save, and that is waited for. Raises
    `DatasetError` where there are fewer GPUs, KeyboardInterrupt once they have stopped. `cpu`: without any,
    to try it out.
    """
    if not cpu and torch.cuda.device_count() < num_processes:
        raise DatasetError(
            f"--gpus {num_processes}: {torch.cuda.device_count()} GPUs are here; take a smaller number"
        )
    # accelerate starts a single process for its own --cpu, whatever the number
    place = {_CPU: "true"} if cpu else {}
    fixed = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    options = [
        "--multi_gpu",
        "--num_processes",
        str(num_processes),
        *fixed,
        "--main_process_port",
        str(_free_port()),
    ]
    command = [sys.executable, "-m", "accelerate.commands.launch", *options, "-m", "pipeline.cli", *arguments]
    with deferred_interrupt() as asked:
        code = subprocess.run(command, env=os.environ | place, check=False).returncode
    if asked.is_set():
        raise KeyboardInterrupt
    return code


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])

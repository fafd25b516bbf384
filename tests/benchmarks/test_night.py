"""A night in short: killed batches end in the same bytes; so do two Ray workers, one killed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def bench(*arguments: str) -> str:
    """A benchmark in a process of its own (it forks, or starts Ray); its table. It exits by what it finds."""
    calm = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | calm)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_killed_batches_end_in_the_same_bytes() -> None:
    assert "| all | 4 | 4 | 4 |" in bench("benchmarks.kills", "--kills", "4")


@pytest.mark.slow
def test_two_ray_workers_give_the_bytes_of_one_process_and_survive_a_kill() -> None:
    pytest.importorskip("ray")
    table = bench("benchmarks.cluster")
    assert "| 2 Ray workers, one killed | 1 |" in table

"""The stopwatch of the speed table, on processes whose time and memory are known."""

from __future__ import annotations

import sys

import pytest

from benchmarks.commands import run


def test_time_memory_and_output_of_a_process() -> None:
    hold = "import time; held = bytearray(200 * 2**20); time.sleep(0.3); print('done')"
    done = run([sys.executable, "-c", hold])
    assert done.output == "done\n"
    assert 0.3 <= done.seconds < 30.0
    # 200 MiB and the interpreter, which takes about 10; what this process holds does not count
    assert 200.0 < done.peak_mib < 260.0
    assert run([sys.executable, "-c", "pass"]).peak_mib < 60.0


def test_failing_command_says_why() -> None:
    with pytest.raises(RuntimeError, match="no good"):
        run([sys.executable, "-c", "raise SystemExit('no good')"])

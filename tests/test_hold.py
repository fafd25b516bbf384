"""One render to a folder at a time; others hear who holds it; a lock dies with its process."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import OutputError
from pipeline.hold import LOCK, held

HOLD = """
import sys, time
from pathlib import Path
from pipeline.hold import held
with held(Path(sys.argv[1]), shared=len(sys.argv) > 2):
    print("held", flush=True)
    time.sleep(60)
"""


def other(folder: Path, *more: str) -> subprocess.Popen[str]:
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder), *more], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_second_is_told_who_holds_it(tmp_path: Path) -> None:
    holder = other(tmp_path)
    try:
        with pytest.raises(OutputError) as caught, held(tmp_path):
            pass
    finally:
        end(holder)
    said = str(caught.value)
    assert f"(process {holder.pid} on {socket.gethostname()}, since 20" in said and "\n" not in said
    assert re.search(r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00\); wait for it or choose", said)


def test_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    end(other(tmp_path))
    assert (tmp_path / LOCK).exists()
    with held(tmp_path):
        assert f'"pid": {os.getpid()},' in (tmp_path / LOCK).read_text()
    assert list(tmp_path.iterdir()) == []


def test_those_who_share_keep_out_those_who_do_not(tmp_path: Path) -> None:
    first = other(tmp_path, "shared")
    try:
        with held(tmp_path, shared=True):
            pass
        with pytest.raises(OutputError, match=f"process {first.pid} on"), held(tmp_path):
            pass
    finally:
        end(first)
    ours = pytest.raises(OutputError, match=f"process {os.getpid()} on")
    with held(tmp_path), ours, held(tmp_path, shared=True):
        pass


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"file/out: cannot be written"), held(tmp_path / "file" / "out"):
        pass

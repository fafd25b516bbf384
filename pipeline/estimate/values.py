"""What can be estimated, by which method, and from which files of weights. No torch, no pixels."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pipeline.errors import ModelError
from pipeline.files import stamp
from pipeline.models.hub import hub_file

WEIGHTS_VARIABLE = "LOOKDEV_ANNOTATORS"  # a folder of detectors' weights, for all presets
HUB_REPOSITORY = "lllyasviel/Annotators"  # where controlnet-aux has them from


@dataclass(frozen=True)
class Method:
    """A way to make `passes` of a shot's pictures; `weights` is the file that it needs, if any.

    `from_passes`: what it reads besides the pictures, where the shot has it.
    """

    title: str
    passes: tuple[str, ...]
    weights: str | None = None
    from_passes: tuple[str, ...] = ()


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "dis": Method("DIS", ("motion", "visible"), from_passes=("ids", "depth")),
        "raft": Method(
            "RAFT",
            ("motion", "visible"),
            weights="raft_large_C_T_SKHT_V2-ff5fadd5.pth",  # torchvision's Raft_Large_Weights.DEFAULT
            from_passes=("ids", "depth"),
        ),
        "round_trip": Method("there and back along the motion pass", ("visible",), from_passes=("motion",)),
        "midas": Method("MiDaS", ("depth",), weights="dpt_hybrid-midas-501f0c75.pt"),
        "openpose": Method("OpenPose", ("joints",), weights="body_pose_model.pth"),
        "normalbae": Method("NormalBae", ("normal",), weights="scannet.pt"),
        "lineart": Method("Lineart", ("lineart",), weights="sk_model.pth"),
        "lineart_coarse": Method("Lineart, coarse", ("lineart",), weights="sk_model2.pth"),
    }
)
USUAL: Mapping[str, str] = MappingProxyType(
    {
        "motion": "dis",
        "visible": "round_trip",
        "depth": "midas",
        "joints": "openpose",
        "normal": "normalbae",
        "lineart": "lineart",
    }
)


@dataclass(frozen=True)
class Estimate:
    """A method chosen for a shot, and its file of weights."""

    method: str
    weights: Path | None = None

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that it makes."""
        return METHODS[self.method].passes

    @property
    def origin(self) -> str:
        """What a pass that it made says of where it is from."""
        return f"estimated ({METHODS[self.method].title})"

    @property
    def weights_stamp(self) -> list[str | int] | None:
        """The weights' name, size and time of change, wherever they lie."""
        return None if self.weights is None else stamp(self.weights, self.weights.parent)


def choose(
    missing: Iterable[str], *, by: Mapping[str, str] = MappingProxyType({}), folder: Path | None = None
) -> tuple[Estimate, ...]:
    """The estimates that make the `missing` passes; `by` names methods other than the usual ones, by pass.

    Weights are looked for in and below `folder` and the folder that $LOOKDEV_ANNOTATORS names, then in the
    caches of the hub and of torch; nothing is fetched. Raises ModelError, one line that names the file, where
    it is in none.
    """
    missing = set(missing)
    chosen = []
    for name, usual in USUAL.items():
        if name in missing:
            method = by.get(name, usual)
            chosen.append(Estimate(method, _weights(method, folder)))
            missing -= set(METHODS[method].passes)
    return tuple(chosen)


def _weights(method: str, folder: Path | None) -> Path | None:
    filename = METHODS[method].weights
    if filename is None:
        return None
    named = os.environ.get(WEIGHTS_VARIABLE)
    folders = [place for place in (folder, Path(named).expanduser() if named else None) if place is not None]
    for place in folders:
        if (place / filename).is_file():
            return place / filename
        below = sorted(place.rglob(filename))  # other tools keep theirs by detector or by repository
        if below:
            return below[0]
    found = _torch_cached(filename) if method == "raft" else _hub_cached(filename)
    if found is not None:
        return found
    looked = ", ".join(["the cache", *(str(place) for place in folders)])
    raise ModelError(
        f"{METHODS[method].title} needs {filename}, which is not here (looked in {looked}); get it from "
        f"{_source(method)} into a folder, and name that in estimate.weights or ${WEIGHTS_VARIABLE}"
    )


@contextlib.contextmanager
def loading(weights: Path) -> Iterator[None]:
    """Turn what torch says of a bad file into a ModelError; what networks print is not for the user.

    controlnet-aux reads its files by torch's restricted reader, which takes plain weights and nothing else.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated names of timm's and torch's in controlnet-aux
            yield
    except pickle.UnpicklingError:
        raise ModelError(f"{weights}: holds no plain weights; fetch the file again") from None
    except (OSError, RuntimeError, ValueError, KeyError, EOFError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise ModelError(f"{weights}: cannot be loaded ({reason}); fetch the file again") from None


def _source(method: str) -> str:
    filename = METHODS[method].weights
    if method == "raft":
        return f"https://download.pytorch.org/models/{filename}"
    return f"https://huggingface.co/{HUB_REPOSITORY}"


def _hub_cached(filename: str) -> Path | None:
    try:
        return hub_file(HUB_REPOSITORY, filename, offline=True)
    except ModelError:  # not in the cache
        return None


def _torch_cached(filename: str) -> Path | None:
    """Where torch.hub keeps what torchvision fetched; the path as torch has it, without its import."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    path = Path(home).expanduser() / "hub" / "checkpoints" / filename
    return path if path.is_file() else None

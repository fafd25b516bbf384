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

    `beside`: a second file that has to lie beside it; `repository`: where both are on the hub. `from_passes`:
    what it reads besides the pictures, where the shot has it.
    """

    title: str
    passes: tuple[str, ...]
    weights: str | None = None
    beside: str | None = None
    repository: str = HUB_REPOSITORY
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
        "dwpose": Method(
            "DWPose",
            ("joints",),
            weights="dw-ll_ucoco_384.onnx",
            beside="yolox_l.onnx",
            repository="yzd-v/DWPose",
        ),
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
    filename, beside = METHODS[method].weights, METHODS[method].beside
    if filename is None:
        return None
    named = os.environ.get(WEIGHTS_VARIABLE)
    folders = [place for place in (folder, Path(named).expanduser() if named else None) if place is not None]
    for found in _candidates(method, filename, folders):
        if beside is None or (found.parent / beside).is_file():
            return found
    looked = ", ".join(["the cache", *(str(place) for place in folders)])
    both = filename if beside is None else f"{filename} and {beside} beside it"
    raise ModelError(
        f"{METHODS[method].title} needs {both}, which is not here (looked in {looked}); get it from "
        f"{_source(method)} into a folder, and name that in estimate.weights or ${WEIGHTS_VARIABLE}"
    )


def _candidates(method: str, filename: str, folders: Iterable[Path]) -> Iterator[Path]:
    """Where the file is: in a folder, below it (other tools sort theirs by detector), in the cache."""
    for place in folders:
        if (place / filename).is_file():
            yield place / filename
        yield from sorted(place.rglob(filename))
    cached = _torch_cached(filename) if method == "raft" else _hub_cached(method)
    if cached is not None:
        yield cached


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
    return f"https://huggingface.co/{METHODS[method].repository}"


def _hub_cached(method: str) -> Path | None:
    """The file in the hub's cache, where the one beside it is too."""
    repository, found = METHODS[method].repository, None
    try:
        for filename in (METHODS[method].beside, METHODS[method].weights):
            found = found if filename is None else hub_file(repository, filename, offline=True)
    except ModelError:  # not in the cache
        return None
    return found


def _torch_cached(filename: str) -> Path | None:
    """Where torch.hub keeps what torchvision fetched; the path as torch has it, without its import."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    path = Path(home).expanduser() / "hub" / "checkpoints" / filename
    return path if path.is_file() else None

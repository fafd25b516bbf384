"""controlnet-aux's modules without its `__init__`, which imports every detector (timm, mediapipe: 4 s).

The package's folder is mounted under a private name instead, so that only the module asked for and what it
imports run, and a real `import controlnet_aux` elsewhere stays untouched.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from typing import Any

_PRIVATE_PACKAGE = "_lookdev_controlnet_aux"
_WITHOUT_INIT = ("", ".open_pose")  # these packages' own `__init__` import more than their modules need


def annotator_module(name: str) -> Any:
    """A module of controlnet-aux by its name inside, such as "open_pose.util".

    Raises ModuleNotFoundError where controlnet-aux is not installed.
    """
    if _PRIVATE_PACKAGE not in sys.modules:
        _mount()
    with warnings.catch_warnings():
        # open_pose/body.py uses a deprecated path of scipy.ndimage, midas and normalbae one of timm
        warnings.filterwarnings("ignore", message=".*scipy.ndimage", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*timm", category=FutureWarning)
        return importlib.import_module(f"{_PRIVATE_PACKAGE}.{name}")


def _mount() -> None:
    spec = importlib.util.find_spec("controlnet_aux")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "controlnet_aux is not installed; it draws the pose maps: pip install controlnet-aux"
        )
    root = next(iter(spec.submodule_search_locations))
    for name in _WITHOUT_INIT:
        package = types.ModuleType(f"{_PRIVATE_PACKAGE}{name}")
        package.__path__ = [root + name.replace(".", "/")]
        sys.modules[package.__name__] = package

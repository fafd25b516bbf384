"""Scene-linear light (an EXR's picture) to display colours, by a transform that has a name.

srgb    IEC 61966-2-1, light above 1 clipped: what a compositor calls "Standard" or "Raw to sRGB".
filmic  J. Hable's curve ("Uncharted 2: HDR Lighting", GDC 2010) on each channel, white at 11.2, then sRGB.
agx     T. Sobotka's AgX as fitted by B. Wrensch ("Minimal AgX Implementation", 2023): bright colours
        fade to white instead of clipping to a hue; the base look, near Blender's default since 4.0.
ocio    display and view of an OpenColorIO config (the `ocio` extra): the studio's own colours.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ShotError
from pipeline.image import Float32Array, UInt8Array, linear_to_srgb

DISPLAY_KEYS = ("transform", "exposure", "config", "from", "screen", "look")
SCENE_LINEAR = "scene_linear"  # OCIO's role of that name

_HABLE = (0.15, 0.50, 0.10, 0.20, 0.02, 0.30)  # A to F of the curve
_HABLE_WHITE, _HABLE_BIAS = 11.2, 2.0
_AGX_IN = np.array(
    [
        [0.842479062253094, 0.0784335999999992, 0.0792237451477643],
        [0.0423282422610123, 0.878468636469772, 0.0791661274605434],
        [0.0423756549057051, 0.0784336, 0.879142973793104],
    ],
    np.float32,
)
_AGX_OUT = np.linalg.inv(_AGX_IN.astype(np.float64)).astype(np.float32)
_AGX_STOPS = (-12.47393, 4.026069)  # log2 of the light that becomes 0 and 1
_AGX_CURVE = (15.5, -40.14, 31.96, -6.868, 0.4298, 0.1191, -0.00232)  # x^6 down to 1


@dataclass(frozen=True)
class Display:
    """Which transform, and `exposure` in stops before it. The rest is for "ocio".

    `config`: a file, or a name like "ocio://default"; `space`: the colour space of the pictures; `screen` and
    `look`: OCIO's display and view, empty for the config's defaults.
    """

    transform: str = "srgb"
    exposure: float = 0.0
    config: str = ""
    space: str = SCENE_LINEAR
    screen: str = ""
    look: str = ""


SRGB = Display()


def to_display(light: Float32Array, display: Display) -> UInt8Array:
    """Scene-linear RGB float32 [..., 3], finite, to uint8 RGB. Raises ShotError (OpenColorIO)."""
    exposed = np.ascontiguousarray(light * np.float32(2.0**display.exposure), np.float32)
    encoded = (
        _ocio(exposed, display) if display.transform == "ocio" else TRANSFORMS[display.transform](exposed)
    )
    levels: UInt8Array = np.rint(np.clip(encoded, 0.0, 1.0) * 255.0).astype(np.uint8)
    return levels


def _srgb(light: Float32Array) -> Float32Array:
    return linear_to_srgb(np.clip(light, 0.0, 1.0))


def _filmic(light: Float32Array) -> Float32Array:
    curve = _hable(_HABLE_BIAS * np.maximum(light, 0.0)) / _hable(np.float32(_HABLE_WHITE))
    return linear_to_srgb(np.clip(curve, 0.0, 1.0).astype(np.float32))


def _hable(x: Any) -> Any:
    a, b, c, d, e, f = _HABLE
    return (x * (a * x + c * b) + d * e) / (x * (a * x + b) + d * f) - e / f


def _agx(light: Float32Array) -> Float32Array:
    low, high = _AGX_STOPS
    stops = np.log2(np.maximum(light @ _AGX_IN.T, np.float32(2.0**low)))
    x = np.clip((stops - low) / (high - low), 0.0, 1.0)
    encoded: Float32Array = np.polyval(_AGX_CURVE, x).astype(np.float32) @ _AGX_OUT.T
    return encoded


TRANSFORMS: Mapping[str, Callable[[Float32Array], Float32Array]] = {
    "srgb": _srgb,
    "filmic": _filmic,
    "agx": _agx,
}


def _ocio(light: Float32Array, display: Display) -> Float32Array:
    pixels = light.reshape(-1, 3).copy()
    _ocio_processor(display).applyRGB(pixels)
    return pixels.reshape(light.shape)


@functools.lru_cache(maxsize=4)
def _ocio_processor(display: Display) -> Any:
    """OpenColorIO's processor. Raises ShotError where the package, the config or a name in it is missing."""
    try:
        import PyOpenColorIO as ocio  # noqa: N813
    except ImportError as error:
        raise ShotError(
            "display.transform = 'ocio' needs OpenColorIO, which is not installed; "
            "pip install 'lookdev[ocio]', or take srgb, filmic or agx"
        ) from error
    try:
        config = ocio.Config.CreateFromFile(display.config)
        screen = display.screen or config.getDefaultDisplay()
        look = display.look or config.getDefaultView(screen)
        transform = ocio.DisplayViewTransform(src=display.space, display=screen, view=look)
        return config.getProcessor(transform).getDefaultCPUProcessor()
    except ocio.Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise ShotError(
            f"{display.config}: OpenColorIO refuses it ({reason}); check display's config, from, screen, look"
        ) from error


def parse_display(value: Any, where: str, root: Path) -> Display:
    """`display = "agx"` or the `[display]` section of a shot.toml in `root`. Raises ShotError."""
    table = {"transform": value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        raise ShotError(f'{where}: {value!r}; expected a name like "agx", or a table')
    for key in table:
        if key not in DISPLAY_KEYS:
            raise ShotError(f"{where}: unknown key {key!r}; expected {', '.join(DISPLAY_KEYS)}")
    transform, exposure = table.get("transform"), table.get("exposure", 0.0)
    if transform not in (*TRANSFORMS, "ocio"):
        raise ShotError(f"{where}.transform: {transform!r}; expected {', '.join(TRANSFORMS)} or ocio")
    if isinstance(exposure, bool) or not isinstance(exposure, int | float) or not math.isfinite(exposure):
        raise ShotError(f"{where}.exposure: {exposure!r}; expected stops, like 0.5")
    words = {key: table.get(key, "") for key in ("config", "from", "screen", "look")}
    for key, word in words.items():
        if not isinstance(word, str) or (word and transform != "ocio"):
            raise ShotError(f"{where}.{key}: {word!r}; expected a name, and only for transform = 'ocio'")
    if transform != "ocio":
        return Display(transform, float(exposure))
    config = _config_path(words["config"], f"{where}.config", root)
    return Display(
        "ocio", float(exposure), config, words["from"] or SCENE_LINEAR, words["screen"], words["look"]
    )


def _config_path(config: str, where: str, root: Path) -> str:
    if config.startswith("ocio://"):
        return config
    path = root / Path(config).expanduser()
    if not config or not path.is_file():
        raise ShotError(
            f"{where}: found no file {path}; expected an OCIO config, or a name like ocio://default"
        )
    return str(path)

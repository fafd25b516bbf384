"""Stored numbers become pixels and metres, and what shot.toml says of them is read strictly."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import ShotError
from pipeline.shot import open_shot
from pipeline.shot.encoding import (
    DepthEncoding,
    VectorEncoding,
    decode,
    decode_depth,
    depth_table,
    motion_table,
    named_encodings,
    parse_depth,
    parse_motion,
)
from pipeline.shot.fetch import invert

PAIRS = (("R", "G"), ("B", "A"))


def test_units_signs_and_absent_vectors() -> None:
    stored = np.array([[[0.25, 0.5], [0.0, 0.0], [np.nan, 1.0], [2.0, 0.0]]], np.float32)  # H 1, W 4
    unity = decode(stored, VectorEncoding(("R", "G"), "uv", (-1.0, 1.0), absent="above one"))
    np.testing.assert_array_equal(unity, [[[-1.0, 0.5], [0.0, 0.0], [np.nan] * 2, [np.nan] * 2]])
    zero = decode(stored, VectorEncoding(("R", "G"), absent="zero"))
    np.testing.assert_array_equal(zero[0, :2], [[0.25, 0.5], [np.nan, np.nan]])


@pytest.mark.parametrize("named", named_encodings(PAIRS), ids=lambda each: each.name)
def test_the_sidecar_round_trips(named: object) -> None:
    text = motion_table(named)  # type: ignore[arg-type]
    assert parse_motion(tomllib.loads(text)["motion"], "shot.toml:motion") == named


@pytest.mark.parametrize("kind", ["linear", "unit", "normalised", "reversed"])
def test_depth_kinds(kind: str) -> None:
    metres = np.array([[0.5, 2.0, 9.0, 20.0]], np.float64)
    near, far = 0.1, 100.0
    device = (1 / near - 1 / metres) / (1 / near - 1 / far)
    stored = {
        "linear": metres * 100,
        "unit": (metres - near) / (far - near),
        "normalised": device,
        "reversed": 1 - device,
    }[kind].astype(np.float32)
    encoding = DepthEncoding(kind, 0.01) if kind == "linear" else DepthEncoding(kind, 1.0, near, far)  # type: ignore[arg-type]
    np.testing.assert_allclose(decode_depth(stored, encoding), metres, rtol=1e-3)
    nothing = {"linear": 1e10, "reversed": 0.0}.get(kind, 1.0)
    assert np.isinf(decode_depth(np.full((1, 1), nothing, np.float32), encoding)).all()
    assert parse_depth(tomllib.loads(depth_table(encoding))["depth"], "shot.toml:depth") == encoding


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("[motion]\nencoding = 'unity'", r"motion: says neither forward nor backward"),
        ("[motion]\nbackwards = 1", r"motion: unknown key 'backwards'; expected encoding, forward"),
        ("[motion]\nforward = { channels = ['R'] }", r"motion\.forward\.channels: \['R'\]; expected two"),
        ("[motion]\nforward = { channels = ['R', 'G'], unit = 'px' }", r"unit: 'px'; expected pixels, uv"),
        ("[motion]\nforward = { channels = ['R', 'G'], scale = [0, 1] }", r"scale: \[0, 1\]; expected two"),
        ("[depth]\nkind = 'log'", r"depth\.kind: 'log'; expected linear"),
        ("[depth]\nkind = 'reversed'\nnear = 1\nfar = 0.5", r"near = 1, far = 0\.5; expected metres"),
    ],
)
def test_a_bad_section_is_one_line(shot_root: Path, section: str, expected: str) -> None:
    sidecar = shot_root / "shot.toml"
    sidecar.write_text(f"{sidecar.read_text()}\n{section}\n")
    with pytest.raises(ShotError, match=expected) as caught:
        open_shot(shot_root)
    assert str(caught.value).startswith(str(sidecar)) and "\n" not in str(caught.value)


def test_inverting_a_swelling_flow() -> None:
    """Forward p -> 1.1 p + 2 about the corner; from the neighbour's vectors alone it comes back exactly."""
    y, x = np.mgrid[:24, :32].astype(np.float32)
    points = np.stack([x, y], axis=-1)
    forward, backward = 0.1 * points + 2, (points - 2) / np.float32(1.1) - points
    found = invert(backward, -forward)
    leaves = (points + forward)[..., 0] > 31
    leaves |= (points + forward)[..., 1] > 23
    assert np.isnan(found[leaves]).all()
    np.testing.assert_allclose(found[~leaves], forward[~leaves], atol=0.01)

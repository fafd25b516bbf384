"""The fixed perceptual distance by which likeness is judged, and the forced choice made with it.

A styled frame is compared, inside the figure's region only, with the film truth of the same frame for every
member of the cast: same set, pose, camera and light, another figure in the role. The nearest member wins. The
measure has no learned weights, and its constants were fixed before any result was seen (docs/measures.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

UInt8Array: TypeAlias = NDArray[np.uint8]
Float32Array: TypeAlias = NDArray[np.float32]

NUM_LEVELS = 4  # at 128 px: 128, 64, 32, 16; from glasses' rims to the colour of the clothes
LIGHTNESS_WEIGHT = 0.5  # in the colour term: lightness is half light's doing, hue and chroma are the figure's
COLOUR_KNEE = 20.0  # delta E at which the saturating colour term reaches one half: "clearly another colour"
STRUCTURE_FLOOR = 10.0  # in L* per pixel: gradients below this are noise and grain, so they hardly count
STRUCTURE_WEIGHT = 1.0  # colour and structure are both in [0, 1] and count the same
MAX_GAIN = 1.25  # the light's contrast may differ by this factor at no cost
MAX_OFFSET = 10.0  # and its level by this many units of L*; more than that is another material
MAX_PART_BOOST = 8.0  # a pixel of a small part weighs at most this many average pixels
MIN_REGION_PIXELS = 64  # below 8 x 8 pixels a figure is not judged

LOOK_BLUR = 1.5  # px at 128: a look's grain is drawn anew in each frame and says nothing about a picture
LOOK_OFFSET = 5.0  # a picture may be lighter or darker throughout by this many units of L* at no cost
LOOK_KNEE = 20.0  # as COLOUR_KNEE

HEAD_PARTS = (1,)  # body parts as the stage numbers them: skull, face, hair, beard and glasses are the head
TORSO_PARTS = (2, 3)  # neck, torso


def distance(
    styled: UInt8Array, truth: UInt8Array, *, mask: NDArray[np.bool_], parts: NDArray[np.uint32] | None = None
) -> float:
    """How unlike two pictures of one figure are: 0 the same, towards 1 nothing in common.

    `styled`, `truth`: uint8 sRGB [H, W, 3]. `mask`: bool [H, W], the figure's region. `parts`: uint32 [H, W],
    256 * figure + body part; with them head, torso and limbs count the same whatever their areas.
    Not symmetric: the lightness of `styled` is fitted to that of `truth`, within bounds.
    Raises ValueError for shapes that differ or a region under `MIN_REGION_PIXELS`.
    """
    _check(styled, truth, mask)
    weight = region_weights(mask, parts)
    support = mask.astype(np.float32)
    lab_truth = to_lab(truth)
    lab_styled = _fit_lightness(to_lab(styled), lab_truth, weight)
    terms = []
    for _ in range(NUM_LEVELS):
        colour = _average(_colour_difference(lab_styled, lab_truth), weight)
        inside = cv2.erode((support > 0.5).astype(np.float32), np.ones((3, 3), np.uint8), borderValue=0.0)
        if (weight * inside).sum() > 0.0:
            structure = _average(_structure_difference(lab_styled, lab_truth), weight * inside)
            terms.append((colour + STRUCTURE_WEIGHT * structure) / (1.0 + STRUCTURE_WEIGHT))
        else:  # too thin at this scale to have an inside
            terms.append(colour)
        if min(support.shape) < 8:
            break
        lab_styled, lab_truth = _halve(lab_styled, support), _halve(lab_truth, support)
        weight, support = cv2.pyrDown(weight), cv2.pyrDown(support)
    return float(np.mean(terms))


def look_distance(picture: UInt8Array, truth: UInt8Array) -> float:
    """How unlike two grades of one frame are, in [0, 1): saturating colour difference over the whole frame.

    Lightness counts in full and its spread is not fitted, unlike in `distance`: contrast, lifted
    shadows and dark corners are what a look is. No structure: a look leaves edges where they are.
    """
    a, b = (to_lab(cv2.GaussianBlur(each, (0, 0), LOOK_BLUR)) for each in (picture, truth))
    a[..., 0] += np.clip(b[..., 0].mean() - a[..., 0].mean(), -LOOK_OFFSET, LOOK_OFFSET)
    delta = np.sqrt(((a - b) ** 2).sum(axis=-1))  # [H, W]
    return float((delta / (delta + LOOK_KNEE)).mean())


def forced_choice(
    styled: UInt8Array,
    truths: Mapping[str, UInt8Array],
    *,
    mask: NDArray[np.bool_],
    parts: NDArray[np.uint32] | None = None,
) -> tuple[str, dict[str, float]]:
    """The cast member whose film truth is nearest to the styled frame, and every member's distance.

    `truths`: name -> uint8 sRGB [H, W, 3] of the same frame; the other arguments as for `distance`.
    Of equal distances the first name in alphabetical order wins, whatever the order of `truths`.
    Raises ValueError for no truths, and as `distance`.
    """
    if not truths:
        raise ValueError("forced_choice needs the truth of at least one cast member")
    distances = {
        name: distance(styled, truth, mask=mask, parts=parts) for name, truth in sorted(truths.items())
    }
    return min(distances, key=lambda name: distances[name]), distances


def figure_region(ids: NDArray[np.uint32], figure: int) -> NDArray[np.bool_]:
    """Where a figure is judged: bool [H, W], its ids grown by one pixel, never over another figure.

    `ids`: uint32 [H, W], 256 * figure + body part. The pixel of growth keeps the anti-aliased outline.
    """
    figures = ids >> 8
    own = (figures == figure).astype(np.uint8)
    grown: NDArray[np.bool_] = cv2.dilate(own, np.ones((3, 3), np.uint8)) > 0
    region: NDArray[np.bool_] = grown & ((figures == figure) | (figures == 0))
    return region


def region_weights(mask: NDArray[np.bool_], parts: NDArray[np.uint32] | None) -> Float32Array:
    """Pixel weights [H, W] that sum to 1 over the region; head, torso and the rest get equal shares.

    A share is cut where its pixels would weigh more than `MAX_PART_BOOST` average pixels: a sliver of a head
    at the frame's edge decides nothing.
    """
    weight = mask.astype(np.float32)
    if parts is not None:
        figure = mask & (parts >> 8 > 0)  # the grown outline lies on the set and counts with the limbs
        head = figure & np.isin(parts & 0xFF, HEAD_PARTS)
        torso = figure & np.isin(parts & 0xFF, TORSO_PARTS)
        groups = [group for group in (head, torso, mask & ~head & ~torso) if group.any()]
        total = float(mask.sum())
        for group in groups:
            weight[group] = min(total / (len(groups) * float(group.sum())), MAX_PART_BOOST)
    normalised: Float32Array = weight / weight.sum()
    return normalised


def to_lab(rgb: UInt8Array) -> Float32Array:
    """CIELAB (D65) of a uint8 sRGB picture: float32 [H, W, 3], L* in [0, 100]."""
    lab: Float32Array = cv2.cvtColor(rgb.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    return lab


def _check(styled: UInt8Array, truth: UInt8Array, mask: NDArray[np.bool_]) -> None:
    if styled.shape != truth.shape or styled.shape[:2] != mask.shape or styled.dtype != np.uint8:
        raise ValueError(f"shapes differ: styled {styled.shape}, truth {truth.shape}, mask {mask.shape}")
    if int(mask.sum()) < MIN_REGION_PIXELS:
        raise ValueError(f"the figure's region has {int(mask.sum())} pixels, fewer than {MIN_REGION_PIXELS}")


def _fit_lightness(lab: Float32Array, reference: Float32Array, weight: Float32Array) -> Float32Array:
    """`lab` with mean and spread of L* over the region moved towards the reference's, within bounds."""
    mean, spread = _moments(lab[..., 0], weight)
    target_mean, target_spread = _moments(reference[..., 0], weight)
    gain = np.clip(target_spread / max(spread, 1e-3), 1.0 / MAX_GAIN, MAX_GAIN)
    offset = np.clip(target_mean - mean, -MAX_OFFSET, MAX_OFFSET)
    fitted = lab.copy()
    fitted[..., 0] = (lab[..., 0] - mean) * gain + mean + offset
    return fitted


def _moments(values: Float32Array, weight: Float32Array) -> tuple[float, float]:
    mean = float((values * weight).sum())
    return mean, float(np.sqrt((weight * (values - mean) ** 2).sum()))


def _colour_difference(a: Float32Array, b: Float32Array) -> Float32Array:
    """Saturating colour difference, [H, W] in [0, 1): d / (d + knee), d = delta E 76 with L* at half."""
    scale = np.array([LIGHTNESS_WEIGHT, 1.0, 1.0], np.float32)
    delta = np.sqrt((((a - b) * scale) ** 2).sum(axis=-1))
    saturated: Float32Array = delta / (delta + COLOUR_KNEE)
    return saturated


def _structure_difference(a: Float32Array, b: Float32Array) -> Float32Array:
    """How unlike the gradients are, [H, W] in [0, 1]: |ga - gb|^2 / (|ga|^2 + |gb|^2 + floor^2), at most 1.

    One minus the gradient similarity of Xue et al. 2014 (GMSD), but on gradient vectors, so that an edge that
    turns round (light on dark, dark on light) counts as different.
    """
    ga, gb = _gradients(a), _gradients(b)
    difference = ((ga - gb) ** 2).sum(axis=(-1, -2))
    energy = (ga**2).sum(axis=(-1, -2)) + (gb**2).sum(axis=(-1, -2))
    unlike: Float32Array = np.minimum(difference / (energy + STRUCTURE_FLOOR**2), 1.0)
    return unlike


def _gradients(lab: Float32Array) -> Float32Array:
    """Scharr gradients per pixel of L*, a*, b*: [H, W, 3, 2], (x, y), in units per pixel."""
    gx = cv2.Scharr(lab, cv2.CV_32F, 1, 0, scale=1.0 / 32.0, borderType=cv2.BORDER_REPLICATE)
    gy = cv2.Scharr(lab, cv2.CV_32F, 0, 1, scale=1.0 / 32.0, borderType=cv2.BORDER_REPLICATE)
    both: Float32Array = np.stack([gx, gy], axis=-1)
    return both


def _halve(lab: Float32Array, support: Float32Array) -> Float32Array:
    """Half size by a Gaussian that sees the region only, so no background leaks in: [H/2, W/2, 3]."""
    total = cv2.pyrDown(support)[..., None]
    halved: Float32Array = cv2.pyrDown(lab * support[..., None]) / np.maximum(total, 1e-6)
    return halved


def _average(values: Float32Array, weight: Float32Array) -> float:
    return float((values * weight).sum() / weight.sum())


def share(choices: Collection[str], name: str) -> float:
    """The fraction of choices that fell on `name`, in [0, 1]; 0.0 of no choices."""
    return sum(choice == name for choice in choices) / len(choices) if choices else 0.0

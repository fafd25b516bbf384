"""Which images each step sees: equal exposure over the whole run, whatever the sizes of folders and buckets.

    counts      how often each image is shown in the whole run: whole numbers, as near the shares as can be
    run_order   the run's exposures in a row: each image spread evenly over it, at random within its turns
    grouped     the same row, reordered a few steps at a time so that batches mostly have one size

All are pure functions of their arguments, so the step alone says what comes next.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_ORDER, _GROUPS = 0, 2  # streams of random numbers; `training.schedule` has the others
WINDOW_STEPS = 8  # steps that exchange images to make batches of one size

IntArray = npt.NDArray[np.int64]


def counts(shares: Sequence[float], concepts: Sequence[int], total: int) -> list[int]:
    """Exposures of each example, [N], that sum to `total`.

    `shares[c]` is concept c's part of all exposures (any positive scale), `concepts[i]` the concept of
    example i. A concept misses its exact share, and an example its concept's mean, by less than one exposure.
    """
    result = [0] * len(concepts)
    members = [[i for i, concept in enumerate(concepts) if concept == c] for c in range(len(shares))]
    parts = [share if own else 0.0 for share, own in zip(shares, members, strict=True)]
    for own, part in zip(members, _apportion(parts, total), strict=True):
        for i, times in zip(own, _apportion([1.0] * len(own), part), strict=True):
            result[i] = times
    return result


def _apportion(shares: Sequence[float], total: int) -> list[int]:
    """Whole numbers as the shares that sum to `total`: largest remainders (Hamilton)."""
    if not shares:
        return []
    exact = np.array(shares, np.float64) / sum(shares) * total
    whole = np.floor(exact + 1e-9).astype(np.int64)
    order = np.argsort(-(exact - whole), kind="stable")
    whole[order[: total - int(whole.sum())]] += 1
    return [int(n) for n in whole]


def run_order(times: Sequence[int], *, seed: int) -> IntArray:
    """Indices [sum(times)]: example i stands in it `times[i]` times, once in each of as many equal stretches.

    So after any part of the run an example was shown its part of its exposures, to within one and the
    rounding of places. Rows of equal times are at each moment within two exposures of each other.
    """
    rng = np.random.default_rng([seed, _ORDER])
    keys, indices = [], []
    for i, n in enumerate(times):
        if n:
            keys.append((np.arange(n) + rng.random(n)) / n)
            indices.append(np.full(n, i, np.int64))
    if not keys:
        raise ValueError("run_order: no examples")
    order = np.argsort(np.concatenate(keys), kind="stable")
    result: IntArray = np.concatenate(indices)[order]
    return result


def grouped(order: IntArray, buckets: Sequence[int], *, batch: int, seed: int) -> IntArray:
    """`order` with whole batches of one bucket where a stretch of it has them; `buckets[i]` is example i's.

    What is left of the buckets in a stretch shares batches at its end. No example leaves its stretch of
    `WINDOW_STEPS` batches, so exposure stays as it was.
    """
    if len({buckets[i] for i in order.tolist()}) <= 1:
        return order
    rng = np.random.default_rng([seed, _GROUPS])
    pieces: list[IntArray] = []
    for start in range(0, len(order), WINDOW_STEPS * batch):
        pieces += _grouped_window(order[start : start + WINDOW_STEPS * batch], buckets, batch, rng)
    return np.concatenate(pieces)


def _grouped_window(
    window: IntArray, buckets: Sequence[int], batch: int, rng: np.random.Generator
) -> list[IntArray]:
    of = np.array([buckets[i] for i in window.tolist()])
    whole, rest = [], []
    for bucket in np.unique(of):
        own = window[of == bucket]
        full = len(own) // batch * batch
        whole += [own[i : i + batch] for i in range(0, full, batch)]
        rest.append(own[full:])
    left = np.concatenate(rest)
    batches = whole + [left[i : i + batch] for i in range(0, len(left), batch)]
    short = [each for each in batches if len(each) < batch]  # at most one, at the very end of the run
    batches = [each for each in batches if len(each) == batch]
    return [batches[i] for i in rng.permutation(len(batches))] + short


def realised(order: IntArray, num_examples: int, num_shown: int) -> list[int]:
    """How often each example was shown in the first `num_shown` places of the run."""
    return [int(n) for n in np.bincount(order[:num_shown], minlength=num_examples)]

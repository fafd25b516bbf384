"""How often each image is shown, so that every concept gets its share whatever the size of its folder."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import DatasetError

MAX_REPEATS = 100
TOLERANCE = 0.02  # a share may miss its weight by this much: exact shares can need very long epochs


def balanced_repeats(weights: Sequence[float], counts: Sequence[int]) -> tuple[int, ...]:
    """Whole repeats per image, so that repeats x images of each concept are as its weight.

    The smallest repeats that come within `TOLERANCE` of it, or the nearest ones up to `MAX_REPEATS`.
    Raises `DatasetError` where even those leave a concept without its share.
    """
    wanted = [weight / count for weight, count in zip(weights, counts, strict=True)]  # per image
    ratios = [each / min(wanted) for each in wanted]
    if max(ratios) > MAX_REPEATS:
        raise DatasetError(
            f"weights {list(weights)} for {list(counts)} images show some images {max(ratios):.0f} times as "
            f"often as others; at most {MAX_REPEATS}: add images to the small concept or level the weights"
        )
    best, least = tuple(1 for _ in ratios), float("inf")
    for scale in range(1, int(MAX_REPEATS / max(ratios)) + 1):
        repeats = tuple(round(ratio * scale) for ratio in ratios)
        error = max(abs(n / (ratio * scale) - 1.0) for n, ratio in zip(repeats, ratios, strict=True))
        if error < least:
            best, least = repeats, error
        if least <= TOLERANCE:
            break
    return best

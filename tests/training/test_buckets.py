"""Sizes that images are cut to: never enlarged, never over the area, always in steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.buckets import LEAST_AREA, choose_bucket, crop_box, kept_share

SIDES = st.integers(1, 4000)


@given(SIDES, SIDES, st.sampled_from([256, 512, 1024]))
def test_a_bucket_fits_the_model_and_the_picture(height: int, width: int, base: int) -> None:
    bucket = choose_bucket(height, width, base=base, step=64)
    if bucket is None:  # too small, or so long and thin that no legal size has area enough
        lost = min(height, base) * min(width, base) < 2 * LEAST_AREA * base * base
        assert lost or max(height, width) / min(height, width) > 2
        return
    h, w = bucket
    assert h % 64 == 0 and w % 64 == 0
    assert h <= height and w <= width  # never enlarged
    assert LEAST_AREA * base * base <= h * w <= base * base
    top, left, tall, wide = crop_box(height, width, bucket=bucket)
    assert tall >= h and wide >= w
    assert 0 <= top <= height - tall and 0 <= left <= width - wide
    assert abs(top - (height - tall - top)) <= 1 and abs(left - (width - wide - left)) <= 1  # centred
    assert tall == height or wide == width  # the largest crop of that aspect


@given(SIDES, SIDES)
def test_a_picture_on_its_side_gets_the_bucket_on_its_side(height: int, width: int) -> None:
    bucket = choose_bucket(height, width, base=512, step=64)
    turned = choose_bucket(width, height, base=512, step=64)
    assert (bucket and bucket[::-1]) == turned or height == width


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (512, 512, (512, 512)),
        (3000, 3000, (512, 512)),
        (1080, 1920, (384, 640)),  # 94 % of the picture; 320 x 576 would keep 99 % of it, but be smaller
        (1920, 1080, (640, 384)),
        (300, 300, (256, 256)),  # smaller than the model's size: not enlarged
        (255, 255, None),
        (1, 1, None),
    ],
)
def test_buckets_of_sd15(height: int, width: int, expected: tuple[int, int] | None) -> None:
    assert choose_bucket(height, width, base=512, step=64) == expected


@given(st.integers(200, 3000), st.integers(200, 3000))
def test_no_legal_size_keeps_more(height: int, width: int) -> None:
    """Against all sizes there are, one by one."""

    def value(h: int, w: int) -> float:
        return h * w * kept_share(height, width, bucket=(h, w))

    steps = range(64, 4097, 64)
    legal = [(h, w) for h in steps for w in steps if h <= height and w <= width and h * w <= 512 * 512]
    bucket = choose_bucket(height, width, base=512, step=64)
    if bucket is not None:
        assert value(*bucket) >= max(value(h, w) for h, w in legal) * (1 - 1e-9)


def test_without_steps_there_is_the_square_alone() -> None:
    assert choose_bucket(128, 400, base=128, step=0) == (128, 128)
    assert choose_bucket(127, 400, base=128, step=0) is None

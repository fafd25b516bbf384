"""The method `keys`: few frames styled jointly, carried to the others along the motion.

    keys styled jointly -> made to agree -> carried from both sides -> holes styled -> median -> frames

Styled keys go to disk; all else follows from them, so a render that was stopped goes on to the same bytes.
Keys ahead are styled while frames behind are put together.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from pipeline.footage import Footage
from pipeline.image import Float32Array, UInt8Array, png_text, read_png, write_png
from pipeline.patches import Job, box_around, box_of, paint
from pipeline.plan import key_digest
from pipeline.shot import Shot
from pipeline.steady.agree import agree, steadied
from pipeline.steady.blend import to_uint8
from pipeline.steady.compose import Composed, View, compose
from pipeline.steady.correspond import by_world, trust
from pipeline.steady.cover import Patch
from pipeline.steady.detail import brightness, drawn, fine_energy, sharpened
from pipeline.steady.grain import Grain, measure, with_grain, without
from pipeline.steady.light import Answer, exponents, light_change, log_colour
from pipeline.steady.metrics import Step, chain
from pipeline.steady.noise import carry_noise
from pipeline.steady.warp import sample, source_points
from pipeline.styling import Inputs, Stylist, read_inputs, settings_of
from pipeline.timeline import Stretch

JOINT = 8  # keys that look at each other in one batch, the anchor among them
CRISP = 1.06  # of the keys' fine energy: the softest tuning shot is then 1.02 times as sharp as `frame`
DEPENDS = "depends"  # the text in a styled key's file: the digest of what decides it
MEASURED = 2  # keys whose grain is measured
AGREE_REACH = 6  # keys either way whose colours a key is brought to agree with


@dataclass(frozen=True)
class Source:
    """A picture that others take their surfaces from: float32 [H, W, 3], of a frame; `alpha` where only."""

    frame: int
    pixels: Float32Array
    alpha: Float32Array | None = None


@dataclass
class Carrier:
    """One stretch of frames between two cuts."""

    shot: Shot
    stylist: Stylist
    footage: Footage
    folder: Path  # of the styled keys
    stretch: Stretch
    worker: ThreadPoolExecutor  # one thread, in which the model works
    hands: ThreadPoolExecutor  # in which frames are put together
    grain: Grain | None = None  # what each frame gets; None: as much as the first keys have
    _crops: float = 0.0  # frames' worth of pixels made as crops
    _noises: dict[int, Float32Array] = field(default_factory=dict)
    _batches: dict[int, Future[int]] = field(default_factory=dict)
    _hops: dict[tuple[int, int], Step] = field(default_factory=dict)
    _styled: dict[int, Float32Array] = field(default_factory=dict)
    _agreed: dict[int, Float32Array] = field(default_factory=dict)
    _answers: dict[int, Answer] = field(default_factory=dict)

    def frames(self, first: int) -> Iterator[tuple[int, UInt8Array]]:
        """(index, frame uint8 [H, W, 3]) from index `first` on."""
        begin = max(self.stretch.start, first - 1)  # the median looks at one frame before
        start = next(a for a, b in itertools.pairwise(self.stretch.keys) if begin <= b)
        composed = ((pixels, *self._beside(t)) for t, pixels in self._composed(start))
        for t, pixels in zip(range(start, self.stretch.stop), steadied(composed), strict=True):
            if t >= first:
                where = drawn(self.footage.engine(t))
                sharp = sharpened(pixels, self._contrast(t) * brightness(pixels), where=where)
                seed = self.stylist.plan.seeds[t] + t
                yield t, to_uint8(with_grain(sharp, self._grain, seed=seed))

    def _contrast(self, t: int) -> float:
        """The fine detail of frame t for its brightness: between those of the keys beside it."""
        keys = self.stretch.keys
        if self.stylist.plan.key_noise == "mirrored":  # those that the seeds' own noise has drawn
            keys = keys[::2]
        after = min(bisect.bisect_left(keys, t), len(keys) - 1)
        a, b = keys[max(after - 1, 0)], keys[after]
        u = min((t - a) / (b - a), 1.0) if b > a else 0.0
        own, other = (fine_energy(key) / brightness(key) for key in map(self._styled_key, (a, b)))
        return CRISP * ((1.0 - u) * own + u * other)

    @cached_property
    def _grain(self) -> Grain:
        """The grain of every frame: the preset's, or that of the stretch's first keys."""
        if self.grain is not None:
            return self.grain
        return measure([self._raw_key(key) for key in self.stretch.keys[:MEASURED]])

    def _beside(self, t: int) -> tuple[Step | None, Step | None]:
        inside = self.stretch.start < t < self.stretch.stop - 1
        return (self.footage.back(t), self.footage.onward(t)) if inside else (None, None)

    def _composed(self, start: int) -> Iterator[tuple[int, Float32Array]]:
        """Every frame from the key `start` on, before the median."""
        for a, b in itertools.pairwise(self.stretch.keys):
            if a >= start:
                self._ask_for_keys_until(b)
                yield from self._between(a, b)
                self._forget(a)
        last = self.stretch.keys[-1]
        yield last, self._key(last).pixels

    def _between(self, a: int, b: int) -> Iterator[tuple[int, Float32Array]]:
        """Frames a .. b - 1, of which a and b are keys."""
        ways = {a: self._ways(a, range(a + 1, b)), b: self._ways(b, range(b - 1, a - 1, -1))}
        light = self._light(a, b)

        def composed(t: int, patches: Sequence[tuple[Source, dict[int, Step]]]) -> Composed:
            u = (t - a) / (b - a)
            views = [
                self._view(t, self._key(key), ways[key][t], share, light)
                for key, share in ((a, 1.0 - u), (b, u))
            ]
            views += [self._view(t, patch, there.get(t), 1.0, light) for patch, there in patches]
            return compose(views, engine=self.footage.engine(t), rim=self.footage.surfaces(t).rim)

        patches = self._patches(a, b, {p.frame: composed(p.frame, ()) for p in self._holes_between(a, b)})
        yield a, self._key(a).pixels
        between = range(a + 1, b)
        rest = self.hands.map(lambda t: composed(t, patches).pixels, between)
        yield from self._with_own_parts(list(zip(between, rest, strict=True)))

    def _with_own_parts(self, frames: list[tuple[int, Float32Array]]) -> list[tuple[int, Float32Array]]:
        """The frames with what is styled in every frame (`own_ids`) in its place."""
        own = self.stylist.plan.own_ids
        if not own:
            return frames
        jobs = []
        for t, pixels in frames:
            ids = self.footage.surfaces(t).ids
            assert ids is not None, "the plan asks for the pass"
            part = np.isin(ids, own)
            if part.any():
                jobs.append(Job(t, box_around(part, self.stylist), pixels, part))
        if not jobs:
            return frames
        painted = self.worker.submit(paint, self.shot, self.stylist, jobs).result()
        self._crops += sum(job.share for job in jobs)
        fresh = {job.frame: pixels for job, (pixels, _) in zip(jobs, painted, strict=True)}
        return [(t, fresh.get(t, pixels)) for t, pixels in frames]

    def _ways(self, source: int, numbers: range) -> dict[int, Step]:
        """The way from each frame to `source`, of frames that follow each other away from it."""
        ways: dict[int, Step] = {}
        way: Step | None = None
        for t in numbers:
            step = self.footage.onward(t) if source > t else self.footage.back(t)
            way = step if way is None else chain(step, way)
            ways[t] = way
        return ways

    def _view(self, t: int, source: Source, way: Step | None, share: float, light: Float32Array) -> View:
        """How frame t's surfaces look in a source, in the light of t."""
        if way is None:  # the source is of this frame
            assert source.alpha is not None
            return View(source.pixels, source.alpha, share)
        here = self.footage.surfaces(t)
        link = by_world(way, here, self.footage.surfaces(source.frame))
        x, y = source_points(link.flow)
        then, rim, facing = np.moveaxis(sample(self.footage.facts(source.frame), x, y), 2, 0)
        change = light_change(self.footage.facts(t)[..., 0], then, light)
        pixels = sample(source.pixels, x, y, sampling="bicubic") * change
        trusted = trust(link, here, rim_there=rim, facing_there=facing)
        if source.alpha is not None:
            trusted = trusted * sample(source.alpha, x, y)
        return View(pixels, trusted, share)

    # keys: styled, then agreed

    def _key(self, key: int) -> Source:
        if key not in self._agreed:
            at = self.stretch.keys.index(key)
            leading, following = list[View](), list[View]()
            for n, view in self._other_keys(at):
                (leading if self._rank(n) < self._rank(at) else following).append(view)
            self._agreed[key] = agree(self._styled_key(key), leading, following)
        return Source(key, self._agreed[key])

    def _rank(self, n: int) -> tuple[int, int]:
        """Keys of lower rank give those around them their detail: the middle one of a block first."""
        count = len(self.stretch.keys)
        blocks = -(-count // (2 * AGREE_REACH + 1))
        block = n * blocks // count
        first, stop = (-(-edge * count // blocks) for edge in (block, block + 1))
        return abs(2 * n - (first + stop - 1)), n

    def _other_keys(self, at: int) -> list[tuple[int, View]]:
        """The keys before and after the one numbered `at`, seen from it: their numbers and views, by rank."""
        keys, views = self.stretch.keys, list[tuple[int, View]]()
        key = keys[at]
        for step in (-1, 1):
            way: Step | None = None
            for n in range(at + step, at + step * (AGREE_REACH + 1), step):
                if not 0 <= n < len(keys):
                    break
                hop = self._hop(keys[n - step], keys[n])
                way = hop if way is None else chain(way, hop)
                source = Source(keys[n], self._styled_key(keys[n]))
                view = self._view(key, source, way, 1.0, self._light(*sorted((key, keys[n]))))
                views.append((n, view))
        return sorted(views, key=lambda each: self._rank(each[0]))

    def _hop(self, a: int, b: int) -> Step:
        """The way from key a to the key b beside it."""
        if (a, b) not in self._hops:
            toward = range(b - 1, a - 1, -1) if b > a else range(b + 1, a + 1)
            self._hops[a, b] = self._ways(b, toward)[a]
        return self._hops[a, b]

    def _light(self, a: int, b: int) -> Float32Array:
        """How the style answers to the light about keys a to b."""
        keys = self.stretch.keys
        first, last = max(0, keys.index(a) - 1), min(len(keys) - 1, keys.index(b) + 1)
        return exponents([self._answer(n) for n in range(first, last)])

    def _answer(self, n: int) -> Answer:
        """What keys n and n + 1 tell of it."""
        if n not in self._answers:
            a, b = self.stretch.keys[n], self.stretch.keys[n + 1]
            way = self._hop(a, b)
            x, y = source_points(way.flow)
            engine = self.footage.facts(a)[..., 0] - sample(self.footage.facts(b), x, y)[..., 0]
            here, there = (log_colour(self._styled_key(key)) for key in (a, b))
            self._answers[n] = Answer.of(engine[way.seen], (here - sample(there, x, y))[way.seen])
        return self._answers[n]

    def _styled_key(self, key: int) -> Float32Array:
        if key not in self._styled:
            self._styled[key] = without(self._raw_key(key), self._grain)
        return self._styled[key]

    def _raw_key(self, key: int) -> Float32Array:
        """A key as the model made it."""
        self._ask_for_keys_until(key)
        self._batches[self._batch_of(key)].result()
        return read_png(self._file(key)).astype(np.float32)

    def _file(self, key: int) -> Path:
        return self.folder / f"key.{self.stylist.plan.frame_numbers[key]:04d}.png"

    @cached_property
    def _groups(self) -> list[list[int]]:
        """Keys that are styled together, of which the first heads as anchor and the others are made.

        The first key of a stretch is made in a group that it heads. Keys whose looks differ in more than the
        prompts share no pass: each such run has an anchor of its own.
        """
        looks, groups = self.stylist.plan.looks, list[list[int]]()
        for _, run in itertools.groupby(self.stretch.keys, key=lambda t: settings_of(looks[t])):
            anchor, *rest = run
            groups.append([anchor, *rest[: JOINT - 1]])
            for n in range(JOINT - 1, len(rest), JOINT - 1):
                groups.append([anchor, *rest[n : n + JOINT - 1]])
        return groups

    def _batch_of(self, key: int) -> int:
        """The first group that a key is in: an anchor is made in the one that it heads first."""
        return next(n for n, group in enumerate(self._groups) if key in group)

    def _ask_for_keys_until(self, key: int) -> None:
        """Begin to style the batches that key and those that it agrees with are in, and one more."""
        keys = self.stretch.keys
        furthest = keys[min(len(keys) - 1, keys.index(key) + 2 * AGREE_REACH)]
        for n in range(min(len(self._groups), self._batch_of(furthest) + 2)):
            if n not in self._batches:
                self._batches[n] = self.worker.submit(self._style, n)

    def _style(self, n: int) -> int:
        """Style a batch of keys, what is there from an earlier run stays; returns how many frames it took."""
        group = self._groups[n]
        if all(self._is_there(key) for key in group):
            return 0
        plan = self.stylist.plan
        inputs = Inputs.joined([read_inputs(self.shot, plan, key, key + 1) for key in group])
        styled = self.stylist.style(group, inputs, noise=self._noise_of(group), together=True)
        for key, frame in zip(group, styled, strict=True):
            if self._batch_of(key) == n:
                write_png(self._file(key), frame, texts={DEPENDS: self._digest(n)})
        return len(group)

    def _is_there(self, key: int) -> bool:
        """Whether a key was styled as it would be now, by this plan or an earlier one."""
        return png_text(self._file(key), DEPENDS) == self._digest(self._batch_of(key))

    def _digest(self, n: int) -> str:
        return key_digest(self.stylist.plan, self._groups[n], keys=self.stretch.keys)

    def denoised(self) -> float:
        """Frames' worth of pixels that the model has made, once it is done."""
        batches = [batch for batch in self._batches.values() if not batch.cancelled()]
        return self._crops + sum(batch.result() for batch in batches if batch.exception() is None)

    def _noise_of(self, group: Sequence[int]) -> Float32Array | None:
        """The starting noise of some keys, [K, C, h, w]; None: their seeds', which are all frames'."""
        plan = self.stylist.plan
        if plan.key_noise == "fixed":
            return None
        if plan.key_noise == "fresh":
            return np.stack([self.stylist.noise(key, plan.height, plan.width, offset=key) for key in group])
        if plan.key_noise == "mirrored":
            keys = self.stretch.keys
            own = [self.stylist.noise(key, plan.height, plan.width) for key in group]
            return np.stack([-n if keys.index(k) % 2 else n for k, n in zip(group, own, strict=True)])
        self._carry_noise_to(group[-1])
        noise = np.stack([self._noises[key] for key in group])
        kept = {anchor for anchor, *_ in self._groups} | {group[-1]}
        self._noises = {key: each for key, each in self._noises.items() if key in kept}
        return noise

    def _carry_noise_to(self, key: int) -> None:
        """Noise for the keys up to one: that of the key before along the surface, its own where not seen.

        Groups are styled in order, so only the last key's noise and the anchors' are wanted again.
        """
        plan, keys = self.stylist.plan, self.stretch.keys
        first = 1 + max((keys.index(done) for done in self._noises), default=-1)
        for n in range(first, keys.index(key) + 1):
            own = self.stylist.noise(keys[n], plan.height, plan.width, offset=keys[n])
            if n > 0:
                before = keys[n - 1]
                way = self._ways(before, range(before + 1, keys[n] + 1))[keys[n]]
                own = carry_noise(self._noises[before], own, way)
            self._noises[keys[n]] = own

    def _forget(self, key: int) -> None:
        """Let go of what frames after this key do not need."""
        keys = self.stretch.keys
        for old in keys[: max(0, keys.index(key) - 2 * AGREE_REACH)]:
            self._styled.pop(old, None)
            self._agreed.pop(old, None)
            self._hops = {pair: hop for pair, hop in self._hops.items() if old not in pair}

    # what no key saw

    def _holes_between(self, a: int, b: int) -> list[Patch]:
        return [patch for patch in self.stretch.patches if a < patch.frame < b]

    def _patches(self, a: int, b: int, composed: dict[int, Composed]) -> list[tuple[Source, dict[int, Step]]]:
        """The holes between two keys styled, each with the way to it from the frames around."""
        jobs = []
        for patch in self._holes_between(a, b):
            known, box = composed[patch.frame], box_of(patch, self.stylist)
            left, top, right, bottom = box
            if known.unknown[top:bottom, left:right].any():  # else a key's view through the world knows it
                jobs.append(Job(patch.frame, box, known.pixels, known.unknown))
        if not jobs:
            return []
        painted = self.worker.submit(paint, self.shot, self.stylist, jobs).result()
        self._crops += sum(job.share for job in jobs)
        patches = []
        for job, (pixels, alpha) in zip(jobs, painted, strict=True):
            t = job.frame
            ways = self._ways(t, range(t + 1, b)) | self._ways(t, range(t - 1, a, -1))
            patches.append((Source(t, pixels, alpha), ways))
        return patches

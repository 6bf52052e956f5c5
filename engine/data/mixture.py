"""The order of samples: a pure function of (seed, sources, weights, global index).

A mixture is cut into blocks. After every block each source has been drawn as often as its weight
says, to within one sample; inside a block the order is a keyed permutation, and so is the order in
which a source's own samples come, anew each epoch. Permutations are Feistel networks with
cycle-walking (Black & Rogaway 2002, section 4), so nothing is stored and any index is found at
once, however far.

Weights that change, and sources that reach their ``max_epochs``, begin a new segment at a block's
edge: each source goes on where it was, without loss or repeats.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import RunError

_SMALLEST_BLOCK = 64
_LARGEST_BLOCK = 1 << 20
_ROUNDS = 6  # Luby & Rackoff need 4; two more as the round function is a hash of 64 bits, no PRF
_FOREVER = 1 << 62

Ints = NDArray[np.int64]
_Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class MixtureSource:
    """A source of ``size`` samples; ``max_epochs`` None repeats it as often as needed."""

    name: str
    size: int
    weight: float = 1.0
    max_epochs: float | None = None

    @property
    def limit(self) -> int:
        """Samples it may give in all."""
        return _FOREVER if self.max_epochs is None else int(self.size * Fraction(self.max_epochs))


@dataclass(frozen=True, slots=True)
class Sample:
    """Sample ``index`` of source number ``source``, in its ``epoch``-th reading (from 0)."""

    source: int
    index: int
    epoch: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """From global index ``start`` on: cumulative shares by source, and what each gave before."""

    start: int
    block: int
    edges: tuple[Fraction, ...]
    base: tuple[int, ...]

    def drawn(self, blocks: int) -> list[int]:
        """Samples of each source in the first ``blocks`` blocks of the segment.

        Rounding the cumulative shares keeps the sum exact and each source within one sample.
        """
        counts = [int(edge * blocks * self.block + Fraction(1, 2)) for edge in self.edges]
        return [b - a for a, b in zip([0, *counts], counts, strict=False)]


class Mixture:
    """``mixture[i]`` is the i-th sample of the run; ``len(mixture)`` is where every source ends."""

    def __init__(
        self,
        sources: Sequence[MixtureSource],
        seed: int,
        changes: Sequence[tuple[int, Mapping[str, float]]] = (),
    ) -> None:
        """``changes``: (global index, weights by name) from which other weights hold.

        Raises RunError for a source without samples and for a weight too small to be drawn.
        """
        for source in sources:
            if source.size < 1:
                raise RunError(
                    f"source '{source.name}' has not one whole row of tokens",
                    mend="give it more text, shorten `batch.sequence`, or leave it out",
                )
        self._sources = tuple(sources)
        self._seed = seed
        self._changes = tuple((at, dict(weights)) for at, weights in changes)
        self._segments: list[_Segment] = []
        self._length = self._lay_out()
        self._starts = [segment.start for segment in self._segments]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        return self.batch(index, 1)[0]

    @property
    def weights(self) -> dict[str, float]:
        """The weights asked for last."""
        asked = {s.name: s.weight for s in self._sources}
        return asked | self._changes[-1][1] if self._changes else asked

    @property
    def segments(self) -> list[tuple[int, dict[str, float]]]:
        """Where each segment begins, and the shares that hold in it."""
        return [
            (
                segment.start,
                {
                    source.name: float(b - a)
                    for source, a, b in zip(
                        self._sources, (Fraction(0), *segment.edges), segment.edges, strict=False
                    )
                },
            )
            for segment in self._segments
        ]

    def with_weights(self, at: int, weights: Mapping[str, float]) -> Mixture:
        """The mixture that goes on with other weights from the first block edge at or after ``at``."""
        return Mixture(self._sources, self._seed, [*self._changes, (at, weights)])

    def state(self) -> dict[str, Any]:
        """All that the order depends on beside the sources: small, JSON-able."""
        return {"seed": self._seed, "changes": [list(change) for change in self._changes]}

    def batch(self, start: int, count: int) -> list[Sample]:
        """Samples [start, start + count). Raises RunError past the mixture's end."""
        if start + count > len(self):
            raise RunError(
                f"the data ends after {len(self):,} samples: every source has reached its max_epochs",
                mend="raise max_epochs, or lower the budget",
            )
        samples: list[Sample] = []
        while count:
            number = bisect.bisect_right(self._starts, start) - 1
            segment = self._segments[number]
            block, first = divmod(start - segment.start, segment.block)
            n = min(count, segment.block - first)
            samples += self._in_block(number, segment, block, np.arange(first, first + n))
            start += n
            count -= n
        return samples

    def _in_block(
        self, number: int, segment: _Segment, block: int, places: Ints
    ) -> Iterator[Sample]:
        before, after = segment.drawn(block), segment.drawn(block + 1)
        counts = [b - a for a, b in zip(before, after, strict=True)]
        slots = permute(places, segment.block, _key(self._seed, "block", number, block))
        edges = np.cumsum(counts)
        source_of = np.searchsorted(edges, slots, "right")
        indices, epochs = np.empty_like(slots), np.empty_like(slots)
        for s in np.unique(source_of):
            here = source_of == s
            size = self._sources[s].size
            first = segment.base[s] + before[s] - (int(edges[s]) - counts[s])
            ordinals = slots[here] + first
            epochs[here] = ordinals // size
            within = ordinals % size
            for epoch in np.unique(epochs[here]):
                chosen = epochs[here] == epoch
                key = _key(self._seed, "epoch", self._sources[s].name, int(epoch))
                within[chosen] = permute(within[chosen], size, key)
            indices[here] = within
        return map(Sample, source_of.tolist(), indices.tolist(), epochs.tolist())

    def _lay_out(self) -> int:
        """Lays segment after segment, each until weights change or a source is used up."""
        base = [0] * len(self._sources)
        start = 0
        weights = {s.name: s.weight for s in self._sources}
        pending = list(self._changes)
        while True:
            while pending and pending[0][0] <= start:
                weights |= pending.pop(0)[1]
            segment = self._segment(start, weights, base)
            if segment is None:
                return start
            blocks = min(self._blocks_left(segment), _FOREVER // segment.block)
            if pending:
                blocks = min(blocks, -(-(pending[0][0] - start) // segment.block))
            if blocks:
                self._segments.append(segment)
                base = [b + d for b, d in zip(base, segment.drawn(blocks), strict=True)]
                start += blocks * segment.block
            if start >= _FOREVER // 2:
                return start
            if not blocks or not pending or pending[0][0] > start:
                weights = self._without_used_up(segment, weights, base)

    def _segment(self, start: int, weights: Mapping[str, float], base: Sequence[int]) -> _Segment | None:
        asked = [Fraction(weights[s.name]) for s in self._sources]
        total = sum(asked)
        if not total:
            return None
        shares = [w / total for w in asked]
        smallest = min(share for share in shares if share)
        block = _SMALLEST_BLOCK
        while block * smallest < 1:  # every source at least once a block
            block *= 2
        if block > _LARGEST_BLOCK:
            name = self._sources[shares.index(smallest)].name
            raise RunError(
                f"source '{name}': with a share of {float(smallest):.2g} it would hardly ever be drawn",
                mend=f"raise its weight to at least 1/{_LARGEST_BLOCK} of all, or leave it out",
            )
        edges = tuple(sum(shares[: i + 1], Fraction(0)) for i in range(len(shares)))
        return _Segment(start, block, edges, tuple(base))

    def _blocks_left(self, segment: _Segment) -> int:
        """Whole blocks until some source would pass its limit."""
        fewest = _FOREVER
        shares = np.diff([Fraction(0), *segment.edges])
        for i, source in enumerate(self._sources):
            if not shares[i]:
                continue
            left = source.limit - segment.base[i]
            blocks = max(int(left / (shares[i] * segment.block)) + 2, 0)
            while blocks and segment.drawn(blocks)[i] > left:
                blocks -= 1
            fewest = min(fewest, blocks)
        return fewest

    def _without_used_up(
        self, segment: _Segment, weights: Mapping[str, float], base: Sequence[int]
    ) -> dict[str, float]:
        """Weights without the sources that have no block's worth left."""
        drawn = segment.drawn(1)
        kept = {
            s.name: weights[s.name] if s.limit - b > d else 0.0
            for s, b, d in zip(self._sources, base, drawn, strict=True)
        }
        return dict(weights) | kept


def permute(values: Ints, size: int, key: int) -> Ints:
    """A permutation of range(size), applied to some of its members."""
    if size == 1:
        return values
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    keys = np.random.SeedSequence(key).generate_state(_ROUNDS, np.uint64)
    out = values.astype(np.uint64)
    walking = np.ones(len(out), bool)
    while walking.any():  # the network permutes a power of four; walk until back inside
        out[walking] = _feistel(out[walking], half, mask, keys)
        walking = out >= np.uint64(size)
    return out.astype(np.int64)


def _feistel(values: _Words, half: np.uint64, mask: np.uint64, keys: _Words) -> _Words:
    left, right = values >> half, values & mask
    for key in keys:
        left, right = right, left ^ (_scramble(right + key) & mask)
    return (left << half) | right


def _scramble(x: _Words) -> _Words:
    """splitmix64's finaliser (Steele et al. 2014); unsigned 64-bit arithmetic wraps around."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _key(*parts: object) -> int:
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=16).digest(), "big")

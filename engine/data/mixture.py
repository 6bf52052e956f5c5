"""The order of samples: a pure function of (seed, sources, global index).

A mixture is divided into segments, and these into blocks. At the end of every block each source has
been drawn in proportion to its share of the segment, to within one sample. Inside a block a keyed
permutation decides the order of the sources. Each pass over a source is a keyed permutation of its
samples. Nothing is stored, and any index is found in constant time from its block, whose length is
bounded.

A new segment begins when a source has reached its ``max_epochs``, and when weights change: each source
continues where it was, without loss or repeats.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from engine.data.permutation import Ints, key_of, permute
from engine.errors import RunError

_SMALLEST_BLOCK = 64
_LARGEST_BLOCK = 1 << 20
_FOREVER = 1 << 62
_ORDER = 2
"""Version of the order. In version 1 a pass could end shortly before its last samples were drawn."""


@dataclass(frozen=True, slots=True)
class MixtureSource:
    """A source of ``size`` samples with a relative weight; ``max_epochs`` None means no limit."""

    name: str
    size: int
    weight: float = 1.0
    max_epochs: float | None = None

    @property
    def limit(self) -> int:
        """Largest number of samples drawn from the source."""
        if self.max_epochs is None:
            return _FOREVER
        return min(int(self.size * _exactly(self.max_epochs)), _FOREVER)


@dataclass(frozen=True, slots=True)
class Sample:
    """Sample ``index`` of source number ``source``, in the source's pass ``epoch``, counted from 0."""

    source: int
    index: int
    epoch: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """Blocks of ``block`` samples from global index ``start`` on.

    ``members``: numbers of the sources in the segment; ``edges``: their cumulative shares; ``base``:
    samples drawn from each in earlier segments.
    """

    start: int
    block: int
    members: tuple[int, ...]
    edges: tuple[Fraction, ...]
    base: tuple[int, ...]

    def shares(self) -> Iterator[tuple[int, Fraction]]:
        """The members with their shares."""
        shares = (b - a for a, b in pairwise((Fraction(0), *self.edges)))
        return zip(self.members, shares, strict=True)

    def drawn(self, blocks: int) -> list[int]:
        """Number of samples of each member in the first ``blocks`` blocks.

        Rounding the cumulative shares keeps the sum exact and each within one sample.
        """
        counts = [int(edge * blocks * self.block + Fraction(1, 2)) for edge in self.edges]
        return [b - a for a, b in pairwise([0, *counts])]


class Mixture:
    """``mixture[i]`` is the i-th sample of the run; at ``len(mixture)`` all sources are used up."""

    def __init__(
        self,
        sources: Sequence[MixtureSource],
        seed: int,
        earlier: Sequence[tuple[int, Sequence[MixtureSource]]] = (),
    ) -> None:
        """``earlier``: pairs of a global index and the sources with their weights up to there.

        Raises RunError for a source with too few samples or too small a share.
        """
        names = [source.name for source in sources]
        assert len(set(names)) == len(names), f"names of sources must be unique: {names}"
        for source in sources:
            if source.weight:
                _check(source)
        self._sources = tuple(sources)
        self._seed = seed
        self._earlier = tuple((until, tuple(held)) for until, held in earlier)
        self._segments: list[_Segment] = []
        self._length = self._lay_out()
        self._starts = [segment.start for segment in self._segments]
        self._last: tuple[tuple[int, int], tuple[Ints, Ints]] | None = None
        """Cache of the last block, which usually contains the next samples, too."""

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        return self.batch(index, 1)[0]

    @property
    def epoch_size(self) -> int:
        """Number of samples of all sources with a weight above 0."""
        return self.samples(1)

    def samples(self, epochs: float) -> int:
        """Samples in ``epochs`` passes over all sources with a weight above 0; at least one."""
        passes = _exactly(epochs)
        return max(1, sum(int(source.size * passes) for source in self._sources if source.weight))

    @property
    def segments(self) -> list[tuple[int, dict[str, float]]]:
        """The start of each segment, and the shares of its sources by name."""
        return [
            (segment.start, {self._sources[m].name: float(share) for m, share in segment.shares()})
            for segment in self._segments
        ]

    def state(self) -> dict[str, Any]:
        """Everything that the order depends on: small, JSON-serialisable."""
        return {
            "order": _ORDER,
            "seed": self._seed,
            "sources": [astuple(source) for source in self._sources],
            "earlier": [(until, [astuple(s) for s in held]) for until, held in self._earlier],
        }

    def resumed(self, state: Mapping[str, Any], at: int) -> Mixture:
        """Continues the order recorded in ``state``: it holds up to the first block edge at or after
        sample ``at``; from there on, this mixture's weights and ``max_epochs`` hold.

        Raises RunError if the sources differ, or if the order is of an older version.
        """
        if state.get("order") != _ORDER:
            raise RunError(
                "the checkpoint was written by a version of the engine with another order of samples",
                hint="resume with that version, or restart the stage with --rerun",
            )
        was = [MixtureSource(*source) for source in state["sources"]]
        sizes, now = ([(s.name, s.size) for s in held] for held in (was, self._sources))
        if sizes != now:
            raise RunError(
                f"the data has changed: {dict(sizes)} samples, now {dict(now)}",
                hint="restore the old data, or restart the stage with --rerun",
            )
        earlier = [
            (until, [MixtureSource(*source) for source in held]) for until, held in state["earlier"]
        ]
        changed = [(at, was)] if was != list(self._sources) else []
        return Mixture(self._sources, state["seed"], [*earlier, *changed])

    def batch(self, start: int, count: int) -> list[Sample]:
        """Samples [start, start + count). Raises IndexError outside the mixture."""
        if not 0 <= start <= start + count <= len(self):
            raise IndexError(f"samples {start} to {start + count} of {len(self)}")
        samples: list[Sample] = []
        while count:
            number = bisect.bisect_right(self._starts, start) - 1
            segment = self._segments[number]
            block, first = divmod(start - segment.start, segment.block)
            size = min(count, segment.block - first)
            samples += self._in_block(number, block, np.arange(first, first + size))
            start += size
            count -= size
        return samples

    def _in_block(self, number: int, block: int, positions: Ints) -> Iterator[Sample]:
        """Samples at some positions of a block of segment ``number``."""
        segment = self._segments[number]
        members, ordinals = (array[positions] for array in self._block(number, block))
        indices, epochs = np.empty_like(ordinals), np.empty_like(ordinals)
        for member in np.unique(members):
            source = self._sources[segment.members[member]]
            mine = members == member
            epochs[mine], indices[mine] = np.divmod(ordinals[mine], source.size)
            for epoch in np.unique(epochs[mine]):
                read = mine & (epochs == epoch)
                key = key_of(self._seed, "epoch", source.name, int(epoch))
                indices[read] = permute(indices[read], source.size, key)
        numbers = np.array(segment.members)[members]
        return map(Sample, numbers.tolist(), indices.tolist(), epochs.tolist())

    def _block(self, number: int, block: int) -> tuple[Ints, Ints]:
        """The member drawn at every position of a block, and how often it was drawn before."""
        if self._last is None or self._last[0] != (number, block):
            segment = self._segments[number]
            before, after = np.array(segment.drawn(block)), np.array(segment.drawn(block + 1))
            ends = np.cumsum(after - before)
            key = key_of(self._seed, "block", number, block)
            slots = permute(np.arange(segment.block), segment.block, key)
            members = np.searchsorted(ends, slots, "right")
            ordinals = np.empty_like(slots)
            # A stable sort keeps a member's positions in order, so that its ordinals increase.
            first = np.array(segment.base) + before - (ends - (after - before))
            ordinals[np.argsort(members, kind="stable")] = np.arange(segment.block)
            self._last = (number, block), (members, ordinals + first[members])
        return self._last[1]

    def _lay_out(self) -> int:
        """Builds the segments, each up to a change of weights or the end of a source; returns the
        length of the mixture."""
        given = [0] * len(self._sources)
        pending = list(self._earlier)
        start = 0
        while start < _FOREVER:
            while pending and pending[0][0] <= start:
                pending.pop(0)
            until, sources = pending[0] if pending else (_FOREVER, self._sources)
            segment, blocks = _segment(start, sources, given)
            if segment is None:
                break
            blocks = min(blocks, -(-(until - start) // segment.block))
            self._segments.append(segment)
            for member, count in zip(segment.members, segment.drawn(blocks), strict=True):
                given[member] += count
            start += blocks * segment.block
        return start


def _segment(
    start: int, sources: Sequence[MixtureSource], given: Sequence[int]
) -> tuple[_Segment | None, int]:
    """The segment that begins at ``start``, and the number of blocks that all its sources can fill;
    None if all sources are used up. ``given``: samples already drawn from each source.

    The source that will be used up first comes first in the cumulative shares. So its remaining samples
    are drawn exactly, in a last segment of one short block (or two, for a share above 1/2).
    """
    left = [source.limit - g for source, g in zip(sources, given, strict=True)]
    weights = {i: _exactly(s.weight) for i, s in enumerate(sources) if s.weight and left[i] > 0}
    if not weights:
        return None, 0
    total = sum(weights.values())
    shares = {i: weight / total for i, weight in weights.items()}
    first = min(shares, key=lambda number: left[number] / shares[number])
    members = sorted(shares, key=lambda number: number != first)
    edges = tuple(accumulate(shares[i] for i in members))
    block = _block(sources, shares)
    samples = int(left[first] / shares[first])
    block = min(block, samples)
    segment = _Segment(start, block, tuple(members), edges, tuple(given[i] for i in members))
    return segment, samples // block


def _block(sources: Sequence[MixtureSource], shares: Mapping[int, Fraction]) -> int:
    """Length of a block in which even the smallest share is one sample. Raises RunError above 2^20."""
    smallest = min(shares, key=lambda number: shares[number])
    block = _SMALLEST_BLOCK
    while block * shares[smallest] < 1:
        block *= 2
    if block > _LARGEST_BLOCK:
        raise RunError(
            f"source '{sources[smallest].name}': with a share of {float(shares[smallest]):.2g} it "
            "would hardly ever be drawn",
            hint=f"raise its weight to at least 1/{_LARGEST_BLOCK} of all, or leave it out",
        )
    return block


def _check(source: MixtureSource) -> None:
    """Raises RunError for a source without a single sample."""
    if source.size < 1:
        raise RunError(
            f"source '{source.name}' has less than one row of tokens",
            hint="give it more text, shorten `batch.sequence`, or leave it out",
        )
    if source.limit < 1:
        raise RunError(
            f"source '{source.name}': max_epochs {source.max_epochs} of {source.size} samples "
            "is less than one sample",
            hint="raise max_epochs, or leave the source out",
        )


def _exactly(number: float) -> Fraction:
    """The number as it is written in decimal: 0.1 is exactly one tenth."""
    return Fraction(str(number))

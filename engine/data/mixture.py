"""The order of samples: a pure function of (seed, sources, global index).

A mixture is cut into segments, and these into blocks. At the end of every block each source has
been drawn as often as its share of the segment says, to within one sample. Inside a block a keyed
permutation says which source comes when; the n-th sample that a source gives is the n-th of its
passes, each of which is a keyed permutation of its own over all that it has. Nothing is stored, and
any index is found at once, however far: by its block, which has a bounded length.

A new segment begins where a source has given all that its ``max_epochs`` allows, and where other
weights are asked for: each source goes on where it was, without loss or repeats.
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
"""Version of the order. In the first a pass could end a little before its last samples had come."""


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
        if self.max_epochs is None:
            return _FOREVER
        return min(int(self.size * _exactly(self.max_epochs)), _FOREVER)


@dataclass(frozen=True, slots=True)
class Sample:
    """Sample ``index`` of source number ``source``, in its ``epoch``-th reading (from 0)."""

    source: int
    index: int
    epoch: int


@dataclass(frozen=True, slots=True)
class _Segment:
    """Blocks of ``block`` samples from global index ``start`` on.

    ``members`` are the numbers of the sources that take part, ``edges`` their cumulative shares,
    ``base`` what each gave in earlier segments.
    """

    start: int
    block: int
    members: tuple[int, ...]
    edges: tuple[Fraction, ...]
    base: tuple[int, ...]

    def shares(self) -> Iterator[tuple[int, Fraction]]:
        """Members, each with its share."""
        shares = (b - a for a, b in pairwise((Fraction(0), *self.edges)))
        return zip(self.members, shares, strict=True)

    def drawn(self, blocks: int) -> list[int]:
        """Samples of each member in the first ``blocks`` blocks.

        Rounding the cumulative shares keeps the sum exact and each within one sample.
        """
        counts = [int(edge * blocks * self.block + Fraction(1, 2)) for edge in self.edges]
        return [b - a for a, b in pairwise([0, *counts])]


class Mixture:
    """``mixture[i]`` is the i-th sample of the run; ``len(mixture)`` is where every source ends."""

    def __init__(
        self,
        sources: Sequence[MixtureSource],
        seed: int,
        earlier: Sequence[tuple[int, Sequence[MixtureSource]]] = (),
    ) -> None:
        """``earlier``: (global index, the sources with the weights that held up to there).

        Raises RunError for a source that can give nothing or would hardly ever be drawn.
        """
        names = [source.name for source in sources]
        assert len(set(names)) == len(names), f"names tell sources apart: {names}"
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
        """The block that was asked for last, as the next samples are most often in it as well."""

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Sample:
        return self.batch(index, 1)[0]

    @property
    def epoch_size(self) -> int:
        """Samples of all sources that have a weight."""
        return self.samples(1)

    def samples(self, epochs: float) -> int:
        """Samples of so many passes over all sources that have a weight; at least one."""
        passes = _exactly(epochs)
        return max(1, sum(int(source.size * passes) for source in self._sources if source.weight))

    @property
    def segments(self) -> list[tuple[int, dict[str, float]]]:
        """Where each segment begins, and the shares of the sources that take part in it."""
        return [
            (segment.start, {self._sources[m].name: float(share) for m, share in segment.shares()})
            for segment in self._segments
        ]

    def state(self) -> dict[str, Any]:
        """All that the order depends on: small, JSON-able."""
        return {
            "order": _ORDER,
            "seed": self._seed,
            "sources": [astuple(source) for source in self._sources],
            "earlier": [(until, [astuple(s) for s in held]) for until, held in self._earlier],
        }

    def resumed(self, state: Mapping[str, Any], at: int) -> Mixture:
        """The order that ``state`` recorded, up to the first block edge from sample ``at`` on; from
        there this mixture's weights and ``max_epochs``.

        Raises RunError where the sources themselves are not the same, or the order is an older one.
        """
        if state.get("order") != _ORDER:
            raise RunError(
                "the checkpoint is of a version of the engine that put samples in another order",
                mend="go on with that version, or start the stage anew with --rerun",
            )
        was = [MixtureSource(*source) for source in state["sources"]]
        sizes, now = ([(s.name, s.size) for s in held] for held in (was, self._sources))
        if sizes != now:
            raise RunError(
                f"the data is not what it was: {dict(sizes)} samples, now {dict(now)}",
                mend="bring the old data back, or start the stage anew with --rerun",
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
            n = min(count, segment.block - first)
            samples += self._in_block(number, block, np.arange(first, first + n))
            start += n
            count -= n
        return samples

    def _in_block(self, number: int, block: int, places: Ints) -> Iterator[Sample]:
        """Samples at some places of a block."""
        segment = self._segments[number]
        members, ordinals = (array[places] for array in self._block(number, block))
        indices, epochs = np.empty_like(ordinals), np.empty_like(ordinals)
        for m in np.unique(members):
            source = self._sources[segment.members[m]]
            mine = members == m
            epochs[mine], indices[mine] = np.divmod(ordinals[mine], source.size)
            for epoch in np.unique(epochs[mine]):
                read = mine & (epochs == epoch)
                key = key_of(self._seed, "epoch", source.name, int(epoch))
                indices[read] = permute(indices[read], source.size, key)
        numbers = np.array(segment.members)[members]
        return map(Sample, numbers.tolist(), indices.tolist(), epochs.tolist())

    def _block(self, number: int, block: int) -> tuple[Ints, Ints]:
        """At every place of a block the member that is drawn, and how many it gave before."""
        if self._last is None or self._last[0] != (number, block):
            segment = self._segments[number]
            before, after = np.array(segment.drawn(block)), np.array(segment.drawn(block + 1))
            ends = np.cumsum(after - before)
            key = key_of(self._seed, "block", number, block)
            slots = permute(np.arange(segment.block), segment.block, key)
            members = np.searchsorted(ends, slots, "right")
            ordinals = np.empty_like(slots)
            # A stable sort keeps the places of a member in their order, in which it counts on.
            first = np.array(segment.base) + before - (ends - (after - before))
            ordinals[np.argsort(members, kind="stable")] = np.arange(segment.block)
            self._last = (number, block), (members, ordinals + first[members])
        return self._last[1]

    def _lay_out(self) -> int:
        """Lays segment after segment, each until weights change or a source is used up."""
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
    """The segment that begins at ``start``, and how many blocks every source can fill of it.

    The source that will be used up first has the first of the cumulative shares. So what it has
    left comes out exactly, in a last segment of one short block (or two, for a share above 1/2).
    """
    left = [source.limit - g for source, g in zip(sources, given, strict=True)]
    weights = {i: _exactly(s.weight) for i, s in enumerate(sources) if s.weight and left[i] > 0}
    if not weights:
        return None, 0
    total = sum(weights.values())
    shares = {i: weight / total for i, weight in weights.items()}
    first = min(shares, key=lambda i: left[i] / shares[i])
    members = sorted(shares, key=lambda i: i != first)
    edges = tuple(accumulate(shares[i] for i in members))
    block = _block(sources, shares)
    samples = int(left[first] / shares[first])
    block = min(block, samples)
    segment = _Segment(start, block, tuple(members), edges, tuple(given[i] for i in members))
    return segment, samples // block


def _block(sources: Sequence[MixtureSource], shares: Mapping[int, Fraction]) -> int:
    """The block in which even the smallest share is one sample. Raises RunError above 2^20."""
    smallest = min(shares, key=lambda i: shares[i])
    block = _SMALLEST_BLOCK
    while block * shares[smallest] < 1:
        block *= 2
    if block > _LARGEST_BLOCK:
        raise RunError(
            f"source '{sources[smallest].name}': with a share of {float(shares[smallest]):.2g} it "
            "would hardly ever be drawn",
            mend=f"raise its weight to at least 1/{_LARGEST_BLOCK} of all, or leave it out",
        )
    return block


def _check(source: MixtureSource) -> None:
    """Raises RunError for a source that has a weight but not one sample to give."""
    if source.size < 1:
        raise RunError(
            f"source '{source.name}' has not one whole row of tokens",
            mend="give it more text, shorten `batch.sequence`, or leave it out",
        )
    if source.limit < 1:
        raise RunError(
            f"source '{source.name}': max_epochs {source.max_epochs} of {source.size} samples "
            "is not one sample",
            mend="raise max_epochs, or leave the source out",
        )


def _exactly(number: float) -> Fraction:
    """The number as it is written: 0.1 is a tenth."""
    return Fraction(str(number))

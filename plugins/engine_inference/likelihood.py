"""Log-probabilities of tokens given the tokens before them, for many rows with shared prefixes.

Shapes: B trees, T tokens of a tree, P of its prefix, L = P + T, N places, M scored tokens, D hidden
width, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine.modeling import ScoredRow, backbone, head, head_parts
from engine_inference.prefix_trees import Row, Run, Tree, common, each_alone, plan

_LOGITS = 1 << 20
"""Logits held at once: 4 MB in float32, which fit into a CPU cache."""
_ROUNDING = (0.05, 0.01)
"""What 16-bit and wider numbers may differ by, relative to their norm, TF32 products included. Ignoring
the mask changes those of a Llama, an untrained one's too, by 12 to 60 %."""
_LEAST_PART = 1024
"""Fewest vocabulary entries in a product."""


@dataclass(frozen=True, slots=True)
class Found:
    """A row's scored tokens: log P of each in nats, the same at the requested temperature, and whether
    it is the most probable token."""

    logprobs: Tensor
    tempered: Tensor
    greedy: bool


def read(row: ScoredRow) -> Row:
    """The tokens that a model must read to score a row: all but the last."""
    return Row(row.tokens[:-1], len(row.tokens) - 1 - row.scored)


class Scorer:
    """Scores rows in batches of at most ``batch_tokens`` tokens, the longest first."""

    def __init__(self, model: nn.Module, batch_tokens: int) -> None:
        self._model = model
        self._batch_tokens = batch_tokens
        self._device = next(model.parameters()).device
        self._shares: bool | None = None

    def score(
        self,
        rows: Sequence[ScoredRow],
        progress: Callable[[int], None] = lambda done: None,
        temperature: float = 1.0,
    ) -> list[Found]:
        """Scores rows; returns results in their order. ``progress`` gets the number of finished
        rows."""
        reads = [read(row) for row in rows]
        found: dict[int, Found] = {}
        for run in plan(reads) if self.shares else each_alone(reads):
            if not run.trees:
                continue
            prefix = self._prefix(reads[run.trees[0].rows[0]].tokens[: run.prefix])
            for batch in self._batches(run):
                packed = [_Packed(reads, t, run.prefix) for t in batch]
                found |= self._score(rows, packed, prefix, temperature)
                progress(len(found))
        return [found[i] for i in range(len(rows))]

    @property
    def shares(self) -> bool:
        """Whether trees give the same results as single rows; not so for every kind of attention."""
        if self._shares is None:
            self._shares = _reads_trees(self._model, self._device)
        return self._shares

    def _prefix(self, tokens: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Keys and values of a prefix in each layer, ``_1KPE``."""
        if not tokens:
            return []
        ids = torch.tensor([tokens], device=self._device)
        read = cast("Any", backbone(self._model))(input_ids=ids, use_cache=True)
        return [(layer.keys, layer.values) for layer in read.past_key_values.layers]

    def _batches(self, run: Run) -> Iterator[Sequence[Tree]]:
        """Batches of trees, the largest first; small trees fill the space that larger ones leave."""
        trees = deque(sorted(run.trees, key=lambda tree: -tree.size))
        masked = run.prefix or any(len(tree.rows) > 1 for tree in trees)
        while trees:
            width = trees[0].size
            batch: list[Tree] = []
            while trees and len(batch) < max(1, self._batch_tokens // (run.prefix + width)):
                tree = trees.popleft()
                while masked and trees and tree.size + trees[-1].size <= width:
                    tree += trees.pop()
                batch.append(tree)
            yield batch

    def _score(
        self,
        rows: Sequence[ScoredRow],
        trees: Sequence[_Packed],
        prefix: Sequence[tuple[Tensor, Tensor]],
        temperature: float,
    ) -> dict[int, Found]:
        hidden_BTD = read_trees(self._model, trees, prefix, self._device)
        width = hidden_BTD.shape[1]
        places: dict[int, int] = {}  # each scored place once, as the head is expensive
        at: list[int] = []
        labels: list[int] = []
        owners: list[int] = []
        for index, tree in enumerate(trees):
            for number, path in tree.paths.items():
                row = rows[number]
                owners.append(number)
                labels += row.tokens[len(row.tokens) - row.scored :]
                asked = path[len(path) - row.scored :]
                at += [places.setdefault(index * width + place, len(places)) for place in asked]
        chosen_ND = hidden_BTD.flatten(0, 1)[torch.tensor(list(places), device=self._device)]
        logprob_M, greedy_M = _answers(chosen_ND, head(self._model), at, labels)
        tempered_M = logprob_M
        if temperature != 1:
            tempered_M, _ = _answers(chosen_ND, head(self._model), at, labels, temperature)
        counts = [rows[number].scored for number in owners]
        parts = zip(
            owners, *(m.split(counts) for m in (logprob_M, tempered_M, greedy_M)), strict=True
        )
        return {number: Found(p, t, bool(g.all())) for number, p, t, g in parts}


class _Packed:
    """A tree's tokens in one row; ``paths`` gives the places of each row's tokens beyond the prefix, by
    the row's number."""

    def __init__(self, reads: Sequence[Row], tree: Tree, prefix: int) -> None:
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.paths: dict[int, list[int]] = {}
        self.branches: list[tuple[int, int, int]] = []
        """For each branch: the place before it on its row (or -1), its start and its end."""
        before: Sequence[int] = ()
        path: list[int] = []
        for number in tree.rows:
            tokens = reads[number].tokens
            shared = max(0, common(before, tokens) - prefix) if before else 0
            start, new = len(self.tokens), tokens[prefix + shared :]
            path = [*path[:shared], *range(start, start + len(new))]
            if new:
                self.branches.append((path[shared - 1] if shared else -1, start, start + len(new)))
            self.tokens += new
            self.positions += range(prefix + shared, prefix + shared + len(new))
            self.paths[number] = path
            before = tokens

    def mask(self, width: int) -> Tensor:
        """The attention mask ``_TT``; padding attends to itself, as no row of a mask may be empty."""
        seen_TT = torch.eye(width, dtype=torch.bool)
        for parent, start, end in self.branches:
            if parent >= 0:
                seen_TT[start:end] = seen_TT[parent]
            seen_TT[start:end, start:end] = torch.ones(end - start, end - start).tril().bool()
        return seen_TT


def read_trees(
    model: nn.Module,
    trees: Sequence[_Packed],
    prefix: Sequence[tuple[Tensor, Tensor]],
    device: torch.device,
) -> Tensor:
    """Computes the hidden states ``_BTD`` of trees."""
    width = max(len(tree.tokens) for tree in trees)
    ids, positions = torch.zeros(2, len(trees), width, dtype=torch.long)
    for index, tree in enumerate(trees):
        length = len(tree.tokens)
        ids[index, :length] = torch.tensor(tree.tokens)
        positions[index, :length] = torch.tensor(tree.positions)
    inputs: dict[str, Any] = {"input_ids": ids.to(device)}
    plain = not prefix and all(len(tree.branches) == 1 for tree in trees)
    if not plain:  # else causal attention hides the padding on the right
        past = prefix[0][0].shape[2] if prefix else 0
        seen_BTL = torch.ones(len(trees), 1, width, past + width, dtype=torch.bool)
        for index, tree in enumerate(trees):
            seen_BTL[index, 0, :, past:] = tree.mask(width)
        inputs |= {"position_ids": positions.to(device), "attention_mask": seen_BTL.to(device)}
    if prefix:
        inputs |= {"past_key_values": _cache(prefix, len(trees)), "use_cache": True}
    else:
        inputs["use_cache"] = False
    return cast("Tensor", cast("Any", backbone(model))(**inputs).last_hidden_state)


def _cache(prefix: Sequence[tuple[Tensor, Tensor]], rows: int) -> Any:
    """A cache in which all rows share a prefix, without a copy until a layer appends to it."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    cache = DynamicCache()
    cache.layer_class_to_replicate = None
    for key_1KPE, value_1KPE in prefix:
        layer = DynamicLayer()
        layer.lazy_initialization(key_1KPE, value_1KPE)
        layer.keys = key_1KPE.expand(rows, -1, -1, -1)
        layer.values = value_1KPE.expand(rows, -1, -1, -1)
        cache.layers.append(layer)
    return cache


def _answers(
    hidden_ND: Tensor,
    output_head: nn.Module,
    at: Sequence[int],
    labels: Sequence[int],
    temperature: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """log P of each label at its place, and whether it is the most probable token.

    Processes the vocabulary in parts, so that a part's logits are still in the CPU cache when summed.
    """
    weight_VD, bias_V, logit_map = head_parts(output_head)
    hidden_ND = hidden_ND.to(weight_VD.dtype)  # see `engine.modeling.through`
    size = max(_LEAST_PART, _LOGITS // len(hidden_ND))
    at_M = torch.tensor(at, device=hidden_ND.device)
    labels_M = torch.tensor(labels, device=hidden_ND.device)
    total_N = torch.full(hidden_ND.shape[:1], -torch.inf, device=hidden_ND.device)
    most_N = total_N.clone()
    likeliest_N = torch.zeros_like(total_N, dtype=torch.long)
    chosen_M = torch.empty(len(labels), device=hidden_ND.device)
    for start in range(0, weight_VD.shape[0], size):
        part = slice(start, start + size)
        bias = None if bias_V is None else bias_V[part]
        logits_NV = nn.functional.linear(hidden_ND, weight_VD[part], bias).float()
        if logit_map is not None:
            logits_NV = logit_map(logits_NV)
        if temperature != 1:
            logits_NV /= temperature
        most, likeliest = logits_NV.max(1)
        likeliest_N = torch.where(most > most_N, likeliest + start, likeliest_N)
        most_N = torch.maximum(most, most_N)
        # −log of the largest share in this part, by the fastest kernel for such sums.
        share_N = nn.functional.cross_entropy(logits_NV, likeliest, reduction="none")
        total_N = torch.logaddexp(total_N, share_N + most)
        here = ((labels_M >= start) & (labels_M < start + size)).nonzero()[:, 0]
        chosen_M[here] = logits_NV[at_M[here], labels_M[here] - start]
    return chosen_M - total_N[at_M], likeliest_N[at_M] == labels_M


def _sets(config: Any, name: str) -> bool:
    try:
        return bool(getattr(config, name, None))
    except RuntimeError:  # of transformers, where layers have values of their own
        return True


@torch.inference_mode()
def _reads_trees(model: nn.Module, device: torch.device) -> bool:
    """Tests whether the model can read trees: compares two rows as a tree, with a prefix, and alone."""
    config = cast("Any", model).config
    if _sets(config, "sliding_window") or _sets(config, "index_topk"):
        return False  # which are longer than the test rows
    rows = [Row([3, 1, 4, 1, 5], 4), Row([3, 1, 4, 2, 6, 5], 5)]
    try:
        scorer = Scorer(model, 64)
        alone = [_Packed(rows, Tree((i,), 9), 0) for i in range(2)]
        plainly = [read_trees(model, [one], [], device)[0, -1] for one in alone]
        for past in (0, 2):
            packed = _Packed(rows, Tree((0, 1), 9), past)
            prefix = scorer._prefix(rows[0].tokens[:past])
            hidden_TD = read_trees(model, [packed], prefix, device)[0]
            for number, expected_D in enumerate(plainly):
                error = (hidden_TD[packed.paths[number][-1]] - expected_D).float().norm()
                if not error < _ROUNDING[expected_D.dtype.itemsize > 2] * expected_D.float().norm():
                    return False
    except (TypeError, ValueError, AttributeError, RuntimeError, IndexError):
        return False
    return True

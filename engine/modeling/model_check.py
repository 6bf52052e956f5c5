"""Checks on a few tokens that the engine computes a model as the model itself does.

The engine computes losses, scores and texts as ``head(backbone(x))`` with kernels of its own, and packs
several documents into a row. Comparing with the model's own forward pass shows whether that is right,
for any architecture; a list of names would never be complete.

Shapes: B rows, T positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from engine.errors import SpecError
from engine.modeling.heads import (
    backbone,
    head,
    is_scalar,
    mark_packing,
    plain_head,
)
from engine.modeling.output_head import LogitMap, note_logit_map
from engine.modeling.small_model import small_copy

_TOKENS = ((1, 2, 3, 4, 5), (1, 2, 3, 4, 6))
_BEFORE = (7, 8, 9)
_LONG = (9, 13)
"""Tokens of documents that are longer than the windows of a small copy."""
_ROUNDING = 1e-4
"""Relative tolerance: experts and blocks of other sizes round differently by 1e-6; an attended document
or a transformation changes hidden states by 5e-4 and more."""
_LARGEST = 60.0
"""Largest logit of the probe, so that any cap on logits that training would reach has an effect."""
_SMALL, _LARGE = 1e-3, 1e6
"""Logits that no cap changes, and that every cap stops."""
_LOSS = 1e-6
"""Tolerance of what a model adds to the cross-entropy, which is 0 where nothing changes its logits."""
_HINT = "use another architecture; most decoders are supported"


@torch.no_grad()
def examine(model: nn.Module, *, learns: bool) -> None:
    """Records whether the model can read packed documents. Raises SpecError for a model that the engine
    would compute wrongly and, if it ``learns``, for one that adds terms to its loss."""
    mode = model.training
    model.eval()
    try:
        _examine(cast("Any", model), learns=learns)
    except (AttributeError, ImportError, LookupError, RuntimeError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())
        raise _refused(model, f"cannot be read as a causal language model: {why}") from error
    finally:
        model.train(mode)


def _examine(model: Any, *, learns: bool) -> None:
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise SpecError(
                f"model '{model.name_or_path or model.config.model_type}' has NaN or infinite weights: "
                f"{name}",
                hint="use a checkpoint from before its training diverged",
            )
    ids_BT = _ids(model, _TOKENS)
    hidden_BTD = backbone(model)(input_ids=ids_BT, use_cache=False).last_hidden_state
    if not _alike(hidden_BTD[0, :-1], hidden_BTD[1, :-1]):
        raise _refused(model, "is not causal: it sees the tokens that it is to predict")
    ids_BT, hidden_BTD = ids_BT[:1], hidden_BTD[:1]  # a scalar model pads several rows
    labels = {"labels": ids_BT} if learns and not is_scalar(model) else {}
    probed = _Probed(model, labels, ids_BT)
    output: Any = head(model) if is_scalar(model) else plain_head(model)
    bias = getattr(output, "bias", None)
    scale = _scale(model, hidden_BTD, probed.hidden)
    if scale is None or (scale != 1 and (bias is not None or is_scalar(model))):
        raise _refused(model, "transforms its hidden states between backbone and head")
    if not _alike(probed.logits, linear(scale * hidden_BTD, output.weight, bias)):
        raise _refused(model, "has a head that is not linear")
    if is_scalar(model):  # its output is the last position's value
        if not bool(torch.isin(probed.final, probed.probe).all()):
            raise _refused(model, "changes its value after the head")
    else:
        note_logit_map(output, _logit_map(model, ids_BT, probed, scale))
    if labels and not abs(float(probed.loss) - probed.cross_entropy(ids_BT)) <= _LOSS:
        raise _refused(
            model,
            "has another loss than the cross-entropy of the next tokens, such as one with a term "
            "for the balance of experts",
            "set output_router_logits: false, in the model's `config` or its config.json",
        )
    small = _small(model)
    if small is not None and not _alike(_read(small, _LONG[-1:]), _read(small, _LONG[-1:])):
        raise _refused(model, "draws random numbers as it reads a text")
    if small is not None and not _is_causal(small):
        raise _refused(model, "is not causal: in long rows it depends on what follows a token")
    packs = small is not None and _packs(model, ids_BT, hidden_BTD[0]) and _packs_long_rows(small)
    mark_packing(model, packs=packs)


def _scale(model: Any, before: Tensor, after: Tensor) -> float | None:
    """The number that all values are multiplied with; None where there is none."""
    if before.shape != after.shape:
        return None
    if _alike(after, before):
        return 1.0
    scale = _as_given(model, float((after * before).sum() / before.square().sum()))
    return scale if _alike(after, scale * before) else None


def _logit_map(model: Any, ids_BT: Tensor, probed: _Probed, before: float) -> LogitMap | None:
    """What the model does to the logits that its head alone gives; None where that is nothing.

    ``before``: the factor of the hidden states that the head gets.
    """
    same = probed.final.shape == probed.probe.shape
    if same and _alike(probed.final, probed.probe):
        return None if before == 1 else LogitMap(before)
    if same:
        least, most = (_Probed(model, {}, ids_BT, size) for size in (_SMALL, _LARGE))
        scale = float((least.final * least.probe).sum() / least.probe.square().sum())
        cap = float(most.final.abs().max())
        found = LogitMap(
            _as_given(model, scale),
            None if cap > 0.5 * scale * _LARGE else _as_given(model, cap),
        )
        if _alike(found(probed.probe), probed.final):
            return replace(found, scale=found.scale * before)
    raise _refused(model, "changes its logits after the head, by more than a scale and a soft cap")


def _as_given(model: Any, measured: float) -> float:
    """The number of the config, or one over it, that was measured up to rounding; else the measured."""
    given = model.config.to_dict().values()
    numbers = [float(n) for n in given if isinstance(n, int | float) and n]
    near = [n for v in numbers for n in (v, 1 / v) if math.isclose(n, measured, rel_tol=1e-3)]
    return min(near, key=lambda n: abs(n - measured), default=measured)


class _Probed:
    """A model's own forward pass with the output of its head replaced by a ``probe`` up to ``size``.

    ``hidden`` is the head's input, ``logits`` its own output; ``final`` and ``loss`` are the model's.
    """

    def __init__(
        self, model: Any, labels: dict[str, Tensor], ids_BT: Tensor, size: float = _LARGEST
    ) -> None:
        seen: list[Tensor] = []

        def probing(module: nn.Module, given: tuple[Tensor, ...], logits: Tensor) -> Tensor:
            count = logits.numel()
            mixed = torch.randperm(count, generator=torch.Generator().manual_seed(0))
            probe = (mixed.to(logits) / count - 1).view_as(logits) * size
            if not is_scalar(model):  # the next token has P ≈ 1, so the cross-entropy is 0
                probe[:, :-1].scatter_(-1, ids_BT[:, 1:, None], size)
            seen[:] = [given[0], logits, probe]
            return probe

        plain = head(model) if is_scalar(model) else plain_head(model)
        hook = plain.register_forward_hook(probing)
        try:
            found = model(input_ids=ids_BT, use_cache=False, **labels)
        finally:
            hook.remove()
        self.hidden, self.logits, self.probe = seen
        self.final, self.loss = found.logits, found.loss

    def cross_entropy(self, ids_BT: Tensor) -> float:
        """Of the next tokens by the model's logits, which is its loss unless it adds terms."""
        return float(cross_entropy(self.final[0, :-1].float(), ids_BT[0, 1:]))


def _packs(model: Any, ids_1T: Tensor, alone_TD: Tensor) -> bool:
    """Whether a document packed after another one gets the hidden states that it has alone."""
    ids = _ids(model, [_BEFORE])
    places = [torch.arange(part.shape[1], device=ids.device) for part in (ids, ids_1T)]
    try:
        read = backbone(model)(
            input_ids=torch.cat([ids, ids_1T], 1),
            position_ids=torch.cat(places)[None],
            use_cache=False,
        )
    except (TypeError, ValueError, RuntimeError):  # takes no position ids
        return False
    return _alike(read.last_hidden_state[0, len(_BEFORE) :], alone_TD)


def _small(model: Any) -> Any:
    """A small copy that reads rows longer than any window; None where none can be made."""
    try:
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            small = small_copy(model).eval()
        _read(small, _LONG[-1:])
    except Exception:  # a model's code may raise anything for sizes that it was not made for
        return None
    return small


def _is_causal(small: Any) -> bool:
    """Whether hidden states stay what they are when a longer row follows."""
    short, long = _LONG
    return _alike(_read(small, [long])[:short], _read(small, [short]))


def _packs_long_rows(small: Any) -> bool:
    """Whether packed documents longer than any window have the hidden states of each alone."""
    return _alike(_read(small, _LONG), torch.cat([_read(small, [n]) for n in _LONG]))


def _read(small: Any, lengths: Sequence[int]) -> Tensor:
    """Hidden states ``_TD`` of documents of these lengths, packed into one row."""
    ids = torch.cat([torch.arange(n) % small.config.vocab_size for n in lengths])
    places = torch.cat([torch.arange(n) for n in lengths])
    given = {} if len(lengths) == 1 else {"position_ids": places[None]}
    read = backbone(small)(input_ids=ids[None], use_cache=False, **given)
    hidden_TD: Tensor = read.last_hidden_state[0]
    return hidden_TD


def _ids(model: Any, tokens_BT: Sequence[Sequence[int]]) -> Tensor:
    """Token ids ``_BT``, modulo the model's vocabulary size."""
    ids_BT: Tensor = torch.tensor(tokens_BT, device=model.device) % model.config.vocab_size
    return ids_BT


def _alike(found: Tensor, expected: Tensor) -> bool:
    rounding = max(_ROUNDING, 8 * torch.finfo(expected.dtype).eps)
    return bool((found - expected).norm() <= rounding * expected.norm())


def _refused(model: Any, why: str, hint: str = _HINT) -> SpecError:
    return SpecError(f"model '{model.config.model_type}' {why}, which is not supported", hint=hint)

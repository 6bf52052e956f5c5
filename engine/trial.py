"""Tries a model, whoever made it, on a few tokens, before anything depends on how it is built.

The engine computes losses, scores and texts as ``head(backbone(x))`` by kernels of its own, and lays
several documents side by side in a row. Whether a model's own forward pass does the same, its forward
pass says best: no list of names would be whole.

Shapes: B rows, T positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from engine.errors import SpecError
from engine.modules import backbone, head, is_scalar, mark_packing

_TOKENS = ((1, 2, 3, 4, 5), (1, 2, 3, 4, 6))
_BEFORE = (7, 8, 9)
_ROUNDING = 1e-4
"""Of what is compared, relative: experts and blocks of other sizes round otherwise, by 1e-6; what sees
another document, or is transformed, differs by 5e-4 and more."""
_LARGEST = 60.0
"""Of the logits that are tried: a cap on them that training would meet shows."""
_LOSS = 1e-6
"""Of the least that may be added to a cross-entropy of 0."""
_MEND = "use an architecture that does not, as most decoders are"


@torch.no_grad()
def examine(model: nn.Module, *, learns: bool) -> None:
    """Raises SpecError for a model that the engine would compute wrongly, and one that ``learns`` by a
    loss of its own; notes of the others whether they can read packed documents."""
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
                f"model '{model.name_or_path or model.config.model_type}' has weights that are no "
                f"numbers (NaN or infinite): {name}",
                mend="take a checkpoint from before its training broke down",
            )
    ids_BT = _ids(model, _TOKENS)
    hidden_BTD = backbone(model)(input_ids=ids_BT, use_cache=False).last_hidden_state
    if not _alike(hidden_BTD[0, :-1], hidden_BTD[1, :-1]):
        raise _refused(model, "reads ahead: it sees the tokens that it is to predict")
    ids_BT, hidden_BTD = ids_BT[:1], hidden_BTD[:1]  # scalar models want padding for more rows
    labels = {"labels": ids_BT} if learns and not is_scalar(model) else {}
    told = _Told(model, labels, ids_BT)
    if told.hidden.shape != hidden_BTD.shape or not _alike(told.hidden, hidden_BTD):
        raise _refused(model, "transforms its hidden states between backbone and head")
    output: Any = head(model)
    if not _alike(told.logits, linear(hidden_BTD, output.weight, getattr(output, "bias", None))):
        raise _refused(model, "has a head that is no matrix and bias")
    if is_scalar(model):  # which takes the last position's
        kept = bool(torch.isin(told.final, told.probe).all())
    else:
        kept = told.final.shape == told.probe.shape and _alike(told.final, told.probe)
    if not kept:
        raise _refused(model, "changes its logits after the head, by a cap or a scale")
    if labels and not abs(float(told.loss)) <= _LOSS:
        raise _refused(
            model,
            "adds to the loss what the engine would leave out, such as a balance of its experts",
            "set output_router_logits: false, in the model's `config` or its config.json",
        )
    mark_packing(model, packs=_packs(model, ids_BT, hidden_BTD[0]))


class _Told:
    """What a model's own forward pass makes of tokens where its head gives ``probe_BTV``.

    ``hidden`` is what the head was given, ``logits`` what it made of it, ``final`` the model's.
    """

    def __init__(self, model: Any, labels: dict[str, Tensor], ids_BT: Tensor) -> None:
        seen: list[Tensor] = []

        def replace(module: nn.Module, given: tuple[Tensor, ...], logits: Tensor) -> Tensor:
            count = logits.numel()
            mixed = torch.randperm(count, generator=torch.Generator().manual_seed(0))
            probe = (mixed.to(logits) / count - 1).view_as(logits) * _LARGEST
            if not is_scalar(model):  # the next token has P = 1: the cross-entropy is 0
                probe[:, :-1].scatter_(-1, ids_BT[:, 1:, None], _LARGEST)
            seen[:] = [given[0], logits, probe]
            return probe

        hook = head(model).register_forward_hook(replace)
        try:
            found = model(input_ids=ids_BT, use_cache=False, **labels)
        finally:
            hook.remove()
        self.hidden, self.logits, self.probe = seen
        self.final, self.loss = found.logits, found.loss


def _packs(model: Any, ids_1T: Tensor, alone_TD: Tensor) -> bool:
    """Whether it reads a document that lies after another one as it reads it alone."""
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


def _ids(model: Any, tokens_BT: Sequence[Sequence[int]]) -> Tensor:
    """Of the model's vocabulary, however small."""
    ids_BT: Tensor = torch.tensor(tokens_BT, device=model.device) % model.config.vocab_size
    return ids_BT


def _alike(found: Tensor, expected: Tensor) -> bool:
    rounding = max(_ROUNDING, 8 * torch.finfo(expected.dtype).eps)
    return bool((found - expected).norm() <= rounding * expected.norm())


def _refused(model: Any, why: str, mend: str = _MEND) -> SpecError:
    return SpecError(f"model '{model.config.model_type}' {why}, which is not supported", mend=mend)

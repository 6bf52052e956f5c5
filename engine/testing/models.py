"""Checks that models and adapters keep their contracts."""

from __future__ import annotations

import copy
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.contracts.config import Config
from engine.contracts.model_sizes import parameter_count
from engine.errors import EngineError, SpecError
from engine.modeling.heads import attend, backbone, head, hidden_states, layers
from engine.modeling.model_check import examine
from engine.modeling.output_head import head_parts
from engine.modeling.token_loss import cross_entropy
from engine.registry import Plugins
from engine.spec.architectures import check_reopens
from engine.storage.model_folder import Artifact
from engine.testing.requirements import require, works
from engine.testing.standalone import StandAloneContext, tiny_model

_CLOSE: dict[str, Any] = {"rtol": 1e-3, "atol": 1e-4}
"""Tolerance for float32 sums over two layers in another order."""
_SIZE_TOLERANCE = 0.1
"""Relative tolerance of a declared size, which leaves out learned positions and the like."""
_LONGEST = 2048
"""Tokens of the longest row that is tried."""
_TOKENS = 12


def model(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks calling convention, causality, packing, learning, saving and size."""
    from transformers import PreTrainedModel

    torch.manual_seed(0)
    built = new()
    torch.manual_seed(0)
    again = dict(new().named_parameters())
    for name, weight in built.named_parameters():
        require(torch.equal(weight, again[name]), f"the same seed gives the same weights in {name}")
        require(
            weight.dtype == torch.float32,
            f"{name} is float32, not {weight.dtype}, as `precision` says what steps compute with",
        )
    require(isinstance(built, PreTrainedModel), "it is one of transformers' PreTrainedModels")
    require(built.training, "it comes in training mode, or dropout would stay off")
    tokens = len(context.tokenizer())
    weight, _, _ = head_parts(head(built))
    require(len(weight) >= tokens, "the head has a row for every token")
    ids_BT = torch.arange(_TOKENS)[None] % tokens
    built.eval()
    _check_repeats(built, ids_BT)
    _check_packing(built, tokens)
    _check_rows(built, tokens)
    try:
        examine(built, learns=True)
    except SpecError as error:
        require(False, f"logits are head(hidden states), from which losses are computed: {error}")
    attend(built)  # as strategies do for generation and scoring
    _check_packing(built, tokens)
    _check_learning(built, ids_BT)
    with torch.no_grad():
        logits = built(input_ids=ids_BT).logits
        require(
            torch.allclose(head(built)(hidden_states(built, input_ids=ids_BT)), logits, **_CLOSE),
            "logits are head(hidden states), from which losses are computed",
        )
    try:
        check_reopens(built, Plugins.discover())
    except EngineError as error:
        require(False, f"what was trained opens again: {error}")
    _check_saved(built, ids_BT, logits, context)
    _check_cache(built, ids_BT)
    longest = config.context_length()  # type: ignore[attr-defined]
    if longest is not None and longest <= _LONGEST:
        row_BT = torch.arange(longest)[None] % tokens
        works(
            f"it reads a row of context_length() = {longest} tokens",
            lambda: hidden_states(built, input_ids=row_BT),
        )
    shape = config.built_shape(tokens)  # type: ignore[attr-defined]
    if shape is not None:
        declared, has = parameter_count(shape), sum(p.numel() for p in built.parameters())
        require(
            math.isclose(declared, has, rel_tol=_SIZE_TOLERANCE),
            f"shape() declares {declared} parameters, but the model has {has}",
        )


@torch.no_grad()
def _check_repeats(built: Any, ids_BT: Tensor) -> None:
    """Compares two forward passes, and one whose positions are given."""
    first, second = (hidden_states(built, input_ids=ids_BT) for _ in range(2))
    require(
        torch.allclose(first, second, **_CLOSE),
        "in evaluation mode the same tokens always have the same hidden states: no dropout, no counter",
    )
    placed = hidden_states(built, input_ids=ids_BT, position_ids=torch.arange(_TOKENS)[None])
    require(
        torch.allclose(first, placed, **_CLOSE),
        "without position ids, positions are 0, 1, 2 …, as those that training gives",
    )


@torch.no_grad()
def _check_packing(built: Any, tokens: int) -> None:
    """Changes one token in a row of two documents, and compares all positions' hidden states."""
    ids_BT = torch.arange(_TOKENS)[None] % tokens
    position_ids = torch.arange(_TOKENS // 2).repeat(2)[None]
    whole_BTD = hidden_states(built, input_ids=ids_BT, position_ids=position_ids)
    changed_BT = ids_BT.clone()
    changed_BT[0, 3] = (changed_BT[0, 3] + 1) % tokens
    changed_BTD = hidden_states(built, input_ids=changed_BT, position_ids=position_ids)
    moved_T = (changed_BTD - whole_BTD).abs().amax((0, 2)) > 1e-6
    require(not moved_T[:3].any(), "no position sees what comes after it")
    require(bool(moved_T[3:6].all()), "every position sees what comes before it in its document")
    require(not moved_T[6:].any(), "packed documents do not see each other")


@torch.no_grad()
def _check_rows(built: Any, tokens: int) -> None:
    rows_BT = torch.arange(3 * _TOKENS).view(3, _TOKENS) % tokens
    together = hidden_states(built, input_ids=rows_BT)
    for row, hidden_TD in zip(rows_BT, together, strict=True):
        alone = hidden_states(built, input_ids=row[None])[0]
        require(
            torch.allclose(alone, hidden_TD, **_CLOSE),
            "a row's hidden states do not depend on the rows beside it",
        )


def _check_learning(built: Any, ids_BT: Tensor) -> None:
    """Checks that a loss has a gradient in every layer."""
    fixed = [name for name, parameter in built.named_parameters() if not parameter.requires_grad]
    require(not fixed, f"all weights learn, or a spec says what to `freeze`; {fixed[:1]} does not")
    hidden_BTD = hidden_states(built, input_ids=ids_BT[:, :-1])
    cross_entropy(hidden_BTD, head(built), ids_BT[:, 1:]).backward()
    parts = {"the embedding": built.get_input_embeddings()}
    parts |= {f"layer {number}": layer for number, layer in enumerate(layers(built))}
    for name, part in parts.items():
        gradients = [p.grad for p in part.parameters() if p.grad is not None]
        require(any(bool(g.any()) for g in gradients), f"{name} gets a gradient from the loss")
    built.zero_grad()


def _check_saved(built: Any, ids_BT: Tensor, logits: Tensor, context: StandAloneContext) -> None:
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        weights = built.state_dict().items()
        saved = Artifact.save(Path(folder, "final"), built, weights, context.tokenizer()).model()
        require(
            torch.allclose(saved(input_ids=ids_BT).logits, logits, **_CLOSE),
            "saved and opened by its Auto class, it gives the same logits",
        )


@torch.no_grad()
def _check_cache(built: Any, ids_BT: Tensor) -> None:
    """Compares hidden states with those of a row that is read in two parts, if there is a cache."""
    half = _TOKENS // 2
    whole_BTD = hidden_states(built, input_ids=ids_BT)
    read = backbone(built)(input_ids=ids_BT[:, :half], use_cache=True)
    past = getattr(read, "past_key_values", None)
    if past is None:
        return
    places = torch.arange(half, _TOKENS)[None]
    rest = backbone(built)(
        input_ids=ids_BT[:, half:], position_ids=places, past_key_values=past, use_cache=True
    )
    require(
        torch.allclose(rest.last_hidden_state, whole_BTD[:, half:], **_CLOSE),
        "read in two parts with a cache, as in generation, a row has the same hidden states",
    )


def adapter(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks a small model, and one with biases, whose head is its embedding."""
    for base, needed in ((tiny_model(context), True), (_with_biases(context), False)):
        try:
            _check_adapter(new, base)
        except EngineError:
            if needed:
                raise


@torch.no_grad()
def _with_biases(context: StandAloneContext) -> Any:
    """The small model with biases that are not 0, and tied embeddings."""
    plain = tiny_model(context)
    config = copy.deepcopy(plain.config)
    config.attention_bias = config.mlp_bias = config.tie_word_embeddings = True
    torch.manual_seed(0)
    biased = type(plain)(config)
    for name, parameter in biased.named_parameters():
        if name.endswith("bias"):
            parameter.normal_()
    return biased


def _check_adapter(new: Callable[[], Any], base: Any) -> None:
    """Checks that only the adapter trains, and that merging gives a plain model of equal output."""
    kept, other = copy.deepcopy(base).eval(), copy.deepcopy(base)
    names, before = set(base.state_dict()), copy.deepcopy(base.state_dict())
    plain = {p.data_ptr() for p in base.parameters()}
    ids_BT = torch.arange(_TOKENS)[None]
    torch.manual_seed(1)
    built = new()
    attached = built.attach(base)
    trained = [p for p in attached.parameters() if p.requires_grad]
    require(trained, "attach leaves something to train")
    require(
        not any(p.data_ptr() in plain for p in trained),
        "everything but the addition is frozen",
    )
    torch.manual_seed(1)
    again = new().attach(other).state_dict()
    require(
        all(torch.equal(tensor, again[n]) for n, tensor in attached.state_dict().items()),
        "the same seed gives the same addition",
    )
    attached.eval()
    with torch.no_grad():
        logits = attached(input_ids=ids_BT).logits
        require(
            torch.allclose(attached(input_ids=ids_BT).logits, logits, **_CLOSE),
            "in evaluation mode it always gives the same logits: no dropout",
        )
        require(
            torch.allclose(kept(input_ids=ids_BT).logits, logits, **_CLOSE),
            "before the first step it gives the logits of the model without it, biases included",
        )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trained:
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
        logits = attached(input_ids=ids_BT).logits
    attached(input_ids=ids_BT).logits.logsumexp(-1).sum().backward()
    named = {id(p): n for n, p in attached.named_parameters()}
    idle = [named[id(p)] for p in trained if p.grad is None or not p.grad.any()]
    with torch.no_grad():
        merged = built.merge(attached)
        require(set(merged.state_dict()) == names, "merged, it has the plain model's weights")
        require(
            torch.allclose(merged(input_ids=ids_BT).logits, logits, **_CLOSE),
            "merged, it gives the same logits",
        )
    same = all(torch.equal(t, before[n]) for n, t in merged.state_dict().items())
    require(not same, "merged weights hold what was trained")
    require(not idle, f"what it trains has a gradient, which {', '.join(idle[:2])} has not")

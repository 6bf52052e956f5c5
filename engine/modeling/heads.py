"""Parts of a causal language model, and model and objective as one module.

Shapes: B rows, T positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from engine.contracts.batch import Batch, Example, Loss
from engine.contracts.strategy import Setup
from engine.errors import RunError
from engine.hardware.compiling import own_kernels
from engine.hardware.devices import takes_bounds
from engine.modeling.output_head import head_parts, mapped_head
from engine.modeling.packing import document_bounds
from engine.modeling.token_loss import IGNORE, label_places

_PACKS = "reads_packed_documents"
_TAKES_BOUNDS = "takes_document_bounds"
_BOUNDS = "cu_seq_lens_q"
"""Name of the bounds in transformers' attention functions."""


def backbone(model: nn.Module) -> nn.Module:
    """The model without its head; its output has ``last_hidden_state``."""
    found = cast("nn.Module", model.base_model)
    # Llama 4's text models say that they have it under a name that only models of images have.
    return found if found is not model else model.get_submodule("model")


def head(model: nn.Module) -> nn.Module:
    """The output head, which gives the model's logits; ``weight_1D`` of a scalar model.

    It has ``weight_VD`` and an optional ``bias_V``, except for a model that scales or caps its logits:
    such a head is called, or passed whole to functions such as :func:`engine.modeling.cross_entropy`.
    Nothing is computed between backbone and head:
    :func:`engine.modeling.model_check.examine` refuses other models.
    """
    if is_scalar(model):
        return cast("nn.Module", cast("Any", model).score)
    return mapped_head(plain_head(model))


def plain_head(model: nn.Module) -> nn.Module:
    """The matrix and bias of a language model's head, without what the model does to its logits."""
    return cast("nn.Module", cast("Any", model).get_output_embeddings())


def through(output_head: nn.Module, hidden: Tensor) -> Tensor:
    """The head's output ``_BTV`` for hidden states ``_BTD`` cast to its dtype: some backbones, such as
    mamba's, return float32 although their weights are narrower."""
    weight, _, _ = head_parts(output_head)
    return cast("Tensor", output_head(hidden.to(weight.dtype)))


def is_scalar(model: nn.Module) -> bool:
    """Whether the model gives one number per position instead of logits of the next token."""
    return hasattr(model, "score")


def scalar_head(model: nn.Module) -> nn.Module:
    """The head of a scalar model. Raises RunError for a language model."""
    if not is_scalar(model):
        raise RunError(
            f"a {type(model).__name__} predicts the next token and has no scalar head to score a text",
            hint="use a model with a scalar head, such as a reward model",
        )
    return head(model)


def with_scalar_head(model: nn.Module, seed: int) -> nn.Module:
    """The model as its family's ``ForSequenceClassification`` with one label; the backbone is shared.

    Weights of a new head are drawn from N(0, 1/(D + 1)) (Huang et al. 2024, N+ implementation details,
    15). Raises RunError for a family without such a class.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    if is_scalar(model):
        return model
    whole = cast("Any", model)
    config = whole.config
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise RunError(f"transformers has no '{config.model_type}' with a scalar head")
    config.num_labels = 1
    # transformers reads it for ties between layers, too.
    config.tie_word_embeddings = config.tie_word_embeddings and _ties(whole.base_model)
    cls: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    with torch.device("meta"):
        scalar: Any = cls(config)
    if not is_scalar(scalar):
        raise RunError(f"a '{config.model_type}' with a scalar head has no layer named `score`")
    setattr(scalar, scalar.base_model_prefix, whole.base_model)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, config.hidden_size, generator=generator)
    scalar.score = nn.Linear(config.hidden_size, 1, bias=False)
    scalar.score.weight.data = weight / (config.hidden_size + 1) ** 0.5
    scalar.score.to(whole.base_model.get_input_embeddings().weight.device)
    trained: nn.Module = scalar.train(model.training)
    return trained


def _ties(base: nn.Module) -> bool:
    """Whether some of its parameters have several names."""
    names = sum(1 for _ in base.named_parameters(remove_duplicate=False))
    return names > sum(1 for _ in base.parameters())


def context_of(config: Any) -> int | None:
    """Context length in tokens from a transformers config; None if it names none, as for state-space
    models and some models without position embeddings."""
    names = ("max_position_embeddings", "max_seq_len", "max_sequence_length")
    found = (getattr(config, name, None) for name in names)
    return next((int(value) for value in found if value), None)


def attend(model: nn.Module, implementation: str = "sdpa") -> None:
    """Sets the attention implementation, or ``eager`` if the model lacks it, as with capped scores.

    A class with attention of its own, which transformers could not set, keeps it.
    """
    whole = cast("Any", model)
    can_set = getattr(whole, "_can_set_attn_implementation", None)
    if can_set is not None and not can_set():
        return
    try:
        whole.set_attn_implementation(implementation)
    except ValueError:
        whole.set_attn_implementation("eager")


def recompute_layers(model: nn.Module, **how: Any) -> None:
    """Makes each layer keep only its input for the backward pass and compute the rest again.

    ``how`` goes to torch.utils.checkpoint.checkpoint.
    """
    whole = cast("Any", model)
    # Renamed in transformers 5.23; the package allows versions with either name.
    name = "activation_checkpointing_enable"
    enable = getattr(whole, name if hasattr(whole, name) else "gradient_checkpointing_enable")
    enable({"use_reentrant": False, **how})


def attend_alike(model: nn.Module, other: nn.Module) -> None:
    """Gives the model the attention implementation of ``other`` if both have one architecture."""
    own, its = cast("Any", model).config, cast("Any", other).config
    if own.model_type != its.model_type:
        return
    attend(model, its._attn_implementation)
    if hasattr(backbone(other), _TAKES_BOUNDS):
        mark_bounds(model)


def mark_packing(model: nn.Module, *, packs: bool) -> None:
    """Records whether the model :func:`reads_packed`: on the backbone, which copies and heads share."""
    setattr(backbone(model), _PACKS, packs)


def is_marked(model: nn.Module) -> bool:
    """Whether :func:`mark_packing` was called for the model, i.e. the model was checked."""
    return hasattr(backbone(model), _PACKS)


def reads_packed(model: nn.Module) -> bool:
    """Whether the model keeps packed documents apart by their position ids."""
    return getattr(backbone(model), _PACKS, True)


def mark_bounds(model: nn.Module) -> None:
    """Records that the model's attention takes document bounds on devices that support them."""
    setattr(backbone(model), _TAKES_BOUNDS, True)


def hidden_states(model: nn.Module, **inputs: Tensor) -> Tensor:
    """Hidden states ``_BTD``, without a cache: with one, packed documents would see each other.

    If the model cannot keep packed documents apart, each gets a row of its own.
    """
    if "position_ids" in inputs and not reads_packed(model):
        # In one pass, because every rank takes part in it.
        rows, document, place = document_rows(inputs["input_ids"], inputs["position_ids"])
        hidden = backbone(model)(input_ids=rows, use_cache=False).last_hidden_state
        return cast("Tensor", hidden[document, place])
    if not getattr(backbone(model), _TAKES_BOUNDS, False):
        inputs.pop(_BOUNDS, None)
    return cast("Tensor", backbone(model)(**inputs, use_cache=False).last_hidden_state)


def document_rows(input_ids_BT: Tensor, position_ids_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows ``_NS`` of one packed document each; then the row and the place in it of every token, both
    ``_BT``.

    One-token documents of the same token, such as padding, share a row.
    """
    begins_BT = position_ids_BT == 0
    begins_BT[:, 0] = True
    ids, begins = input_ids_BT.flatten(), begins_BT.flatten()
    starts, document = begins.nonzero()[:, 0], begins.cumsum(0) - 1
    place = torch.arange(len(ids), device=ids.device) - starts[document]
    single = document.bincount()[document] == 1
    kinds, document = torch.where(single, -1 - ids, document).unique(return_inverse=True)
    rows_NS = ids.new_zeros(len(kinds), int(place.max()) + 1)
    rows_NS[document, place] = ids
    return rows_NS, document.view_as(input_ids_BT), place.view_as(input_ids_BT)


def layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a transformer: its longest list of modules."""
    lists = [
        list(part.values()) if isinstance(part, nn.ModuleDict) else list(part)
        for part in module.modules()
        if isinstance(part, nn.ModuleList | nn.ModuleDict)
    ]
    return max(lists, key=len, default=[])


def compile_layers(module: nn.Module) -> None:
    """Compiles each layer by itself: they share one graph, which takes seconds instead of minutes.

    In a run only steps of full rows use the compiled layers, see :mod:`engine.hardware.compiling`.
    """
    own_kernels()
    for layer in layers(module):
        layer.compile(dynamic=False)


def padded(examples: Sequence[Example], name: str, value: float = 0) -> Tensor:
    """A field ``_T`` of each example as rows ``_BT``, padded on the right with ``value``.

    Position ids are padded with 0: padding is documents of one token, to which nothing attends.
    """
    columns = [np.asarray(example.fields[name]) for example in examples]
    rows = np.full((len(columns), max(map(len, columns))), value, dtype=columns[0].dtype)
    for row, column in zip(rows, columns, strict=True):
        row[: len(column)] = column
    return torch.from_numpy(rows)


def labelled_rows(examples: Sequence[Example]) -> Batch:
    """Batches examples with ``labels``; the count of the term ``loss`` is the labels to learn."""
    labels_BT = padded(examples, "labels", IGNORE)
    return Batch(
        inputs={name: padded(examples, name) for name in ("input_ids", "position_ids")},
        targets={"labels": labels_BT},
        counts={"loss": int((labels_BT != IGNORE).sum())},
        tokens=sum(e.length for e in examples),
    )


def place(batch: Batch, device: torch.device, setup: Setup) -> Batch:
    """Copies the batch to the device without waiting, and lets the objective annotate it.

    Adds the target ``label_places``: :func:`engine.modeling.label_places` of ``labels``.
    """

    def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Only copies from pinned memory run asynchronously.
        pinned = device.type == "cuda"
        return {
            name: (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=True)
            for name, tensor in tensors.items()
        }

    inputs, targets = _found_on_host(batch, device)
    placed = Batch(moved(inputs), moved(targets), batch.counts, batch.tokens)
    with torch.no_grad():
        return setup.objective.annotate(placed, setup.frozen)


def _found_on_host(
    batch: Batch, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and targets, with tensors computed from their values before these are on the device, where
    reading them would make the process wait."""
    inputs, targets = dict(batch.inputs), dict(batch.targets)
    if takes_bounds(device) and "position_ids" in inputs:
        ids, places = inputs["input_ids"].numpy(), inputs["position_ids"].numpy()
        inputs[_BOUNDS] = torch.from_numpy(document_bounds(ids, places))
    if "labels" in targets:
        targets["label_places"] = label_places(targets["labels"])
    return inputs, targets


class ObjectiveModule(nn.Module):
    """Model and objective as one module, so that wrappers (DDP, FSDP …) cover the loss as well."""

    def __init__(self, model: nn.Module, objective: Loss) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Sums of the objective's terms, float32 scalars by name."""
        hidden_BTD = hidden_states(self.model, **batch.inputs)
        return loss_terms(self._objective, hidden_BTD, head(self.model), batch)


def loss_terms(
    objective: Loss, hidden_BTD: Tensor, head: nn.Module, batch: Batch
) -> dict[str, Tensor]:
    """Sums of the objective's terms, by name; zeros with gradients of zero for a stand-in batch."""
    terms = objective.loss(hidden_BTD, head, batch)
    return terms if batch.tokens else {name: value * 0 for name, value in terms.items()}

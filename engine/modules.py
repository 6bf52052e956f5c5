"""Parts of a causal language model, and model and objective as one module.

Shapes: B rows, T positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from engine.compiling import own_kernels
from engine.component import Batch, Example, Objective, Setup
from engine.data.packing import document_bounds
from engine.devices import takes_bounds
from engine.errors import RunError
from engine.logprobs import IGNORE, label_places

_PACKS = "reads_packed_documents"
_TAKES_BOUNDS = "takes_document_bounds"
_BOUNDS = "cu_seq_lens_q"
"""As transformers' attention functions call them."""


def backbone(model: nn.Module) -> nn.Module:
    """The model without its head: gives ``last_hidden_state``."""
    return cast("nn.Module", model.base_model)


def head(model: nn.Module) -> nn.Module:
    """The output head: ``weight_VD`` and perhaps ``bias_V``; of a scalar model, the row that gives its
    value. Nothing comes between backbone and head, or after it: see :func:`engine.trial.examine`."""
    if is_scalar(model):
        return cast("nn.Module", cast("Any", model).score)
    return cast("nn.Module", cast("Any", model).get_output_embeddings())


def through(output_head: nn.Module, hidden: Tensor) -> Tensor:
    """What the head makes of hidden states, in its own type: some backbones, such as mamba's, end in
    float32 where their weights are narrow."""
    return cast("Tensor", output_head(hidden.to(cast("Tensor", output_head.weight).dtype)))


def is_scalar(model: nn.Module) -> bool:
    """Whether it gives one number for each position, and not the next token."""
    return hasattr(model, "score")


def scalar_head(model: nn.Module) -> nn.Module:
    """The row that gives a scalar model's value. Raises RunError for a model without one."""
    if not is_scalar(model):
        raise RunError(
            f"a {type(model).__name__} gives the next token, and not one number for a text",
            mend="ask a model with a scalar head, such as a reward model",
        )
    return head(model)


def with_scalar_head(model: nn.Module, seed: int) -> nn.Module:
    """The model as its family's ``ForSequenceClassification`` with one label; the backbone is shared.

    A new head is drawn as Huang et al. (2024, N+ implementation details, 15) draw it: from
    N(0, 1/(D + 1)). Raises RunError for a family that has none.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    if is_scalar(model):
        return model
    whole = cast("Any", model)
    config = whole.config
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise RunError(f"transformers has no '{config.model_type}' that gives one number")
    config.num_labels, config.tie_word_embeddings = 1, False
    cls: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    with torch.device("meta"):
        scalar: Any = cls(config)
    if not is_scalar(scalar):
        raise RunError(f"a '{config.model_type}' that gives one number is built in another way")
    setattr(scalar, scalar.base_model_prefix, whole.base_model)
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, config.hidden_size, generator=generator)
    scalar.score = nn.Linear(config.hidden_size, 1, bias=False)
    scalar.score.weight.data = weight / (config.hidden_size + 1) ** 0.5
    scalar.score.to(whole.base_model.get_input_embeddings().weight.device)
    trained: nn.Module = scalar.train(model.training)
    return trained


def context_of(config: Any) -> int | None:
    """Tokens that a model of this transformers config can attend to, if it says; state-space models and
    some without position embeddings have no such number."""
    names = ("max_position_embeddings", "max_seq_len", "max_sequence_length")
    found = (getattr(config, name, None) for name in names)
    return next((int(value) for value in found if value), None)


def attend(model: nn.Module, implementation: str = "sdpa") -> None:
    """Has the model compute attention so; ``eager`` where it has no such way, as with capped scores."""
    whole = cast("Any", model)
    try:
        whole.set_attn_implementation(implementation)
    except ValueError:
        whole.set_attn_implementation("eager")


def recompute_layers(model: nn.Module, **how: Any) -> None:
    """Has each layer keep its input alone; ``how`` goes to torch.utils.checkpoint.checkpoint."""
    whole = cast("Any", model)
    # Renamed in transformers 5.23: both names are within the versions that the package allows.
    name = "activation_checkpointing_enable"
    enable = getattr(whole, name if hasattr(whole, name) else "gradient_checkpointing_enable")
    enable({"use_reentrant": False, **how})


def attend_alike(model: nn.Module, other: nn.Module) -> None:
    """Has the model compute attention as another of its architecture does, if it is one."""
    own, its = cast("Any", model).config, cast("Any", other).config
    if own.model_type != its.model_type:
        return
    attend(model, its._attn_implementation)
    if hasattr(backbone(other), _TAKES_BOUNDS):
        mark_bounds(model)


def mark_packing(model: nn.Module, *, packs: bool) -> None:
    """Notes, on the backbone so that copies and other heads know, whether it :func:`reads_packed`."""
    setattr(backbone(model), _PACKS, packs)


def is_marked(model: nn.Module) -> bool:
    """Whether :func:`mark_packing` noted anything: the model was tried."""
    return hasattr(backbone(model), _PACKS)


def reads_packed(model: nn.Module) -> bool:
    """Whether the model keeps packed documents apart by their position ids."""
    return getattr(backbone(model), _PACKS, True)


def mark_bounds(model: nn.Module) -> None:
    """Notes that the model's attention takes the bounds of documents, where a device has them."""
    setattr(backbone(model), _TAKES_BOUNDS, True)


def hidden_states(model: nn.Module, **inputs: Tensor) -> Tensor:
    """``_BTD``. Never with a cache: it would let packed documents see each other.

    A model that cannot keep packed documents apart reads each in a row of its own.
    """
    if "position_ids" in inputs and not reads_packed(model):
        ids, places = inputs["input_ids"], inputs["position_ids"]
        return _one_by_one(backbone(model), ids, places)
    if not getattr(backbone(model), _TAKES_BOUNDS, False):
        inputs.pop(_BOUNDS, None)
    return cast("Tensor", backbone(model)(**inputs, use_cache=False).last_hidden_state)


def _one_by_one(base: nn.Module, input_ids: Tensor, position_ids: Tensor) -> Tensor:
    """Rows of one document each, in one pass, as every rank takes part in it; those of one and the same
    token, which padding is made of, share a row."""
    begins_BT = position_ids == 0
    begins_BT[:, 0] = True
    ids_N, begins_N = input_ids.flatten(), begins_BT.flatten()
    starts, document_N = begins_N.nonzero()[:, 0], begins_N.cumsum(0) - 1
    place_N = torch.arange(len(ids_N), device=ids_N.device) - starts[document_N]
    single_N = document_N.bincount()[document_N] == 1
    kinds, document_N = torch.where(single_N, -1 - ids_N, document_N).unique(return_inverse=True)
    rows = ids_N.new_zeros(len(kinds), int(place_N.max()) + 1)
    rows[document_N, place_N] = ids_N
    hidden = base(input_ids=rows, use_cache=False).last_hidden_state
    return cast("Tensor", hidden[document_N, place_N].unflatten(0, input_ids.shape))


def layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a transformer: its longest list of modules."""
    lists = [
        list(m.values()) if isinstance(m, nn.ModuleDict) else list(m)
        for m in module.modules()
        if isinstance(m, nn.ModuleList | nn.ModuleDict)
    ]
    return max(lists, key=len, default=[])


def compile_layers(module: nn.Module) -> None:
    """Layer by layer: they share one compiled graph, so it takes seconds and not minutes.

    In a run they are compiled in steps of full rows only, see :mod:`engine.compiling`.
    """
    own_kernels()
    for layer in layers(module):
        layer.compile(dynamic=False)


def padded(examples: Sequence[Example], name: str, value: float = 0) -> Tensor:
    """A field ``_T`` of each example as rows ``_BT``, filled up with ``value`` on the right.

    Position ids are filled up with 0: documents of one token each, which nobody sees.
    """
    columns = [np.asarray(example.fields[name]) for example in examples]
    rows = np.full((len(columns), max(map(len, columns))), value, dtype=columns[0].dtype)
    for row, column in zip(rows, columns, strict=True):
        row[: len(column)] = column
    return torch.from_numpy(rows)


def labelled_rows(examples: Sequence[Example]) -> Batch:
    """Examples with ``labels`` side by side; the term ``loss`` counts those that are learnt."""
    labels_BT = padded(examples, "labels", IGNORE)
    return Batch(
        inputs={name: padded(examples, name) for name in ("input_ids", "position_ids")},
        targets={"labels": labels_BT},
        counts={"loss": int((labels_BT != IGNORE).sum())},
        tokens=sum(e.length for e in examples),
    )


def place(batch: Batch, device: torch.device, setup: Setup) -> Batch:
    """The batch on the device, with what frozen models say of it. The process does not wait for it.

    Its target ``label_places`` is what :func:`engine.label_places` finds in ``labels``.
    """

    def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        # Only from pinned memory does a copy go on beside the process.
        pinned = device.type == "cuda"
        return {
            name: (t.pin_memory() if pinned else t).to(device, non_blocking=True)
            for name, t in tensors.items()
        }

    inputs, targets = _found_on_host(batch, device)
    placed = Batch(moved(inputs), moved(targets), batch.counts, batch.tokens)
    with torch.no_grad():
        return setup.objective.annotate(placed, setup.frozen)


def _found_on_host(
    batch: Batch, device: torch.device
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and targets with what depends on their values, for which one would wait on the device."""
    inputs, targets = dict(batch.inputs), dict(batch.targets)
    if takes_bounds(device) and "position_ids" in inputs:
        ids, places = inputs["input_ids"].numpy(), inputs["position_ids"].numpy()
        inputs[_BOUNDS] = torch.from_numpy(document_bounds(ids, places))
    if "labels" in targets:
        targets["label_places"] = label_places(targets["labels"])
    return inputs, targets


class ObjectiveModule(nn.Module):
    """Model and objective as one module, so that wrappers (DDP, FSDP …) hold the loss as well."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's sums by term."""
        hidden_BTD = hidden_states(self.model, **batch.inputs)
        return loss_terms(self._objective, hidden_BTD, head(self.model), batch)


def loss_terms(
    objective: Objective, hidden_BTD: Tensor, head: nn.Module, batch: Batch
) -> dict[str, Tensor]:
    """The objective's sums by term; of a stand-in zeros, which every parameter has part in."""
    terms = objective.loss(hidden_BTD, head, batch)
    return terms if batch.tokens else {name: value * 0 for name, value in terms.items()}

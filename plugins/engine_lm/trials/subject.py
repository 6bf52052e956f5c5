"""What the checks look at: a small model of one architecture, in a folder, and texts for it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import Tensor

from engine import Batch, SpecError, parameter_count
from engine.modeling import ObjectiveModule, examine
from engine.testing import StandAloneContext
from engine_lm.config import CausalLM
from engine_lm.models import build_causal_lm
from engine_lm.next_token import build as next_token
from engine_lm.opening import open_model
from engine_lm.training_config import NextToken

_MOST_PARAMETERS = 5_000_000
_SEED = 19
LENGTHS = (9, 1, 14)
"""Tokens of the documents that share a row."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A saved model of ``architecture``; what checks share goes into the folder ``scratch``."""

    architecture: str
    folder: Path
    scratch: Path
    context: StandAloneContext

    @classmethod
    def made(cls, architecture: str, config: dict[str, Any], place: Path) -> Subject:
        """Builds the model as ``causal-lm`` does, with weights wide enough apart to tell faults by,
        and saves it in ``place``. Raises EngineError where the engine refuses."""
        context = StandAloneContext()
        wanted = CausalLM(architecture=architecture, config=config)
        size = wanted.built_shape(len(context.tokenizer()))
        if size is not None and parameter_count(size) > _MOST_PARAMETERS:
            raise SpecError(
                f"a small '{architecture}' still has {parameter_count(size):,} parameters: it is more "
                "than a causal language model of text"
            )
        torch.manual_seed(_SEED)
        model: Any = build_causal_lm(wanted, context)
        _spread(model)
        examine(model, learns=True)
        folder = place / "model"
        save(model, folder)
        context.tokenizer().save_pretrained(folder)
        return cls(architecture, folder, place / "scratch", context)

    def model(self) -> Any:
        """A copy, in evaluation mode, tried as a run tries it."""
        model = open_model(str(self.folder), None).eval()
        examine(model, learns=True)
        return model

    @cached_property
    def documents(self) -> list[Tensor]:
        """Ids of documents of unequal length."""
        chance = torch.Generator().manual_seed(_SEED)
        return [torch.randint(5, 250, (n,), generator=chance) for n in LENGTHS]

    def packed(self) -> Batch:
        """The documents in one row, with padding of single tokens after them."""
        padding = torch.zeros(2, dtype=torch.long)
        ends = torch.tensor([-100])
        labels = [torch.cat([d[1:], ends]) for d in self.documents]
        places = [torch.arange(len(d)) for d in self.documents]
        count = sum(len(d) - 1 for d in self.documents)
        return Batch(
            {
                "input_ids": torch.cat([*self.documents, padding])[None],
                "position_ids": torch.cat([*places, padding])[None],
            },
            {"labels": torch.cat([*labels, padding - 100])[None]},
            {"loss": count},
            sum(LENGTHS),
        )

    def loss(self, model: Any, batch: Batch) -> Tensor:
        """The sum that pre-training would minimise."""
        objective = next_token(NextToken(), self.context)
        loss: Tensor = ObjectiveModule(model, objective)(batch)["loss"]
        return loss


def save(model: Any, folder: Path) -> None:
    """Config and weights. transformers' own ``save_pretrained`` imports DeepSpeed, which prints."""
    model.config.save_pretrained(folder)
    save_model(model, str(folder / "model.safetensors"), metadata={"format": "pt"})


@torch.no_grad()
def _spread(model: Any) -> None:
    """Weights of a size at which a lost window, scaling or bias changes what comes out."""
    chance = torch.Generator().manual_seed(_SEED)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=chance)
        if parameter.dim() > 1:
            parameter.add_(noise, alpha=0.1)
        elif "A_log" not in name and "dt" not in name:
            parameter.add_(noise, alpha=0.02)

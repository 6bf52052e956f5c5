"""The output head of a language model, and what the model does to its logits after it.

Some models scale their logits (Cohere, Granite) or cap them softly, cap · tanh(logits / cap) (Gemma
Team 2024, Gemma 2, section 2). :func:`engine.modeling.examine` measures it and notes it on the head.

Shapes: D hidden width, V vocabulary; ``_…`` is any shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

_NOTE = "changes_logits"


@dataclass(frozen=True, slots=True)
class LogitMap:
    """scale · logits, then cap · tanh(logits / cap) where there is a cap, divided by a temperature."""

    scale: float = 1.0
    cap: float | None = None
    temperature: float = 1.0

    def __call__(self, logits: Tensor) -> Tensor:
        """The model's logits ``_…``, from those of its head."""
        if self.scale != 1:
            logits = logits * self.scale
        if self.cap is not None:
            logits = self.cap * (logits / self.cap).tanh()
        return logits if self.temperature == 1 else logits / self.temperature

    def slope(self, mapped: Tensor) -> Tensor | float:
        """The derivative ``_…`` of the model's logits by those of its head, from the former."""
        steepest = self.scale / self.temperature
        if self.cap is None:
            return steepest
        return steepest * (1 - (mapped * (self.temperature / self.cap)).square())


class MappedHead(nn.Module):
    """A head whose model changes its logits: call it, or give it to the functions that take a head."""

    def __init__(self, plain: nn.Module, logit_map: LogitMap) -> None:
        super().__init__()
        self._plain = (plain,)  # no submodule: its parameters are the model's
        self.logit_map = logit_map

    @property
    def plain(self) -> nn.Module:
        """The matrix and bias alone."""
        return self._plain[0]

    def forward(self, hidden: Tensor) -> Tensor:
        """The model's logits ``_…V`` from hidden states ``_…D``."""
        return self.logit_map(cast("Tensor", self.plain(hidden)))

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            raise AttributeError(
                f"this model scales or caps the logits that its {name} gives: give the head itself to "
                "cross_entropy and token_logprobs, or call it"
            )
        return super().__getattr__(name)


def note_logit_map(plain: nn.Module, logit_map: LogitMap | None) -> None:
    """Notes on a head what its model does to the logits after it; None: nothing."""
    setattr(plain, _NOTE, logit_map)


def mapped_head(plain: nn.Module) -> nn.Module:
    """The head as its model uses it: itself, or with what comes after it."""
    found = getattr(plain, _NOTE, None)
    return plain if found is None else MappedHead(plain, found)


def head_parts(head: nn.Module) -> tuple[Tensor, Tensor | None, LogitMap | None]:
    """A head's weight ``_VD``, its bias ``_V``, and what its model does to the logits."""
    plain = head.plain if isinstance(head, MappedHead) else head
    logit_map = head.logit_map if isinstance(head, MappedHead) else None
    return cast("Tensor", plain.weight), cast("Any", getattr(plain, "bias", None)), logit_map

"""NEFTune: noise on token embeddings, in training only (Jain et al. 2023).

Shapes: B rows, T positions, D width of the embedding.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from engine import SpecError
from engine.modeling import backbone, reads_packed


class EmbeddingNoise:
    """Adds noise from U(−1, 1) · α / √(L · D), where L is the length of the token's document.

    Hooks add it wherever the model is called, whatever wraps the model. The noise comes from torch's
    generator, which the loop seeds at every step.
    """

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._length_BT: Tensor | None = None

    def attach(self, model: nn.Module) -> None:
        """Hooks the model's embedding, and the model itself to read lengths from its position ids.

        Raises SpecError for a model that takes no position ids.
        """
        whole = cast("Any", model)
        if not reads_packed(model):
            raise SpecError(
                f"objective.neftune: a {whole.config.model_type} takes no position ids, which give the "
                "lengths of documents for the noise",
                hint="leave neftune out",
            )
        backbone(model).register_forward_pre_hook(self._look, with_kwargs=True)
        whole.get_input_embeddings().register_forward_hook(self._add)

    def _look(self, module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        if module.training:
            self._length_BT = document_lengths(kwargs["position_ids"])

    def _add(self, module: nn.Module, args: Any, embedded_BTD: Tensor) -> Tensor | None:
        if not module.training:
            return None
        assert self._length_BT is not None
        size_BT = self._alpha / (self._length_BT * embedded_BTD.shape[-1]).sqrt()
        noise_BTD = torch.empty_like(embedded_BTD).uniform_(-1, 1)
        return embedded_BTD + noise_BTD * size_BT[..., None].to(embedded_BTD.dtype)


def document_lengths(position_BT: Tensor) -> Tensor:
    """The length in tokens of each token's document; documents begin at position id 0."""
    first_BT = position_BT == 0
    number_BT = first_BT.cumsum(1) - 1
    sizes_BT = torch.zeros_like(position_BT).scatter_add_(
        1, number_BT, torch.ones_like(position_BT)
    )
    return sizes_BT.gather(1, number_BT)

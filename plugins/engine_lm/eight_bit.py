"""AdamW with 8-bit moments, by bitsandbytes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from engine import Context, Optimizers
from engine.modeling import parameter_groups
from engine_lm.training_config import AdamW8Bit

# On CPUs it warns about a kernel for 4-bit weights, which is not used here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

import bitsandbytes  # noqa: E402

_LIBRARY: Any = bitsandbytes  # without type annotations for its public names


def build(config: AdamW8Bit, context: Context) -> Optimizers:
    """Builds the optimizer, which scales moments in blocks of 256 (Dettmers et al. 2021)."""

    def make(parameters: Sequence[tuple[str, Tensor]]) -> Optimizer:
        optimizer: Optimizer = _LIBRARY.optim.AdamW8bit(
            parameter_groups(config, parameters), lr=config.lr, betas=config.betas, eps=config.eps
        )
        return optimizer

    return make

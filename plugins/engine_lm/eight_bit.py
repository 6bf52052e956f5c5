"""AdamW whose moments take a byte each, by bitsandbytes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer

from engine import Context, Optimizers, parameter_groups
from engine_lm.config import AdamW8Bit

# On CPUs it warns of a kernel for 4-bit weights, which nothing here has.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

import bitsandbytes  # noqa: E402


def build(config: AdamW8Bit, context: Context) -> Optimizers:
    """Blocks of 256 numbers share a scale (Dettmers et al. 2021)."""

    def make(parameters: Sequence[tuple[str, Tensor]]) -> Optimizer:
        optimizer: Optimizer = bitsandbytes.optim.AdamW8bit(
            parameter_groups(config, parameters), lr=config.lr, betas=config.betas, eps=config.eps
        )
        return optimizer

    return make

"""A strategy around a strategy."""

import torch

from engine import Strategy


class CountedStrategy(Strategy):
    """Does what the strategy inside does, and keeps a count of steps in checkpoints."""

    def __init__(self, inside):
        self._inside, self._steps = inside, torch.zeros((), dtype=torch.int64)
        self.data_rank, self.data_size = inside.data_rank, inside.data_size
        for name in (
            "prepare",
            "forward_backward",
            "gradient_norm",
            "inference",
            "export",
            "all_sum",
        ):
            setattr(self, name, getattr(inside, name))

    def prepare(self, setup): ...

    def forward_backward(self, micro_batches, counts): ...

    def gradient_norm(self): ...

    def inference(self, *, averaged=True): ...

    def export(self): ...

    def step(self, lr, max_norm, spike_limit):
        """Counts."""
        self._steps += 1
        return self._inside.step(lr, max_norm, spike_limit)

    def state(self):
        """With the count."""
        return {"inside": self._inside.state(), "steps": self._steps}

    def load(self, state):
        """See `state`."""
        self._inside.load(state["inside"])


def build(config, context):
    """Builds it around the one inside."""
    return CountedStrategy(context.component("strategy", config.strategy))

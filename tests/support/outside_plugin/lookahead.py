"""An optimizer around an optimizer."""

import torch


class LookaheadOptimizer(torch.optim.Optimizer):
    """Moves slow weights toward the fast ones every few steps, and the fast ones to the slow."""

    def __init__(self, inside, every, toward):
        self._inside, self._every, self._toward = inside, every, toward
        self.param_groups, self.state, self.defaults = (
            inside.param_groups, inside.state, inside.defaults,
        )  # fmt: skip

    @torch.no_grad()
    def step(self):
        """See torch."""
        before = {
            w: w.clone() for g in self.param_groups for w in g["params"] if w.grad is not None
        }
        self._inside.step()
        for weight, start in before.items():
            state = self.state[weight]
            slow = state.setdefault("slow", start)
            if int(state["step"]) % self._every == 0:
                slow.lerp_(weight, self._toward)
                weight.copy_(slow)


def build(config, context):
    """Builds it around the one inside."""
    make = context.component("optimizer", config.optimizer)
    return lambda named: LookaheadOptimizer(make(named), config.every, config.toward)

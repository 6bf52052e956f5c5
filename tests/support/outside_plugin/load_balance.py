"""A penalty with a state: it reads routers, and each step uses what the last one has counted."""

from collections import Counter

import torch

from engine import Penalty


class LoadBalancePenalty(Penalty):
    """The probability of each expert counts by its share of the choices in the step before."""

    def __init__(self):
        self._shares, self._chosen = {}, Counter()

    def start(self, model):
        """The routers."""
        names = [name for name, _ in model.named_modules() if name.endswith(".gate")]
        experts = model.config.num_local_experts
        self._shares = {name: [1 / experts] * experts for name in names}
        return names

    def output_loss(self, forward):
        """E · Σ f·p, summed over tokens and layers."""
        real = forward.real.flatten()
        loss = 0
        for name, (logits, _, chosen) in forward.outputs.items():
            experts = logits.shape[-1]
            shares = torch.tensor(self._shares[name])
            loss = loss + experts * (logits.softmax(-1)[real] @ shares).sum()
            counted = chosen[real].flatten().bincount(minlength=experts)
            self._chosen.update({f"{name}/{i}": float(n) for i, n in enumerate(counted)})
        return loss

    def measured(self):
        """How often each expert was chosen."""
        everywhere = {f"{n}/{i}": 0.0 for n, f in self._shares.items() for i in range(len(f))}
        counted, self._chosen = everywhere | self._chosen, Counter()
        return counted

    def update(self, sums):
        """The shares of this step, for the next one."""
        for name, shares in self._shares.items():
            counts = [sums[f"{name}/{i}"] for i in range(len(shares))]
            self._shares[name] = [n / sum(counts) for n in counts]

    def state(self):
        """The shares."""
        return {"shares": self._shares}

    def load(self, state):
        """See `state`."""
        self._shares = state["shares"]


def build(config, context):
    """Builds the penalty."""
    return LoadBalancePenalty()

"""A right strategy, and what runs with it give, also on two processes.

python -m support.faults.replicas TYPE
"""

from __future__ import annotations

import copy
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist
from engine_lm.next_token import NextTokenObjective
from support.faults.fault import Planted, kit
from support.models import examples

from engine import Setup, Step, Strategy, StrategyConfig
from engine.modeling import ObjectiveModule
from engine.testing import StandAloneContext, tiny_model
from engine.testing.elsewhere import elsewhere


class Ranks(StrategyConfig):
    """The whole model on each process."""


planted = Planted("strategy", Ranks)


@planted.right
class Replicas(Strategy):
    """Right."""

    def __init__(self, config, context):
        self.data_rank, self.data_size = context.rank, context.world_size

    def prepare(self, setup):
        self.setup, self.model = setup, setup.model
        self.module = ObjectiveModule(self.model, setup.objective)
        named = self.trained()
        self.parameters = [parameter for _, parameter in named]
        self.averages = [p.detach().clone() for p in self.parameters] if setup.ema else []
        self.optimizer = setup.optimizer(named)
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.grad_scale, self.optimizer.found_inf = torch.ones(()), torch.ones(())
        self.optimizer.step()
        self.optimizer.zero_grad()

    def trained(self):
        return [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]

    def forward_backward(self, micro_batches, counts):
        sums = {}
        for batch in micro_batches:
            terms = self.module(self.annotated(batch))
            self.loss(terms, batch, counts).backward()
            self.after_a_micro_batch()
            for name, term in terms.items():
                sums[name] = sums.get(name, 0) + term.detach()
        self.reduce()
        return sums

    def annotated(self, batch):
        return self.setup.objective.annotate(batch, self.setup.frozen)

    def loss(self, terms, batch, counts):
        return sum(term / max(counts[name], 1) for name, term in terms.items())

    def after_a_micro_batch(self):
        pass

    def reduce(self):
        if self.data_size > 1:
            for parameter in self.parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)

    def gradient_norm(self):
        return torch.nn.utils.get_total_norm(
            [p.grad for p in self.parameters if p.grad is not None]
        )

    def step(self, lr, max_norm, spike_limit):
        norm = self.gradient_norm()
        skipped = ~(norm <= spike_limit) | ~norm.isfinite()
        torch.nn.utils.clip_grads_with_norm_(self.parameters, max_norm or float("inf"), norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(lr, group)
        self.optimizer.grad_scale, self.optimizer.found_inf = torch.ones(()), skipped.float()
        if not skipped:
            self.optimizer.step()
            self.average()
        self.clear(skipped)
        return Step(norm, skipped)

    def rate(self, lr, group):
        return lr * group["lr_scale"]

    def clear(self, skipped):
        self.optimizer.zero_grad()

    @torch.no_grad()
    def average(self):
        for average, parameter in (
            zip(self.averages, self.parameters, strict=True) if self.averages else ()
        ):
            average.lerp_(parameter, 1 - self.setup.ema)

    @contextmanager
    def inference(self, *, averaged=True):
        self.model.eval()
        kept = self.swapped(self.averages) if averaged and self.averages else None
        try:
            yield self.model
        finally:
            if kept:
                self.swapped(kept)
            self.model.train()

    @torch.no_grad()
    def swapped(self, weights):
        kept = [p.detach().clone() for p in self.parameters]
        torch._foreach_copy_(self.parameters, weights)
        return kept

    def state(self):
        own = {n: self.optimizer.state[p] for n, p in self.trained()}
        weights = {n: p.detach() for n, p in self.trained()}
        averages = dict(enumerate(self.averages))
        return {"model": weights, "optimizer": own, "averages": averages}

    def load(self, state):
        for name, parameter in self.trained():
            self.optimizer.state[parameter].update(state["optimizer"][name])

    def export(self):
        finals = self.averages or self.parameters
        final_of = {id(p): final for p, final in zip(self.parameters, finals, strict=True)}
        for name, tensor in self.model.state_dict(keep_vars=True).items():
            yield name, final_of.get(id(tensor), tensor).detach()


OBJECTIVE = NextTokenObjective()
GLOBAL = [examples((5, 17, 9, 21), seed=seed) for seed in range(3)]


def _prepared(built, fixed=(), groups=(), **how):
    model = tiny_model(kit())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in fixed)
    settings = {"type": "adamw", "lr": 1e-2, "groups": list(groups)}
    made = kit().build("optimizer", settings)
    built.prepare(Setup(**{"model": model, "optimizer": made, "objective": OBJECTIVE, **how}))
    return built


def _step(built, micro_batches, lr=1e-2, max_norm=1.0, limit=float("inf")):
    counts = built.all_sum({"loss": float(sum(b.counts["loss"] for b in micro_batches))})
    sums = built.forward_backward(micro_batches, counts)
    done = built.step(lr, max_norm, limit)
    return [float(sums["loss"]), float(done.grad_norm), bool(done.skipped)]


def _batches(some, parts=1):
    return [OBJECTIVE.collate(some[n::parts]) for n in range(parts)]


def _weights(built):
    return {
        name: float(w.double().abs().sum()) + float(w[..., 0].double().sum())
        for name, w in built.export()
    }


def trained(make, parts=1, **how):
    """Figures of three steps, and the weights then."""
    built = _prepared(make(), **how)
    return [[_step(built, _batches(some, parts)) for some in GLOBAL], _weights(built)]


def accumulated(make):
    """The same in micro-batches."""
    return trained(make, parts=2)


def with_groups(make):
    """The same where one part learns slowly."""
    return trained(make, groups=[{"match": "*.embed_tokens.*", "lr_scale": 0.01}])


def partly_frozen(make):
    """The same where the embedding is frozen."""
    return trained(make, fixed=("model.embed_tokens.weight",))


def clipped(make):
    """The same where gradients are clipped to less."""
    built = _prepared(make())
    return [[_step(built, _batches(some), max_norm=0.05) for some in GLOBAL], _weights(built)]


def with_a_stand_in(make):
    """The same with a micro-batch that only keeps other ranks from waiting."""
    built = _prepared(make())
    empty = replace(_batches(GLOBAL[2])[0], tokens=0, counts={"loss": 0})
    return [[_step(built, [*_batches(some), empty]) for some in GLOBAL], _weights(built)]


def annotated(make):
    """The same with an objective that asks a frozen model."""

    class Asks(NextTokenObjective):
        def annotate(self, batch, frozen):
            return replace(batch, targets={**batch.targets, "scale": frozen["other"].weight[0, 0]})

        def loss(self, hidden_BTD, head, batch):
            return {"loss": super().loss(hidden_BTD, head, batch)["loss"] * batch.targets["scale"]}

    torch.manual_seed(0)
    return trained(make, objective=Asks(), frozen={"other": torch.nn.Linear(2, 2)})


def after_a_spike(make):
    """Figures of steps of which the second is skipped."""
    built = _prepared(make())
    limits = (float("inf"), 0.0, float("inf"))
    return [
        _step(built, _batches(s), limit=m) for s, m in zip(GLOBAL, limits, strict=True)
    ], _weights(built)


def resumed(make):
    """Weights of a run that was killed after its second step."""
    first, second = _prepared(make(), ema=0.5), _prepared(make(), ema=0.5)
    for some in GLOBAL[:2]:
        _step(first, _batches(some))
    kept, state = copy.deepcopy(first.state()), second.state()
    _filled(state, kept)
    second.load(state)
    return [_step(second, _batches(GLOBAL[2])), _weights(second)]


@torch.no_grad()
def _filled(state, kept):
    for name, value in kept.items():
        if isinstance(value, dict):
            _filled(state[name], value)
        elif torch.is_tensor(value):
            state[name].copy_(value)
        else:
            state[name] = value


def evaluated(make):
    """Logits of the model that is evaluated, of the one that is exported, and the steps after that."""
    built = _prepared(make(), ema=0.5)
    ids, other = torch.arange(8)[None], tiny_model(kit())
    found = [_step(built, _batches(GLOBAL[0]))]
    with built.inference() as model, torch.no_grad():
        found.append([model(input_ids=ids).logits, model.training])
    other.load_state_dict(dict(built.export()))
    found.append(other(input_ids=ids).logits.detach())
    return [*found, model.training, _step(built, _batches(GLOBAL[1])), _weights(built)]


def on_two_processes(make):
    """What both ranks find."""
    return elsewhere(trained_on_a_rank, "strategy", make.config(), StandAloneContext(), ranks=2)


def trained_on_a_rank(new):
    """What a rank finds: its share, its sums, and the weights after three steps."""
    built = _prepared(new())
    found = []
    for some in GLOBAL:
        own = some[built.data_rank :: built.data_size]
        found.append(_step(built, [OBJECTIVE.collate([one]) for one in own]))
    return [found, built.all_sum({"a": 1.0}), _weights(built)]

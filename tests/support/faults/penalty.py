"""Faulty penalties."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import ClassVar

import torch
from engine_lm.next_token import NextTokenObjective
from support.faults.fault import Planted, kit
from support.models import examples

from engine import Penalty, PenaltyConfig
from engine.modeling import ObjectiveModule
from engine.modeling.parameter_terms import ParameterTerms
from engine.testing import tiny_model
from engine.training.penalties import Named, Penalties


class Activity(PenaltyConfig):
    """The mean square of what each layer's feed-forward part gives, weighed by how large it was."""

    inputs: ClassVar = frozenset({"modules"})


class Start(PenaltyConfig):
    """The squared distance to the weights at the start."""

    inputs: ClassVar = frozenset({"parameters"})
    kept_floats: ClassVar = 1


planted = Planted("penalty", Activity)


@planted.right
class Calms(Penalty):
    """Right: reads modules, and has a state."""

    def __init__(self, config, context):
        self.config, self.strength, self.sums = config, {}, {}

    def start(self, model):
        names = [name for name, _ in model.named_modules() if name.endswith(".mlp")]
        self.strength = dict.fromkeys(names, 1.0)
        self.sums = dict.fromkeys([*names, "tokens"], 0.0)
        return names

    def output_loss(self, forward):
        total = 0.0
        for name, out in forward.outputs.items():
            squares = self.squares(out.float(), forward.real)
            total = total + self.strength[name] * squares
            self.sums[name] += float(squares.detach())
        self.sums["tokens"] += float(forward.real.sum())
        return total

    def squares(self, out, real):
        return 1e4 * (out.square().mean(-1) * real).sum()

    def measured(self):
        found, self.sums = self.sums, dict.fromkeys(self.sums, 0.0)
        return found

    def update(self, sums):
        for name in self.strength:
            self.strength[name] = 1.0 + 10 * sums[name] / sums["tokens"]

    def state(self):
        return {"strength": dict(self.strength)}

    def load(self, state):
        self.strength = dict(state["strength"])


@planted.right_with(Start)
class Stays(Penalty):
    """Right: reads parameters."""

    def __init__(self, config, context):
        self.config = config

    def keep(self, name, weight):
        return {"start": weight}

    def parameter_loss(self, name, weight, kept):
        return self.distance(weight - kept["start"])

    def distance(self, gone):
        return gone.square().sum() / 2


OBJECTIVE = NextTokenObjective()
EXAMPLES = examples((5, 12, 9, 16))


class Run:
    """Trains a small model with a penalty and nothing else."""

    def __init__(self, make, **settings):
        self.model = tiny_model(kit())
        config, built = make.config(**settings), make(**settings)
        self.penalties = Penalties([Named("own", config, built)], self.model)
        self.module = ObjectiveModule(self.model, self.penalties.around(OBJECTIVE))
        named = list(self.model.named_parameters())
        names = [name for name, _ in named]
        self.weights = [weight for _, weight in named]
        self.terms = ParameterTerms(self.penalties.parameter_terms, names, torch.device("cpu"))

    def step(self, batches):
        self.model.zero_grad()
        total, tokens = 0.0, sum(batch.tokens for batch in batches)
        for batch in self.penalties.counted(batches):
            term = self.module(batch).get("penalty/own")
            if term is not None:
                (term / tokens).backward()
                total += float(term.detach()) / tokens
        total += sum(float(value) for value in self.terms.add_gradients(self.weights).values())
        with torch.no_grad():
            for weight in self.weights:
                weight -= 0.0 if weight.grad is None else 0.2 * weight.grad
                weight += 2e-3
        self.penalties.end_step(dict, skipped=False)
        return total

    def steps(self, batches, count=4):
        found = [self.step(batches) for _ in range(count)]
        return [*found, sum(float(w.detach().abs().sum()) for w in self.weights)]


def _batches(parts=1):
    cuts = [EXAMPLES[n::parts] for n in range(parts)]
    return [OBJECTIVE.collate(cut) for cut in cuts]


def trained(make):
    """Terms of four steps, and the weights then."""
    return Run(make).steps(_batches())


def accumulated(make):
    """The same in micro-batches."""
    return Run(make).steps(_batches(2))


def with_a_stand_in(make):
    """The same with a micro-batch that only keeps other ranks from waiting."""
    empty = replace(_batches()[0], tokens=0)
    return Run(make).steps([*_batches(), empty])


def weighted(make):
    """The same at another weight."""
    return Run(make, weight=3.0).steps(_batches())


def resumed(make):
    """Terms of a run that was killed after its second step."""
    first, second = Run(make), Run(make)
    first.steps(_batches(), 2)
    second.model.load_state_dict(first.model.state_dict())
    second.penalties.load(json.loads(json.dumps(first.penalties.state())))
    return second.steps(_batches(), 2)


def on_two_ranks(make):
    """The term of a parameter of which two ranks have a half each."""
    built, weight = make(), torch.arange(8.0)
    kept = built.keep("w", torch.zeros(8))
    halves = [{n: t.chunk(2)[rank] for n, t in kept.items()} for rank in range(2)]
    parts = zip(weight.chunk(2), halves, strict=True)
    return float(sum(built.parameter_loss("w", part, half) for part, half in parts))


def planned(make):
    """What strategies and plans are told, and what the penalty then reads."""
    names = make().start(tiny_model(kit()))
    return [sorted(make.config().inputs), bool(names)]


@planted.fault(accumulated, "in micro-batches")
class MeanForSum(Calms):
    """Its term is a mean over a micro-batch's tokens."""

    def squares(self, out, real):
        return super().squares(out, real) / real.sum().clamp(min=1)


@planted.fault(trained, "with more padding")
class LearnsPadding(Calms):
    """It does not leave out padding."""

    def squares(self, out, real):
        return 1e4 * out.square().mean(-1).sum()


@planted.fault(resumed, "resumed, it goes on with the same")
class ForgetsItsState(Calms):
    """Its state is empty."""

    def state(self):
        return {}

    def load(self, state):
        pass


@planted.fault(accumulated, "in micro-batches")
class UpdatesInTheForwardPass(Calms):
    """Its state changes with each micro-batch."""

    def output_loss(self, forward):
        found = super().output_loss(forward)
        self.strength = {name: 1.5 * value for name, value in self.strength.items()}
        return found


@planted.fault(trained, "do not change")
class ChangesTheModel(Calms):
    """It scales the model's weights as it starts."""

    def start(self, model):
        with torch.no_grad():
            for weight in model.parameters():
                weight *= 0.9
        return super().start(model)


@planted.fault(trained, "a term with a gradient")
class WithoutGradient(Calms):
    """Its term has no gradient."""

    def squares(self, out, real):
        return super().squares(out.detach(), real).requires_grad_()


@planted.fault(resumed, "JSON round trip")
class StateOfTensors(Calms):
    """Its state has tensors, which JSON does not take."""

    def state(self):
        return {"strength": {n: torch.tensor(v) for n, v in self.strength.items()}}


@planted.fault(trained, "measured() gives sums since its last call")
class MeasuresEverything(Calms):
    """It measures all steps together, so its state lags behind."""

    def measured(self):
        return dict(self.sums)


@planted.fault(weighted, "the engine multiplies by it")
class WeighsItself(Calms):
    """It multiplies by the weight by which the engine multiplies, too."""

    def squares(self, out, real):
        return super().squares(out, real) * self.config.weight


@planted.fault(trained, "the same batches give the same terms")
class Noisy(Calms):
    """Its term has noise that no seed repeats."""

    def squares(self, out, real):
        chance = torch.Generator()
        chance.seed()
        return super().squares(out, real) * torch.rand((), generator=chance)


@planted.fault(planned, "start names modules exactly where")
class SaysHiddenStates(Activity):
    """It says that it reads hidden states only, so strategies that divide modules take it."""

    inputs: ClassVar = frozenset({"hidden"})


@planted.fault(on_two_ranks, "is the sum of its parts' terms", of=Stays)
class NormForSquare(Stays):
    """Its term is the length of the way, which parts do not add up to."""

    def distance(self, gone):
        return (gone.square().sum() + 1e-12).sqrt()


@planted.fault(on_two_ranks, "is the sum of its parts' terms", of=Stays)
class MeanOverParameters(Stays):
    """Its term is a mean over a parameter's numbers."""

    def distance(self, gone):
        return gone.square().mean()

"""Faulty adapters."""

from __future__ import annotations

import torch
from engine_lm.next_token import NextTokenObjective
from support.faults.fault import Planted, alike
from support.models import examples, tiny
from torch import nn
from torch.nn.functional import linear

from engine import Config, Count
from engine.modeling import hidden_states


class Low(Config):
    """A product of two thin matrices beside each linear layer."""

    rank: Count = 2


planted = Planted("adapter", Low)


class Beside(nn.Module):
    """A layer with an addition."""

    def __init__(self, layer, rank):
        super().__init__()
        self.layer, self.scale = layer, 0.5
        width = layer.weight.shape[1]
        self.a = nn.Parameter(torch.randn(rank, width) / width**0.5)
        self.b = nn.Parameter(torch.zeros(layer.weight.shape[0], rank))

    def forward(self, x):
        return self.layer(x) + self.scale * linear(linear(x, self.a), self.b)

    def merged(self):
        self.layer.weight.data += self.scale * self.b.data @ self.a.data
        return self.layer


class Adapts:
    """Right."""

    beside = Beside

    def __init__(self, config, context):
        self.rank = config.rank

    def attach(self, model):
        model.requires_grad_(False)
        for name in self.names(model):
            model.set_submodule(name, self.beside(model.get_submodule(name), self.rank))
        return model

    def names(self, model):
        inside = {id(m) for m in model.base_model.modules()}
        layers = model.named_modules()
        return [n for n, m in layers if isinstance(m, nn.Linear) and id(m) in inside]

    def merge(self, model):
        for name, module in list(model.named_modules()):
            if isinstance(module, self.beside):
                model.set_submodule(name, module.merged())
        return model


@planted.right
class LowRank(Adapts):
    """Right."""


IDS = torch.arange(12)[None]
BATCH = NextTokenObjective().collate(examples((9, 14)))


def _attached(make, **fields):
    base = tiny(**fields)
    for name, parameter in base.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=0.5)
    torch.manual_seed(1)
    return (made := make()), made.attach(base)


def _step(model, count=3):
    own = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(own, lr=0.5)
    for _ in range(count):
        hidden_BTD = hidden_states(model, **BATCH.inputs)
        NextTokenObjective().loss(hidden_BTD, model.lm_head, BATCH)["loss"].div(23).backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def _logits(model):
    return model.eval()(input_ids=IDS).logits


def trained(make, **fields):
    """Logits while training, and of the merged model with its weights' names."""
    made, model = _attached(make, **fields)
    _step(model)
    logits = _logits(model)
    merged = made.merge(model)
    return [logits, _logits(merged), sorted(merged.state_dict())]


def trained_with_biases(make):
    """The same, where all layers have biases."""
    return trained(make, attention_bias=True, mlp_bias=True)


def trained_with_ties(make):
    """The same, where head and embedding are one matrix."""
    return trained(make, tie_word_embeddings=True)


def first_loss(make):
    """Logits before the first step: those of the model."""
    return _logits(_attached(make)[1])


def built_twice(make):
    """Whether two runs with the same seed begin alike."""
    one, two = (_attached(make)[1].state_dict() for _ in range(2))
    return alike(one, two)


def scored_twice(make):
    """Whether two evaluations of the same weights agree."""
    _, model = _attached(make)
    _step(model)
    return alike(_logits(model), _logits(model))


def left_alone(make):
    """How many of the model's own weights a step changes."""
    _, model = _attached(make)
    before = {n: p.clone() for n, p in tiny().state_dict().items()}
    _step(model)
    after = {n.replace(".layer.weight", ".weight"): p for n, p in model.state_dict().items()}
    return sum(not torch.equal(p, after[n]) for n, p in before.items())


@planted.fault(trained_with_biases, "biases included")
class ForgetsBiases(LowRank):
    """It computes the layer by its weight alone."""

    class beside(Beside):  # noqa: N801
        def forward(self, x):
            added = self.scale * linear(linear(x, self.a), self.b)
            return linear(x, self.layer.weight) + added

        def merged(self):
            layer = super().merged()
            if layer.bias is not None:
                layer.bias.data.zero_()
            return layer


@planted.fault(trained_with_biases, "merged, it has the plain model's weights")
class MergesWithoutBiases(LowRank):
    """Merged layers are new ones, without biases."""

    class beside(Beside):  # noqa: N801
        def merged(self):
            layer = super().merged()
            made = nn.Linear(layer.in_features, layer.out_features, bias=False)
            made.weight = layer.weight
            return made


@planted.fault(trained, "merged, it gives the same logits")
class MergesWithoutScale(LowRank):
    """It merges the product without its factor."""

    class beside(Beside):  # noqa: N801
        def merged(self):
            self.scale = 1.0
            return super().merged()


@planted.fault(left_alone, "everything but the addition is frozen")
class TrainsNorms(LowRank):
    """Norms are trained as well."""

    def attach(self, model):
        attached = super().attach(model)
        for name, parameter in attached.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or "norm" in name)
        return attached


@planted.fault(first_loss, "before the first step it gives the logits")
class BeginsElsewhere(LowRank):
    """Both matrices are random, so the model is another one from the start."""

    class beside(Beside):  # noqa: N801
        def __init__(self, layer, rank):
            super().__init__(layer, rank)
            nn.init.normal_(self.b, std=0.3)


@planted.fault(scored_twice, "no dropout")
class DropsAtEvaluation(LowRank):
    """Its dropout stays on."""

    class beside(Beside):  # noqa: N801
        def forward(self, x):
            return super().forward(nn.functional.dropout(x, 0.2, training=True))


@planted.fault(built_twice, "the same seed gives the same addition")
class SeedOfItsOwn(LowRank):
    """Its matrices are drawn without the run's seed."""

    class beside(Beside):  # noqa: N801
        def __init__(self, layer, rank):
            super().__init__(layer, rank)
            chance = torch.Generator()
            chance.seed()
            self.a.data.normal_(generator=chance)


@planted.fault(trained, "merged, it has the plain model's weights")
class LeavesItsWeights(LowRank):
    """Merged, the model still has the addition's matrices."""

    def merge(self, model):
        for module in model.modules():
            if isinstance(module, self.beside):
                module.merged()
        return model


@planted.fault(trained, "merged, it gives the same logits")
class MergesTransposed(LowRank):
    """It merges square matrices transposed."""

    class beside(Beside):  # noqa: N801
        def merged(self):
            product = self.scale * self.b.data @ self.a.data
            square = product.shape[0] == product.shape[1]
            self.layer.weight.data += product.T if square else product
            return self.layer


@planted.fault(trained_with_ties, "merged, it gives the same logits")
class AdaptsATiedHead(LowRank):
    """It changes the head, which may be the embedding as well."""

    def names(self, model):
        return [*super().names(model), "lm_head"]


@planted.fault(trained, "what it trains has a gradient")
class FirstMatrixDetached(LowRank):
    """No gradient reaches one of the matrices."""

    class beside(Beside):  # noqa: N801
        def forward(self, x):
            down = linear(x, self.a.detach())
            return self.layer(x) + self.scale * linear(down, self.b)


@planted.fault(trained, "merged, it gives the same logits")
class MergesNothing(LowRank):
    """It takes the addition off."""

    class beside(Beside):  # noqa: N801
        def merged(self):
            return self.layer


@planted.fault(trained, "attach leaves something to train")
class FreezesAll(LowRank):
    """It freezes the addition as well."""

    def attach(self, model):
        return super().attach(model).requires_grad_(False)

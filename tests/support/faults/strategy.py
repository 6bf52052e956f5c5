"""Faulty strategies."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

from support.faults.replicas import (
    Replicas,
    accumulated,
    after_a_spike,
    annotated,
    clipped,
    evaluated,
    on_two_processes,
    partly_frozen,
    planted,
    resumed,
    with_a_stand_in,
    with_groups,
)


@planted.fault(on_two_processes, "of two processes, step 1 has the norm")
class AveragesWithoutDividing(Replicas):
    """It divides by its own rank's counts and sums over ranks."""

    def forward_backward(self, micro_batches, counts):
        own = {n: sum(b.counts[n] for b in micro_batches if b.tokens) for n in counts}
        return super().forward_backward(micro_batches, own)


@planted.fault(on_two_processes, "of two processes, step 1 has the norm")
class DividesTwice(Replicas):
    """It averages gradients whose counts are those of all ranks."""

    def reduce(self):
        super().reduce()
        for parameter in self.parameters:
            parameter.grad /= self.data_size


@planted.fault(on_two_processes, "of two processes, step 1 has the norm")
class LearnsAlone(Replicas):
    """Each rank steps with its own gradients."""

    def reduce(self):
        pass


@planted.fault(on_two_processes, "of two processes, step 1 has the norm")
class SumsAfterEachMicroBatch(Replicas):
    """It sums over ranks after each micro-batch what it has summed before."""

    def after_a_micro_batch(self):
        super().reduce()

    def reduce(self):
        pass


@planted.fault(on_two_processes, "two processes divide the data")
class OneShareForAll(Replicas):
    """Both ranks read the first share."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.data_rank = 0


@planted.fault(on_two_processes, "all_sum gives the sum over all data ranks")
class SumsOfItsOwn(Replicas):
    """all_sum gives the rank's own values."""

    def all_sum(self, values):
        return dict(values)


@planted.fault(on_two_processes, "of two processes, step 1 has the norm")
class NormBeforeTheSum(Replicas):
    """Its norm is that of the rank's own gradient, so ranks may skip different steps."""

    def reduce(self):
        self.own = super().gradient_norm()
        super().reduce()

    def gradient_norm(self):
        return self.own


@planted.fault(evaluated, "export gives the weights of the model that inference evaluates")
class ExportsWhatItTrains(Replicas):
    """It evaluates averaged weights and exports those that it trains."""

    def export(self):
        yield from self.model.state_dict().items()


@planted.fault(evaluated, "after inference the next step is that of a run")
class KeepsAverages(Replicas):
    """After an evaluation it trains the averaged weights."""

    @contextmanager
    def inference(self, *, averaged=True):
        self.model.eval()
        if averaged and self.averages:
            self.swapped(self.averages)
        yield self.model
        self.model.train()


@planted.fault(evaluated, "after inference the model is in training mode again")
class StaysInEvaluation(Replicas):
    """After an evaluation, dropout stays off."""

    @contextmanager
    def inference(self, *, averaged=True):
        with super().inference(averaged=averaged) as model:
            yield model
        self.model.eval()


@planted.fault(clipped, "steps give the weights of plain training")
class DoesNotClip(Replicas):
    """It does not clip gradients."""

    def step(self, lr, max_norm, spike_limit):
        return super().step(lr, None, spike_limit)


@planted.fault(with_groups, "with a group whose lr_scale is not 1")
class OneRateForAll(Replicas):
    """It leaves out the groups' scales of the rate."""

    def rate(self, lr, group):
        return lr


@planted.fault(after_a_spike, "a norm above the limit is skipped")
class StepsOverSpikes(Replicas):
    """It steps whatever the norm is."""

    def step(self, lr, max_norm, spike_limit):
        return super().step(lr, max_norm, float("inf"))


@planted.fault(after_a_spike, "after a skipped step, step 3")
class KeepsSkippedGradients(Replicas):
    """The gradient of a skipped step is added to the next."""

    def clear(self, skipped):
        if not skipped:
            super().clear(skipped)


@planted.fault(resumed, "from its saved state the next step is the same")
class ForgetsTheOptimizer(Replicas):
    """Its state has no moments."""

    def state(self):
        return {**super().state(), "optimizer": {}}

    def load(self, state):
        pass


@planted.fault(resumed, "averaged weights included")
class ForgetsAverages(Replicas):
    """Its state has no averaged weights."""

    def state(self):
        return {**super().state(), "averages": {}}


@planted.fault(accumulated, "a step is that of one batch")
class MeanOfMicroBatches(Replicas):
    """It divides by each micro-batch's own count."""

    def loss(self, terms, batch, counts):
        return super().loss(terms, batch, batch.counts)


@planted.fault(accumulated, "in several micro-batches, step 1 has the sums")
class SumsOfTheLast(Replicas):
    """It reports the last micro-batch's sums."""

    def forward_backward(self, micro_batches, counts):
        super().forward_backward(micro_batches[:-1], counts)
        return super().forward_backward(micro_batches[-1:], counts)


@planted.fault(annotated, "an objective that asks a frozen model (Loss.annotate)")
class DoesNotAnnotate(Replicas):
    """It does not ask the objective's frozen models."""

    def annotated(self, batch):
        return batch


@planted.fault(partly_frozen, "with frozen embeddings")
class TrainsFrozenWeights(Replicas):
    """It trains all weights, frozen ones as well."""

    def trained(self):
        self.model.requires_grad_(True)
        return super().trained()


@planted.fault(with_a_stand_in, "with a stand-in")
class LearnsStandIns(Replicas):
    """It learns micro-batches that only keep other ranks from waiting."""

    def forward_backward(self, micro_batches, counts):
        real = [replace(batch, tokens=max(batch.tokens, 1)) for batch in micro_batches]
        return super().forward_backward(real, counts)

"""The kit finds optimizers, schedules and strategies that break their contract."""

from __future__ import annotations

import pytest

ADAFACTOR = "return torch.optim.Adafactor(groups, lr=config.lr, d=config.clip)"
WRONG = """
        class Wrong(torch.optim.SGD):
            _step_supports_amp_scaling = {on_device}

            @torch.no_grad()
            def step(self):
                for group in self.param_groups:
                    for p in group["params"]:
                        descent = group["lr"] * p.grad
                        {update}

        return Wrong(groups, lr=config.lr)
"""


def stepping(update: str, on_device: bool = False) -> tuple[str, str]:
    """The edit that makes the guide's optimizer one that does this to each parameter ``p``."""
    return ADAFACTOR, WRONG.format(update=update, on_device=on_device).strip()


@pytest.mark.parametrize(
    ("contract", "edit"),
    [
        (
            "every parameter is in exactly one group",
            ("parameter_groups(config, parameters)", "parameter_groups(config, parameters[1:])"),
        ),
        (
            "every group carries lr_scale",
            ("parameter_groups(config, parameters)", "[p for _, p in parameters]"),
        ),
        ("a skipped first step changes no parameter", stepping("p.sub_(descent).mul_(0.99)")),
        (
            "a skipped first step leaves no trace in the state",
            (ADAFACTOR, "return torch.optim.Rprop(groups, lr=config.lr)"),
        ),
        ("parameters stay finite", stepping("p.sub_(descent).div_(~p.grad.any())")),
        ("a step changes every parameter", stepping("p.sub_(descent * (p.ndim - 1))")),
        ("at rate 0 nothing changes", stepping("p.sub_(descent).mul_(0.99 if p.grad.any() else 1)")),
        ("where found_inf is 1 neither parameters nor state change", stepping("p.sub_(descent)", True)),
        (
            "gradients are divided by grad_scale",
            stepping("p.sub_(torch.where(self.found_inf.bool(), 0, descent))", True),
        ),
        (
            "a skipped step makes all of the state",
            stepping('p.sub_(descent); group["lr"] and self.state[p].update(late=p.grad)'),
        ),
        (
            "from its saved state the next step is the same",
            stepping(
                'self.n = getattr(self, "n", 0) + bool(group["lr"]); p.sub_(descent / (self.n + 1))'
            ),
        ),
        (
            "state_floats(hidden=False) says 0 numbers per parameter, not 2",
            (ADAFACTOR, "return torch.optim.AdamW(groups, lr=config.lr)"),
        ),
    ],
)  # fmt: skip
def test_optimizer(refuses, contract, edit):
    """Groups, rates, skipping, scaled gradients, exact resume."""
    refuses("optimizer", {"type": "adafactor"}, contract, edit)


COUNTING = """calls = 0

    def factor(progress):
        nonlocal calls
        calls += 1"""


@pytest.mark.parametrize(
    ("contract", "edits"),
    [
        (
            "a factor is between 0 and 1, not -",
            [("left = max(1 -", "left = min(1 -")],
        ),
        ("the peak, 1, is reached within 1000 steps", [("return config.final +", "return")]),
        (
            "the same progress always has the same factor",
            [("def factor(progress):", COUNTING), ("left = max(", "left = 1 / calls * max(")],
        ),
    ],
)  # fmt: skip
def test_schedule(refuses, contract, edits):
    """A pure function from progress to a share of the peak."""
    refuses("schedule", {"type": "linear"}, contract, *edits)


EXPORTED = "yield from self._model.state_dict().items()"


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        ("the kit checks it on one process", "if processes == 1", "if processes == 2"),
        ("one process holds all the data", "data_size = 0, 1", "data_size = 0, 2"),
        ("all_sum over one rank is that rank's", "dict(values)", "{name: 0.0 for name in values}"),
        (
            "export names the weights as transformers does",
            EXPORTED,
            'yield from self._module.state_dict(prefix="module.").items()',
        ),
        ("forward_backward gives the objective's sums by term", "return sums", "return {}"),
        ("a step changes the weights", "self._optimizer.step()", "pass"),
        (
            "accumulated over micro-batches, a step is that of one batch",
            "max(counts[name], 1)",
            "max(batch.counts[name], 1)",
        ),
        ("a norm above the limit is skipped", "Step(norm, skipped)", "Step(norm, norm.isnan())"),
        ("a skipped step changes no weight", "if not skipped:", "if True:"),
        ("from its saved state the next step is the same", 'optimizer["state"]', "{}"),
        ("inference gives the model in evaluation mode", "self._model.eval()", "pass"),
        ("after inference the model is in training mode again", "self._model.train()", "pass"),
    ],
)  # fmt: skip
def test_strategy(refuses, contract, old, new):
    """Accumulation, spikes, exact resume, export."""
    refuses("strategy", {"type": "plain"}, contract, (old, new))

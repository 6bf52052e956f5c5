"""The kit finds models, adapters and objectives that break their contract."""

from __future__ import annotations

import pytest

BUILT = "            eos_token_id=tokenizer.eos_token_id,\n        )\n    )\n"


def spoiled(code: str) -> list[tuple[str, str]]:
    """Edits by which the guide's ``build`` does this to its model."""
    body = "".join(f"    {line}\n" for line in ["import torch", *code.splitlines(), "return model"])
    return [("return GPT2LMHeadModel(", "model = GPT2LMHeadModel("), (BUILT, BUILT + body)]


@pytest.mark.parametrize(
    ("contract", "edits"),
    [
        (
            "the same seed gives the same weights",
            spoiled("torch.seed()\nmodel.lm_head.weight.data.normal_()"),
        ),
        ("it is one of transformers' PreTrainedModels", spoiled("model = torch.nn.Tanh()")),
        ("it comes in training mode", spoiled("model.eval()")),
        (
            "the head has a row for every token",
            [("vocab_size=len(tokenizer),", "vocab_size=len(tokenizer) - 1,")],
        ),
        (
            "no position sees what comes after it",
            spoiled(
                "later = lambda m, arguments, out: out + out.roll(-1, 1)\n"
                "model.transformer.wte.register_forward_hook(later)"
            ),
        ),
        (
            "every position sees what comes before it",
            spoiled(
                "nothing = lambda m, arguments, out: (out[0] * 0, *out[1:])\n"
                "for block in model.transformer.h:\n"
                "    block.attn.register_forward_hook(nothing)"
            ),
        ),
        (
            "packed documents do not see each other",
            spoiled(
                "forgets = lambda m, arguments, named: (arguments, {**named, 'position_ids': None})\n"
                "model.transformer.register_forward_pre_hook(forgets, with_kwargs=True)"
            ),
        ),
        (
            "logits are head(hidden states)",
            spoiled(
                "def capped(module, arguments, out):\n"
                "    out.logits = torch.tanh(out.logits)\n"
                "    return out\n"
                "model.register_forward_hook(capped)"
            ),
        ),
        (
            "saved and opened by its Auto class, it gives the same logits",
            spoiled(
                "scaled = lambda m, arguments, out: out * 2\n"
                "model.transformer.wte.register_forward_hook(scaled)"
            ),
        ),
        (
            "shape() declares 14944 parameters",
            [("intermediate_size=4 * self.width", "intermediate_size=8 * self.width")],
        ),
    ],
)
def test_model(refuses, contract, edits):
    """Transformers' convention, causal, documents apart, and all of it in the saved folder."""
    refuses("model", {"type": "small-gpt", "width": 16}, contract, *edits)


MERGED = 'remove_parametrizations(layer, "weight")'


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        ("attach leaves something to train", "self._rank)", "self._rank).requires_grad_(False)"),
        ("everything but the addition is frozen", "model.requires_grad_(False)\n", "pass\n"),
        ("merged, it has the plain model's weights", f"parametrize.{MERGED}", "pass"),
        (
            "merged, it gives the same logits",
            MERGED,
            'remove_parametrizations(layer, "weight", leave_parametrized=False)',
        ),
        ("merged weights hold what was trained", "self.b @ self.a", "0 * (self.b @ self.a)"),
    ],
)
def test_adapter(refuses, contract, old, new):
    """Little is trained, and it is folded in."""
    refuses("adapter", {"type": "low-rank"}, contract, (old, new))


LOSS = 'cross_entropy(hidden_BTD, head, batch.targets["labels"])'


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        (
            "the kit's completion records give no example",
            "if len(tokens) - 1 <= length",
            "if False",
        ),
        (
            "encode gives several examples, not Example",
            "            yield Ex",
            "            return Ex",
        ),
        ("the reason for none, not tuple", "yield Example(", "yield (lambda *parts: parts)("),
        ("sums by term, not Tensor", f'{{"loss": {LOSS}}}', LOSS),
        ("length=24) gives no example of", "if len(tokens) - 1 <= length", "if True"),
        (
            "input_ids and position_ids have the same shape",
            "padded(examples, name, 0)",
            'padded(examples, name, 0)[:, name == "position_ids" :]',
        ),
        ("tokens are the input tokens", "sum(example.length for example in examples)", "0"),
        ("terms {'nll'} but counts {'loss'}", f'"loss": {LOSS}', f'"nll": {LOSS}'),
        ("loss is a float32 scalar", LOSS, f"{LOSS}.double()"),
        (
            "counts['loss'] is a whole number",
            "int((labels != IGNORE).sum())",
            "(labels != IGNORE).sum()",
        ),
        ("loss is nan", LOSS, f"{LOSS} * float('nan')"),
        ("the loss has a gradient", LOSS, f"{LOSS} * 0"),
        ("loss over micro-batches adds up to", LOSS, f'{LOSS} / batch.counts["loss"]'),
        (
            "gradients accumulated over micro-batches are those of one batch",
            "int((labels != IGNORE).sum())",
            "labels.numel()",
        ),
    ],
)
def test_objective(refuses, contract, old, new):
    """Sums and counts that add up."""
    refuses("objective", {"type": "answers"}, contract, (old, new))


FROZEN = """    observes = True

    def freeze(self, model):
        import copy

        return {"first": copy.deepcopy(model)}

    def annotate(self, batch, frozen):
        assert not frozen["first"].training
        return batch

    def observe(self, batch, model):
        return {"tokens": (batch.tokens, len(batch.targets["labels"]))}

    def settle(self, batch, observed):
        import dataclasses

        import torch

        mean = torch.tensor(observed["tokens"])
        return dataclasses.replace(batch, targets={**batch.targets, "mean": mean})

    def collate(self, examples):
"""
WITH_FROZEN = [
    ("    def collate(self, examples):\n", FROZEN),
    (LOSS, f'{LOSS} * batch.targets["mean"]'),
]


@pytest.mark.parametrize(
    ("contract", "edit"),
    [
        ("the frozen 'first' shares no parameter", ("copy.deepcopy(model)", "model")),
        # One micro-batch's own mean where that of the global batch is to be.
        (
            "loss over micro-batches adds up to",
            ('observed["tokens"]', 'batch.tokens / len(batch.targets["labels"])'),
        ),
    ],
)
def test_objective_with_frozen_models_and_a_mean_of_the_batch(refuses, contract, edit):
    """What is frozen is a copy, and what is observed is of the whole batch."""
    refuses("objective", {"type": "answers"}, contract, *WITH_FROZEN, edit)


def test_an_objective_that_observes_is_sound(spoil):
    """The same without a mistake."""
    from engine.testing import check_component

    spoil(*WITH_FROZEN)
    check_component("objective", {"type": "answers"})

"""``check_component`` finds components that break their contract: each of these has one mistake."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from engine import PluginError
from engine.testing import check_component


def test_an_unknown_type_lists_those_that_there_are():
    """As a spec's error does."""
    with pytest.raises(PluginError, match=r"no processor 'lenght' is installed; .* length"):
        check_component("processor", {"type": "lenght"})


def test_settings_are_checked_as_in_a_spec():
    """A misspelt field is an error, not a default."""
    with pytest.raises(ValidationError, match="minn"):
        check_component("processor", {"type": "length", "minn": 3})


def test_a_configuration_comes_back_from_the_resolved_spec(refuses):
    """A field that is not written down would get its default on resuming."""
    edit = ("most: Share = Field(0.5,", "most: Share = Field(0.5, exclude=True,")
    settings = {"type": "calm", "most": 0.4}
    refuses("processor", settings, "resolved.yaml would bring it back as", edit)


BAD = "yield (lambda **row: __import__('engine').Bad(row['id'], '{}', 'big'))("


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        ("gives at least one record", "islice(self._all(), part, None, of)", "iter(())"),
        ("is no record", "yield Completion(", "yield dict("),
        ("gives() says text, but a completion", 'return "completion"', 'return "text"'),
        ("'Too big' is no reason in kebab-case", "yield Completion(", BAD.format("Too big")),
        ("not every row is bad", "yield Completion(", BAD.format("too-big")),
        ("ids are unique", 'id=f"{a}+{b}"', 'id=f"{a}"'),
        (
            "the order is always the same",
            "islice(self._all()",
            "islice(sorted(self._all(), key=lambda _: __import__('random').random())",
        ),
        ("records(0, 2) begin with number 0 and go in steps of 2", "part, None, of", "0, None, 1"),
    ],
)
def test_data_source(refuses, contract, old, new):
    """Records with ids of their own, in an order that can be shared."""
    refuses("data-source", {"type": "sums", "below": 4}, contract, (old, new))


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        (
            "the same records have the same outcome",
            'return "shouting" if',
            'return "shouting" if __import__("random").random() < 0.5 or',
        ),
        ("'Too loud' is no rule's name", 'return "shouting" if', 'return "Too loud" if True or'),
        ("None is neither a record nor a rule's name", "else record", "else None"),
        (
            "a record keeps its id",
            "else record",
            'else __import__("dataclasses").replace(record, id="new")',
        ),
    ],
)
def test_processor(refuses, contract, old, new):
    """A record or a rule, the same each time."""
    refuses("processor", {"type": "calm"}, contract, (old, new))


SHUFFLED = "enumerate(__import__('random').sample([*special, *known], len(special) + len(known)))"
REVERSING = """
class Reversing(PreTrainedTokenizerFast):
            def encode(self, text, **options):
                return super().encode(text[::-1], **options)

            def decode(self, ids, **options):
                return super().decode(ids, **options)[::-1]

        return Reversing("""


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        ("one of transformers' fast tokenizers", "return PreTrainedTokenizerFast(", "return dict("),
        ("it has an EOS token", 'eos_token="<end>",', ""),
        (
            "ids are less than len(tokenizer)",
            "enumerate([*special, *known])",
            "enumerate([*special, *known], 9)",
        ),
        ("comes back changed", "tokenizer.decoder = decoders.Fuse()", ""),
        ("the same texts give the same tokenizer", "enumerate([*special, *known])", SHUFFLED),
        (
            "saved and opened again it gives the same ids",
            "return PreTrainedTokenizerFast(",
            REVERSING.strip(),
        ),
    ],
)
def test_tokenizer(refuses, contract, old, new):
    """Fast, complete, and the same when it is opened from its folder."""
    refuses("tokenizer", {"type": "characters"}, contract, (old, new))


RIGHT = "float(responses[0].text.strip() == item.data)"
MEAN = 'sum(row["right"] for row in rows) / max(n, 1)'
SUMMING = """total = 0

    def score(self, item, responses):
        self.total += 1"""
STDERR = "(mean * (1 - mean) / max(n - 1, 1)) ** 0.5"


@pytest.mark.parametrize(
    ("contract", "edits"),
    [
        ("there is at least one item", [("def items(self):", "def items(self):\n        return")]),
        ("ids are unique", [('Item(f"{a}+{b}"', 'Item("sum"')]),
        ("items are always the same", [('Item(f"{a}+{b}"', "Item(__import__('uuid').uuid4().hex")]),
        ("JSON brings back a row", [(RIGHT, "{True}")]),
        ("the rows give at least one score", [("return [Score(", "return [] and [Score(")]),
        ("is no Score", [("Score(", "(lambda *figures: figures)(")]),
        ("accuracy is nan", [(MEAN, "float('nan')")]),
        ("accuracy ± -1", [(STDERR, "-1.0")]),
        ("accuracy counts 10 items of 9", [(f"{STDERR}, n", f"{STDERR}, n + 1")]),
        (
            "rows are all that scores depend on",
            [
                ("def score(self, item, responses):", SUMMING),
                (MEAN, "self.total"),
                (STDERR, "None"),
            ],
        ),
        (
            "accuracy does not depend on the rows' order",
            [(RIGHT, "float(item.data)"), (MEAN, 'rows[0]["right"]'), (STDERR, "None")],
        ),
    ],
)  # fmt: skip
def test_evaluator(refuses, contract, edits):
    """Items that stay, rows that can be kept, scores that can be told."""
    refuses("evaluator", {"type": "addition"}, contract, *edits)


VALUE = "-torch.tensor(above, dtype=torch.float32)"


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        ("at least one named value", 'return {"brevity"', 'return {} and {"brevity"'),
        ("brevity has shape (), not _N", VALUE, f"({VALUE}).mean()"),
        ("brevity is finite", VALUE, f"({VALUE}).log()"),
        (
            "brevity is finite",  # of an empty answer as well
            VALUE,
            f"{VALUE} / torch.tensor([len(text) for text in completions])",
        ),
        ("brevity does not depend on what else is in the batch", VALUE, f"({VALUE}).cumsum(0)"),
        (
            "built anew, it gives the same answers the same values",
            "self._free, self._column = free, column",
            "self._column = column\n"
            "        self._free = BrevityReward.made = getattr(BrevityReward, 'made', 0) + 40",
        ),
        ("it leaves rows as they are", 'row.get(self._column, "")', 'row.pop("id")'),
        ("check_row names every column that is needed", 'row.get(self._column, "")', 'row["id"]'),
        ("check_row says of {'id': 'row-0'", "if self.column is None or", "if"),
    ],
)
def test_reward(refuses, contract, old, new):
    """A finite value for each answer by itself."""
    refuses("reward", {"type": "brevity"}, contract, (old, new))


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        (
            "spike_limit is a number",
            "(BaseCallback):",
            '(BaseCallback):\n    spike_limit = "3 sigma"\n',
        ),
        ("'loss below 9 for 4 steps' is neither Stop", "return Stop(", "return str("),
        (
            "JSON brings back state(), as checkpoints keep it",
            '{"row": self._row}',
            "{1: self._row}",
        ),
        ("what was loaded is the state", 'self._row = state["row"]', "pass"),
        (
            "answers to step 9 as without the break",
            'return {"row": self._row}',
            'return {"row": 0}',
        ),
        (
            "resumed, it ends as without the break",
            'return {"row": self._row}',
            'return {"row": self._row // 3}',
        ),
    ],
)
def test_callback(refuses, contract, old, new):
    """It answers, and goes on from its state."""
    steps = 100 if "ends" in contract else 4
    refuses("callback", {"type": "good-enough", "loss": 9, "steps": steps}, contract, (old, new))

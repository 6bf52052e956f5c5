"""``check_component`` finds components that break their contract: each of these has one mistake."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from engine.errors import PluginError
from engine.testing import check_component


def test_an_unknown_type_lists_those_that_there_are():
    """As a spec's error does."""
    with pytest.raises(PluginError, match=r"no processor 'lenght' is installed; .* length"):
        check_component("processor", {"type": "lenght"})


def test_an_unknown_kind_lists_those_that_there_are():
    """It is the kind's name, not the hook's."""
    with pytest.raises(PluginError, match="no kind 'rewards'; there are: data-source, "):
        check_component("rewards", {"type": "length"})


def test_settings_are_checked_as_in_a_spec():
    """A misspelt field is an error, not a default."""
    with pytest.raises(ValidationError, match="minn"):
        check_component("processor", {"type": "length", "minn": 3})


def test_a_class_without_the_base_of_its_kind_is_told_so(spoil):
    """As a run would."""
    spoil(("class AdditionEvaluator(Evaluator)", "class AdditionEvaluator"))
    with pytest.raises(PluginError, match=r"let AdditionEvaluator subclass engine\.Evaluator"):
        check_component("evaluator", {"type": "addition"})


def test_a_configuration_comes_back_from_the_resolved_spec(refuses):
    """A field that is not written down would get its default on resuming."""
    edit = ("most: Share = Field(0.5,", "most: Share = Field(0.5, exclude=True,")
    settings = {"type": "calm", "most": 0.4}
    refuses("processor", settings, "resolved.yaml restores", edit)


BAD = "yield (lambda **row: __import__('engine').Bad(row['id'], '{}', 'big'))("


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        ("gives at least one record", "for second in range(self._below)", "for second in ()"),
        ("is not a record", "yield Completion(", "yield dict("),
        (
            "gives() says text, but the source gives a completion",
            'return "completion"',
            'return "text"',
        ),
        ("the reason 'Too big' is not in kebab-case", "yield Completion(", BAD.format("Too big")),
        ("not every row is bad", "yield Completion(", BAD.format("too-big")),
        ("ids are unique", 'id=f"{first}+{second}"', 'id=f"{first}"'),
        ("the names of parts are unique", "[str(first) for", "[str(first % 2) for"),
        (
            "parts and records are always in the same order",
            "return [str(first) for first in range(self._below)]",
            "return sorted(map(str, range(self._below)), key=lambda _: __import__('random').random())",
        ),
        (
            "a part has the same records, whatever was read before",
            "first = int(part)",
            "first = self._next = getattr(self, '_next', -1) + 1",
        ),
    ],
)
def test_data_source(refuses, contract, old, new):
    """Records with ids of their own, in an order that can be shared."""
    refuses("data-source", {"type": "sums", "below": 4}, contract, (old, new))


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        (
            "the same documents have the same outcome",
            'return "shouting" if',
            'return "shouting" if __import__("random").random() < 0.5 or',
        ),
        (
            "the rule's name 'Too loud' is not in kebab-case",
            'return "shouting" if',
            'return "Too loud" if True or',
        ),
        ("it gave None, neither a record nor the name of a rule", "else document", "else None"),
        (
            "it changed more of the document than its text",
            "else document",
            'else __import__("dataclasses").replace(document, id="new")',
        ),
        (
            "a document's outcome does not depend on other documents",
            "    return each(calm)",
            "    seen = []\n    return each(lambda d: seen.append(d) or (d if seen[1:] else 'first'))",
        ),
    ],
)
def test_processor(refuses, contract, old, new):
    """A document or a rule, the same each time, whatever stands beside it."""
    refuses("processor", {"type": "calm"}, contract, (old, new))


@pytest.mark.parametrize(
    ("contract", "old", "new"),
    [
        (
            "the outcome is the same, however the documents are divided",
            'corpus.shuffle(lengths, "length")',
            "lengths",
        ),
        ("the rule's name 'Same length' is not in kebab-case", '"same-length"', '"Same length"'),
        (
            "which is not a pa.Table",
            "return dropped.append_column",
            "return len, dropped.append_column",
        ),
    ],
)
def test_corpus_step(refuses, contract, old, new):
    """The same of every division into parts."""
    refuses("corpus-step", {"type": "one-per-length"}, contract, (old, new))


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
        ("decoded tokens restore", "tokenizer.decoder = decoders.Fuse()", ""),
        ("the same texts give the same tokenizer", "enumerate([*special, *known])", SHUFFLED),
        (
            "saved and opened again, it gives the same ids",
            "return PreTrainedTokenizerFast(",
            REVERSING.strip(),
        ),
    ],
)
def test_tokenizer(refuses, contract, old, new):
    """Fast, complete, and the same when it is opened from its folder."""
    refuses("tokenizer", {"type": "characters"}, contract, (old, new))


ITEM = 'Item(f"{first}+{second}"'
RIGHT = "float(responses[0].text.strip() == item.data)"
MEAN = 'sum(row["right"] for row in rows) / max(count, 1)'
SUMMING = """total = 0

    def score(self, item, responses):
        self.total += 1"""
STDERR = "(mean * (1 - mean) / max(count - 1, 1)) ** 0.5"


@pytest.mark.parametrize(
    ("contract", "edits"),
    [
        ("there is at least one item", [("def items(self):", "def items(self):\n        return")]),
        ("is not an Item", [("yield Item(", "yield (lambda *parts: parts)(")]),
        ("ids are unique", [(ITEM, 'Item("sum"')]),
        ("items are always the same", [(ITEM, "Item(__import__('uuid').uuid4().hex")]),
        ("JSON round trip preserves a row", [(RIGHT, "{True}")]),
        ("the rows give at least one score", [("return [Score(", "return [] and [Score(")]),
        ("is not a Score", [("Score(", "(lambda *figures: figures)(")]),
        ("is not an ItemTexts", [("yield ItemTexts(", "yield dict(id=")]),
        ("('0 + 0 =', 0, None) of item '0+0' are texts", [("r=item.data)", "r=int(item.data))")]),
        ("the ids of texts are unique", [("ItemTexts(item.id,", "ItemTexts('0+0',")]),
        ("texts are always the same", [("answer=", "answer=__import__('uuid').uuid4().hex or ")]),
        (
            "texts have the ids of items, which ['0+0?', '0+1?', '0+2?'] are not",
            [("ItemTexts(item.id,", "ItemTexts(f'{item.id}?',")],
        ),
        (
            "texts need no model and no tokenizer",
            [
                (
                    "    return AdditionEvaluator",
                    "    context.tokenizer()\n    return AdditionEvaluator",
                )
            ],
        ),
        ("accuracy is nan", [(MEAN, "float('nan')")]),
        ("accuracy ± -1", [(STDERR, "-1.0")]),
        ("accuracy counts 10 items of 9", [("stderr, count", "stderr, count + 1")]),
        (
            "scores depend on rows alone",
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
        ("values by name, not Tensor", f'{{"brevity": {VALUE}}}', VALUE),
        ("brevity is a list, not a tensor", VALUE, f"({VALUE}).tolist()"),
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
            "built again, it gives the same answers the same values",
            "self._free, self._column = free, column",
            "self._column = column\n"
            "        self._free = BrevityReward.made = getattr(BrevityReward, 'made', 0) + 40",
        ),
        ("it does not change rows", 'row.get(self._column, "")', 'row.pop("id")'),
        ("check_row names every column that is needed", 'row.get(self._column, "")', 'row["id"]'),
        ("check_row refuses {'id': 'row-0'", "if self.column is None or", "if"),
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
            "(Callback):",
            '(Callback):\n    spike_limit = "3 sigma"\n',
        ),
        ("'loss below 9 for 4 steps' is neither Stop", "return Stop(", "return str("),
        (
            "JSON round trip preserves state(), which checkpoints store",
            '{"low": self._low}',
            "{1: self._low}",
        ),
        ("state() gives what was loaded", 'self._low = state["low"]', "pass"),
        (
            "answers step 9 as if it had not been interrupted",
            'return {"low": self._low}',
            'return {"low": 0}',
        ),
        (
            "resumed, it ends in the same state",
            'return {"low": self._low}',
            'return {"low": self._low // 3}',
        ),
    ],
)
def test_callback(refuses, contract, old, new):
    """It answers, and goes on from its state."""
    steps = 100 if "ends" in contract else 4
    refuses("callback", {"type": "good-enough", "loss": 9, "steps": steps}, contract, (old, new))

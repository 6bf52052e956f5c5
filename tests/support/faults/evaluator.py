"""Faulty evaluators."""

from __future__ import annotations

import json
import random

from support.faults.fault import Planted, kit, with_other_hashes

from engine import (
    Count,
    Evaluator,
    EvaluatorConfig,
    Generation,
    Item,
    ItemTexts,
    LogLikelihood,
    Score,
    seed_of,
)
from engine.testing import StandAloneContext, tiny_model

WORDS = ("cat", "mat", "mouse", "chairs", "old", "grey")
QUESTIONS = [f"the {word} and the {other}" for word in WORDS for other in WORDS[:2]]


class Words(EvaluatorConfig):
    """Asks for words."""

    samples: Count = 2


planted = Planted("evaluator", Words)


@planted.right
class Asks(Evaluator):
    """Right."""

    def __init__(self, config, context):
        self.config, self.context = config, context

    def items(self):
        for n, question in enumerate(QUESTIONS):
            samples = (
                Generation(question, max_tokens=3, temperature=1.0, seed=seed_of(question, sample))
                for sample in range(self.config.samples)
            )
            known = LogLikelihood(question, f" {WORDS[n % 6]}")
            yield Item(f"word-{n}", (known, *samples), WORDS[n % 6])

    def texts(self):
        for n, question in enumerate(QUESTIONS):
            yield ItemTexts(f"word-{n}", question=question, answer=WORDS[n % 6])

    def score(self, item, responses):
        texts = [response.text for response in responses[1:]]
        found = sum(len(text) > 1 and text[1] < "o" for text in texts) / len(texts)
        return {"logprob": responses[0].logprob, "found": found, "item": item.data}

    def summarise(self, rows):
        return [self.mean(rows, "logprob"), self.mean(rows, "found")]

    def mean(self, rows, name):
        values = [row[name] for row in rows]
        return Score(name, sum(values) / len(values), self.stderr(values), len(rows))

    def stderr(self, values):
        mean = sum(values) / len(values)
        squares = sum((value - mean) ** 2 for value in values)
        return (squares / max(len(values) - 1, 1) / len(values)) ** 0.5

    def compare(self, rows, baseline):
        pairs = zip(rows, baseline, strict=True)
        gains = [{"gain": row["found"] - before["found"]} for row, before in pairs]
        return [self.mean(gains, "gain")]


def _rows(built, keep=lambda n: True):
    lm = kit().language_model(tiny_model(kit()).eval(), kit().tokenizer())
    items = [item for n, item in enumerate(built.items()) if keep(n)]
    responses = [lm.answer(item.requests) for item in items]
    return items, json.loads(json.dumps(built.score_all(items, responses)))


def evaluated(make):
    """The scores of a model."""
    built = make()
    items, rows = _rows(built)
    return [[item.id for item in items], str(rows), str(built.summarise(rows))]


def requests(make):
    """What a model is asked, by two processes."""
    return [[(item.id, item.requests) for item in make().items()] for _ in range(2)]


def twice_in_a_stage(make):
    """How many items two evaluations of a stage ask."""
    built = make()
    return [len(list(built.items())) for _ in range(2)]


def by_two_ranks(make):
    """The scores of rows that two ranks gave, the second's first."""
    one, two = make(), make()
    (_, some), (_, others) = _rows(one, lambda n: n % 2 == 0), _rows(two, lambda n: n % 2)
    return [str(score) for score in one.summarise([*others, *some])]


def resumed(make):
    """The scores of rows, half of which an earlier process stored."""
    _, stored = _rows(make(), lambda n: n < 5)
    built = make()
    _, rows = _rows(built, lambda n: n >= 5)
    return [str(score) for score in built.summarise([*stored, *rows])]


def stored(make):
    """The rows after a summary, as an evaluation stores them."""
    built = make()
    _, rows = _rows(built)
    built.summarise(rows)
    return str(rows)


def gains(make):
    """What a model has gained over another, and what its rows say alone."""
    built = make()
    better, worse = ([{"found": found, "logprob": -1.0}] * 4 for found in (1.0, 0.25))
    return [score.value for score in built.compare(better, worse)]


def samples(make):
    """How many different answers an item gets."""
    lm = kit().language_model(tiny_model(kit()).eval(), kit().tokenizer())
    item = next(iter(make(samples=5).items()))
    return len({response.text for response in lm.answer(item.requests[1:])})


def in_a_stage_without_records(make):
    """Questions to a model of a stage that holds nothing out."""
    context = StandAloneContext(documents=())
    object.__setattr__(context, "tokenizer", kit().tokenizer)
    return [len(list(make(context).items())), make.config().held_out]


def on_two_machines(make):
    """What Python processes with other hashes ask."""
    return with_other_hashes(evaluated, make)


@planted.fault(evaluated, "ids are unique")
class OneIdForTwo(Asks):
    """Two questions about a word have one id."""

    def items(self):
        return (Item(item.data, item.requests, item.data) for item in super().items())


@planted.fault(requests, "items are always the same")
class DrawsItems(Asks):
    """It asks a random half of the items."""

    def items(self):
        return iter(random.sample(list(super().items()), 6))


@planted.fault(requests, "each with the same requests")
class DrawsExamples(Asks):
    """The examples before a question are drawn at random."""

    def items(self):
        for item in super().items():
            shown = f"{random.choice(WORDS)} {random.random():.6f} {item.requests[0].context}"
            yield Item(item.id, (LogLikelihood(shown, " cat"), *item.requests[1:]), item.data)


@planted.fault(on_two_machines, "in a new process the items are the same")
class ItemsOfASet(Asks):
    """Items come in the order of a set, so a limit takes others in each process."""

    def items(self):
        items = {item.id: item for item in super().items()}
        return (items[name] for name in set(items))


@planted.fault(twice_in_a_stage, "also at the next evaluation")
class AsksOnce(Asks):
    """Its items are an iterator, at its end after the first evaluation."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.open = super().items()

    def items(self):
        return self.open


@planted.fault(resumed, "scores depend on rows alone")
class CountsWhatItScored(Asks):
    """Its mean is over the items that this process has scored."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.scored = 0

    def score(self, item, responses):
        self.scored += 1
        return super().score(item, responses)

    def summarise(self, rows):
        total = sum(row["logprob"] for row in rows)
        return [Score("logprob", total / max(self.scored, 1), None, len(rows))]


@planted.fault(by_two_ranks, "does not depend on the rows' order")
class FirstRowsCountMore(Asks):
    """Its mean is a moving average, of which order matters."""

    def mean(self, rows, name):
        value = rows[0][name]
        for row in rows:
            value = 0.8 * value + 0.2 * row[name]
        return Score(name, value, None, len(rows))


@planted.fault(evaluated, "stderr is that of its value")
class SquareOfTheError(Asks):
    """It gives the variance of the mean for its standard error."""

    def stderr(self, values):
        return super().stderr(values) ** 2


@planted.fault(evaluated, "stderr is that of its value")
class SpreadForError(Asks):
    """It gives the values' standard deviation for the mean's standard error."""

    def stderr(self, values):
        return super().stderr(values) * len(values) ** 0.5


@planted.fault(evaluated, "is a mean, which stays the same")
class SumForMean(Asks):
    """It adds values up, so a limit changes the score."""

    def mean(self, rows, name):
        right = super().mean(rows, name)
        return Score(name, right.value * len(rows), right.stderr, len(rows))


@planted.fault(evaluated, "items of")
class CountsSamples(Asks):
    """It counts samples for items."""

    def mean(self, rows, name):
        right = super().mean(rows, name)
        return Score(name, right.value, right.stderr, len(rows) * self.config.samples)


@planted.fault(evaluated, "JSON round trip preserves a row")
class RowsWithASet(Asks):
    """A row has a set, which no file stores."""

    def score(self, item, responses):
        return {**super().score(item, responses), "texts": {r.text for r in responses}}


@planted.fault(stored, "summarise leaves the rows as they are")
class TakesFromRows(Asks):
    """Its summary takes a value out of the rows."""

    def summarise(self, rows):
        for row in rows:
            row.pop("item", None)
        return super().summarise(rows)


@planted.fault(evaluated, "score_all gives the row of each item")
class ScoresAllOtherwise(Asks):
    """Scored together, rows belong to other items."""

    def score_all(self, items, responses):
        return [self.score(*one) for one in zip(items, responses[::-1], strict=True)]


@planted.fault(gains)
class LossForGain(Asks):
    """It gives the baseline's gain over the model."""

    def compare(self, rows, baseline):
        return super().compare(baseline, rows)


@planted.fault(samples, "have seeds of their own")
class OneSeed(Asks):
    """All samples of an item have one seed, and so are one sample."""

    def items(self):
        for item in super().items():
            drawn = (
                Generation(r.prompt, r.max_tokens, r.stop, r.temperature) for r in item.requests[1:]
            )
            yield Item(item.id, (item.requests[0], *drawn), item.data)


@planted.fault(in_a_stage_without_records, "held_out = True")
class ReadsHeldOutRecords(Asks):
    """It asks about held-out records, and does not declare it."""

    def texts(self):
        return ()

    def items(self):
        for record in self.context.held_out():
            yield Item(record.id, (LogLikelihood("", record.text[:20]),) * 3, "x")

"""Faulty rewards."""

from __future__ import annotations

import copy
import random

import torch
from support.faults.fault import Planted

from engine import RewardConfig


class Near(RewardConfig):
    """Minus the distance of an answer's length to that of its row's ``answer``."""

    def check_row(self, row):
        return None if isinstance(row.get("answer"), str) else "no text in column 'answer'"


planted = Planted("reward", Near)
PROMPTS = ["one", "two words", "and then three", "one"]
ANSWERS = ["a", "some longer text", "", "bcd"]
ROWS = [{"answer": str(10**n), "id": f"row-{n}"} for n in range(4)]


@planted.right
class Nearness:
    """Right."""

    def __init__(self, config, context):
        self.config = config

    def one(self, prompt, answer, row):
        words = (
            sum(len(str(m["content"])) for m in prompt) if isinstance(prompt, list) else len(prompt)
        )
        return -abs(len(answer) - len(row["answer"])) + 0.01 * words

    def score(self, prompts, completions, rows):
        found = [self.one(*parts) for parts in zip(prompts, completions, rows, strict=True)]
        return {"near": torch.tensor(found, dtype=torch.float32)}


def scores(make):
    """The scores of a rank's answers."""
    found = make().score(PROMPTS, ANSWERS, copy.deepcopy(ROWS))
    return {name: value * 0.5 for name, value in found.items()}


def on_two_ranks(make):
    """The scores of answers that two ranks divide."""
    one, two = make(), make()
    halves = [
        one.score(PROMPTS[:2], ANSWERS[:2], ROWS[:2]),
        two.score(PROMPTS[2:], ANSWERS[2:], ROWS[2:]),
    ]
    return [[name, half[name]] for half in halves for name in half]


def of_two_rounds(make):
    """The scores of the second round's answers to the same prompts."""
    reward = make()
    reward.score(PROMPTS, ANSWERS, ROWS)
    return reward.score(PROMPTS, ANSWERS[::-1], ROWS)


def rows_after(make):
    """What the next reward reads."""
    rows = copy.deepcopy(ROWS)
    make().score(PROMPTS, ANSWERS, rows)
    return str(rows)


def of_a_conversation(make):
    """The score of an answer in a conversation of several turns."""
    turns = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
    return make().score([turns], ["a"], ROWS[:1])


def weighted(make):
    """A sum of rewards with a weight."""
    reward, config = make(weight=3.0), make.config(weight=3.0)
    return sum(reward.score(PROMPTS, ANSWERS, ROWS).values()) * config.weight


def before_the_first_step(make):
    """What is said of rows that lack something."""
    return [make.config().check_row(row) for row in ({}, {"answer": None}, {"answer": "1"})]


def learnt(make):
    """Whether a step can go backward through a loss with advantages of this reward."""
    weight = torch.ones(4, requires_grad=True)
    advantages = scores(make)["near"]
    (weight * advantages).sum().backward()
    return [weight.grad, advantages.requires_grad]


@planted.fault(on_two_ranks, "does not depend on what else is in the batch")
class CentresABatch(Nearness):
    """It subtracts the mean of the batch, which is another one on each rank."""

    def score(self, *given):
        value_N = super().score(*given)["near"]
        return {"near": value_N - value_N.mean()}


@planted.fault(scores, "does not depend on what else is in the batch")
class AnswersInOrder(Nearness):
    """The values stand in the order of the answers' lengths."""

    def score(self, prompts, completions, rows):
        order = sorted(range(len(rows)), key=lambda n: len(completions[n]))
        found = [self.one(prompts[n], completions[n], rows[n]) for n in order]
        return {"near": torch.tensor(found)}


@planted.fault(scores, "built again, it gives the same answers")
class Noisy(Nearness):
    """It breaks ties by chance."""

    def one(self, *given):
        return super().one(*given) + 0.1 * random.random()


@planted.fault(rows_after, "it does not change rows")
class TakesFromRows(Nearness):
    """It takes its column out of the row."""

    def score(self, prompts, completions, rows):
        rows_own = [{"answer": row.pop("answer")} for row in rows]
        return super().score(prompts, completions, rows_own)


@planted.fault(scores, "near is finite")
class DividesByLength(Nearness):
    """An empty answer has no value."""

    def one(self, prompt, answer, row):
        return super().one(prompt, answer, row) / len(answer) if answer else float("nan")


@planted.fault(scores, "near has shape")
class MeanOfAll(Nearness):
    """It gives one value for all answers."""

    def score(self, *given):
        return {"near": super().score(*given)["near"].mean()}


@planted.fault(of_two_rounds, "not on answers that were scored before")
class RemembersPrompts(Nearness):
    """It keeps the value of a prompt's first answer."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.known = {}

    def one(self, prompt, answer, row):
        return self.known.setdefault(str(prompt), super().one(prompt, answer, row))


@planted.fault(scores, "not of floats")
class WholeNumbers(Nearness):
    """Its values are whole numbers, of which advantages are rounded."""

    def score(self, *given):
        return {"near": super().score(*given)["near"].long()}


@planted.fault(of_a_conversation, "a prompt may be a list of messages")
class TextsOnly(Nearness):
    """It expects every prompt to be a text."""

    def one(self, prompt, answer, row):
        return super().one(prompt.strip(), answer, row)


@planted.fault(weighted, "values do not depend on `weight`")
class WeighsItself(Nearness):
    """It multiplies by the weight by which the objective multiplies, too."""

    def score(self, *given):
        return {"near": super().score(*given)["near"] * self.config.weight}


@planted.fault(on_two_ranks, "has the same named values alone")
class NamesWhatItFinds(Nearness):
    """A value is there only where an answer is long."""

    def score(self, prompts, completions, rows):
        found = super().score(prompts, completions, rows)
        long = torch.tensor([float(len(text) > 5) for text in completions])
        return found | {"long": long} if long.any() else found


@planted.fault(before_the_first_step, "check_row answers for any row")
class CheckRaises(Near):
    """Its check expects what it is to check for."""

    def check_row(self, row):
        return None if row["answer"] else "no answer"


@planted.fault(before_the_first_step, "check_row names every column that is needed")
class ChecksNothing(Near):
    """It does not check for the column that it reads."""

    def check_row(self, row):
        return None


@planted.fault(learnt, "near has no gradient")
class KeepsTheGraph(Nearness):
    """Its values are part of a graph, which the loss then goes back through."""

    def score(self, *given):
        scale = torch.nn.Parameter(torch.ones(()))
        return {"near": super().score(*given)["near"] * scale}


_calls: list[int] = []


@planted.fault(of_two_rounds, "built again, it gives the same answers")
class GrowsWithCalls(Nearness):
    """A counter of the module raises the values call by call."""

    def score(self, *given):
        _calls.append(1)
        return {"near": super().score(*given)["near"] * len(_calls)}

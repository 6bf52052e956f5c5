"""Searches for a few tokens before a question that make a wrong answer the most probable.

Greedy coordinate gradient (Zou et al. 2023, arXiv:2307.15043, algorithm 1): the gradient of the right
answer's margin selects tokens to try at each place, and the best candidate is kept. Candidates are
decoded to text, and scored like any request.

Shapes: A answers, T positions, I inserted tokens, V vocabulary, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from engine import (
    LanguageModel,
    LogLikelihood,
    OwnRequest,
    Response,
)
from engine.modeling import backbone, head, opened


@dataclass(frozen=True, slots=True)
class Attack(OwnRequest):
    """Requests a text between ``before`` and ``after`` that makes a ``wrong`` answer more probable than
    the ``right`` one. The search over ``tokens`` tokens tries ``candidates`` replacements in each of
    ``steps`` steps. The response has the text and, as ``logprob``, the remaining margin in nats.
    """

    before: str
    after: str
    right: str
    wrong: tuple[str, ...]
    tokens: int = 5
    steps: int = 10
    candidates: int = 32
    seed: int = 0

    def answer(self, lm: LanguageModel) -> Response:
        """The worst text found, and its margin: log P of the right answer minus that of the most
        probable wrong one. An empty text if none is worse than no text."""
        generator = torch.Generator().manual_seed(self.seed)
        best, margin = "", _margins(lm, self, [""])[0]
        found = torch.randint(len(lm.tokenizer), (self.tokens,), generator=generator).tolist()
        for _ in range(self.steps):
            falls_IV = _falls(lm, self, found)
            likely_IK = falls_IV.topk(min(self.candidates, falls_IV.shape[1])).indices
            tried: list[list[int]] = []
            for _ in range(self.candidates):
                place = int(torch.randint(len(found), (), generator=generator))
                choice = int(torch.randint(likely_IK.shape[1], (), generator=generator))
                tried.append([*found[:place], int(likely_IK[place, choice]), *found[place + 1 :]])
            texts = [
                lm.tokenizer.decode(tokens, skip_special_tokens=True) + " " for tokens in tried
            ]
            margins = _margins(lm, self, texts)
            least = min(range(len(tried)), key=margins.__getitem__)
            found = tried[least]
            if margins[least] < margin:
                best, margin = texts[least], margins[least]
        return Response(logprob=margin, text=best)


def _margins(lm: LanguageModel, request: Attack, texts: Sequence[str]) -> list[float]:
    answers = (request.right, *request.wrong)
    asked = [
        LogLikelihood(request.before + text + request.after, answer)
        for text in texts
        for answer in answers
    ]
    found = iter(lm.loglikelihoods(asked))
    logprobs = [[next(found).logprob for _ in answers] for _ in texts]
    return [right - max(wrong) for right, *wrong in logprobs]


def _falls(lm: LanguageModel, request: Attack, found: Sequence[int]) -> Tensor:
    """The estimated decrease of the margin for each token at each place, ``_IV``. A text that exceeds
    the context is truncated at its beginning, as in scoring."""
    model, tokenizer = cast("Any", lm.model), lm.tokenizer

    def ids(text: str) -> list[int]:
        encoded: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return encoded

    before, after = opened(tokenizer, [request.before])[0], ids(request.after)
    answers = list(map(ids, (request.right, *request.wrong)))
    needed = len(found) + len(after) + max(map(len, answers)) - 1
    before = before[max(0, len(before) + needed - lm.context) :]
    rows = [[*before, *found, *after, *answer] for answer in answers]
    width = max(map(len, rows)) - 1
    device = next(model.parameters()).device
    ids_AT = torch.zeros(len(rows), width, dtype=torch.long)
    for number, row in enumerate(rows):
        ids_AT[number, : len(row) - 1] = torch.tensor(row[:-1])
    weight_VD = model.get_input_embeddings().weight.detach()
    with torch.enable_grad():
        chosen_IV = torch.nn.functional.one_hot(torch.tensor(found), len(weight_VD)).to(weight_VD)
        chosen_IV.requires_grad_()
        embedded_ATD = weight_VD[ids_AT.to(device)]
        place = slice(len(before), len(before) + len(found))
        inserted_ID = (chosen_IV @ weight_VD).expand(len(rows), -1, -1)
        parts = [embedded_ATD[:, : place.start], inserted_ID, embedded_ATD[:, place.stop :]]
        read = cast("Any", backbone(model))(inputs_embeds=torch.cat(parts, 1), use_cache=False)
        logprobs = []
        for number, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            end = len(row) - 1
            hidden_TD = read.last_hidden_state[number, end - len(answer) : end]
            labels = torch.tensor(answer, device=device)
            logits_TV = head(model)(hidden_TD).float()
            logprobs.append(-torch.nn.functional.cross_entropy(logits_TV, labels, reduction="sum"))
        margin = logprobs[0] - torch.stack(logprobs[1:]).max()
        (slope_IV,) = torch.autograd.grad(margin, chosen_IV)
    falls_IV = -slope_IV.cpu()
    falls_IV[:, tokenizer.all_special_ids] = -torch.inf
    return falls_IV

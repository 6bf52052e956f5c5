"""Looks for a few tokens before a question that make a wrong answer the likeliest.

Greedy coordinate gradient (Zou et al. 2023, arXiv:2307.15043, algorithm 1): the gradient of the right
answer's margin says which tokens to try at each place, and the best of those tried is kept. What is
tried is text, and is scored as any request is.

Shapes: A answers, T positions, I inserted tokens, V vocabulary, D hidden width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from engine.encoding import opened
from engine.likelihood import Asked
from engine.modules import backbone, head
from engine.requests import Attack, LogLikelihood, Response

Score = Callable[[Sequence[LogLikelihood]], list[Response]]


def attack(model: Any, tokenizer: Any, request: Attack, score: Score, context: int) -> Response:
    """The worst text that was found, and the margin that it leaves: log P of the right answer minus
    that of the likeliest wrong one. Without any, where none is worse than nothing."""
    generator = torch.Generator().manual_seed(request.seed)
    best, margin = "", _margins(request, [""], score)[0]
    found = torch.randint(len(tokenizer), (request.tokens,), generator=generator).tolist()
    for _ in range(request.steps):
        falls_IV = _falls(model, tokenizer, request, found, context)
        likely_IK = falls_IV.topk(min(request.candidates, falls_IV.shape[1])).indices
        tried: list[list[int]] = []
        for _ in range(request.candidates):
            place = int(torch.randint(len(found), (), generator=generator))
            choice = int(torch.randint(likely_IK.shape[1], (), generator=generator))
            tried.append([*found[:place], int(likely_IK[place, choice]), *found[place + 1 :]])
        texts = [tokenizer.decode(tokens, skip_special_tokens=True) + " " for tokens in tried]
        margins = _margins(request, texts, score)
        least = min(range(len(tried)), key=margins.__getitem__)
        found = tried[least]
        if margins[least] < margin:
            best, margin = texts[least], margins[least]
    return Response(logprob=margin, text=best)


def _margins(request: Attack, texts: Sequence[str], score: Score) -> list[float]:
    answers = (request.right, *request.wrong)
    found = iter(
        score(
            [
                LogLikelihood(request.before + text + request.after, answer)
                for text in texts
                for answer in answers
            ]
        )
    )
    logprobs = [[next(found).logprob for _ in answers] for _ in texts]
    return [right - max(wrong) for right, *wrong in logprobs]


def _falls(
    model: Any, tokenizer: Any, request: Attack, found: Sequence[int], context: int
) -> Tensor:
    """How fast the margin falls as each token takes each place, ``_IV``. What does not fit into the
    context is cut at the beginning, as it is where a text is scored."""

    def ids(text: str) -> list[int]:
        encoded: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return encoded

    before, after = opened(tokenizer, [request.before])[0], ids(request.after)
    answers = list(map(ids, (request.right, *request.wrong)))
    needed = len(found) + len(after) + max(map(len, answers)) - 1
    before = before[max(0, len(before) + needed - context) :]
    rows = [Asked([*before, *found, *after, *answer], len(answer)) for answer in answers]
    width = max(len(row.tokens) for row in rows) - 1
    device = next(model.parameters()).device
    ids_AT = torch.zeros(len(rows), width, dtype=torch.long)
    for a, row in enumerate(rows):
        ids_AT[a, : len(row.tokens) - 1] = torch.tensor(row.tokens[:-1])
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
        for a, row in enumerate(rows):
            end = len(row.tokens) - 1
            hidden_TD = read.last_hidden_state[a, end - row.scored : end]
            labels = torch.tensor(row.tokens[-row.scored :], device=device)
            logits_TV = head(model)(hidden_TD).float()
            logprobs.append(-torch.nn.functional.cross_entropy(logits_TV, labels, reduction="sum"))
        margin = logprobs[0] - torch.stack(logprobs[1:]).max()
        (slope_IV,) = torch.autograd.grad(margin, chosen_IV)
    falls_IV = -slope_IV.cpu()
    falls_IV[:, tokenizer.all_special_ids] = -torch.inf
    return falls_IV

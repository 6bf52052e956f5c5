"""The requests of lm-eval's tasks become the engine's own, or are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest

from engine import Generation, RunError


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, Generation("a")),
        ({"until": "x", "max_new_tokens": 3}, Generation("a", 3, ("x",))),
        ({"do_sample": False, "temperature": 0.7}, Generation("a")),
        ({"temperature": 0.7, "top_p": 0.5}, Generation("a", temperature=0.7, top_p=0.5)),
        ({"until": ["", "y"], "max_gen_toks": 2, "max_tokens": 9}, Generation("a", 2, ("y",))),
    ],
)
def test_generation_settings_are_the_engines(settings, wanted):
    """Lengths by any of their names; each of a document's repeats has a seed of its own, which no other
    document's has."""
    from engine_evals.lm_eval_tasks.requests import requests
    from lm_eval.api.instance import Instance

    documents = [Instance("generate_until", {}, ("a", settings), 0, ("task", n, 2)) for n in (0, 1)]
    found = [request for one in documents for request in requests("task", one)]
    assert len({request.seed for request in found}) == 4
    assert [replace(request, seed=0) for request in found] == [wanted] * 4


def test_chats_are_refused():
    """Some tasks hand over messages where a chat template was asked for."""
    from engine_evals.lm_eval_tasks.requests import requests
    from lm_eval.api.instance import Instance

    chat = [{"role": "user", "content": "a"}]
    instance = Instance("generate_until", {}, (chat, {}), 0, ("task", 0, 1))
    with pytest.raises(
        RunError, match="'task': its prompts are no texts: they need a chat template"
    ):
        list(requests("task", instance))

"""Rewards: a length, a model of the run, and a service that really listens on this machine."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
from engine_inference.language_model import SharedPrefixLM
from support.internals import Artifact

from engine import RunError

PROMPTS, ANSWERS = ["p", "q"], ["a b c", "a b c d e"]
ROWS = [{"id": "one", "answer": "a"}, {}]
SECRET = "tell-nobody-0123"


@pytest.fixture
def ask(bench, service):
    """What the service gives through the reward, as lists."""

    def asked(**fields):
        config = {"type": "http", "url": service.url, "attempts": 1, **fields}
        values = bench.context.build("reward", config).score(PROMPTS, ANSWERS, ROWS)
        return {name: tensor.tolist() for name, tensor in values.items()}

    return asked


@pytest.mark.covers("reward/length.scale", "reward/length.name")
def test_length_counts_words(bench):
    """Over the scale, under the name or the type."""
    plain = bench.context.build("reward", {"type": "length"})
    assert plain.score(PROMPTS, ANSWERS, ROWS)["length"].tolist() == [3, 5]
    named = bench.context.build("reward", {"type": "length", "name": "words", "scale": 2.0})
    assert named.score(PROMPTS, ANSWERS, ROWS)["words"].tolist() == [1.5, 2.5]


@pytest.mark.covers("reward/http.url", "reward/http.name")
def test_a_service_scores_answers(ask, service):
    """It is given prompts, completions and rows, and gives a list of numbers or several with names."""
    assert ask() == {"http": [5, 9]}
    assert service.questions == [{"prompts": PROMPTS, "completions": ANSWERS, "rows": ROWS}]
    assert service.keys == [None]
    assert ask(name="size") == {"size": [5, 9]}
    service.answer = lambda asked: {"scores": {"kind": [1, 2.5], "true": [0, -1]}}
    assert ask(name="size") == {"kind": [1, 2.5], "true": [0, -1]}


@pytest.mark.covers("reward/http.key_env")
def test_the_key_is_a_bearer_token(ask, service, monkeypatch):
    """From the environment; without it, or with one that no header can hold, nothing is asked, and
    the error does not tell it."""
    monkeypatch.setenv("SCORING_KEY", SECRET)
    ask(key_env="SCORING_KEY")
    assert service.keys == [f"Bearer {SECRET}"]
    for broken in ("", f"{SECRET}\n", f"{SECRET}é"):
        monkeypatch.setenv("SCORING_KEY", broken)
        with pytest.raises(RunError, match=r"\$SCORING_KEY does not hold a token") as told:
            ask(key_env="SCORING_KEY")
        assert SECRET not in str(told.value)
    assert len(service.questions) == 1


@pytest.mark.covers("reward/http.timeout")
def test_a_service_that_is_too_slow(ask, service):
    """Is waited for as long as the spec says."""
    service.open.clear()
    with pytest.raises(RunError, match=f"'{service.url}': no answer after 1 attempts .*Timeout"):
        ask(timeout=0.2)
    threading.Timer(0.5, service.open.set).start()
    assert ask(timeout=60.0) == {"http": [5, 9]}


@pytest.mark.covers("reward/http.attempts")
def test_a_service_that_fails_is_asked_again(ask, service):
    """As often as the spec says."""
    service.refusals = 1
    assert ask(attempts=2) == {"http": [5, 9]}
    assert len(service.questions) == 2
    service.refusals = 2
    with pytest.raises(RunError, match=r"no answer after 2 attempts .*503") as told:
        ask(attempts=2)
    assert "run again" in str(told.value)
    assert len(service.questions) == 4


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ({"scores": [1.0]}, "http"),
        ({"scores": [1.0, 2.0, 3.0]}, "http"),
        ({"scores": [[1.0], [2.0]]}, "http"),
        ({"scores": [1.0, "high"]}, "http"),
        ({"scores": [1.0, None]}, "http"),
        ({"scores": [1.0, True]}, "http"),
        ({"scores": [1.0, float("nan")]}, "http"),
        ({"scores": [1.0, float("-inf")]}, "http"),
        ({"scores": [1.0, 1e39]}, "http"),
        ({"scores": [1.0, 10**40]}, "http"),
        ({"scores": {"kind": [1.0, 2.0], "true": [1.0]}}, "true"),
        ({"scores": {}}, "http"),
        ({"score": [1.0, 2.0]}, "http"),
        ([1.0, 2.0], "http"),
    ],
    ids=str,
)
def test_an_answer_that_is_no_score_is_named(ask, service, answer, named):
    """With the service's address, before anything is learnt from it."""
    service.answer = lambda asked: answer
    told = f"reward '{service.url}': its scores '{named}' are not 2 finite numbers"
    with pytest.raises(RunError, match=told):
        ask()


@pytest.mark.parametrize("answer", [b"<html>busy</html>", b"", b"\xff\xfe"], ids=str)
def test_an_answer_that_is_no_json_is_named(ask, service, answer):
    """As one that did not come."""
    service.answer = lambda asked: answer
    with pytest.raises(RunError, match=r"no answer after 1 attempts .JSONDecodeError"):
        ask()


def test_nobody_listens(ask, service):
    service.server.server_close()
    with pytest.raises(RunError, match=r"no answer after 1 attempts .*ConnectError"):
        ask()


def test_a_stage_that_gives_no_number_is_refused(bench):
    with pytest.raises(RunError, match="'other' has a LlamaForCausalLM, which gives no single"):
        bench.context.build("reward", {"type": "stage", "stage": "other"})


@pytest.mark.covers(
    "reward/stage.stage",
    "reward/stage.name",
    "reward/stage.weight",
    "reward/http.name",
    "reward/http.weight",
    "reward/length.name",
    "reward/length.weight",
)
def test_a_run_adds_up_several_rewards(stage, animals, service, run_here, monkeypatch):
    """Each under its name in the table of rollouts and in the metrics, weighted in the sum; the
    service's key is nowhere in the run's folder."""
    monkeypatch.setenv("SCORING_KEY", SECRET)
    rewards = [
        {"type": "stage", "stage": "learned", "name": "taste", "weight": 3.0},
        {"type": "http", "url": service.url, "key_env": "SCORING_KEY", "weight": -0.5},
        {"type": "http", "url": service.url, "name": "size"},
        {"type": "length", "name": "words", "weight": 2.0},
    ]
    spec = stage({"type": "reward"}, animals)
    aligned = {**spec["stages"]["learned"]["train"], "budget": "1 steps"}
    objective = {"type": "rloo", "rewards": rewards, "answers": 2, "answer_tokens": 12}
    spec["stages"]["aligned"] = {"train": {**aligned, "objective": objective}}
    run = run_here(spec, allow=["secret=SCORING_KEY@127.0.0.1"])
    (step,) = [e for e in run.events("step") if e["stage"] == "aligned"]
    (file,) = (run.folder / "aligned" / "rollouts").iterdir()
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 16
    pairs = [(row["prompt"], row["answer"]) for row in rows]
    judge = Artifact(run.folder / "learned" / "final")
    values = [v for v, _ in SharedPrefixLM(judge.model(), judge.tokenizer()).scores(pairs)]
    assert max(values) - min(values) > 0.01
    given = {"taste": values, "http": [len(answer) for _, answer in pairs]}
    given |= {"size": given["http"], "words": [len(answer.split()) for _, answer in pairs]}
    for name, expected in given.items():
        assert [row[f"reward/{name}"] for row in rows] == pytest.approx(expected, abs=1e-3), name
        assert step[f"reward/{name}"] == pytest.approx(np.mean(expected), abs=1e-3), name
    total = 3 * np.mean(values) + 0.5 * np.mean(given["http"]) + 2 * np.mean(given["words"])
    assert step["reward"] == pytest.approx(total, abs=1e-3)
    assert [key for key in service.keys if key] == [f"Bearer {SECRET}"]
    kept = [path for path in run.folder.rglob("*") if path.is_file()]
    assert not [path for path in kept if SECRET.encode() in path.read_bytes()]
    assert "key_env: SCORING_KEY" in (run.folder / "resolved.yaml").read_text(encoding="utf-8")

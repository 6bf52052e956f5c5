"""Every ready spec that needs no other library: trains, scores, saves, generates, at a tiny size."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path

from engine_inference.language_model import SharedPrefixLM
from rows import Row, Rows

from engine import Generation
from engine.storage.model_folder import Artifact
from engine.testing import run_spec

SPECS = Path(__file__).parents[2] / "specs"
BASE = {
    "corpus.prepare.sources": "[{type: python-library, parts: [topics]}]",
    "corpus.prepare.tokenizer.vocab_size": 512,
    "base.train.model": "{type: llama, hidden_size: 64, layers: 2, heads: 2, context: 256}",
    "base.train.batch.tokens": 1024,
    "base.train.budget": "4 steps",
}
_TUNED = {"tuned.train.budget": "2 steps", "gain.evaluate.evaluators.0.limit": 12}
_ALIGNED = {
    "chat.train.limit": 20,
    "chat.train.batch.tokens": 512,
    "chat.train.budget": "2 steps",
    "reward.train.limit": 8,
    "reward.train.batch.examples": 4,
    "reward.train.budget": "2 steps",
    "reward.train.evaluate": "[{type: preference-accuracy, limit: 8}]",
    "aligned.train.limit": 16,
    "aligned.train.objective.answer_tokens": 8,
    "aligned.train.batch.examples": 8,
    "aligned.train.budget": "4 steps",
    "scores.evaluate.evaluators.0.limit": 8,
    "scores.evaluate.evaluators.0.answer_tokens": 8,
    "scores.evaluate.evaluators.1": "{type: answer-perplexity, limit: 8}",
}
_CHANGES = {
    "quickstart": BASE,
    "pretrain": BASE,
    "few_shot": BASE | _TUNED,
    "pipeline": BASE | _ALIGNED,
    "rlhf": BASE | _ALIGNED,
}


def rows(device: str) -> Rows:
    """One for each spec: its losses are finite, it has scores, and its last model writes."""
    names = _CHANGES if device == "cuda" else ("rlhf",)  # which has parts of all others
    for name in names:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory() as scratch:
            overrides = [f"stages.{field}={value}" for field, value in _CHANGES[name].items()]
            done = run_spec(SPECS / f"{name}.yaml", Path(scratch), *overrides)
            scores = [e["value"] for e in done.events if e["event"] == "score"]
            finite = all(map(math.isfinite, [*done.losses, *scores]))
            trained = [folder.parent for folder in done.folder.glob("*/final")]
            answers = [_answer(folder, device) for folder in trained]
        told = f"{len(done.losses)} steps {time.perf_counter() - started:.0f} s"
        yield Row(name, told, "", finite and bool(scores) and all(answers))


def _answer(stage: Path, device: str) -> int:
    """Tokens that the stage's model wrote, or had to write; a reward model writes none."""
    artifact = Artifact(stage / "final")
    model = artifact.model().to(device).eval()
    if hasattr(model, "score"):
        return 1
    lm = SharedPrefixLM(model, artifact.tokenizer())
    return lm.generate(Generation("def ", max_tokens=8, temperature=0.0)).tokens

"""An evaluate stage: scores every model with every evaluator."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from engine.contracts.spec import Evaluate, names_of
from engine.evaluation import Measured, evaluate, gains
from engine.modeling.heads import attend
from engine.modeling.model_check import examine
from engine.modeling.weight_types import for_scoring
from engine.runs.contamination.touched import touched_items, touched_texts, warn_of_touched
from engine.runs.context import RunContext
from engine.runs.train_inputs import model_tokenizer


@dataclass(frozen=True, slots=True)
class ModelScore:
    """One metric of one model."""

    model: str
    evaluator: str
    metric: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool
    fingerprint: str
    interval: tuple[float, float] | None


def score_models(run: RunContext, name: str, config: Evaluate) -> list[ModelScore]:
    """Scores every model, logging scores as they come; item rows are saved, so that a killed stage
    resumes. Clean scores leave out what the documents of any of the models have, so that all are over
    the same items."""
    scores: list[ModelScore] = []
    baseline: dict[int, Measured] = {}
    texts = touched_texts(run.folder.path, run.spec, name)
    named = list(enumerate(zip(config.model_names(), config.models, strict=True)))
    # The baseline first, as the others are compared with it.
    for number, (label, model_config) in sorted(named, key=lambda n: n[1][0] != config.baseline):
        tokenizer = model_tokenizer(run, model_config)
        context = run.context(name, tokenizer)
        model: Any = run.build("model", model_config, context)
        attend(model)
        examine(model, learns=False)
        for_scoring(model)
        lm = context.language_model(model.to(run.process.device).eval(), tokenizer)
        evaluators = zip(names_of(config.evaluators), config.evaluators, strict=True)
        for index, (evaluator_name, evaluator_config) in enumerate(evaluators):
            evaluator = run.build("evaluator", evaluator_config, context)
            touched = touched_items(evaluator, evaluator_name, texts)
            measured = evaluate(
                evaluator,
                lm,
                run.process,
                limit=evaluator_config.limit,
                touched=touched,
                rows_file=run.folder.path / name / "rows" / f"{number}-{index}.jsonl",
                progress=lambda done, total: run.log.display.progress(name, done, total),
                warn=partial(run.log.warn, stage=name, evaluator=evaluator_name),
            )
            warn_of_touched(context, evaluator_name, measured, touched)
            found = measured.scores
            if label == config.baseline:
                baseline[index] = measured
            elif config.baseline is not None:
                found = found + [
                    replace(gain, metric=f"{gain.metric}_over_{config.baseline}")
                    for gain in gains(evaluator, measured, baseline[index], touched)
                ]
            for sample in measured.samples:
                about = {"model": label, "step": None, "evaluator": evaluator_name}
                run.log.emit("sample", stage=name, **about, **asdict(sample))
            for score in found:
                scored = ModelScore(label, evaluator_name, **asdict(score))
                run.log.emit("score", stage=name, step=None, **asdict(scored))
                scores.append(scored)
    return scores

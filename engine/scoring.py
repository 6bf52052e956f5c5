"""An evaluate stage: every model by every evaluator."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import RunError
from engine.evaluation import Measured, gains, measure
from engine.language_model import LanguageModel
from engine.precision import for_scoring
from engine.spec import Evaluate

if TYPE_CHECKING:
    from engine.run import Run


@dataclass(frozen=True, slots=True)
class ModelScore:
    """One figure of one model."""

    model: str
    evaluator: str
    metric: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool
    fingerprint: str
    interval: tuple[float, float] | None


def score_models(run: Run, name: str, config: Evaluate) -> list[ModelScore]:
    """Scores, logged as they come; rows are kept by model, so that a killed stage goes on."""
    scores: list[ModelScore] = []
    baseline: dict[int, Measured] = {}
    named = list(enumerate(zip(config.model_names(), config.models, strict=True)))
    # The baseline first, as the others are compared with it.
    for number, (label, model_config) in sorted(named, key=lambda n: n[1][0] != config.baseline):
        tokenizer = _tokenizer(run, model_config)
        context = run.context(name, tokenizer)
        model: Any = run.build("model", model_config, context)
        model.set_attn_implementation("sdpa")
        for_scoring(model)
        lm = LanguageModel(model.to(run.process.device).eval(), tokenizer)
        for index, evaluator_config in enumerate(config.evaluators):
            evaluator_name = str(getattr(evaluator_config, "type", index))
            evaluator = run.build("evaluator", evaluator_config, context)
            measured = measure(
                evaluator,
                lm,
                run.process,
                limit=getattr(evaluator_config, "limit", None),
                rows_file=run.folder.path / name / "rows" / f"{number}-{index}.jsonl",
                progress=lambda done, total: run.log.display.progress(name, done, total),
                warn=partial(run.log.warn, stage=name, evaluator=evaluator_name),
            )
            found = measured.scores
            if label == config.baseline:
                baseline[index] = measured
            elif config.baseline is not None:
                found = found + [
                    replace(gain, metric=f"{gain.metric}_over_{config.baseline}")
                    for gain in gains(evaluator, measured, baseline[index])
                ]
            for score in found:
                scored = ModelScore(label, evaluator_name, **asdict(score))
                run.log.emit("score", stage=name, step=None, **asdict(scored))
                scores.append(scored)
    return scores


def _tokenizer(run: Run, model_config: Any) -> Any:
    from transformers import AutoTokenizer

    stage = getattr(model_config, "stage", None)
    folder = run.folder.path / stage / "final" if stage else Path(getattr(model_config, "path", ""))
    if not (stage or getattr(model_config, "path", None)):
        raise RunError(
            f"model '{model_config.type}' is untrained: it has no tokenizer to score with"
        )
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

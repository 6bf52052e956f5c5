"""A model's card in Markdown, with the metadata of the Hugging Face Hub, from the run's folder alone.

Texts of the run, its data and its spec are shown as they are: none becomes Markdown, HTML or YAML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine import (
    OpenedStage,
    RunHistory,
    StageHistory,
    cleaned,
    model_of,
    read_json,
    read_run,
    score_interval,
)
from engine_tools.card_metadata import metadata, plain, task_of

_AUTO = {
    "text-generation": "AutoModelForCausalLM",
    "text-classification": "AutoModelForSequenceClassification",
}

_MARKS = re.compile(r"[\\`*~\[\]<>|&$]|(?<![^\W_])_|_(?![^\W_])")
"""What Markdown may read as markup; a line between two letters or digits is none."""
_LINKED = re.compile(
    r"@(?=\w)|#(?=\d)|\bGH-(?=\d)|:(?=//)|\b(?:mailto|xmpp):|\bwww(?=\.)", re.IGNORECASE
)
"""What sites make a link of, up to where it is parted."""
_JOINER = "&#8288;"
"""A word joiner, which has no width."""


def model_card(opened: OpenedStage) -> str:
    """The card of a finished train stage. Raises RunError."""
    history = read_run(opened.path.parent)
    config = read_json(opened.path / "final" / "config.json")
    learned = [stage for stage in _chain(opened) if stage.run.spec.stages[stage.name].train]
    cards = [stage.data_summary() for stage in learned]
    scores = list(_scores(opened, history))
    origin = model_of(opened.run.spec.stages, opened.name)
    base = origin.origin.path if origin else None
    objective = str(_train(history, opened.name)["objective"]["type"])
    name = f"{opened.run_name}-{opened.name}"
    head = metadata(
        name,
        config,
        None if None in cards else _licences(card for card in cards if card),
        scores,
        base_model=base,
        datasets=dict.fromkeys(_datasets(history, learned)),
        tags=[objective],
    )
    sections = [
        ("", _what(opened, config, objective, base)),
        ("Training", _training(opened, history)),
        ("Scores", _score_table(scores)),
        ("Data", _data(zip(learned, cards, strict=True))),
        ("Contamination", _contamination(card for card in cards if card)),
        ("Opening", _opening(opened.path / "final", config)),
        ("Versions", _versions(history)),
        ("Spec", _fenced("yaml", opened.resolved())),
    ]
    lines = [f"# {escaped(opened.run_name)} / {escaped(opened.name)}"]
    for title, body in sections:
        found = list(body)
        if found:
            lines += ["", f"## {title}", "", *found] if title else ["", *found]
    return head + "\n" + "\n".join(lines) + "\n"


def escaped(text: object) -> str:
    """A text on one line that Markdown shows as it is, also in the cell of a table.

    Backslashes are enough for Markdown itself. Sites also link addresses, ``@names`` and ``#1``: these
    are parted by a character that is not seen.
    """
    return _LINKED.sub(rf"\g<0>{_JOINER}", _MARKS.sub(r"\\\g<0>", plain(text)))


def way_to_open(folder: Path) -> str:
    """What opens a model's folder, as a clause: the plugin of its architecture, too, if it has one."""
    plugin = read_json(folder / "config.json").get("engine_plugin")
    if plugin is None:
        return "transformers' Auto classes"
    needs = cleaned(f"{plugin['distribution']} {plugin['version']}")
    return (
        f"transformers' Auto classes after engine.register_architectures(), with {needs} installed"
    )


def _chain(opened: OpenedStage) -> Iterator[OpenedStage]:
    """The stage, and those that its model comes from, the last one first."""
    name: str | None = opened.name
    while name is not None:
        yield replace(opened, name=name)
        train = opened.run.spec.stages[name].train
        name = train.model.origin.stage if train else None


def _train(history: RunHistory, stage: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = history.spec["stages"][stage]["train"]
    return found


def _history(opened: OpenedStage, history: RunHistory) -> StageHistory:
    """What the log tells of the stage, which may be lost."""
    return history.stages.get(opened.name) or StageHistory(opened.name)


def _datasets(history: RunHistory, learned: Sequence[OpenedStage]) -> Iterator[str]:
    """Names of the Hugging Face data sets among the sources."""
    for stage in learned:
        data = _train(history, stage.name)["data"]
        sources = [data]
        if data.get("type") == "stage":
            sources = history.spec["stages"][data["stage"]]["prepare"]["sources"]
        for source in sources:
            if source.get("type") == "hugging-face":
                yield str(source["path"])


def _licences(cards: Iterable[Mapping[str, Any]]) -> set[str]:
    return {name for card in cards for source in card["sources"] for name in source["licenses"]}


def _scores(opened: OpenedStage, history: RunHistory) -> Iterator[Mapping[str, Any]]:
    """Its final scores in training, and those of the evaluate stages that are done."""
    known = {
        (score["metric"], score["value"]): score.get("evaluator")
        for score in _history(opened, history).scores
    }
    for score in opened.summary()["scores"]:
        evaluator = known.get((score["metric"], score["value"]))
        yield {"stage": opened.name, **score, "evaluator": evaluator}
    for name, stage in opened.run.spec.stages.items():
        done = name in history.stages and history.stages[name].status == "done"
        if stage.evaluate is None or not done:
            continue
        named = zip(stage.evaluate.model_names(), stage.evaluate.models, strict=True)
        labels = {label for label, model in named if model.origin.stage == opened.name}
        for score in history.stages[name].summary.get("scores", ()):
            if score.get("model") in labels:
                yield {"stage": name, **score}


def _what(
    opened: OpenedStage, config: Mapping[str, Any], objective: str, base: str | None
) -> Iterator[str]:
    summary = opened.summary()
    kind = escaped(config.get("model_type", "language"))
    before = [stage.name for stage in _chain(opened)][1:]
    start = "from random weights" if base is None else f"from {escaped(base)}"
    if before:
        start += f", after {', '.join(map(escaped, reversed(before)))}"
    yield (
        f"A {kind} model of {summary['parameters']:,} parameters, trained {start} with the objective "
        f"{escaped(objective)}: {summary['tokens']:,} tokens in {summary['steps']:,} steps."
    )


def _training(opened: OpenedStage, history: RunHistory) -> Iterator[str]:
    summary, learned = opened.summary(), _history(opened, history)
    training, manifest = learned.training, history.manifest
    rows: dict[str, Any] = {
        "parameters": f"{summary['parameters']:,}",
        "tokens": f"{summary['tokens']:,}",
        "steps": f"{summary['steps']:,}",
        "model FLOPs": _scientific(learned.flops_spent()),
        "executed FLOPs": _scientific(learned.flops_spent("executed_flops")),
        "seconds of training": summary.get("training_seconds"),
        "precision": training.get("precision"),
        "processes": manifest.get("world_size"),
        "machine": manifest.get("machine"),
        "seed": manifest.get("seed"),
    }
    told = [(name, escaped(value)) for name, value in rows.items() if value is not None]
    yield from _table(("figure", "value"), told)
    if early := learned.ended_early:
        yield ""
        yield f"It ended before its budget was spent: {escaped(early.get('reason'))}."
    if since := learned.steps.not_finite_since("loss"):
        yield ""
        yield f"The loss is not finite since step {since:,}: the training has diverged."


def _scientific(value: Any) -> str | None:
    return f"{value:.3g}" if isinstance(value, int | float) else None


def _is_finite(value: float | None) -> bool:
    """Whether it is a number; a record has null for one that is not finite."""
    return value is not None and math.isfinite(value)


def _score_table(scores: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not scores:
        return
    rows = []
    for score in scores:
        value, between = "not finite", ""
        if _is_finite(score["value"]):
            low, high = score_interval(score)
            value = f"{score['value']:.5g}"
            between = f"{low:.4g} to {high:.4g}" if low < high else ""
        named = (escaped(score[k] or "") for k in ("stage", "evaluator", "metric"))
        rows.append((*named, value, between, str(score.get("n") or "")))
    yield from _table(("stage", "evaluator", "metric", "value", "95 % interval", "n"), rows)


def _data(cards: Iterable[tuple[OpenedStage, Mapping[str, Any] | None]]) -> Iterator[str]:
    rows: list[tuple[str, ...]] = []
    for stage, card in cards:
        if card is None:
            rows.append((escaped(stage.name), "a source of its own", "", "", "", "not known"))
            continue
        for source in card["sources"]:
            figures = (source.get(k) for k in ("documents", "bytes", "tokens"))
            told = ("" if n is None else f"{n:,}" for n in figures)
            licences = escaped(", ".join(source["licenses"]))
            rows.append((escaped(stage.name), escaped(source["source"]), *told, licences))
    yield from _table(("stage", "source", "documents", "bytes", "tokens", "licences"), rows)


def _contamination(cards: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What the search for benchmarks' items in the documents found, where there was one."""
    rows = [
        (escaped(found.get("benchmark", "")), escaped(found.get("items", "")), f"{len(touched):,}")
        for card in cards
        for found in card.get("benchmarks") or ()
        if (touched := found.get("touched")) is not None
    ]
    if rows:
        yield from _table(("benchmark", "items", "items found in documents"), rows)
    else:
        yield "There is no record of a search for items of benchmarks in the documents."


def _opening(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    yield f"Opens with {way_to_open(folder)}."
    auto = _AUTO.get(task_of(config) or "")
    if auto is not None and config.get("engine_plugin") is None:
        code = (
            f"from transformers import AutoTokenizer, {auto}\n\n"
            f'model = {auto}.from_pretrained("path/to/this/folder")\n'
            'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")\n'
        )
        yield ""
        yield from _fenced("python", code)


def _versions(history: RunHistory) -> Iterator[str]:
    manifest = history.manifest
    named = {"training-engine": manifest.get("engine"), "python": manifest.get("python")}
    rows = {**named, **manifest.get("packages", {})}
    told = [(escaped(name), escaped(version)) for name, version in rows.items() if version]
    yield from _table(("package", "version"), told)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(row)} |"


def _fenced(language: str, text: str) -> Iterator[str]:
    """A block of code that no line of the text can end."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}{language}"
    yield from cleaned(text).rstrip().split("\n")
    yield fence

"""Warns of held-out prompts whose answers a model has already read in training."""

from __future__ import annotations

from engine.contracts.spec import Train
from engine.data.holdout import Answered
from engine.data.prepare import trained_texts
from engine.runs.context import RunContext
from engine.runs.lineage import corpora, heeded_as


def warn_of_answers(run: RunContext, name: str, config: Train) -> None:
    """Warns if a corpus that the stage's model learns from was prepared without leaving out the stage's
    held-out records, and contains some."""
    if not config.holdout:
        return
    for folder, heeds in corpora(run.folder.path, run.spec, name):
        records = run.held_out(name)
        if heeded_as(records) in heeds:
            continue
        answered = Answered(records)
        count = sum(map(answered.in_text, trained_texts(folder) if len(answered) else ()))
        if count:
            run.log.warn(
                f"{count:,} texts of {folder} have a prompt that '{name}' holds out, and its "
                "answer: the model has read them; prepare that corpus again with --rerun in a spec "
                "that has this stage, and train again from there",
                stage=name,
            )

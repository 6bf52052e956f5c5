"""Limits of a set of rules that no text breaks."""

from __future__ import annotations

from annotated_types import Le
from engine_corpus.judge.rules.rule_set import RuleSet

from engine import Config


def no_limits(rules: type[RuleSet], config: type[Config]) -> dict[str, float]:
    """By field: zero, or the largest number that it takes."""
    return {limit.field: _loosest(config, limit.field) for limit in rules.limits}


def _loosest(config: type[Config], field: str) -> float:
    if field.startswith("min_"):
        return 0
    largest = [mark.le for mark in config.model_fields[field].metadata if isinstance(mark, Le)]
    return min([10**9, *largest])

"""lm-eval runs no code that lies in the working directory."""

from __future__ import annotations

import sys

import pytest

from engine import RunError


def test_a_metric_beside_a_spec_is_not_run(tmp_path, monkeypatch):
    """Hugging Face's evaluate takes a folder in the working directory for a metric of its name."""
    from engine_evals.lm_eval_tasks.isolation import isolated
    from lm_eval.tasks.squadv2 import task

    (tmp_path / "squad_v2").mkdir()
    ran = "open('ran', 'w').close()"
    (tmp_path / "squad_v2" / "squad_v2.py").write_text(ran, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    before = sys.modules.get("evaluate")
    with (
        pytest.raises(RunError, match="lm-eval's metric 'squad_v2': what has this name"),
        isolated(),
    ):
        task._squad_metric([], [])
    assert not (tmp_path / "ran").exists()
    assert sys.modules.get("evaluate") is before

"""What a user meets stays: help texts, and a run of an earlier version that goes on as it did."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import click
import pytest
import yaml
from engine_parallel.replicated import Replicated
from support.golden import events
from support.settings import SAMPLE, member

from engine.cli.commands import cli
from engine.processes.process import Process
from engine.runs.session import run_spec
from engine.spec.loading import load_spec

STOPPED = 3
"""Steps that the stages of the kept run had taken when they were stopped; they have six."""
KEPT = ("next-token", "sft-packed", "distill", "reward", "dpo", "ppo", "grpo")


def _commands(group, words=()):
    yield words
    for name in group.list_commands(click.Context(group)):
        found = group.get_command(click.Context(group), name)
        if isinstance(found, click.Group):
            yield from _commands(found, (*words, name))
        else:
            yield (*words, name)


def test_help_stays(command, golden):
    """Of every command, in 80 columns."""
    told = {" ".join(words): command(*words, "--help")[0] for words in _commands(cli)}
    golden.check("help", told)


@pytest.fixture
def kept_run(golden, request, texts, monkeypatch, tmp_path):
    """A folder with a run whose stages were stopped, by the version that wrote the golden files."""
    archive = golden.folder / "run.tar.gz"
    folder = tmp_path / "kept"
    folder.mkdir()
    monkeypatch.chdir(folder)  # which its paths are relative to
    if golden.write:
        made = request.getfixturevalue("made")
        shutil.copytree(texts, folder / "texts")
        for file in made[1].glob("*.jsonl"):
            shutil.copy(file, folder)
        (folder / "spec.yaml").write_text(yaml.safe_dump(_kept_spec(made)), encoding="utf-8")
        for stage in ("corpus", "plain", "dropout"):
            assert _run(folder, only=stage) == 0
        compute, calls = Replicated.forward_backward, []

        def interrupted(*arguments):
            calls.append(1)
            if len(calls) == STOPPED:
                signal.raise_signal(signal.SIGTERM)
            return compute(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(Replicated, "forward_backward", interrupted)
            for stage in KEPT:
                calls.clear()
                assert _run(folder, only=stage) == 1
        shutil.make_archive(str(archive).removesuffix(".tar.gz"), "gztar", folder)
    else:
        shutil.unpack_archive(archive, folder, filter="data")
    return folder


def _kept_spec(made):
    """A stage of several objectives, small enough for the repository, its data beside it."""
    whole = None
    for row in SAMPLE:
        if row["objective"] in KEPT:
            row = {**row, "precision": "fp32", "guard": "off", "evaluate": "off"}
            part = member(made, row, checkpoint={"every": "6 steps", "keep": 1})
            whole = whole or part
            whole["stages"][row["objective"]] = part["stages"]["learned"]
    del whole["stages"]["learned"]
    stages = whole["stages"]
    stages["corpus"]["prepare"]["sources"] = [{"type": "files", "paths": ["texts/*.txt"]}]
    stages["plain"]["train"]["model"] |= {"hidden_size": 16}
    stages["dropout"]["train"]["model"]["config"] |= {"n_embd": 16}
    for name in KEPT:
        data = stages[name]["train"]["data"]
        if isinstance(data, dict):
            data["paths"] = [Path(path).name for path in data["paths"]]
    return whole


def _run(folder, **options):
    spec = load_spec(folder / "spec.yaml")
    return run_spec(spec, folder / "runs", Process(), as_json=True, **options)


def test_a_run_of_an_earlier_version_goes_on(kept_run, golden):
    """Its checkpoints are loaded, and all that follows is the same; what was done is not done again."""
    run = kept_run / "runs" / "tiny"
    begun = len(events(run))
    assert _run(kept_run) == 0
    after = events(run, begun)
    assert {e["stage"] for e in after if e["event"] == "stage_skipped"} == {
        "corpus",
        "plain",
        "dropout",
    }
    assert {e["stage"] for e in after if e["event"] == "resumed"} == set(KEPT)
    golden.check("run", after)

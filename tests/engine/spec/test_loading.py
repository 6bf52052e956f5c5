"""A bad spec costs nothing but a second: every error at once, each with its line and its mend."""

from __future__ import annotations

import pytest
import yaml

from engine.spec.loading import load_spec, resolved_yaml

BROKEN = """\
engine: 1
nam: example
seed: -3
stages:
  corpus:
    prepare:
      sources:
        - {weight: 0.3}
        - {type: files, paths: [], weight: heavy}
        - {type: fils, paths: [a]}
      processors: [exact-dedup, {type: length, min: 9, max: 3}]
      tokenizer: {type: bpe, vocab_size: 4k}
      holdout: 120%
  base one:
    train:
      data: corpsu
      model: {type: llama, hiden_size: 256, layers: 6.5, heads: true}
      objective: [next-token]
      optimizer: {type: adam, lr: fast}
      batch: {tokens: 16k, ramp: {every: 2 epochs}}
      budget: 4M tokns
      precision: int8
      checkpoint: {every: 0 steps}
      callbacks: early-stop
  empty:
"""

PROBLEMS = """\
spec.yaml:1: name: missing
spec.yaml:2: nam: unknown field; did you mean 'name'?
spec.yaml:3: seed: -3: input should be greater than or equal to 0
spec.yaml:8: stages.corpus.prepare.sources.0: needs a 'type': html, warc, git, pdf, python-library, python-questions, arithmetic, files, hugging-face
spec.yaml:9: stages.corpus.prepare.sources.1.weight: 'heavy': input should be a valid number, unable to parse string as a number
spec.yaml:9: stages.corpus.prepare.sources.1.paths: needs at least 1
spec.yaml:10: stages.corpus.prepare.sources.2: unknown type 'fils'; did you mean 'files'?; known: html, warc, git, pdf, python-library, python-questions, arithmetic, files, hugging-face
spec.yaml:11: stages.corpus.prepare.processors.1: max 3 is less than min 9
spec.yaml:13: stages.corpus.prepare.holdout: 1.2: input should be less than 1
spec.yaml:14: stages.base one: a name has letters, digits, '-', '_', at most 100 characters, since it names a folder
spec.yaml:16: stages.base one.train.data.stage: no stage 'corpsu'; did you mean 'corpus'?; prepare stages here: corpus
spec.yaml:17: stages.base one.train.model.hiden_size: unknown field; did you mean 'hidden_size'?
spec.yaml:17: stages.base one.train.model.layers: 6.5: input should be a valid integer, got a number with a fractional part
spec.yaml:17: stages.base one.train.model.heads: True is not a number
spec.yaml:18: stages.base one.train.objective: needs a 'type': next-token, ppo, trl-ppo, rloo, grpo, reward, cost, dpo, kto, distill, sft
spec.yaml:19: stages.base one.train.optimizer: unknown type 'adam'; did you mean 'adamw'?; known: adamw, adamw-8bit, muon
spec.yaml:20: stages.base one.train.batch.ramp.every: '2 epochs' is in epochs; use tokens or steps
spec.yaml:21: stages.base one.train.budget: '4M tokns' is not an amount: write e.g. '4M tokens', '200 steps', '2 epochs', '2h' or '1%'
spec.yaml:22: stages.base one.train.precision: 'int8': input should be 'auto', 'fp32', 'bf16' or 'fp16'
spec.yaml:23: stages.base one.train.checkpoint.every: '0 steps' is not an interval; use more than 0
spec.yaml:24: stages.base one.train.callbacks: 'early-stop': write a list here
spec.yaml:25: stages.empty: None: write a mapping of fields here
"""  # noqa: E501 - what a user reads


def test_every_error_is_told_at_once(told):
    """In the order of the lines; each is file, line, path, what is wrong and how to mend it."""
    assert sorted(told(BROKEN)) == sorted(PROBLEMS.splitlines())
    lines = [int(problem.split(":")[1]) for problem in told(BROKEN)]
    assert lines == sorted(lines)


@pytest.mark.covers("Spec.engine")
@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("seed: 1", "spec.yaml:1: engine: missing; add `engine: 1`, "
                    "the version of the spec's language"),
        ("engine: 2", "spec.yaml:1: engine: this engine reads specs of version 1, not 2; it was "
                      "written for a newer engine: pip install -U training-engine"),
        ("engine: 0", "spec.yaml:1: engine: this engine reads specs of version 1, not 0; write "
                      "`engine: 1`; CHANGELOG.md says under 'Spec' what changed since"),
        ("engine: '1'", "spec.yaml:1: engine: '1' is not a version; write `engine: 1`"),
        ("engine: true", "spec.yaml:1: engine: True is not a version; write `engine: 1`"),
        ("engine: [1]", "spec.yaml:1: engine: [1] is not a version; write `engine: 1`"),
    ],
)  # fmt: skip
def test_the_version_of_the_language(told, line, problem):
    """Absent, newer or older: the message says what to do."""
    assert problem in told(f"{line}\nname: x\nstages: {{}}\n")


def test_another_version_s_spec_is_not_read_any_further(told):
    """What this version would say of its fields means nothing."""
    assert len(told("engine: 2\nnaam: x\nstages: 3\n")) == 1


def test_without_a_version_everything_else_is_told_too(told):
    """It is one error among others."""
    problems = told("nam: x\nstages: 3\n")
    assert [problem.split(": ")[1] for problem in problems] == ["engine", "name", "nam", "stages"]


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "- a\n- b\n", "engine", "1", "--- {}\n", "null"]
)
def test_a_spec_is_a_mapping(told, text):
    """An empty file, a list or a word is none."""
    (problem, *more) = told(text)
    assert problem.startswith("spec.yaml:1: ")
    assert more or "a spec is a mapping, with `engine: 1` as its first line" in problem


def test_what_is_no_text_is_told_with_its_line(told):
    """Binary files have lines, too."""
    assert told(b"engine: 1\nname: \xff\n") == ["spec.yaml:2: not UTF-8 text (byte 0xff)"]
    assert told(b"\x7fELF\0\0")[0].startswith("spec.yaml:1: not text: character 0x")


def test_garbage_never_breaks_the_lines(told):
    """One error is one line, and nothing in it moves a terminal's cursor."""
    problems = told('engine: 1\nname: x\n"a\\nb\\e[2J": 1\nstages: {a: {prepare: "x\\ny"}}\n')
    assert "spec.yaml:3: a\\nb\\x1b[2J: unknown field" in problems


def test_a_long_value_is_cut(told, tiny_spec):
    """A line stays a line."""
    tiny_spec["seed"] = "9" * 500
    (problem,) = told(tiny_spec)
    assert len(problem) < 150


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "x" * 101, "a b", "ä"])
def test_names_become_folders(told, tiny_spec, name):
    """So they are plain words; a stage's has no dot, which parts the words of a path."""
    tiny_spec["name"] = name
    (problem,) = told(tiny_spec)
    assert "name: a name has letters, digits" in problem


def test_stage_names(told, tiny_spec, write_spec):
    """Anything but a name of its own is refused, and so is a spec without stages."""
    tiny_spec["name"] = "v1.2_final-3"
    load_spec(write_spec(tiny_spec))
    tiny_spec["stages"]["manifest.json"] = tiny_spec["stages"].pop("corpus")
    assert any("stages.manifest.json: a name has letters" in problem for problem in told(tiny_spec))
    tiny_spec["stages"] = {}
    (problem,) = told(tiny_spec)
    assert problem.endswith("stages: needs at least 1")


@pytest.mark.covers("Spec.stages", "Stage.prepare", "Stage.train", "Stage.evaluate")
def test_a_stage_has_one_verb(told, tiny_spec, write_spec):
    """And does what it says."""
    stages = load_spec(write_spec(tiny_spec)).spec.stages
    assert {name: stage.verb for name, stage in stages.items()} == {
        "corpus": "prepare",
        "base": "train",
    }
    tiny_spec["stages"]["base"]["prepare"] = tiny_spec["stages"]["corpus"]["prepare"]
    tiny_spec["stages"]["none"] = {}
    wrong = "a stage has exactly one of: prepare, train, evaluate"
    problems = [problem.partition(": ")[2] for problem in told(tiny_spec)]
    assert problems == [f"stages.base: {wrong}", f"stages.none: {wrong}"]


def test_the_resolved_spec_has_every_default_and_reads_as_the_same(tiny_spec, write_spec):
    """What a run became is what another run of it would be."""
    loaded = load_spec(write_spec(tiny_spec))
    data = yaml.safe_load(resolved_yaml(loaded))
    train = data["stages"]["base"]["train"]
    assert (train["precision"], train["clip"]) == ("auto", 1.0)
    assert train["checkpoint"] == {"every": "600 seconds", "keep": 2, "background": True}
    assert train["optimizer"]["schedule"]["type"] == "constant"
    assert load_spec(write_spec(data)).resolved() == loaded.resolved() == data


def test_a_secret_is_named_and_never_repeated(told, tiny_spec, write_spec, monkeypatch):
    """The spec holds the name of its variable; a secret put there by mistake is not shown again."""
    monkeypatch.setenv("HUB_TOKEN", "hf_secret")
    source = {
        "type": "hugging-face",
        "path": "org/name",
        "revision": "1" * 40,
        "token_env": "HUB_TOKEN",
    }
    tiny_spec["stages"]["corpus"]["prepare"]["sources"] = [source]
    loaded = load_spec(write_spec(tiny_spec), allow=["secret=HUB_TOKEN@huggingface.co"])
    assert "hf_secret" not in resolved_yaml(loaded)
    source["token_env"] = "hf_secret"
    (problem,) = told(tiny_spec)
    assert "token_env: takes the name of an environment variable" in problem
    assert "hf_secret" not in problem

"""`extends:` and `--set`: a spec that changes another, and the command line that changes a spec."""

from __future__ import annotations

import pytest

from engine.spec.loading import load_spec

BASE = """\
engine: 1
name: base
seed: 3
stages:
  corpus:
    prepare: &prepare
      sources: [{type: python-library}]
      processors: [{type: length, min: 4}]
  base:
    train:
      data: corpus
      model: {type: llama, layers: 3, heads: 2}
      objective: {type: next-token}
      optimizer: {type: muon, momentum: 0.9, lr: 1e-2}
  again:
    prepare: *prepare
"""


@pytest.fixture
def write(tmp_path):
    """Writes a file and gives its path."""

    def write(name, text):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_a_spec_extends_another(write):
    """By a path relative to itself; mappings merge, unless they are of another type."""
    write("base.yaml", BASE)
    write("sub/middle.yaml", "extends: ../base.yaml\nstages: {base: {train: {clip: 0.5}}}")
    changed = write(
        "sub/own.yaml",
        "extends: middle.yaml\nname: own\nstages:\n  base:\n    train:\n      model: {layers: 1}\n"
        "      optimizer: {type: adamw, eps: 1e-6}\n  corpus:\n    prepare:\n      processors: []\n",
    )
    spec = load_spec(changed, allow=["files"]).spec
    train = spec.stages["base"].train
    assert (spec.name, spec.seed, train.clip) == ("own", 3, 0.5)
    assert (train.model.layers, train.model.heads) == (1, 2)
    assert (train.optimizer.type, train.optimizer.lr) == ("adamw", 1e-3)
    assert spec.stages["corpus"].prepare.processors == ()
    assert spec.stages["again"].prepare.processors[0].min == 4


def test_errors_point_to_the_file_and_line_where_the_value_stands(write, told):
    """Whichever of the files that is."""
    write("base.yaml", BASE.replace("layers", "layrs").replace("name: base\n", ""))
    own = write("own.yaml", "extends: base.yaml\nseed: -1\nstages: {base: {train: {clipp: 1}}}\n")
    assert told(own) == [
        "base.yaml:11: stages.base.train.model.layrs: unknown field; did you mean 'layers'?",
        "own.yaml:1: name: missing",
        "own.yaml:2: seed: -1: input should be greater than or equal to 0",
        "own.yaml:3: stages.base.train.clipp: unknown field; did you mean 'clip'?",
    ]
    write("base.yaml", "engine: 1\n\tname: x")
    (problem,) = told(own)
    assert problem.startswith("base.yaml:2: not YAML")


@pytest.mark.parametrize(
    ("extends", "problem"),
    [
        ("own.yaml", "extends: the files extend each other: own.yaml → own.yaml"),
        ("x/../own.yaml", "extends: the files extend each other: own.yaml → own.yaml"),
        ("bse.yaml", "extends: bse.yaml: cannot be read: No such file or directory; "
                     "did you mean 'base.yaml'?"),
        (".", "extends: .: cannot be read: Is a directory"),
        ("[a.yaml]", "extends: ['a.yaml'] is not a file's name"),
        ("12", "extends: 12 is not a file's name"),
        ('"\\0"', r"extends: \x00: cannot be read: embedded null byte"),
        ("x" * 300, f"extends: {'x' * 300}: cannot be read: File name too long"),
    ],
)  # fmt: skip
def test_what_cannot_be_extended(write, told, tmp_path, monkeypatch, extends, problem):
    """Told at the line of `extends:`."""
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    write("base.yaml", BASE)
    own = write("own.yaml", f"name: own\nextends: {extends}\n")
    assert told(own.relative_to(tmp_path)) == [f"own.yaml:2: {problem}"]


def test_files_that_extend_each_other(write, told):
    """The chain is told, at the line that closes the circle."""
    write("a.yaml", "extends: b.yaml")
    write("b.yaml", "name: b\nextends: c.yaml")
    write("c.yaml", "engine: 1\nname: c\nextends: a.yaml")
    first = write("a.yaml", "extends: b.yaml")
    circle = "a.yaml → b.yaml → c.yaml → a.yaml"
    assert told(first) == [f"c.yaml:3: extends: the files extend each other: {circle}"]


def test_a_file_that_is_not_there(told, tmp_path):
    """The nearest name is told; so is a folder in a file's place."""
    (tmp_path / "quickstart.yaml").mkdir()
    (problem,) = told(tmp_path / "quikstart.yaml")
    assert problem == (
        "quikstart.yaml: cannot be read: No such file or directory; did you mean 'quickstart.yaml'?"
    )
    assert told(tmp_path / "quickstart.yaml") == ["quickstart.yaml: cannot be read: Is a directory"]


@pytest.mark.parametrize(
    ("path", "text", "value"),
    [
        ("seed", "7", 7),
        ("stages.base.train.model.layers", "2", 2),
        ("stages.base.train.batch.tokens", "32k", 32_000),
        ("stages.base.train.budget", "10M tokens", "10000000 tokens"),
        ("stages.base.train.budget", "{tokens: 10M}", "10000000 tokens"),
        ("stages.base.train.clip", "", None),
        ("stages.corpus.prepare.sources.0.weight", "0.5", 0.5),
    ],
)
def test_a_field_is_set(write, path, text, value):
    """By its path; what lies on the way and is not there is made."""
    loaded = load_spec(write("base.yaml", BASE), overrides=[f"{path}={text}"])
    found = loaded.spec.model_dump(mode="json")
    for key in path.split("."):
        found = found[int(key) if isinstance(found, list) else key]
    assert found == value


def test_an_alias_is_a_copy(write):
    """Setting the one leaves the other as it was."""
    setting = "stages.again.prepare.processors.0.min=9"
    stages = load_spec(write("base.yaml", BASE), overrides=[setting]).spec.stages
    least = {name: stages[name].prepare.processors[0].min for name in ("corpus", "again")}
    assert least == {"corpus": 4, "again": 9}


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("seed", "--set seed: write it as some.path=value"),
        ("=1", "--set =1: write it as some.path=value"),
        ("stages..base=1", "--set stages..base=1: write it as some.path=value"),
        ("seed.x=1", "--set seed.x: seed is 3, which has no fields"),
        ("stages.corpus.prepare.sources.1.weight=1",
         "--set stages.corpus.prepare.sources.1.weight: "
         "stages.corpus.prepare.sources is a list of 1, which has no index '1'"),
        ("stages.corpus.prepare.sources.x=1",
         "--set stages.corpus.prepare.sources.x: "
         "stages.corpus.prepare.sources is a list of 1, which has no index 'x'"),
        ("seed=[1", "--set seed: not YAML: expected ',' or ']', but got '<stream end>', "
                    "while parsing a flow sequence that begins in line 1"),
        ("seed={a: 1, a: 2}", "--set seed: duplicate key 'a'"),
        ("seed=1.5", "--set seed: seed: 1.5: input should be a valid integer"),
        ("stages.base.train.model.layrs=2",
         "--set stages.base.train.model.layrs: stages.base.train.model.layrs: unknown field; "
         "did you mean 'layers'?"),
        ("stages.base.train.model={type: llama, layers: 0}",
         "--set stages.base.train.model: stages.base.train.model.layers: 0: "
         "input should be greater than or equal to 1"),
        ("stages.bas.train.data=corpus",
         "--set stages.bas.train.data: stages.bas.train.model: missing"),
        ("stages.base.train.data=corps",
         "--set stages.base.train.data: stages.base.train.data.stage: no stage 'corps'; "
         "did you mean 'corpus'?; prepare stages here: corpus, again"),
    ],
)  # fmt: skip
def test_what_cannot_be_set(write, told, assignment, problem):
    """Told under the option's own name, and validated like the spec."""
    assert problem in told(write("base.yaml", BASE), overrides=[assignment])


def test_what_was_set_is_not_told(write, told):
    """A value on the command line may be a secret put in the wrong place."""
    problems = told(write("base.yaml", BASE), overrides=["stages.base.train.token=hunter2"])
    assert problems == ["--set stages.base.train.token: stages.base.train.token: unknown field"]

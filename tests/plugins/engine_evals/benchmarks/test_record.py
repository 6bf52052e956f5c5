"""A benchmark is a record: the standard ones are sound, and one's own needs no code."""

from __future__ import annotations

import pytest
import yaml
from engine_evals.benchmarks.record import load_record, standard_names, standard_record
from engine_evals.fetching.catalogue import load_catalogue
from engine_evals.plugin import engine_evaluators

from engine import Response, RunError

OWN = {
    "kind": "choice",
    "summary": "Capitals.",
    "rows": {"path": "rows", "split": "test"},
    "prompt": "The capital of {{ country }} is",
    "questions": [{"choices": "cities", "gold": "gold", "metrics": ["acc"]}],
}
ROWS = [
    {"country": "Peru", "cities": ["Lima", "Cusco"], "gold": 0},
    {"country": "Chad", "cities": ["Abéché", "N'Djamena"], "gold": 1},
    {"country": "Laos", "cities": ["Vientiane", "Pakse"], "gold": 0},
]


@pytest.fixture
def own(tmp_path, write):
    """Writes a record, with changes, and its rows."""

    def make(**changed):
        file = tmp_path / "capitals.yaml"
        record = OWN | changed
        if record["kind"] == "generation":
            del record["questions"]
        file.write_text(yaml.safe_dump(record), encoding="utf-8")
        write(tmp_path / "rows" / "test.jsonl", ROWS)
        return str(file)

    return make


@pytest.mark.parametrize("name", standard_names())
def test_standard_records_load_and_agree_with_what_is_declared_and_fetched(name):
    """Its line in listings is the record's, and `engine evals fetch` brings the splits it reads."""
    record = standard_record(name)
    declared = {component.type: component for component in engine_evaluators()}
    assert declared[name].summary == record.summary
    splits = load_catalogue()[1][name].splits
    wanted = {record.rows.split, record.examples.split or record.rows.split}
    for part in record.rows.parts:
        assert f"{part}/{record.rows.split}" in splits
    assert wanted <= {split.rpartition("/")[2] for split in splits}


@pytest.mark.covers(
    "evaluator/benchmark.file", "evaluator/benchmark.shots", "evaluator/benchmark.rows"
)
def test_a_record_of_ones_own_is_a_benchmark(evaluator, own, tmp_path, write):
    """With its rows beside it, or those that the spec names, and examples from them."""
    file = own()
    items = list(evaluator("benchmark", file=file).items())
    assert [item.requests[0].context for item in items] == [
        f"The capital of {row['country']} is" for row in ROWS
    ]
    assert [r.continuation for r in items[1].requests] == [" Abéché", " N'Djamena"]
    (with_example, *_) = evaluator("benchmark", file=file, shots=1).items()
    assert with_example.requests[0].context.count("capital") == 2
    other = write(tmp_path / "other.jsonl", ROWS[1:])
    assert len(list(evaluator("benchmark", file=file, rows=str(other)).items())) == 2


@pytest.mark.covers("evaluator/benchmark.every", "evaluator/benchmark.limit")
def test_ones_own_runs_in_a_spec(tiny_spec, run_here, own):
    """Under its own type, as often and on as many rows as asked."""
    evaluate = {"type": "benchmark", "file": own(), "every": "3 steps", "limit": 2}
    tiny_spec["stages"]["base"]["train"]["evaluate"] = [evaluate]
    found = [e for e in run_here(tiny_spec).events("score") if e["metric"] == "acc"]
    assert [(e["evaluator"], e["step"], e["n"]) for e in found] == [
        ("benchmark", 3, 2),
        ("benchmark", 6, 2),
    ]


def test_ones_own_may_generate_with_a_description_and_examples_in_the_record(evaluator, own):
    """Stops, length, letters and what is ignored are the record's."""
    file = own(
        kind="generation",
        description="Name capitals.\n\n",
        answer="{{ cities[gold] }}.",
        gold="{{ cities[gold] }}",
        stops=["\n"],
        max_tokens=7,
        examples={
            "shots": 1,
            "order": "first",
            "rows": [{"country": "Cuba", "cities": ["Havana"], "gold": 0}],
        },
        metrics=[{"name": "right", "find": r"\w+", "ignore": ["'"], "ignore_case": True}],
    )
    benchmark = evaluator("benchmark", file=file)
    item = next(iter(benchmark.items()))
    (request,) = item.requests
    assert request.prompt == (
        "Name capitals.\n\nThe capital of Cuba is Havana.\n\nThe capital of Peru is"
    )
    assert (request.stop, request.max_tokens) == (("\n",), 7)
    assert benchmark.score(item, [Response(text=" LIMA, of course")])["right"] == 1.0
    assert benchmark.score(item, [Response(text=" Cusco")])["right"] == 0.0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"promt": "x"}, r"capitals.yaml: promt: Extra inputs"),
        ({"prompt": "{{ country"}, r"prompt: no Jinja2 template: "),
        ({"questions": [{"choices": "a b", "gold": "0", "metrics": ["acc"]}]},
         r"questions.0.choices: no Jinja2 expression: "),
        ({"questions": [{"choices": "a", "gold": "0", "metrics": ["f1"]}]},
         r"questions.0.metrics.0: "),
        ({"kind": "poem"}, r"capitals.yaml: record: .*'choice', 'generation'"),
    ],
)  # fmt: skip
def test_a_wrong_record_is_an_error_of_the_spec_that_names_file_and_field(
    changed, told, evaluator, own
):
    """Before anything runs."""
    with pytest.raises(ValueError, match=told):
        evaluator("benchmark", file=own(**changed))


def test_a_record_that_is_absent_or_no_yaml_is_named(tmp_path):
    """With the reason."""
    with pytest.raises(RunError, match=r"none\.yaml: cannot be read: No such file"):
        load_record(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(RunError, match=r"bad\.yaml: no YAML: "):
        load_record(tmp_path / "bad.yaml")

"""What would waste a run is told before its first step, by the field that mends it."""

from __future__ import annotations

import pytest
from support.runs import events


@pytest.fixture
def refused(stage, write_spec, finished_run, tmp_path, capsys):
    """What ``engine run`` says as it fails, by its exit status; no step is taken."""
    from support.internals import main

    def run(rows, objective=None, *, pad_is_eos: bool = False, status: int = 1, **train) -> str:
        spec = stage(rows, objective, **train)
        model = tmp_path / "model"
        # The stage by itself, on a model that is there: a quarter of a second instead of three.
        spec["stages"] = {"tuned": spec["stages"]["tuned"]}
        spec["stages"]["tuned"]["train"]["model"] = {"type": "pretrained", "path": str(model)}
        _copy(finished_run / "base" / "final", model, pad_is_eos)
        spec["stages"]["tuned"]["train"]["batch"].setdefault("sequence", 32)
        runs = tmp_path / "runs"
        with pytest.raises(SystemExit) as ended:
            main(["run", str(write_spec(spec)), "--runs", str(runs)])
        told = " ".join(capsys.readouterr().err.split())
        assert ended.value.code == status, told
        assert not events(runs / "tiny", "step")
        return told

    return run


def _copy(source, model, pad_is_eos: bool) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    if pad_is_eos:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(model)
    AutoModelForCausalLM.from_pretrained(source).save_pretrained(model)


def test_padding_by_eos(refused, sums):
    """It would mask the end of every answer wherever padding is masked."""
    told = refused(sums, pad_is_eos=True, status=2)
    assert "the tokenizer pads with its EOS, '<|endoftext|>'" in told
    assert "set objective.pad_token to another of its tokens" in told


@pytest.mark.covers("objective/sft.pad_token")
def test_padding_can_be_given(bench, stage, run_here, sums, tmp_path):
    """A token of the vocabulary, which then stays with the model; another word is refused."""
    from transformers import AutoTokenizer

    from engine import SpecError

    run = run_here(stage(sums, {"type": "sft", "pad_token": "!"}))
    assert AutoTokenizer.from_pretrained(run.folder / "tuned" / "final").pad_token == "!"
    with pytest.raises(SpecError, match="pad_token: 'nonsense' is not in the tokenizer's voc"):
        bench.objective(pad_token="nonsense")


def test_no_template(refused, talks):
    """Nor is there one by default."""
    told = refused(talks, status=2)
    assert "the tokenizer's chat template is missing; set objective.template" in told


def test_answers_that_are_all_cut_off(refused, sums):
    """With how many there were, and what would be long enough."""
    rows = [{**row, "prompt": row["prompt"] * 10} for row in sums]
    told = refused(rows)
    assert "64 records, of which 0 are held out, give 0 rows of at most 32 tokens" in told
    assert "less than one batch of 12; 64 with all answers beyond the 32 tokens of a row" in told
    assert "or a longer `batch.sequence`" in told


def test_a_data_set_smaller_than_a_batch(refused, sums):
    """Packed, or not."""
    told = refused(sums[:5], {"type": "sft", "packing": False}, batch={"examples": 6})
    assert "give 5 rows of at most 32 tokens, less than one batch of 6" in told
    assert "give more data, a smaller batch (`batch.examples`)" in told


def test_a_template_that_never_ends(refused, talks):
    """The model would not learn to stop."""
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    told = refused(talks, {"type": "sft", "template": template}, status=2)
    assert "whose answer the chat template ends without a special token" in told


def test_a_template_that_is_none(refused, talks):
    """In the spec, with those that there are."""
    told = refused(talks, {"type": "sft", "template": "chatlm"}, status=2)
    assert "'chatlm' is neither a Jinja text nor one of chatml, plain" in told


def test_records_of_another_kind(refused):
    """The spec's own check."""
    told = refused([{"text": "one"}], status=2)
    assert "'sft' takes chat or completion records, but the data gives text" in told

"""Architectures are tried on small models; what is right, what is refused, and a planted fault."""

from __future__ import annotations

import json

import pytest
from engine_inference import kv_slots
from engine_lm.trials.subject import Subject
from engine_lm.trials.table import CHECKS, tried
from engine_lm.trials.tiny_config import tiny_config
from engine_lm.trials.trial import CHECKS as TRIALS, try_model
from support.smollm2 import smollm2

from engine import EngineError, SpecError, load_spec
from engine.testing import StandAloneContext

QUICK = ("counts", "packed", "scores", "writes", "scalar")


def _verdicts(name, wanted=QUICK):
    cells = list(try_model(name, wanted))
    print(*cells, sep="\n")
    return {cell.check: cell.verdict for cell in cells}


def test_a_small_config_has_every_kind_of_layer():
    """Sliding and full attention, dense and sparse, states and keys: as few layers as show them."""
    small = tiny_config("gemma3_text")
    assert set(small["layer_types"]) == {"sliding_attention", "full_attention"}
    assert small["num_hidden_layers"] == len(small["layer_types"]) == 6
    assert small["sliding_window"] == 4
    assert tiny_config("llama")["num_hidden_layers"] == 2


def test_an_architecture_is_right():
    """Losses, scores, texts and values of a Llama are those of its own forward pass."""
    assert _verdicts("llama") == {"opens": "right", **dict.fromkeys(QUICK, "right")}


def test_a_fault_is_found(monkeypatch):
    """A cache that does not learn the places of new tokens writes other texts."""
    checks = ("scores", "writes")
    assert _verdicts("bamba", checks) == dict.fromkeys(("opens", *checks), "right")
    read = kv_slots.OneCache.__init__

    def without_places(self, *given):
        read(self, *given)
        self._takes_places = False

    monkeypatch.setattr(kv_slots.OneCache, "__init__", without_places)
    assert _verdicts("bamba", checks) == {"opens": "right", "scores": "right", "writes": "fault"}


def test_an_architecture_of_a_plugin_is_tried(guide, install_here):
    """The plugin author's guide has one; its runs name the plugin."""
    install_here({path: text for path, text in guide.items() if path.startswith("engine_example/")})
    checks = ("packed", "scores", "writes", "export")
    assert _verdicts("running-mean", checks) == dict.fromkeys(("opens", *checks), "right")


@pytest.mark.parametrize("name", ["minicpm3", "llama4_text", "blt"])
def test_what_was_refused_for_its_names_alone_is_right(name):
    """A factor before the head, a backbone by another name, a config of which no cache can be made."""
    wanted = ("counts", "packed", "scores", "writes") if name != "blt" else ("packed", "writes")
    assert _verdicts(name, wanted) == dict.fromkeys(("opens", *wanted), "right")


def test_a_cache_that_transformers_cannot_use_is_left_out(tmp_path):
    """Its hybrid Granite without a layer of attention: ``generate`` fails with the cache it makes."""
    config = tiny_config("granitemoehybrid") | {"layer_types": ["linear_attention"] * 2}
    assert TRIALS["writes"](Subject.made("granitemoehybrid", config, tmp_path)) == "the same"


@pytest.mark.parametrize("name", ["afmoe", "deepseek_v4", "jamba", "llama4_text"])
def test_an_adapter_is_where_it_counts(name):
    """Nested for experts, none on grouped products, none where kernels read a weight past it."""
    assert _verdicts(name, ("LoRA",)) == {"opens": "right", "LoRA": "right"}


def test_layers_that_share_weights_share_an_adapter():
    """Zamba's; a value model of it reopens with them tied."""
    assert _verdicts("zamba", ("LoRA", "scalar")) == dict.fromkeys(
        ("opens", "LoRA", "scalar"), "right"
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("bert", "not causal"),
        ("reformer", "draws random"),
        ("llamma", "did you mean|it has llama"),
        ("bart", "encoder|text"),
    ],
)
def test_what_is_refused_is_refused_once(name, why):
    """In one line, with the reason that a user reads."""
    (cell,) = try_model(name)
    assert cell.verdict == "refused"
    assert "\n" not in cell.note
    assert any(part in cell.note for part in why.split("|")), cell.note


def test_a_folder_is_tried_by_a_small_copy(finished_run):
    """Its architecture with its own features; nothing in the folder changes."""
    final = finished_run / "base" / "final"
    before = sorted(file.name for file in final.iterdir())
    assert _verdicts(str(final), ("packed",)) == {"opens": "right", "packed": "right"}
    assert sorted(file.name for file in final.iterdir()) == before


def test_a_reward_on_a_type_without_a_scalar_head_is_refused_at_once(tiny_spec, write_spec):
    """Where the spec is checked, by its line; a type that has one is not."""
    train = tiny_spec["stages"]["base"]["train"]
    train["objective"] = {"type": "reward"}
    told = {}
    for name in ("mamba", "llama"):
        train["model"] = {"type": "causal-lm", "architecture": name}
        with pytest.raises(SpecError) as error:  # its data are texts, too
            load_spec(write_spec(tiny_spec))
        told[name] = str(error.value)
    assert (
        "'reward' cannot train it: transformers has no 'mamba' with a scalar head" in told["mamba"]
    )
    assert "cannot train it" not in told["llama"]


def test_the_command(engine):
    """A line for each check; a check that there is not is an error with the list."""
    done = engine("models", "try", "llama", "--check", "counts", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["check"] for line in lines] == ["opens", "counts"]
    wrong = engine("models", "try", "llama", "--check", "speed", status=2)
    assert "counts" in wrong.stderr
    assert "Traceback" not in wrong.stderr


DIFFERENT = "llama gpt2 gemma2 cohere bloom deepseek_v3 gpt_oss mamba2 bamba qwen3_next".split()
ALONE = [check for check in CHECKS[: CHECKS.index("shard")] if check != "compile"]


@pytest.mark.parametrize("name", DIFFERENT)
def test_ten_that_differ_most_are_what_the_table_says(name):
    """Learned and rotary positions, windows and caps, scales, ALiBi, latent attention, experts, sinks,
    states, and layers of several kinds. Of all that one process can try, but compiling, half of the ten
    try one half of the checks, and half the other; the soak tries all."""
    turn = DIFFERENT.index(name) % 2
    wanted = [check for n, check in enumerate(ALONE) if check == "opens" or n % 2 == turn]
    table = tried().types[name]
    assert _verdicts(name, tuple(wanted)) == {check: table[check].verdict for check in wanted}


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("gpt2", "zero"),
        ("qwen3_next", "shard"),
        ("deepseek_v3", "tensor"),
        ("bamba", "pipeline"),
        ("gemma2", "context"),
        ("gpt_oss", "expert"),
    ],
)
def test_on_two_processes_they_are_what_the_table_says(name, check):
    """Each strategy with the one of the ten that is hardest for it."""
    assert tried().types[name][check].verdict == "right"
    assert _verdicts(name, (check,)) == {"opens": "right", check: "right"}


NOT_OF_SMOLLM2 = {"tensor": "heads 9 is not a multiple of 2", "expert": "no experts"}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("check", CHECKS[1:])
def test_a_real_model_is_right(check, tmp_path, tmp_path_factory):
    """SmolLM2-135M-Instruct itself, not a small copy of it."""
    folder = smollm2(tmp_path_factory.getbasetemp() / "smollm2")
    subject = Subject("llama", folder, tmp_path, StandAloneContext())
    if check in NOT_OF_SMOLLM2:
        with pytest.raises(EngineError, match=NOT_OF_SMOLLM2[check]):
            TRIALS[check](subject)
    else:
        TRIALS[check](subject)

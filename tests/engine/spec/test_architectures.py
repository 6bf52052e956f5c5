"""A model class of a plugin trains, and its folder opens wherever the plugin is there."""

from __future__ import annotations

import importlib
import json
import logging
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer

from engine import EngineError, RunError, register_architectures
from engine.modeling import attend, with_scalar_head
from engine.registry import Plugins
from engine.runs.finished_stage import open_stage
from engine.spec.architectures import check_reopens
from engine.storage.model_folder import Artifact
from engine.testing import StandAloneContext

PLUGIN = """
from engine import Architecture, Component, hookimpl


@hookimpl
def engine_architectures():
    return [
        Architecture(
            "{type}",
            "engine_{name}.architecture:OwnConfig",
            "engine_{name}.architecture:OwnForCausalLM",
            "engine_{name}.architecture:OwnModel",
            "engine_{name}.architecture:OwnForSequenceClassification",
        )
    ]


@hookimpl
def engine_models():
    return [Component("{name}", "engine_{name}.config:Own", "engine_{name}.own:build", "Its own.")]
"""
CONFIG = """
from engine import ModelConfig


class Own(ModelConfig):
    \"\"\"A small model of its own class.\"\"\"

    def context_length(self):
        return 32
"""
ARCHITECTURE = """
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)


class OwnConfig(LlamaConfig):
    model_type = "{type}"


class OwnModel(LlamaModel):
    config_class = OwnConfig


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig


class OwnForSequenceClassification(LlamaForSequenceClassification):
    config_class = OwnConfig
"""
BUILD = """
from engine_{name}.architecture import OwnConfig, OwnForCausalLM


def build(config, context):
    tokenizer = context.tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32}
    ids = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.eos_token_id}
    own = OwnConfig(vocab_size=len(tokenizer), tie_word_embeddings=False, **sizes, **heads, **ids)
    return OwnForCausalLM(own)
"""


@pytest.fixture
def plugin(install_here):
    """Installs a plugin with a model of its own class; ``edits`` change its code."""
    kinds = []

    def install(*edits: tuple[str, str], name: str = "own", kind: str = "own-llama") -> None:
        files = {
            f"engine_{name}/__init__.py": "",
            f"engine_{name}/plugin.py": PLUGIN,
            f"engine_{name}/config.py": CONFIG,
            f"engine_{name}/architecture.py": ARCHITECTURE,
            f"engine_{name}/own.py": BUILD,
        }
        for old, new in (*edits, ("{name}", name), ("{type}", kind)):
            files = {path: text.replace(old, new) for path, text in files.items()}
        kinds.append(kind)
        install_here(files)

    yield install
    for kind in kinds:
        CONFIG_MAPPING._extra_content.pop(kind, None)


@pytest.fixture
def own_spec(tiny_spec):
    """The tiny spec with the plugin's model."""
    base = tiny_spec["stages"]["base"]["train"]
    base |= {"model": {"type": "own"}, "budget": "2 steps", "evaluate": []}
    return {**tiny_spec, "plugins": ["own"]}


@pytest.fixture
def trained(plugin, own_spec, run_here) -> Path:
    """A finished run that has trained the model."""
    plugin()
    return run_here(own_spec).folder


def forget(monkeypatch) -> None:
    """The plugin is not there any more, as in another process."""
    CONFIG_MAPPING._extra_content.pop("own-llama", None)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not p.endswith("site")])


def test_what_it_has_trained_opens_in_later_stages_and_in_transformers(
    plugin, own_spec, run_here, command, tmp_path
):
    """A stage goes on from it, an evaluation and a command open it, and so do Auto classes."""
    plugin()
    base = own_spec["stages"]["base"]["train"]
    own_spec["stages"]["more"] = {"train": {**base, "model": "base"}}
    own_spec["stages"]["scores"] = {
        "evaluate": {"models": ["more"], "data": "corpus", "evaluators": [{"type": "perplexity"}]}
    }
    folder = run_here(own_spec).folder
    CONFIG_MAPPING._extra_content.pop("own-llama")  # as in another process
    model = open_stage(folder / "more").artifact().model()
    assert type(model).__module__ == "engine_own.architecture"
    register_architectures()
    register_architectures()
    found = AutoModelForCausalLM.from_pretrained(folder / "more" / "final")
    ids = torch.arange(7)[None]
    assert torch.equal(found(ids).logits, model(ids).logits)
    AutoTokenizer.from_pretrained(folder / "more" / "final")
    command("export", folder / "more", tmp_path / "exported")
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "after engine.register_architectures(), with engine-own 1.0 installed." in card


def test_a_folder_names_its_plugin_and_no_place_to_import_from(trained):
    """Name, distribution and version, as they were installed."""
    written = json.loads((trained / "base" / "final" / "config.json").read_text())
    assert written["engine_plugin"] == {
        "name": "own", "distribution": "engine-own", "version": "1.0"
    }  # fmt: skip
    assert "auto_map" not in written


def test_without_the_plugin_a_folder_says_what_to_install(
    trained, monkeypatch, tmp_path, told, tiny_spec
):
    """In the one line that any opening ends in, also of a copy that a later spec names."""
    final = shutil.copytree(trained / "base" / "final", tmp_path / "copy")
    forget(monkeypatch)
    needs = (
        "the architecture 'own-llama' needs the plugin 'own' of engine-own 1.0, which is not "
        "installed: pip install engine-own"
    )
    with pytest.raises(RunError, match=needs):
        Artifact(final).model()
    tiny_spec["stages"]["base"]["train"]["model"] = {"type": "pretrained", "path": str(final)}
    assert told(tiny_spec)[-1].endswith(f"stages.base.train.model.path: 'copy': {needs}")


def test_a_folder_puts_nothing_of_its_own_into_a_command(trained, monkeypatch):
    """Only names go into the advice."""
    file = trained / "base" / "final" / "config.json"
    written = json.loads(file.read_text())
    written["engine_plugin"]["distribution"] = "--index-url=http://x y"
    file.write_text(json.dumps(written))
    (trained / "base" / "final" / "manifest.json").unlink()
    forget(monkeypatch)
    with pytest.raises(RunError, match=r"nor a plugin has the architecture 'own-llama'$"):
        Artifact(file.parent).model()


def test_a_spec_names_the_plugin_whose_architecture_it_opens(trained, told, tiny_spec):
    """For a folder and for a new model: opening runs the plugin's code."""
    path = str(trained / "base" / "final")
    for model in (
        {"type": "pretrained", "path": path},
        {"type": "causal-lm", "architecture": "own-llama"},
    ):
        tiny_spec["stages"]["base"]["train"]["model"] = model
        assert told({**tiny_spec})[-1].endswith(
            "stages.base.train.model: the architecture 'own-llama' comes from the installed plugin "
            "'own'; add it to the spec: `plugins: [own]`"
        )


UNDECLARED = ("@hookimpl\ndef engine_architectures", "def _nothing")
REFUSED = {
    "a class that no plugin declares": (
        [UNDECLARED],
        "OwnForCausalLM could not be opened again: no plugin of this run declares the model_type "
        "'own-llama' with it, and transformers does not have it",
    ),
    "a class called like one of transformers": (
        [UNDECLARED, ("OwnForCausalLM", "LlamaForCausalLM"), ("{type}", "llama")],
        "engine_own.architecture:LlamaForCausalLM could not be opened again",
    ),
    "another class than the declared one": (
        [
            ("class OwnForSeq", "class Other(OwnForCausalLM):\n    pass\n\n\nclass OwnForSeq"),
            ("import OwnConfig, OwnForCausalLM", "import OwnConfig, Other as OwnForCausalLM"),
        ],
        "declares 'own-llama' with engine_own.architecture:OwnConfig, ",
    ),
    "what is no model of transformers": (
        [("return OwnForCausalLM(own)", "return object()")],
        "a model is a PreTrainedModel of transformers, not a object",
    ),
    "a model_type of transformers": (
        [("{type}", "llama")],
        r"plugin own \(engine-own 1.0\): the architecture 'llama' is also one of transformers 5",
    ),
    "a config with another model_type": (
        [("model_type = ", "model_type = 'x-' + ")],
        r"own \(engine-own 1.0\): transformers cannot take its architecture 'own-llama'",
    ),
    "a class that cannot be loaded": (
        [("class OwnConfig", "class Another")],
        r"own \(engine-own 1.0\): 'own-llama' cannot be loaded from engine_own.architecture:OwnConfig",
    ),
}


@pytest.mark.parametrize(("edits", "why"), REFUSED.values(), ids=REFUSED)
def test_what_could_not_be_opened_again_is_refused_before_the_first_step(
    plugin, own_spec, run_here, tmp_path, edits, why
):
    """With its class, or its plugin, and what to declare."""
    plugin(*edits)
    with pytest.raises(EngineError, match=why):
        run_here(own_spec)
    assert not any((tmp_path / "runs" / "tiny" / "base").glob("checkpoints/*"))
    assert '"event": "step"' not in (tmp_path / "runs" / "tiny" / "events.jsonl").read_text()


def test_two_plugins_with_one_architecture(plugin, own_spec, run_here):
    """A run with both names both; with one, or from another program, the others open as before."""
    plugin()
    plugin(name="twin")
    plugin(name="third", kind="third-llama")
    with pytest.raises(EngineError) as caught:
        run_here({**own_spec, "plugins": ["own", "twin"]})
    both = "the architecture 'own-llama': own (engine-own 1.0) and twin (engine-twin 1.0)"
    assert f"two plugins declare {both}" in str(caught.value)
    with pytest.warns(UserWarning, match=re.escape(both)):
        register_architectures()
    assert "third-llama" in CONFIG_MAPPING
    assert "own-llama" not in CONFIG_MAPPING
    assert run_here(own_spec).status == 0


def test_a_reward_model_of_its_own_class_opens_again(plugin, tmp_path):
    """With the class that the plugin declares for a scalar head."""
    plugin()
    context = StandAloneContext()
    model = with_scalar_head(context.build("model", {"type": "own"}), 0)
    check_reopens(model, Plugins.discover())
    weights = model.state_dict().items()
    opened = Artifact.save(tmp_path / "final", model, weights, context.tokenizer()).model()
    assert type(opened).__name__ == "OwnForSequenceClassification"
    assert torch.equal(opened.score.weight, model.score.weight)


def test_importing_a_plugin_registers_nothing(plugin):
    """Only being used, or asked to, does."""
    plugin()
    Plugins.discover()
    importlib.import_module("engine_own.architecture")
    assert "own-llama" not in CONFIG_MAPPING


def test_a_class_with_attention_of_its_own_is_not_asked_for_another(plugin, caplog):
    """transformers would warn of it at every change between training and inference."""
    plugin(("class OwnConfig", "class OwnAttention(nn.Module):\n    pass\n\n\nclass OwnConfig"),
           ("from transformers", "from torch import nn\nfrom transformers"))  # fmt: skip
    model = StandAloneContext().build("model", {"type": "own"})
    logging.getLogger("transformers").addHandler(caplog.handler)
    before = model.config._attn_implementation
    for other in ("eager", "sdpa"):
        attend(model, other)
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert model.config._attn_implementation == before
    assert caplog.records == []


def test_it_is_listed_and_checked(plugin, command):
    """`engine plugins --check` imports its classes."""
    plugin((':OwnModel"', ':NoModel"'))
    out, _ = command("plugins", "--json", "--check", status=1)
    (row,) = (row for row in json.loads(out) if row["name"] == "own")
    assert row["architectures"] == ["own-llama"]
    assert row["error"].startswith("plugin own (engine-own 1.0): 'own-llama' cannot be loaded")

"""Who may import whom: floors that stand only on those below, a core that knows no plugin."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import engine
import engine.files
import engine.hardware
import engine.modeling
import engine.testing

ROOT = Path(__file__).parents[2]

FLOORS = """
_deprecated _public
errors
deadline files terminal
contracts
event_log hardware
modeling processes registry
spec
storage
data evaluation
training
runs
testing
cli
"""
"""The rooms of the core from the ground up, as DESIGN has them: each imports from those below it."""

HEIGHT = {name: floor for floor, names in enumerate(FLOORS.split("\n")) for name in names.split()}

OTHERS_NAMES = """
llama gpt gpt2 qwen mistral mixtral gemma bert pythia olmo causal-lm
adamw adam muon lion sgd lora dora
next-token sft ppo trl-ppo dpo kto grpo rloo distill
perplexity gsm8k mmlu hellaswag humaneval mbpp commonsense-qa
warmup-cosine warmup-stable-decay inverse-sqrt ddp fsdp deepspeed
wikitext c4 fineweb alpaca python-library exact-dedup bpe
wandb mlflow tensorboard trl peft
""".split()


def _modules(folder: Path) -> dict[str, ast.Module]:
    """The Python files below a folder, by dotted name; templates are other people's code."""
    files = (f for f in sorted(folder.rglob("*.py")) if "templates" not in f.parts)
    named = ((".".join(f.relative_to(folder.parent).with_suffix("").parts), f) for f in files)
    return {
        name.removesuffix(".__init__"): ast.parse(file.read_text(encoding="utf-8"))
        for name, file in named
    }


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Module and name of every import, also inside functions and for type checkers only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from ((str(node.module), alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


PUBLIC = {
    "engine": engine,
    "engine.files": engine.files,
    "engine.hardware": engine.hardware,
    "engine.modeling": engine.modeling,
    "engine.testing": engine.testing,
}
ENGINE = _modules(ROOT / "engine")
EDGES = {
    name: {
        f"{module}.{imported}" if f"{module}.{imported}" in ENGINE else module
        for module, imported in _imports(tree)
        if module.split(".")[0] == "engine"
    }
    for name, tree in ENGINE.items()
    if name != "engine"
}
PLUGINS = {
    name: tree
    for folder in [*ROOT.glob("plugins/engine_*"), *ROOT.glob("contrib/*/src/engine_*")]
    for name, tree in _modules(folder).items()
}


def _plugin_edges() -> dict[str, set[str]]:
    """The imports between plugins' modules; a package comes with each of its modules."""
    found = {}
    for name, tree in PLUGINS.items():
        pairs = ((f"{module}.{imported}", module) for module, imported in _imports(tree))
        both = {whole if whole in PLUGINS else module for whole, module in pairs}
        found[name] = both & PLUGINS.keys() - {name.split(".")[0]}
    return found


def _unit(module: str) -> str:
    return module.split(".")[1]


def test_every_room_has_its_floor():
    """And no floor keeps place for one that is gone."""
    assert {_unit(module) for module in EDGES} == HEIGHT.keys()


@pytest.mark.parametrize("module", EDGES)
def test_imports_go_down(module):
    """Those inside functions and for type checkers, too: a room stands on lower floors only."""
    for other in EDGES[module]:
        same = _unit(other) == _unit(module)
        assert same or HEIGHT[_unit(other)] < HEIGHT[_unit(module)], f"{module} imports {other}"


@pytest.mark.parametrize("folder", sorted({file.parent for file in ROOT.glob("engine/**/*.py")}))
def test_a_level_can_be_overlooked(folder):
    """At most twenty files and folders stand side by side."""
    names = {
        entry.name
        for entry in folder.iterdir()
        if entry.suffix == ".py" or (entry / "__init__.py").is_file()
    }
    assert len(names - {"__init__.py", "__main__.py"}) <= 20, sorted(names)


def test_there_is_no_circle():
    """Neither inside the folders."""
    TopologicalSorter(EDGES).prepare()


def test_there_is_no_circle_in_a_plugin():
    """Lazy imports count there as well."""
    TopologicalSorter(_plugin_edges()).prepare()


def test_the_engine_imports_no_plugin():
    """Built-in ones come through the same door as anyone's."""
    found = {
        (name, m) for name, tree in ENGINE.items() for m, _ in _imports(tree) if "engine_" in m
    }
    assert found == set()


@pytest.mark.parametrize("module", [m for m in ENGINE if "testing" not in m])
def test_the_engine_names_no_model_data_or_algorithm(module):
    """In its code: prose may give an example. The kit trains something, so it may name it."""
    tree = ENGINE[module]
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            words |= set(re.findall(r"[a-z0-9]+(?:-[a-z0-9]+)*", node.value.lower()))
        for field in ("id", "name", "attr", "arg"):
            words |= set(re.findall(r"[A-Z]?[a-z0-9]+", str(getattr(node, field, ""))))
    assert {word.lower() for word in words} & set(OTHERS_NAMES) == set()


@pytest.mark.parametrize("module", PLUGINS)
def test_plugins_import_public_names_only(module):
    """So whatever is not public may change."""
    for other, name in _imports(PLUGINS[module]):
        if other.split(".")[0] == "engine":
            assert other in PUBLIC, f"{module} imports {other}"
            assert name in PUBLIC[other].__all__, f"{module} imports {other}.{name}"
        own = module.split(".")[0]
        assert other.split(".")[0] in (own, "engine") or not other.startswith("engine_")


@pytest.mark.parametrize("module", [m for m in PLUGINS if m.endswith(".plugin")])
def test_a_plugin_s_records_are_light(module):
    """They name what they declare, and import nothing of it."""
    allowed = {"__future__", "collections.abc", "typing", "engine"}
    own = module.split(".")[0]
    heavy = {other for other, _ in _imports(PLUGINS[module])} - allowed
    assert {other for other in heavy if not other.startswith(own)} <= {"click", "pathlib", "json"}


@pytest.mark.parametrize("file", sorted(ROOT.glob("engine/**/*.py")), ids=lambda f: f.stem)
def test_a_file_holds_one_concept(file):
    """In at most 320 lines."""
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 320


@pytest.mark.parametrize("file", sorted(ROOT.glob("tests/plugins/**/*.py")), ids=lambda f: f.stem)
def test_plugins_tests_import_public_names_only(file):
    """And `support`, which alone knows the engine's inside for them."""
    for other, _ in _imports(ast.parse(file.read_text(encoding="utf-8"))):
        assert other.split(".")[0] != "engine" or other in PUBLIC, f"{file} imports {other}"

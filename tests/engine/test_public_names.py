"""The public names are few, and a list kept here: a change to it is a change for every author."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_rlhf.online import Companion, RolloutObjective, Round

import engine
import engine.files
import engine.hardware
import engine.modeling
import engine.testing
from engine import EngineError, RunError, SpecError

NAMES = {
    engine: """
Adapter Amount Architecture Artifact Bad Batch BatchWork BenchmarkTexts Beside Callback Chat
Completion Component Config Context Corpus CorpusStep Count DataSource DataSourceConfig Dataset
DocumentWay EngineError Evaluator EvaluatorConfig Example Executor ExternalLoop Feed FeedSetup
FieldError FittedLaw Flops ForwardFlops ForwardPass Generation Inference InferenceConfig Item
ItemTexts Job LOGITS Labelled LanguageModel Layout Loaded LogLikelihood Loss Lost Messages
ModelConfig ModelShape Need Number Objective ObjectiveConfig Of OpenedStage OptimizerConfig
OptimizerWrapperConfig Optimizers OwnRequest PUBLISHED_LAWS Parameters Penalty PenaltyConfig
PenaltyInput Plugins Precision Preference Problem Processor Progress Prompt RECOMPUTED REPEATS
Readers Recompute Record Response Reward RewardConfig RollBack Rolling Rollout RunError RunFollower
RunHistory SEQUENCE Said Sample ScalingLaw Schedule Schema Score Scores Setup Share Situation Spec
SpecError StageHistory StageRef State Step Stepwise Stop Strategy StrategyConfig Taken Terminal Text
TextLength TokenizerConfig TokenizerTrainer Tools Train Value VariableName Window allow_option
batch_flops block_option clean_corpus cleaned document_ways each effective_tokens event_line
file_fault flops_from forward_flops holds_experts hookimpl host_of is_held_out is_loopback json_of
json_option kernel_of load_spec loading_fault micro_batches micro_rows misplaced missing_plugin
model_of neighbours network_need open_stage parameter_count pass_flops pieces_of
pretrained_tokenizer rank_parameters read_json read_regular read_run readers_of record_from_row
record_or_bad record_to_row register_architectures runtime score_interval score_name score_text
secret_need seed_of set_option shape_of shrunk_config spec_argument stage_argument tensor_styles
time_limit token_flops tokenizer_fault try_corpus write_cleaned write_durably
""",
    engine.files: """
each_once expanded matches unmatched version_of
""",
    engine.modeling: """
IGNORE LogitMap ObjectiveModule ParameterTerms Piece RecordError RewardSum ScoredRow TAIL
answer_example attend average_decay backbone boundary chunked_loss compile_layers context_of
continuation conversation_pieces cross_entropy document_rows document_tokens end_of_turn ends
examine example_tokens for_training head head_parts hidden_states is_marked is_scalar join
label_places labelled_rows layers loss_terms mapped_head mark_bounds opened pack padded
parameter_groups place plain_head prompt_tokens ratio read_scalars readable reads_packed
recompute_layers scalar_head scored_rows small_copy through token_logprobs with_scalar_head
""",
    engine.hardware: """
AUTO Accelerator TYPES accelerator accelerators find_accelerator keep_freed_memory measured
peak_speed product_speed resolved threads
""",
    engine.testing: """
EVENT FinishedRun LENGTH Learner StandAloneContext check_component check_plugin check_readme
check_sums examples_of frozen_beside move processed require require_figures require_json run_spec
tiny_model train_tiny unbatched
""",
}
PAIRS = [(module, name) for module, names in NAMES.items() for name in names.split()]
ROOT = Path(__file__).parents[2]
OUTSIDE = ("plugins", "tests/plugins", "contrib")
GUIDE = (ROOT / "contrib" / "README.md").read_text(encoding="utf-8")
TOLD = set(re.findall(r"`@?(?:engine\.(?:\w+\.)?)?(\w+)[`(]", GUIDE))
"""What the guide's prose names in code."""
FORMER = {
    "BaseCallback": engine.Callback,
    "BaseObjective": engine.Objective,
    "BaseOnlineObjective": RolloutObjective,
    "BaseTrainer": engine.ExternalLoop,
    "Companion": Companion,
    "Round": Round,
    "attend": engine.modeling.attend,
    "padded": engine.modeling.padded,
}


@pytest.mark.parametrize("module", NAMES, ids=lambda module: module.__name__)
def test_the_public_names_are_these(module):
    """No more, no less."""
    assert sorted(module.__all__) == sorted(NAMES[module].split())
    assert set(module.__all__) <= set(dir(module))


def test_a_former_table_of_accelerators():
    """Warns, and is what the function gives."""
    with pytest.deprecated_call(match=r"is now engine.hardware.accelerators\(\)"):
        assert engine.hardware.accelerators() == engine.hardware.ACCELERATORS


def test_a_name_is_public_in_one_place():
    """So that an author finds it there."""
    names = [name for _, name in PAIRS]
    assert len(names) == len(set(names))


@pytest.fixture(scope="module")
def shown() -> set[tuple[str, str]]:
    """What built-in plugins, their tests, contrib and the guide import, as (module, name)."""
    files = [f for folder in OUTSIDE for f in (ROOT / folder).rglob("*.py")]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    trees += map(ast.parse, re.findall(r"^```python\n(.*?)^```$", GUIDE, re.S | re.M))
    imports = (n for tree in trees for n in ast.walk(tree) if isinstance(n, ast.ImportFrom))
    return {(n.module or "", alias.name) for n in imports for alias in n.names}


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_every_name_is_used_outside_the_engine(shown, module, name):
    """By a built-in plugin or its tests, by contrib or the guide: an author finds an example."""
    assert (module.__name__, name) in shown or name in TOLD


@pytest.mark.parametrize("module", NAMES, ids=lambda module: module.__name__)
def test_every_name_is_described(module):
    """By a docstring where it is defined, or in the guide."""
    described = {name for name, text in _definitions(module) if text}
    assert sorted(set(module.__all__) - described - TOLD) == []


def _definitions(package) -> Iterator[tuple[str, str | None]]:
    """A package's public names, each with its docstring, or with the one below its assignment."""
    file = Path(package.__file__)
    stub = file.with_suffix(".pyi")
    lines = ast.parse((stub if stub.exists() else file).read_text(encoding="utf-8")).body
    for line in lines:
        if not isinstance(line, ast.ImportFrom) or line.module == "__future__":
            continue
        above = f"{package.__name__}." if line.level else ""
        source = importlib.import_module(above + line.module).__file__
        found = dict(_documented(ast.parse(Path(source).read_text(encoding="utf-8")).body))
        yield from ((alias.name, found[alias.name]) for alias in line.names)


def _documented(body: list[ast.stmt]) -> Iterator[tuple[str, str | None]]:
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, ast.get_docstring(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            text = after.value if isinstance(after, ast.Expr) else None
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                yield ast.unparse(target), text and ast.unparse(text)


@pytest.mark.parametrize(("module", "name"), PAIRS)
def test_every_name_resolves(module, name):
    """A name that is announced is there."""
    assert getattr(module, name) is not None


@pytest.mark.parametrize("name", FORMER)
def test_a_former_name_works_with_a_warning(name):
    """For one version: the warning says what to write in its place, at the line to change."""
    with pytest.warns(DeprecationWarning, match=f"engine.{name} is now engine") as told:
        assert getattr(engine, name) is FORMER[name]
    assert told[0].filename == __file__


@pytest.mark.parametrize("name", ["Interval", "ParameterGroup", "PluginError", "units"])
def test_a_name_that_no_plugin_needs_works_with_a_warning(name):
    """For one version as well."""
    with pytest.warns(DeprecationWarning, match=f"engine.{name} is no longer public: [a-z]"):
        assert getattr(engine, name) is not None


@pytest.mark.parametrize(
    ("name", "instead"), [("Attack", "OwnRequest"), ("Candidate", "StrategyConfig.suggestions")]
)
def test_a_name_that_is_gone_says_what_to_write(name, instead):
    """Whoever imports it reads more than that it is not there."""
    with pytest.raises(ImportError, match=f"engine.{name} is gone: .*{instead}"):
        exec(f"from engine import {name}")


@pytest.mark.parametrize("error", [RunError, SpecError, EngineError])
def test_the_former_keyword_of_errors_works_with_a_warning(error):
    """`mend` is `hint` now."""
    with pytest.warns(DeprecationWarning, match="`mend` of errors is now `hint`"):
        assert str(error("wrong", mend="mend it")) == "wrong; mend it"


def test_a_former_field_of_setup_works_with_a_warning():
    """A strategy that builds its model by a function still gets it."""
    setup = engine.Setup("a model", None, None)
    with pytest.warns(DeprecationWarning, match="Setup.build"):
        assert setup.build() == "a model"


def test_a_language_model_is_no_longer_built_by_itself():
    """Whoever does is told what to write."""
    with pytest.raises(TypeError, match=r"use context.language_model\(model, tokenizer\)"):
        engine.LanguageModel("a model", "a tokenizer")


def test_another_name_is_an_attribute_error():
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'engine' has no attribute 'Trainer'"):
        _ = engine.Trainer  # type: ignore[attr-defined]


def test_importing_the_engine_imports_nothing_else(python):
    """Each name is resolved on its first use."""
    loaded = python("import engine, sys; print(*sys.modules)").split()
    found = {name for name in loaded if name.startswith("engine")}
    assert found == {"engine", "engine._public"}
    assert not {"torch", "pydantic", "numpy", "yaml"} & set(loaded)

"""The public names are few, and a list kept here: a change to it is a change for every author."""

from __future__ import annotations

import pytest

import engine

NAMES = """
Adapter Amount Artifact Attack Bad BaseCallback BaseObjective BaseOnlineObjective BaseTrainer Batch
Beside Callback Candidate Chat Companion Completion Component Config Context Count DataSource
DataSourceConfig EngineError Evaluator EvaluatorConfig Example FieldError Generation IGNORE Interval
Item Job Labelled LanguageModel Layout LogLikelihood Messages ModelConfig ModelShape Need Number
Objective ObjectiveConfig ObjectiveModule Of OptimizerConfig Optimizers ParameterGroup Piece
PluginError Preference Processor Progress Prompt Record RecordError Response Reward RewardConfig
RollBack Rolling Rollout Round RunError Said Schedule Schema Score Scores Setup Share SpecError
StageRef Step Stepwise Stop Strategy StrategyConfig Terminal Text TokenizerConfig TokenizerTrainer
Tools Value VariableName attend average_decay cleaned compile_layers continuation
conversation_pieces cross_entropy document_tokens end_of_turn example_tokens file_fault head
hidden_states hookimpl host_of is_loopback join label_places labelled_rows layers loading_fault
loss_terms mark_bounds misplaced neighbours network_need pack padded parameter_groups place
pretrained_tokenizer prompt_tokens ratio read_regular reads_packed recompute_layers record_from_row
record_or_bad record_to_row runtime secret_need seed_of shrunk_config time_limit token_logprobs
tokenizer_fault units with_scalar_head
""".split()


def test_the_public_names_are_these():
    """No more, no less."""
    assert sorted(engine.__all__) == sorted(NAMES)
    assert dir(engine) == engine.__all__


@pytest.mark.parametrize("name", NAMES)
def test_every_name_resolves(name):
    """A name that is announced is there."""
    assert getattr(engine, name) is not None


def test_another_name_is_an_attribute_error():
    """As of any module."""
    with pytest.raises(AttributeError, match="module 'engine' has no attribute 'Trainer'"):
        _ = engine.Trainer  # type: ignore[attr-defined]


def test_importing_the_engine_imports_nothing_else(python):
    """Each name is resolved on its first use."""
    loaded = python("import engine, sys; print(*sys.modules)").split()
    assert [name for name in loaded if name.startswith("engine")] == ["engine"]
    assert not {"torch", "pydantic", "numpy", "yaml"} & set(loaded)

"""Which processors a train stage that reads records refuses."""

from __future__ import annotations

import pytest
from support.record_stages import chat, texts, with_records

from engine.errors import RunError, SpecError
from engine.spec.loading import load_spec

_SHOUTING = {
    "engine_shouting/__init__.py": "",
    "engine_shouting/plugin.py": """
from engine import Component, hookimpl

@hookimpl
def engine_processors():
    return [Component("shout", "engine_shouting.shout:Shout", "engine_shouting.shout:build", "Shouts.")]
""",
    "engine_shouting/shout.py": """
from dataclasses import replace
from engine import Config, each

class Shout(Config):
    pass

def build(config, context):
    return each(lambda document: replace(document, text=document.text.upper()))
""",
}


@pytest.fixture
def spec(tiny_spec, tmp_path):
    """See `with_records`."""
    return with_records(tiny_spec, tmp_path)


@pytest.mark.parametrize(
    "processor",
    [{"type": "substring-dedup"}, {"type": "c4"}, {"type": "pii"}],
    ids=lambda processor: processor["type"],
)
def test_a_processor_that_replaces_texts_is_refused_before_anything_runs(
    processor, spec, write_spec
):
    """With its place, and what it may do instead."""
    wrong = f"tuned.train.processors.0: '{processor['type']}' replaces texts, but in a train stage"
    with pytest.raises(SpecError, match=wrong):
        load_spec(write_spec(spec(processors=[processor])))


def test_a_processor_that_replaces_no_text_at_its_settings_is_none_of_these(spec, run_here):
    """Documents may also be annotated, for a later processor to decide by."""
    rows = [chat(*text) for text in texts()]
    rows[4] = chat("Write to jane.doe@gmail.com", "I will.")
    processors = [{"type": "pii", "action": "drop"}, {"type": "c4", "drop": False}]
    told = run_here(spec(rows=rows, processors=processors)).events("examples", stage="tuned")[-1]
    assert told["dropped"] == {"pii": 1}


def test_a_processor_that_replaces_texts_unannounced_is_refused_when_it_does(
    spec, run_here, install_here
):
    """Before a single record is taken for one that it is not."""
    install_here(_SHOUTING)
    made = spec(processors=[{"type": "shout"}])
    made["plugins"] = ["shouting"]
    with pytest.raises(RunError, match="processor 'shout' replaces texts, but in a train stage"):
        run_here(made)


def test_processors_belong_to_the_stage_that_prepares_the_data(tiny_spec, write_spec):
    """Where there is one."""
    tiny_spec["stages"]["base"]["train"]["processors"] = ["exact-dedup"]
    with pytest.raises(SpecError, match="'corpus' prepares the documents: list the processors in"):
        load_spec(write_spec(tiny_spec))

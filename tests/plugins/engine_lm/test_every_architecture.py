"""Every causal language model type of transformers is tried, and the table says what was found.

Behind soak. Each cell is kept in pytest's cache, so that it goes on where it was broken off:
``pytest -n 2 -m soak tests/plugins/engine_lm/test_every_architecture.py``; ``--cache-clear``: anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from engine_lm.architectures import known
from engine_lm.trials import markdown, table
from engine_lm.trials.table import CHECKS, Cell, Table, installed
from transformers import AutoConfig, AutoModelForCausalLM

from engine import shrunk_config

PLUGIN = Path(markdown.__file__).parents[1]
OPEN = sorted(n for n, c in table.tried().types.items() if c["opens"].verdict == "right")
_PATIENCE = 1800.0
_NEEDED = {
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
    },
    "dbrx": {"attn_config": {"rope_theta": 1e4, "kv_n_heads": 8, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2},
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "qwen4_exp_text": {
        "indexer_n_heads": 8,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 256,
        "indexer_budget": 512,
        "indexer_compress_ratio": 4,
    },
}
"""What the defaults of a config class lack: a model of them could not be built."""


def _found(config, name):
    """Cells by check."""
    found = config.cache.get(f"trials/{installed()}/{name}", {})
    return {check: Cell(**cell) for check, cell in found.items()}


def _left(found):
    """The checks that were not tried yet; a model that is refused at opening has no others."""
    if "opens" in found and found["opens"].verdict != "right":
        return []
    return [check for check in CHECKS if check not in found]


@pytest.mark.soak
@pytest.mark.timeout(2000)
@pytest.mark.parametrize("name", sorted(known()))
def test_it_is_right_or_refused(name, pytestconfig, tmp_path):
    """In a process of its own, since a model's code may end it."""
    found = _found(pytestconfig, name)
    if left := _left(found):
        wanted = [word for check in left for word in ("--check", check)]
        command = [sys.executable, "-m", "engine.cli", "models", "try", name, "--json", *wanted]
        log = tmp_path / "log"
        with (
            log.open("w") as stderr,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
        ):
            late = threading.Timer(_PATIENCE, process.kill)
            late.start()
            for line in process.stdout:
                if line[:1] == "{":
                    cell = Cell(**json.loads(line))
                    found[cell.check] = cell
                    kept = {check: asdict(cell) for check, cell in found.items()}
                    pytestconfig.cache.set(f"trials/{installed()}/{name}", kept)
            late.cancel()
        assert process.returncode in (0, 1), log.read_text()[-300:]
    assert not [cell for cell in found.values() if cell.verdict == "fault"]


@pytest.mark.soak
@pytest.mark.parametrize("name", OPEN)
def test_a_small_copy_of_a_usual_model_runs(name):
    """By such a copy `mesh` and `engine models try FOLDER` judge it."""
    small = shrunk_config(AutoConfig.for_model(name, **_NEEDED.get(name, {})))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(small)
    assert sum(p.numel() for p in model.parameters()) < 200_000_000
    model = AutoModelForCausalLM.from_config(small)
    with torch.no_grad():
        ids = torch.arange(20)[None]
        assert model(input_ids=ids, use_cache=False).logits.isfinite().all()


@pytest.mark.soak
def test_the_table_is_what_was_found(pytestconfig):
    """Writes it where it is another one, in the plugin and its README, to be looked at first."""
    written, readme = PLUGIN / "trials" / table.FILE, PLUGIN / "README.md"
    before = written.read_text(encoding="utf-8"), readme.read_text(encoding="utf-8")
    earlier = table.tried().types if table.tried().transformers == installed() else {}
    types = {}
    for name in known():
        cells = {**earlier.get(name, {}), **_found(pytestconfig, name)}
        types[name] = [cells[check] for check in CHECKS if check in cells]
    made = Table.of(installed(), {name: cells for name, cells in types.items() if cells})
    made.write(written)
    readme.write_text(markdown.refreshed(before[1], made), encoding="utf-8")
    assert before == (written.read_text(encoding="utf-8"), readme.read_text(encoding="utf-8"))
    assert set(made.types) == known()


def test_the_readme_shows_the_table():
    """As it is packaged; nothing in it is a fault."""
    made = table.tried()
    readme = (PLUGIN / "README.md").read_text(encoding="utf-8")
    assert markdown.refreshed(readme, made) == readme
    verdicts = {cell.verdict for cells in made.types.values() for cell in cells.values()}
    assert verdicts == {"right", "refused"}
    if made.transformers == installed():
        assert set(made.types) <= known()

"""Every causal language model type of transformers is tried, and the table says what was found.

Behind soak. What is done is kept in pytest's cache, so that it goes on where it was broken off:
``pytest -n 2 -m soak tests/plugins/engine_lm/test_every_architecture.py``; ``--cache-clear``: anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from engine_lm.architectures import known
from engine_lm.trials import markdown, table
from engine_lm.trials.table import Cell, Table, installed

PLUGIN = Path(markdown.__file__).parents[1]


def _found(config, name):
    cells = config.cache.get(f"trials/{installed()}/{name}", None)
    return cells and [Cell(**cell) for cell in cells]


@pytest.mark.soak
@pytest.mark.timeout(2000)
@pytest.mark.parametrize("name", sorted(known()))
def test_it_is_right_or_refused(name, pytestconfig):
    """In a process of its own, since a model's code may end it."""
    if _found(pytestconfig, name) is None:
        done = subprocess.run(
            [sys.executable, "-m", "engine.cli", "models", "try", name, "--json"],
            capture_output=True,
            text=True,
            timeout=1800,
        )
        cells = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "{"]
        if done.returncode not in (0, 1):
            note = f"ended with {done.returncode}: {done.stderr[-300:]}"
            cells.append({"check": "process", "verdict": "fault", "note": note})
        pytestconfig.cache.set(f"trials/{installed()}/{name}", cells)
    assert not [cell for cell in _found(pytestconfig, name) if cell.verdict == "fault"]


@pytest.mark.soak
def test_the_table_is_what_was_found(pytestconfig):
    """Writes it where it is another one, in the plugin and its README, to be looked at first."""
    found = {name: cells for name in known() if (cells := _found(pytestconfig, name))}
    written, readme = PLUGIN / "trials" / table.FILE, PLUGIN / "README.md"
    before = written.read_text(encoding="utf-8"), readme.read_text(encoding="utf-8")
    earlier = table.tried().types if table.tried().transformers == installed() else {}
    kept = {name: cells.values() for name, cells in earlier.items()}
    made = Table.of(installed(), {**kept, **found})
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

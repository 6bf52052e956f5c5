"""Reference documentation is generated, and what stands in the READMEs is what is generated now."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.contracts.spec import Evaluate, Prepare, Spec, Train
from engine.errors import PluginError
from engine.testing import check_readme
from engine.testing.reference import (
    hooks_reference,
    nested,
    plugin_reference,
    refreshed,
    spec_reference,
)

ROOT = Path(__file__).parents[3]
PLUGINS = sorted(ROOT.glob("plugins/*/README.md"))
OTHERS = (ROOT / "README.md", *ROOT.glob("contrib/*.md"), ROOT / "specs" / "README.md")


def _folder(file: Path) -> str:
    return file.parent.name


@pytest.mark.parametrize(
    "file",
    [*OTHERS, *PLUGINS],
    ids=lambda file: f"{file.parent.name}/{file.name}",
)
def test_readmes_are_up_to_date(file):
    """Those of contrib packages their own tests check."""
    text = file.read_text(encoding="utf-8")
    assert text == refreshed(text), f"run: python -m engine.testing.reference {file}"


@pytest.mark.parametrize("file", PLUGINS, ids=_folder)
def test_a_built_in_plugins_readme_has_its_reference(file):
    """Its own, whole, and no other's."""
    name = file.parent.name.removeprefix("engine_")
    marks = re.findall("<!-- reference: (.*) -->", file.read_text(encoding="utf-8"))
    assert marks == [f"plugin {name}"]


PLUGIN = """
import click
from engine import Component, hookimpl


@hookimpl
def engine_strategies():
    return [Component("all", "engine_shown.config:All", "x:y", "All of a | kind.", extra="fast")]


@hookimpl
def engine_step_finished(event):
    ...


@hookimpl
def engine_commands():
    return [click.Command("show", help="Shows it.")]
"""
CONFIG = '''
from typing import Annotated, Any, Literal

from engine import Amount, Config, Count, Number, Of, Share, StageRef, StrategyConfig, runtime
from pydantic import Field


class Part(Config):
    """A part."""

    name: str = Field(min_length=1, description="Its name.")


class All(StrategyConfig):
    """Every type of field.

    ``mode`` matters most.
    """

    mode: Literal["a", "b"] = Field("a", description="One | the other.")
    count: Count = Field(3, le=9, description="How many.")
    rate: Number = Field(1e-3, gt=0, lt=1, description="How fast.")
    share: Share | None = Field(None, description="How much.")
    betas: tuple[Number, Number] = Field((0.9, 0.99), description="Two.")
    names: tuple[str, ...] = Field(("x",), description="Some.")
    settings: dict[str, Any] = Field(default_factory=dict, description="More.")
    on: bool = runtime(True, description="Whether at all.")
    every: Amount = Field(Amount(5, "steps"), description="How often.")
    optimizer: Annotated[Config, Of("optimizer")] = Field(description="By which.")
    data: Annotated[Config, Of("data-source", or_stage=True)] = Field(description="On what.")
    base: Annotated[str, StageRef("train")] = Field(description="From where.")
    parts: tuple[Part, ...] = Field((Part(name="p"),), description="Of what.")
'''
REFERENCE = """\
| kind | type | what it is |
|---|---|---|
| strategy | `all` | All of a \\| kind. |

A change of a field marked *runtime* continues a stage; of any other field it makes another stage of it, which `--rerun` starts.

### strategy `all`

Every type of field.

``mode`` matters most.

Needs `pip install 'engine-shown[fast]'`.

In a train stage all its fields are *runtime*.

| field | type | default | what it does |
|---|---|---|---|
| `mode` | `a` or `b` | `a` | One \\| the other. |
| `count` | whole number, ≥ 1, ≤ 9 | `3` | How many. |
| `rate` | number, > 0, < 1 | `0.001` | How fast. |
| `share` | number, ≥ 0, ≤ 1 |  | How much. |
| `betas` | list of 2 numbers | `[0.9, 0.99]` | Two. |
| `names` | list of texts | `[x]` | Some. |
| `settings` | text → anything | `{}` | More. |
| `on` | true or false | `true` | Whether at all. (*runtime*) |
| `every` | amount | `5 steps` | How often. |
| `optimizer` | optimizer | `adamw` | By which. |
| `data` | data-source or a prepare stage's name | required | On what. |
| `base` | name of a train stage | required | From where. |
| `parts` | list of `Part` | `[{name: p}]` | Of what. |

`Part`: A part.

| field | type | default | what it does |
|---|---|---|---|
| `name` | text, at least 1 | required | Its name. |

### Commands

- `engine shown show`: Shows it.

### Watches

`engine_step_finished`
"""  # noqa: E501


@pytest.fixture
def shown(install_here):
    """An installed plugin whose reference is known to the letter."""
    install_here({"engine_shown/plugin.py": PLUGIN, "engine_shown/config.py": CONFIG})


@pytest.mark.usefixtures("shown")
def test_a_plugins_reference_says_all_that_it_declares():
    """Components with every field's type, limits and default; commands; what it watches."""
    assert plugin_reference("shown") == REFERENCE


def test_the_reference_of_specs_has_every_field():
    """Of the spec, of the three verbs, and of what is inside them."""
    text = spec_reference()
    for config in (Spec, Prepare, Train, Evaluate):
        for part in (config, *nested(config)) if config is not Spec else (config,):
            for name, field in part.model_fields.items():
                assert f"| `{name}` | " in text
                assert field.description in text.replace("\\|", "|")


@pytest.mark.usefixtures("shown")
def test_only_what_is_marked_is_written_anew():
    """What stood there goes, all around it stays; and a second time nothing changes."""
    part = "<!-- reference: {} -->\nold\n<!-- end of reference -->\n"
    text = refreshed(
        f"# Title\n\n{part.format('plugin shown')}\nBetween.\n\n{part.format('hooks')}"
        f"{part.format('spec')}"
    )
    assert text == (
        f"# Title\n\n<!-- reference: plugin shown -->\n\n{REFERENCE}\n<!-- end of reference -->\n"
        "\nBetween.\n\n"
        f"<!-- reference: hooks -->\n\n{hooks_reference()}\n<!-- end of reference -->\n"
        f"<!-- reference: spec -->\n\n{spec_reference()}\n<!-- end of reference -->\n"
    )
    assert refreshed(text) == text


def test_a_readme_that_is_out_of_date_says_how_to_mend_it(tmp_path):
    """And one without a mark is no reference at all."""
    readme = tmp_path / "README.md"
    readme.write_text("<!-- reference: hooks -->\nold\n<!-- end of reference -->\n")
    with pytest.raises(
        AssertionError, match=r"out of date; run: python -m engine\.testing\.reference"
    ):
        check_readme(readme)
    subprocess.run([sys.executable, "-m", "engine.testing.reference", readme], check=True)
    check_readme(readme)
    readme.write_text("# Nothing\n")
    with pytest.raises(AssertionError, match="no part is marked"):
        check_readme(readme)


def test_a_plugin_that_is_not_installed_is_a_users_mistake(tmp_path):
    """Said in a line."""
    with pytest.raises(PluginError, match="'none' is not installed"):
        plugin_reference("none")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- reference: plugin none -->\n<!-- end of reference -->\n")
    command = [sys.executable, "-m", "engine.testing.reference", readme]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("plugins: 'none' is not installed")

"""The commands, as thin functions that import heavy modules on use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from engine import (
    allow_option,
    json_option,
    set_option,
    spec_argument,
    stage_argument,
    write_cleaned,
)


@click.command()
@stage_argument
@click.option("--prompt", required=True, help="Text to go on from.")
@click.option("--max-tokens", type=click.IntRange(1), default=200, help="Longest answer.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.8, help="0: the likeliest token."
)
@click.option("--top-p", type=click.FloatRange(0, 1), default=0.95, help="Nucleus.")
@click.option("--stop", multiple=True, help="Text that ends the answer.")
@click.option("--seed", type=int, default=0, help="Another seed, another answer.")
@json_option
def generate(stage: Path, as_json: bool, **request: Any) -> None:
    """Lets the model of a stage go on from a text."""
    from engine_tools.chat import generate as go_on

    go_on(stage, as_json, **request)


@click.command()
@stage_argument
@click.option("--max-tokens", type=click.IntRange(1), default=300, help="Longest answer.")
@click.option(
    "--temperature", type=click.FloatRange(0), default=0.8, help="0: the likeliest token."
)
@click.option("--seed", type=int, default=0, help="Another seed, another answer.")
def chat(stage: Path, max_tokens: int, temperature: float, seed: int) -> None:
    """Talks with the model of a stage."""
    from engine_tools.chat import chat as talk

    talk(stage, max_tokens, temperature, seed)


@click.command()
@stage_argument
@click.option("--samples", type=click.IntRange(1), default=3, help="How many rows.")
@click.option("--start", type=click.IntRange(0), default=0, help="First row, in training's order.")
@allow_option
@json_option
def data(stage: Path, samples: int, start: int, allow: tuple[str, ...], as_json: bool) -> None:
    """Shows rows as the model sees them; the tokens that count in the loss are in colour."""
    from engine_tools.rows import show_rows

    show_rows(stage, samples, start, as_json, allow)


@click.command()
@stage_argument
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--card", is_flag=True, help="Write the model card alone, without the model.")
def export(stage: Path, folder: Path, card: bool) -> None:
    """Copies a stage's model to FOLDER, with a model card that the Hugging Face Hub understands."""
    from engine_tools.card import way_to_open
    from engine_tools.export import export_card, export_model

    if card:
        write_cleaned(f"{export_card(stage, folder)}: the card\n")
        return
    export_model(stage, folder)
    write_cleaned(f"{folder}: opens with {way_to_open(folder)}\n")


@click.command("verify-resume")
@spec_argument
@set_option
@click.option("--steps", type=click.IntRange(4), default=8, help="Steps of each train stage.")
@click.option("--kills", type=click.IntRange(1), default=2, help="How often the run is killed.")
@click.option("--nproc", type=click.IntRange(1), default=1, help="Processes on this machine.")
@allow_option
def verify_resume(
    spec: Path,
    overrides: tuple[str, ...],
    steps: int,
    kills: int,
    nproc: int,
    allow: tuple[str, ...],
) -> int:
    """Kills and resumes SPEC at a small size; compares the weights with an unbroken run's."""
    from engine_tools.verify_resume import verify_resume as verify

    return verify(spec, overrides, steps, kills, nproc, allow)


@click.command("new-plugin")
@click.argument("name")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    default=("processor",),
    help="Kind of its component, such as `reward`; by default a processor. For several, give it again, "
    "or separate them by commas.",
)
@click.option("--to", type=click.Path(path_type=Path), default=Path(), help="Folder to put it in.")
@click.pass_context
def new_plugin(context: click.Context, name: str, kinds: tuple[str, ...], to: Path) -> None:
    """Writes a plugin's package that installs and passes its tests as it is; `tidy`, `engine-tidy` and
    `engine_tidy` name the same plugin."""
    from engine_tools.new_plugin import write_plugin

    root = context.find_root()
    assert isinstance(root.command, click.Group)
    asked = [kind.strip() for given in kinds for kind in given.split(",")]
    folder = write_plugin(name, to, asked, root.command.list_commands(root))
    plugin = folder.name.removeprefix("engine-")
    write_cleaned(
        f"{folder}: the plugin '{plugin}'; now `pip install -e {folder}` and `pytest {folder}`\n"
    )

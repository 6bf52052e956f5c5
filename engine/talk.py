"""Talking to a model, and looking at what it was trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from engine.component import Example, Objective
from engine.console import Terminal
from engine.conversation import prompt_tokens
from engine.data.packing import IGNORE
from engine.errors import SpecError
from engine.language_model import LanguageModel
from engine.objective import BaseOnlineObjective, BaseTrainer
from engine.opened import OpenedStage
from engine.requests import Generation
from engine.terminal import cleaned, write


def generate(
    path: Path, as_json: bool, *, prompt: str, stop: tuple[str, ...], **options: Any
) -> None:
    """Prints the prompt and its continuation as it comes, or one JSON object."""
    lm = _open(path)
    prompt, stop = _typed(prompt), tuple(map(_typed, stop))
    request = Generation(prompt, stop=stop, **options)
    if as_json:
        response = lm.generate(request)
        print(json.dumps({"prompt": prompt, "text": response.text, "tokens": response.tokens}))  # noqa: T201
        return
    console = Terminal()
    console.print(Text(cleaned(prompt), style="bold"), end="")
    lm.generate(request, write)
    console.print()


def chat(path: Path, max_tokens: int, temperature: float, seed: int) -> None:
    """Reads lines and answers each, until the input ends. Without a chat template the conversation
    is one plain text, which is all a base model knows."""
    lm = _open(path)
    console = Terminal()
    template = lm.tokenizer.chat_template is not None
    if not template:
        console.print("[dim]a base model: it goes on from what you write (end with ctrl-D)[/]")
    messages: list[dict[str, str]] = []
    text = ""
    while True:
        try:
            line = _typed(console.input("[bold]> [/]"))
        except (EOFError, KeyboardInterrupt):
            console.print()
            return
        messages.append({"role": "user", "content": line})
        text += line
        prompt = tuple(prompt_tokens(lm.tokenizer, messages)) if template else text
        request = Generation(prompt, max_tokens, temperature=temperature, top_p=0.95, seed=seed)
        answer = lm.generate(request, write).text
        console.print()
        messages.append({"role": "assistant", "content": answer})
        text += answer


def _typed(text: str) -> str:
    """What a person typed, as UTF-8 whatever the terminal says: bytes that its encoding lacks reach
    Python as lone surrogates, which no tokenizer takes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def show_rows(
    path: Path, samples: int, start: int, as_json: bool, allow: tuple[str, ...] = ()
) -> None:
    """Prints rows of the training data; documents are parted by a bar, loss tokens are green."""
    from engine.materials import open_tokenizer, stage_data

    opened = OpenedStage.open(path, allow)
    for stage in opened.run.spec.dependencies(opened.name):
        opened.summary(stage)  # raises where it is not done
    tokenizer = open_tokenizer(opened.run, opened.name, opened.train())
    data, objective = stage_data(opened.run, opened.name, opened.train(), tokenizer)
    examples, _ = data.take(start, samples, (), 0, 1)
    console = Terminal(soft_wrap=True)
    for number, example in enumerate(examples, start):
        for tokens, positions, labels in _parts(example, objective):
            # A label belongs to the token after its position.
            counted = [False, *(label != IGNORE for label in labels[:-1])]
            if as_json:
                row = {"row": number, "tokens": tokens, "counted": counted, "positions": positions}
                print(json.dumps({**row, "text": tokenizer.decode(tokens)}))  # noqa: T201
                continue
            console.rule(f"row {number}: {len(tokens)} tokens, {sum(counted)} count", style="dim")
            console.print(_coloured(tokenizer, tokens, positions, counted))


def _parts(
    example: Example, objective: Objective
) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Tokens, positions and labels of one example, which may have several rows: a pair's answers.

    A prompt is what is there before it is answered. What fills a row up is left out.
    """
    if isinstance(objective, BaseOnlineObjective | BaseTrainer):
        tokens = np.asarray(example.fields["input_ids"]).tolist()
        yield tokens, list(range(len(tokens))), [IGNORE] * len(tokens)
        return
    batch = objective.collate([example])
    ids_BT, positions_BT = batch.inputs["input_ids"], batch.inputs["position_ids"]
    labels_BT = batch.targets.get("labels")
    for row in range(len(ids_BT)):
        tokens = ids_BT[row].tolist()
        positions = positions_BT[row].tolist()
        labels = [IGNORE] * len(tokens) if labels_BT is None else labels_BT[row].tolist()
        filled = len(tokens)
        while filled > 1 and (positions[filled - 1], labels[filled - 1]) == (0, IGNORE):
            filled -= 1  # a document of one token that nobody sees
        yield tokens[:filled], positions[:filled], labels[:filled]


def _coloured(tokenizer: Any, tokens: list[int], positions: list[int], counted: list[bool]) -> Text:
    """Runs of tokens of one kind are decoded together, as a character may span several."""
    shown = Text()
    run: list[int] = []
    for i, token in enumerate(tokens):
        run.append(token)
        last = i + 1 == len(tokens)
        if last or counted[i + 1] != counted[i] or positions[i + 1] == 0:
            shown.append(tokenizer.decode(run), style="green" if counted[i] else "dim")
            run = []
            if not last and positions[i + 1] == 0:
                shown.append("\n┃", style="bold magenta")
    return shown


def _open(path: Path) -> LanguageModel:
    artifact = OpenedStage.open(path).artifact()
    model: Any = artifact.model()
    if not hasattr(model, "generate"):
        raise SpecError(f"{path}: its model does not write text")
    return LanguageModel(model, artifact.tokenizer())

"""Valid files with one to three faults, and what the engine makes of them in this process."""

from __future__ import annotations

import io
import json
import random
import re
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from support.mutations import fault, garbled

from engine.errors import EngineError
from engine.processes.process import Process
from engine.storage import manifest

DONE = "done"
"""The outcome where nothing was refused."""
_SECONDS = 30
"""Of the processor. A case that takes longer hangs."""
_OF_OURS = re.compile(r"Traceback|failed: [A-Z]\w*(Error|Exception)\b")
"""In a message: an error of Python's in a component of ours, which says nothing to a person."""


def outcome(act: Callable[[], object]) -> str:
    """:data:`DONE`, or the line in which the engine refused; AssertionError for any other end."""
    started = time.process_time()
    told = io.StringIO()
    with redirect_stdout(told), redirect_stderr(told):
        try:
            act()
            said = DONE
        except EngineError as error:
            said = str(error)
    assert not _OF_OURS.search(said + told.getvalue()), said + told.getvalue()
    assert said.count("\n") <= 12, f"more than a few lines: {said}"  # ten bad rows, each named
    assert time.process_time() - started < _SECONDS
    return said


def check(said: str, expected: str) -> None:
    """Raises AssertionError unless that was said; :data:`DONE` is expected by itself."""
    assert said == expected if expected == DONE else re.search(expected, said), said


def spoiled(raw: bytes, chance: random.Random, *, sealed: bool = False) -> bytes:
    """One to three faults in bytes or, where they are JSON, in its values. ``sealed``: by somebody who
    knows how to write the checksum that it ends with."""
    faults = range(chance.randint(1, 3))
    try:
        data = manifest.unsealed(raw) if sealed else json.loads(raw)
    except ValueError:
        data = None
    if data is None or chance.random() < 0.3:
        for _ in faults:
            raw = _flipped(raw, chance) if chance.random() < 0.5 else garbled(raw, chance)
        return raw
    for _ in faults:
        data = fault(data, chance)
    text = manifest.sealed(data) if sealed and isinstance(data, dict) else json.dumps(data)
    return text.encode()


def _flipped(raw: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(raw)) if raw else 0
    return raw[:at] + bytes([raw[at] ^ (1 << chance.randrange(8))]) + raw[at + 1 :] if raw else raw


def model_folder(final: Path, place: Path, chance: random.Random) -> str:
    """Opens a model's folder with faults in one of its files, as a spec's pretrained model."""
    copied_model(final, place)
    _spoil(place, chance, "*.json", "*.json", "*.json", "*.safetensors")
    return open_folder(place)


def copied_model(final: Path, place: Path) -> Path:
    """A copy of a finished model, without the manifest that would tell of any fault."""
    _copied(final, place)
    (place / manifest.NAME).unlink()
    return place


def open_folder(place: Path) -> str:
    """Opens a folder as a spec's pretrained model."""
    from engine_lm.opening import open_model

    from engine.modeling.model_check import examine
    from engine.modeling.pretrained import pretrained_tokenizer

    def act() -> None:
        examine(open_model(str(place), None), learns=False)
        pretrained_tokenizer(str(place))("a text")

    return outcome(act)


def data_file(rows: Mapping[str, bytes], place: Path, chance: random.Random) -> str:
    """Reads a file of rows with faults in it."""
    name = chance.choice(sorted(rows))
    place.mkdir(parents=True, exist_ok=True)
    file = place / name
    raw = rows[name]
    if name.endswith(".jsonl") and chance.random() < 0.6:
        lines = raw.splitlines()
        number = chance.randrange(len(lines))
        lines[number] = json.dumps(fault(json.loads(lines[number]), chance)).encode()
        raw = b"\n".join(lines)
    else:
        raw = spoiled(raw, chance)
    file.write_bytes(raw)
    said = read_file(file)
    file.unlink()
    return said


def read_file(file: Path) -> str:
    """Reads a file of rows: each is given or told as bad, and none is lost."""
    from engine_data.config import Files
    from engine_data.sources.files import build

    from engine.data.records import LIMIT, NamedSource, Rows
    from engine.testing import StandAloneContext

    def act() -> None:
        config = Files(paths=(str(file),))
        read = Rows(NamedSource("files", build(config, StandAloneContext()), LIMIT))
        given = sum(1 for _ in read)
        assert given + read.bad.total() == read.read

    return outcome(act)


def run_record(run: Path, place: Path, chance: random.Random, name: str) -> str:
    """Goes on with a run of which the files of a name have faults, sealed anew in half of the cases."""
    from engine.cli.listings import print_runs
    from engine.runs.session import run_spec
    from engine.spec.loading import load_spec

    folder = place / run.name
    _copied(run, folder)
    file = chance.choice(sorted(folder.rglob(name)))
    sealed = chance.random() < 0.5
    file.write_bytes(spoiled(file.read_bytes(), chance, sealed=sealed))
    if chance.random() < 0.3:  # as one that is to go on from its checkpoint
        shutil.rmtree(folder / "base" / "final")
        (folder / "base" / "stage.json").unlink(missing_ok=True)

    def act() -> None:
        print_runs(place, as_json=True)
        run_spec(load_spec(run / "spec.yaml"), place, Process(), as_json=True)

    return outcome(act)


def _spoil(folder: Path, chance: random.Random, *patterns: str) -> None:
    file = chance.choice(sorted(folder.glob(chance.choice(patterns))))
    file.write_bytes(spoiled(file.read_bytes(), chance))


def _copied(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)

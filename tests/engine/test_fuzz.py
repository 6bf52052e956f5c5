"""Valid files with one to three faults end well or in a line: no traceback, no hang, no loss."""

from __future__ import annotations

import io
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import hostile

KINDS = ("model folder", "data file", "stage.json", "manifest.json")
_IN_THE_GATE = {"model folder": 30, "data file": 240, "stage.json": 14, "manifest.json": 16}


def _rows() -> dict[str, bytes]:
    """The same rows in every format that holds rows."""
    chat = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "!"}]}
        for n in range(9)
    ]
    text = [{"text": f"text {n}", "id": str(n)} for n in range(9)]
    pairs = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(9)]
    rows = {}
    for name, given in (("chat", chat), ("text", text), ("pairs", pairs)):
        rows[f"{name}.jsonl"] = b"\n".join(json.dumps(row).encode() for row in given)
        rows[f"{name}.json"] = json.dumps(given).encode()
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(given), file)
        rows[f"{name}.parquet"] = file.getvalue()
    rows["text.csv"] = b"id,text\n" + b"".join(b'%d,"text, %d"\n' % (n, n) for n in range(9))
    return rows


@pytest.fixture
def case(finished_run, tmp_path) -> Callable[[str, int], str]:
    """The outcome of the case of a kind and a seed."""
    of_kind = {
        "model folder": partial(hostile.model_folder, finished_run / "base" / "final"),
        "data file": partial(hostile.data_file, _rows()),
        **{name: partial(hostile.run_record, finished_run, name=name) for name in KINDS[2:]},
    }

    def run(kind: str, seed: int) -> str:
        chance = random.Random(f"{kind} {seed}")
        try:
            return of_kind[kind](tmp_path / kind.replace(" ", "-"), chance)
        except Exception as error:
            raise AssertionError(f"{kind}, seed {seed}: {type(error).__name__}: {error}") from error

    return run


@pytest.mark.filterwarnings("ignore")  # of other libraries, about what they are given
@pytest.mark.parametrize("kind", KINDS)
def test_faults_are_told_in_a_line(case, kind):
    """Three hundred in all, the same ones always."""
    found = Counter(case(kind, seed) == "done" for seed in range(_IN_THE_GATE[kind]))
    assert found[False], "no fault was told"


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(1, 6))
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_faults(case, kind, part):
    """Two hundred in each part; all seeds of a part are told before it fails."""
    started = time.monotonic()
    wrong, found = [], Counter[bool]()
    seeds = range(1000 * part, 1000 * part + 200)
    for seed in seeds:
        try:
            found[case(kind, seed) == "done"] += 1
        except AssertionError as error:
            wrong.append(str(error))
    seconds = time.monotonic() - started
    print(f"{kind} {seeds}: {seconds:.0f} s, {found[True]} done, {found[False]} told")
    assert not wrong, "\n".join(wrong)

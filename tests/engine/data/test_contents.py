"""Digests of what a stage is made from: equal where it is the same, and else different."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from engine import Example
from engine.data.contents import of_examples, of_folder

ROW = {"answer": "7", "n": 1, "parts": ["a", "bc"], "tags": {"x", "y", "z"}, "none": None}
EXAMPLE = Example(
    3, {"input_ids": np.arange(3), "mask": torch.ones(3, dtype=torch.bfloat16), "row": ROW}
)


def test_the_same_examples_have_the_same_digest_in_every_process(python):
    """Whatever the order in which a set is iterated, and wherever an object is in memory."""
    code = "from engine import Example; from engine.data.contents import of_examples; "
    code += "row = {'tags': {'x', 'y', 'z'}, 'text': 'a', 'odd': object()}; "
    code += "print(of_examples([Example(1, row)]))"
    row = {"tags": {"x", "y", "z"}, "text": "a", "odd": object()}
    assert python(code).strip() == of_examples([Example(1, row)])


@dataclass
class _Document:
    input_ids: np.ndarray


def test_what_lies_in_a_record_of_a_program_counts():
    """Arrays so long that nobody writes them out, too."""
    long = np.arange(5000)
    other = np.where(long == 2500, 0, long)
    found = {of_examples([Example(1, {"chosen": _Document(ids)})]) for ids in (long, other)}
    assert len(found) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"input_ids": np.array([0, 1, 3])},
        {"input_ids": np.arange(3, dtype=np.int16)},
        {"mask": torch.tensor([1, 1, 0], dtype=torch.bfloat16)},
        {"row": {**ROW, "answer": "8"}},
        {"row": {**ROW, "answer": 7}},
        {"row": {**ROW, "parts": ["ab", "c"]}},
        {"row": {**ROW, "tags": {"x", "y"}}},
        {"row": {**ROW, "none": False}},
    ],
)
def test_any_value_that_differs_is_another_digest(change):
    """One token, a type, a column of the row, where a text is divided."""
    other = replace(EXAMPLE, fields={**EXAMPLE.fields, **change})
    assert of_examples([EXAMPLE, EXAMPLE]) == of_examples([EXAMPLE, replace(EXAMPLE)])
    assert of_examples([EXAMPLE, other]) != of_examples([EXAMPLE, EXAMPLE])
    assert of_examples([EXAMPLE, other]) != of_examples([other, EXAMPLE])


def test_what_a_folder_holds_is_noticed_by_every_byte_of_a_small_file(tmp_path):
    """What is no part of the model may change; its time and place, too."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(bytes(1000))
    before = of_folder(tmp_path)
    (tmp_path / "README.md").write_text("Notes.")
    (tmp_path / "config.json").write_text("{}")
    assert of_folder(tmp_path) == before
    weights = bytearray(1000)
    weights[500] = 1
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert of_folder(tmp_path) != before


def test_of_a_large_file_blocks_and_the_size_are_compared(tmp_path):
    """Its first and its last byte count, and whatever changes throughout it."""
    file, size = tmp_path / "model.safetensors", 2**24 + 5
    digests = []
    for data in (
        np.zeros(size, np.uint8),
        np.zeros(size + 1, np.uint8),
        np.eye(1, size, 0, np.uint8),
        np.eye(1, size, size - 1, np.uint8),
        np.arange(size, dtype=np.uint8),
    ):
        file.write_bytes(data.tobytes())
        digests.append(of_folder(tmp_path))
    assert len(set(digests)) == len(digests)

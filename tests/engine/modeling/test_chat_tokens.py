"""The tokens of a prompt and an answer become an example in the same way for every objective."""

from __future__ import annotations

import numpy as np

from engine.modeling import IGNORE, answer_example


def test_each_token_of_an_answer_is_learnt_at_the_position_before_it():
    """Its numbers stand there, too; one more stands at the answer's last token."""
    example = answer_example([5, 6, 7], [8, 9], chosen=[0.5, 1.5], values=[1, 2, 3])
    assert example.length == 5
    assert {name: values.tolist() for name, values in example.fields.items()} == {
        "input_ids": [5, 6, 7, 8, 9],
        "position_ids": [0, 1, 2, 3, 4],
        "labels": [IGNORE, IGNORE, 8, 9, IGNORE],
        "chosen": [0, 0, 0.5, 1.5, 0],
        "values": [0, 0, 1, 2, 3],
    }
    assert {values.dtype for values in example.fields.values()} == {
        np.dtype(np.int64),
        np.dtype(np.float32),
    }

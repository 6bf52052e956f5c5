"""Source ``arithmetic``: arithmetic questions, with answers that rewards can check.

Their shuffled order is fixed, so that any first part is a fair sample. The hold-out is the same for
every schema, and holds out 34+12 together with 12+34.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from engine import (
    Completion,
    Context,
    DataSource,
    Prompt,
    Record,
    Text,
)
from engine_data.config import Arithmetic

_OPERATIONS: Mapping[str, Callable[[int, int], int]] = MappingProxyType(
    {"+": operator.add, "-": operator.sub, "*": operator.mul}
)
_SYMMETRIC = "+*"


class ArithmeticSource(DataSource):
    """Distinct questions such as ``12+34=`` with the answer ``46``, up to the limit."""

    def __init__(self, config: Arithmetic) -> None:
        self._config = config

    def records(self, part: str) -> Iterator[Record]:
        """See :class:`engine.DataSource`."""
        config = self._config
        numbers, operations = 10**config.digits, config.operations
        total = numbers * numbers * len(operations)
        for place in random.Random(0).sample(range(total), min(config.questions, total)):
            place, kind = divmod(place, len(operations))
            first, second = divmod(place, numbers)
            yield self._record(first, second, operations[kind])

    def _record(self, first: int, second: int, sign: str) -> Record:
        asked, answer = f"{first}{sign}{second}", str(_OPERATIONS[sign](first, second))
        group = f"{min(first, second)}{sign}{max(first, second)}" if sign in _SYMMETRIC else asked
        common: dict[str, Any] = {
            "id": asked,
            "source": "arithmetic",
            "license": "CC0-1.0",
            "meta": {"group": group},
        }
        match self._config.records:
            case "text":
                return Text(text=f"{asked}={answer}", **common)
            case "completion":
                return Completion(prompt=f"{asked}=", completion=answer, **common)
            case _:
                common["meta"]["answer"] = answer
                return Prompt(prompt=f"{asked}=", **common)


def build(config: Arithmetic, context: Context) -> ArithmeticSource:
    """Builds the source."""
    return ArithmeticSource(config)

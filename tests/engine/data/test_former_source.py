"""Sources with ``records(part, of)`` work for one more version."""

from __future__ import annotations

import pytest

from engine.contracts.records import Text
from engine.data.former_source import as_source


class Former:
    """As sources were."""

    def records(self, part, of):
        yield from (Text(id=f"{n}", source="s", text="a") for n in range(part, 5, of))


def test_a_source_of_before_has_one_part_and_warns():
    """Its author hears what to write."""
    with pytest.warns(DeprecationWarning, match=r"Former has records\(part, of\): subclass engine"):
        source = as_source(Former())
    assert [record.id for part in source.parts() for record in source.records(part)] == list(
        "01234"
    )
    assert as_source(source) is source


def test_what_is_no_source_stays_as_it_is():
    """So that the error names its class."""
    assert as_source(7) == 7

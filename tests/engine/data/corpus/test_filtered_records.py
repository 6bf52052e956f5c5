"""Records that steps drop, beside documents that were cut as they are long."""

from __future__ import annotations

import pytest

from engine.contracts.data import DataSource
from engine.contracts.records import Text
from engine.data.corpus.each import each
from engine.data.corpus.filtered_records import filtered_rows
from engine.data.corpus.steps import NamedProcessor
from engine.data.pieces import LONGEST
from engine.data.records import NamedSource


class Given(DataSource):
    def __init__(self, texts):
        self.texts = texts

    def records(self, part):
        for number, text in enumerate(self.texts):
            yield Text(id=str(number), source="given", text=text)


@pytest.mark.parametrize("bad", ["a", "b"], ids=["its first piece", "its last piece"])
def test_a_long_record_falls_with_any_of_its_pieces(tmp_path, bad):
    """And is one record, also where nothing drops it."""
    long = "a " * (LONGEST // 2) + "b " * (LONGEST // 2) + "end"
    source = Given(["first", long, long.replace(bad, "c"), "other"])
    drops = each(lambda document: "bad" if bad in document.text[-100:] else document)
    processors = [NamedProcessor("drops", "drops", drops)]
    rows = filtered_rows(
        tmp_path, NamedSource("given", source), lambda: processors, lambda *_: None, settle=True
    )
    assert [record.id for record in rows] == ["0", "2", "3"]
    assert rows.dropped == {"bad": 1}

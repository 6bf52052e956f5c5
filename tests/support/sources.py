"""What a data source gives, all of its parts."""

from __future__ import annotations

from engine import Bad, DataSource, Record


def records_of(source: DataSource) -> list[Record | Bad]:
    return [record for part in source.parts() for record in source.records(part)]

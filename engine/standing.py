"""How a stage stands, as its stage.json says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

_Count = Annotated[int, Field(ge=0)]
_NEEDED = {
    "prepare": ("sources",),
    "train": ("steps", "tokens", "parameters", "training_seconds", "scores"),
    "evaluate": ("scores",),
}
"""Of the summary of a stage that is done, by its verb: what commands show."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a stage stands: its identity, ``done`` or not, what it was made from, and what was chosen for
    it by the machine when it began."""

    identity: Mapping[str, Any]
    status: str
    inputs: Mapping[str, str]
    summary: Mapping[str, Any]
    choices: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Standing:
        """From plain data. Raises ValueError naming the field that is missing or of another type."""
        try:
            _RECORD.validate_python(data, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise ValueError(f"{where}: {first['msg']}") from None
        summary = data["summary"]
        needed = _NEEDED.get(data["identity"].get("verb"), ()) if data["status"] == "done" else ()
        missing = [name for name in needed if summary.get(name) is None]
        if missing:
            raise ValueError(f"summary.{missing[0]}: missing")
        return cls(**{name: data[name] for name in cls.__slots__ if name in data})


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Score(_Open):
    metric: str
    value: float
    model: str = ""
    evaluator: str | None = None
    stderr: float | None = None
    interval: Annotated[list[float], Field(min_length=2, max_length=2)] | None = None
    n: int | None = None


class _Source(_Open):
    source: str
    documents: _Count
    bytes: _Count
    licenses: list[str] | dict[str, Any]


class _Summary(_Open):
    steps: _Count | None = None
    tokens: _Count | None = None
    parameters: _Count | None = None
    seconds: float | None = None
    training_seconds: float | None = None
    budget: str | None = None
    fingerprint: str | None = None
    scores: list[_Score] | None = None
    models: list[str] | None = None
    sources: list[_Source] | None = None
    holdout: dict[str, Any] | None = None


class _Record(_Open):
    identity: dict[str, Any]
    status: str
    inputs: dict[str, str]
    summary: _Summary
    choices: dict[str, Any] = {}


_RECORD = TypeAdapter(_Record)

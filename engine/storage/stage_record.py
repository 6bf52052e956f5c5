"""The record of a stage in its stage.json: identity, status, inputs, summary, plugins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

_Count = Annotated[int, Field(ge=0)]
_NEEDED = {
    "prepare": ("sources",),
    "train": ("steps", "tokens", "parameters", "training_seconds", "scores"),
    "evaluate": ("scores",),
}
"""Required fields in the summary of a finished stage, by verb: commands show them."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Record of a stage.

    ``identity``: its identity fields; ``status``: ``done`` or not yet; ``inputs``: fingerprints of its
    inputs; ``summary``: results; ``choices``: values of ``auto``, fixed when the stage started;
    ``plugins``: those that it used, by name, with distribution and version.
    """

    identity: Mapping[str, Any]
    status: str
    inputs: Mapping[str, str]
    summary: Mapping[str, Any]
    choices: Mapping[str, Any] = field(default_factory=dict)
    plugins: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Standing:
        """Validates plain data. Raises ValueError with the field that is missing or of a wrong type."""
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


def changed_versions(was: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, str] | None:
    """What was used and what is installed now, each as one text, of the names with another version;
    None if there are none. A name that is missing in either has not changed."""
    pairs = [(was[name], now[name]) for name in was if now.get(name, was[name]) != was[name]]
    if not pairs:
        return None
    before, after = (", ".join(dict.fromkeys(side)) for side in zip(*pairs, strict=True))
    return before, after


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


class _Benchmark(_Open):
    touched: dict[str, str] | None = None


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
    benchmarks: list[_Benchmark] | None = None


class _Choices(_Open):
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    compile: bool | None = None
    sequence: Annotated[int, Field(ge=1, le=2**31)] | None = None

    @model_validator(mode="after")
    def _none_is_empty(self) -> _Choices:
        empty = [name for name in self.model_fields_set if getattr(self, name) is None]
        if empty:
            raise ValueError(f"{empty[0]} is empty")
        return self


class _Record(_Open):
    identity: dict[str, Any]
    status: str
    inputs: dict[str, str]
    summary: _Summary
    choices: _Choices = _Choices()
    plugins: dict[str, str] = {}


_RECORD = TypeAdapter(_Record)

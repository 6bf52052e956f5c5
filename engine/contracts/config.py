"""The pydantic base of every configuration.

A plugin's configuration subclasses :class:`Config` (or the base of its kind, below). A field that
holds another component is annotated with :class:`Of`: ``schedule: Annotated[Config, Of("schedule")]``
becomes, when a spec is loaded, the union of the configs of all installed schedules.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
)

from engine.contracts.component import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Of:
    """Marks a field that holds a component of this kind. A field without a default gets the kind's
    default component.

    ``or_stage``: the field also accepts the name of a prepare stage.
    """

    kind: Kind
    or_stage: bool = False


@dataclass(frozen=True, slots=True)
class StageRef:
    """Marks a string field as the name of another stage with this verb: a dependency.

    ``other``: a second verb that is accepted; ``head``: the head that the train stage's model must
    have.
    """

    verb: Literal["prepare", "train"]
    other: Literal["prepare", "train"] | None = None
    head: Literal["lm", "scalar"] | None = None


def runtime(default: Any = ..., **kwargs: Any) -> Any:
    """Declares a field outside the stage's identity: the stage continues after a change of it."""
    return Field(default, json_schema_extra={"runtime": True}, **kwargs)


@dataclass(frozen=True, slots=True)
class Need:
    """An action of a component that needs the user's permission.

    ``field``: the configuration's field that causes it; ``word``: the ``--allow`` word that permits it.
    """

    field: str
    does: str
    """Such as ``sends prompts and answers to scores.example``."""
    word: str


class Config(BaseModel):
    """Base of every configuration: frozen; unknown fields are errors; every field has a description."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    former: ClassVar[Mapping[str, object]] = MappingProxyType({})
    """Removed fields and their defaults: a stage recorded with such a default keeps its identity."""
    searches_benchmarks: ClassVar[bool] = False
    """True for a processor or step that searches documents for the items of the spec's evaluators, and
    so gets their texts from :meth:`engine.Context.benchmark_texts`. Its ``summary`` then has,
    below ``benchmarks`` and the benchmark's name, the ids of the items found: ``touched`` for questions
    and answers, and ``passages.touched`` for passages."""

    removes_copies: ClassVar[bool] = False
    """True for a step that removes documents or passages because others have the same: after it no
    processor should replace texts, as documents could become equal."""

    def changes_texts(self) -> bool:
        """Whether a processor or step replaces texts at these settings. A train stage refuses one that
        does: there processors can only drop records, or annotate them for later processors."""
        return False

    def problems(self) -> Mapping[str, str]:
        """Checks what fields refer to outside the spec, such as folders. Returns, by field, one line
        with the reason and the fix. Called before anything runs, without torch."""
        return {}

    def needs(self) -> Iterable[Need]:
        """Actions that the user must allow (see :mod:`engine.spec.permissions`): network requests,
        secrets sent with them, and code from outside the engine and its plugins."""
        return ()

    def reads(self) -> Iterable[str]:
        """Files and folders on this machine that the component reads; globs are allowed, and so are
        names that do not exist here, such as those on the hub."""
        return ()

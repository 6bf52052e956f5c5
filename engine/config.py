"""The pydantic base of every configuration, and the values that specs are written in.

A plugin's configuration subclasses :class:`Config` (or the base of its kind, below). A field that
holds another component is annotated with :class:`Of`: ``schedule: Annotated[Config, Of("schedule")]``
becomes, when a spec is loaded, the union of the configs of all installed schedules.
"""

from __future__ import annotations

import re
import reprlib
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
)
from pydantic_core import core_schema

from engine.component import Kind, Schema
from engine.layout import Beside, Layout, ModelShape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from engine.activations import Scores
    from engine.forecast import Candidate
    from engine.permissions import Need

Unit = Literal["steps", "tokens", "epochs", "seconds", "share"]

_UNITS: dict[str, tuple[Unit, float]] = {
    **dict.fromkeys(("step", "steps"), ("steps", 1)),
    **dict.fromkeys(("token", "tokens"), ("tokens", 1)),
    **dict.fromkeys(("epoch", "epochs"), ("epochs", 1)),
    **dict.fromkeys(("s", "second", "seconds"), ("seconds", 1)),
    **dict.fromkeys(("min", "minute", "minutes"), ("seconds", 60)),
    **dict.fromkeys(("h", "hour", "hours"), ("seconds", 3600)),
    **dict.fromkeys(("d", "day", "days"), ("seconds", 86400)),
    "%": ("share", 0.01),
}
_MULTIPLES = {"": 1, "k": 1e3, "M": 1e6, "B": 1e9, "G": 1e9, "T": 1e12}
_LARGEST = 1e18
_NUMBER = r"\s*([0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?)\s*([kMBGT]?)\s*"
_AMOUNT = re.compile(rf"{_NUMBER}([a-z%]+)\s*")
_AMOUNT_EXAMPLES = "write e.g. '4M tokens', '200 steps', '2 epochs', '2h' or '1%'"


@dataclass(frozen=True, slots=True)
class Amount:
    """A budget, interval or length: steps, tokens, epochs, seconds, or a share of the budget."""

    value: float
    unit: Unit

    @classmethod
    def parse(cls, text: object) -> Amount:
        """``'4M tokens'``, ``{'tokens': '4M'}``, ``'2h'``, ``'1%'``. Raises ValueError."""
        if isinstance(text, Amount):
            return text
        if isinstance(text, dict) and len(text) == 1:
            unit, value = next(iter(text.items()))
            text = f"{value} {unit}"
        found = _AMOUNT.fullmatch(str(text))
        if not found or found[3] not in _UNITS:
            raise ValueError(f"{reprlib.repr(text)} is not an amount: {_AMOUNT_EXAMPLES}")
        unit, factor = _UNITS[found[3]]
        value = float(found[1].replace("_", "")) * _MULTIPLES[found[2]] * factor
        if value > _LARGEST:
            raise ValueError(f"{reprlib.repr(text)} is beyond all measure")
        return cls(value, unit)

    def __str__(self) -> str:
        if self.unit == "share":
            return f"{self.value * 100:g}%"
        value = int(self.value) if self.value == int(self.value) else self.value
        return f"{value} {self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(str),
            json_schema_input_schema=core_schema.union_schema(
                [
                    core_schema.str_schema(),
                    core_schema.dict_schema(
                        core_schema.str_schema(), core_schema.any_schema(), max_length=1
                    ),
                ]
            ),
        )


def units(*allowed: Unit) -> BeforeValidator:
    """Restricts an :class:`Amount` field to some units."""

    def check(value: object) -> Amount:
        amount = Amount.parse(value)
        if amount.unit not in allowed:
            raise ValueError(f"'{value}' counts in {amount.unit}; use {' or '.join(allowed)}")
        return amount

    return BeforeValidator(check)


def _positive(amount: Amount) -> Amount:
    if amount.value <= 0:
        raise ValueError(f"'{amount}' never passes; use more than 0")
    return amount


def _number(value: object) -> object:
    """``'4M'`` → 4_000_000; numbers and everything else pass to pydantic unchanged."""
    if isinstance(value, bool):
        raise ValueError(f"{value} is no number")
    if isinstance(value, str) and (found := re.fullmatch(_NUMBER, value)):
        value = float(found[1].replace("_", "")) * _MULTIPLES[found[2]]
    if isinstance(value, int | float) and value > _LARGEST:
        raise ValueError(f"{reprlib.repr(value)} is beyond all measure")
    return value


def _share(value: object) -> object:
    """``'1%'`` → 0.01."""
    if isinstance(value, str) and (found := re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*%\s*", value)):
        return float(found[1]) / 100
    return _number(value)


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):  # said without the value: it may be the secret
        raise ValueError(
            "takes the name of an environment variable (A-Z, 0-9, _); "
            "what the variable holds never stands in a spec"
        )
    return name


Count = Annotated[
    int,
    BeforeValidator(_number, json_schema_input_type=Annotated[int, Field(ge=1)] | str),
    Field(ge=1),
]
"""A positive whole number that may be written ``16k`` or ``4M``."""
Number = Annotated[
    float, BeforeValidator(_number, json_schema_input_type=float | str), Field(allow_inf_nan=False)
]
"""A number that may also be written ``4M``."""
Share = Annotated[
    float, BeforeValidator(_share, json_schema_input_type=float | str), Field(ge=0, le=1)
]
"""A share between 0 and 1, which may be written ``1%``."""
Interval = Annotated[Amount, AfterValidator(_positive)]
"""How often: an :class:`Amount` above 0."""
VariableName = Annotated[str, AfterValidator(_variable)]
"""Name of the environment variable that holds a secret."""


@dataclass(frozen=True, slots=True)
class Of:
    """Marks a field that holds a component of this kind; without a default, the kind's default.

    ``or_stage`` also takes the name of a prepare stage.
    """

    kind: Kind
    or_stage: bool = False


@dataclass(frozen=True, slots=True)
class StageRef:
    """Marks a string field as the name of another stage with this verb: a dependency.

    ``other``: another verb that will do as well; ``head``: what the train stage's model must give.
    """

    verb: Literal["prepare", "train"]
    other: Literal["prepare", "train"] | None = None
    head: Literal["lm", "scalar"] | None = None


def runtime(default: Any = ..., **kwargs: Any) -> Any:
    """A field that does not belong to a stage's identity: changing it continues the stage."""
    return Field(default, json_schema_extra={"runtime": True}, **kwargs)


class Config(BaseModel):
    """Base of every configuration: frozen, unknown fields are errors, each field described."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    former: ClassVar[Mapping[str, object]] = MappingProxyType({})
    """Fields that it had once, each with its default: a stage recorded with it is what it was."""

    def problems(self) -> Mapping[str, str]:
        """By field, why what it names outside the spec, such as a folder, cannot be used, in one line
        with the mend; asked before anything runs, without torch."""
        return {}

    def needs(self) -> Iterable[Need]:
        """What the user must allow for it (see :mod:`engine.permissions`): requests, secrets that go
        with them, and code that neither the engine nor a plugin brings."""
        return ()

    def reads(self) -> Iterable[str]:
        """Files and folders on this machine that it reads, which may be globs. What does not exist,
        such as a name on the hub, may be among them."""
        return ()


class DataSourceConfig(Config):
    """Base of data sources: what they give, and their part in a mixture."""

    weight: Number = runtime(1.0, ge=0, description="Share of the samples, relative to the others.")
    max_epochs: Number | None = runtime(
        None,
        gt=0,
        description="How often the source may be repeated; without it, as often as needed.",
    )
    bad: Share = runtime(
        0.01,
        description="Share of the rows that may be bad; never fewer than ten stop a stage.",
    )

    def gives(self) -> Schema | None:
        """Schema of the records; None where only reading tells."""
        return "text"


class ObjectiveConfig(Config):
    """Base of objectives: the record schemas they take and the head they need."""

    takes: ClassVar[frozenset[Schema]] = frozenset({"text"})
    head: ClassVar[Literal["lm", "scalar"]] = "lm"

    def check_train(self, train: Any, processes: int) -> str | None:
        """What in the rest of the train stage contradicts this, with both values; or None."""
        return None

    def warnings(self) -> Sequence[str]:
        """What is allowed, but does not do what people expect of it."""
        return ()

    def beside(self) -> Beside:
        """The models that it needs as well, for ``engine plan``."""
        return Beside()


class RewardConfig(Config):
    """Base of rewards."""

    weight: Number = Field(1.0, description="Factor in the sum of rewards.")
    name: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Name in logs and tables; without it, the type.",
    )

    def check_row(self, row: Mapping[str, Any]) -> str | None:
        """What it needs and does not find in the further columns of a prompt's record; or None.

        Asked of every record before the first step.
        """
        return None


class ModelConfig(Config):
    """Base of models."""

    longest_row: ClassVar[int] = 4096
    """Tokens of a row that no field asks for, of a model from elsewhere: four fill a usual batch."""

    def tokenizer_path(self) -> str | None:
        """Folder, or name on the hub, of the tokenizer that comes with the model."""
        return getattr(self, "path", None)

    def reads(self) -> Iterable[str]:
        """See :class:`Config`. A stage goes on only while folders among these hold the same."""
        path = getattr(self, "path", None)
        return () if path is None else (path,)

    def context_length(self) -> int | None:
        """Tokens the model can attend to, as far as the configuration alone can tell."""
        return None

    def row_length(self, batch_tokens: int | None) -> int | None:
        """Tokens in a row of training where the spec does not say; ``batch_tokens`` are those of a
        batch, where it is not counted in examples."""
        return self.context_length()

    def shape(self, vocabulary: int | None) -> ModelShape | None:
        """The model's sizes with a tokenizer of so many tokens (None: it does not tell).

        None where they are not known. Raises OSError or ValueError for a file that is damaged.
        """
        return None

    def scores(self, device: str) -> Scores:
        """Which attention scores training keeps on a ``cpu`` or ``cuda``."""
        return "none"


class TokenizerConfig(Config):
    """Base of tokenizers."""

    def vocabulary(self) -> int | None:
        """Number of tokens, added ones included, as far as the configuration alone can tell."""
        return None


class OptimizerConfig(Config):
    """Base of optimizers: learning rate, schedule and decay mean the same for all of them."""

    elementwise: ClassVar[bool] = True
    """False for optimizers that work on whole matrices and so need them unsharded."""

    lr: Number = Field(1e-3, gt=0, description="Peak learning rate.")
    weight_decay: Number = Field(
        0.1, ge=0, description="Decoupled decay of matrices, per unit of lr."
    )
    schedule: Annotated[Config, Of("schedule")] = Field(description="How the learning rate moves.")
    groups: tuple[ParameterGroup, ...] = Field(
        (), description="Parameters with a rate or decay of their own; the first match counts."
    )

    def state_floats(self, *, hidden: bool) -> float:
        """Numbers of state per parameter: of matrices between embedding and head, or of others."""
        return 2


class ParameterGroup(Config):
    """Parameters, chosen by name, that are optimized differently."""

    match: str = Field(description="Glob over parameter names, e.g. '*.embed_tokens.*'.")
    lr_scale: Number = Field(1.0, ge=0, description="Factor on the learning rate.")
    weight_decay: Number | None = Field(
        None, ge=0, description="Decay in place of the optimizer's."
    )


class StrategyConfig(Config):
    """Base of parallel strategies."""

    whole_matrices: ClassVar[bool] = True
    """False where parameters are sharded, which rules out optimizers that need whole matrices."""
    chooses: ClassVar[bool] = False
    """True for a strategy that stands for one of the others."""

    def check_processes(self, processes: int) -> str | None:
        """What is wrong with this many processes, and the numbers that would work; or None."""
        return None

    def check_model(self, shape: ModelShape, processes: int) -> str | None:
        """Why a model of this shape cannot be split so, and what would work; or None."""
        return None

    def check_train(self, train: Any, processes: int) -> str | None:
        """What in the rest of the train stage contradicts this, with both values; or None."""
        return None

    def layout(self, processes: int) -> Layout:
        """The degrees on so many processes, which :meth:`check_processes` has accepted."""
        return Layout(data=processes)

    @classmethod
    def suggestions(cls, processes: int) -> Sequence[Mapping[str, Any]]:
        """Fields worth a try with so many processes, for who looks for a layout that fits."""
        return ()

    def choice(self, candidates: Sequence[Candidate]) -> tuple[Candidate, str] | None:
        """Of a strategy that ``chooses``: which of these it stands for, and why.

        They come with the least traffic and waiting first; None where there is nothing to choose.
        """
        return None


class EvaluatorConfig(Config):
    """Base of evaluators: what their models give, and whether they need held-out records."""

    head: ClassVar[Literal["lm", "scalar"]] = "lm"
    held_out: ClassVar[bool] = False

    every: Interval | None = Field(
        None, description="During training: how often; without it, only at the end."
    )
    limit: Count | None = Field(None, description="Use only the first so many items.")
    name: str | None = runtime(
        None,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="Name in scores and tables; without it, the type.",
    )


OptimizerConfig.model_rebuild()

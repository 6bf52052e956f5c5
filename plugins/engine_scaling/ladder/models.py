"""The models of a ladder: one spec's model in other widths, with its learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from engine import Loaded, ModelShape, SpecError, Train, parameter_count, shape_of, token_flops

FIELDS = ("hidden_size", "heads")
"""Fields that a model's configuration must have to be made wider."""
SCALED = ("intermediate_size", "kv_heads")
"""Fields that grow alike, where the spec sets them."""
Location = tuple[str | int, ...]
LR_POWER = 0.5
"""The learning rate goes as width to minus this power. A step of Muon has singular values of
lr·√width/5, and features move as much at all widths if these stay (Yang et al. 2023, "A spectral
condition for feature learning", condition 1)."""


@dataclass(frozen=True, slots=True)
class Size:
    """A model of the ladder.

    ``parameters``: all; ``body``: those that are neither in the embedding nor in the head;
    ``token_flops``: FLOPs of training on a token; ``lr``: its learning rate.
    """

    width: int
    parameters: int
    body: int
    token_flops: float
    lr: float
    changes: Mapping[str, Any]


@dataclass(slots=True)
class Template:
    """The spec that a ladder is made of: its one corpus, its one model, and what training takes.

    ``batch`` and ``sequence``: tokens of a step and of a row.
    """

    loaded: Loaded
    corpus: str
    stage: str
    train: Train
    batch: int
    sequence: int
    _sizes: dict[tuple[int, float], Size] = field(default_factory=dict)

    @classmethod
    def of(cls, loaded: Loaded) -> Template:
        """Checks a spec. Raises SpecError with what a ladder lacks."""
        stages = loaded.spec.stages
        prepares = [name for name, stage in stages.items() if stage.prepare]
        trains = [name for name, stage in stages.items() if stage.train]
        if len(stages) != 2 or len(prepares) != 1 or len(trains) != 1:
            told = ", ".join(f"{name} ({stage.verb})" for name, stage in stages.items())
            what = f"a ladder needs one prepare and one train stage; this spec has {told}"
            raise _wrong(loaded, ("stages",), what)
        name = trains[0]
        train = stages[name].train
        assert train is not None
        at: Location = ("stages", name, "train")
        if train.data.prepare_stage() != prepares[0]:
            raise _wrong(loaded, (*at, "data"), f"is not the prepare stage '{prepares[0]}'")
        if not any(one.type_name == "perplexity" for one in train.evaluate):
            what = "has no perplexity, by which models are compared; add {type: perplexity}"
            raise _wrong(loaded, (*at, "evaluate"), what)
        if train.batch.ramp is not None:
            what = "would differ between the runs of a ladder; remove it"
            raise _wrong(loaded, (*at, "batch", "ramp"), what)
        _check_model(loaded, train, (*at, "model"))
        sequence = train.row_length(train.model)
        if sequence is None or shape_of(stages, name) is None:
            raise _wrong(loaded, (*at, "model"), "its sizes are not known from the spec")
        rows = max(1, train.batch.in_tokens(sequence) // sequence)
        return cls(loaded, prepares[0], name, train, rows * sequence, sequence)

    @property
    def width(self) -> int:
        """The width of the spec's own model."""
        return int(self.train.model.hidden_size)  # type: ignore[attr-defined]

    @property
    def grain(self) -> int:
        """The difference between widths: that of a head."""
        return self.width // int(self.train.model.heads)  # type: ignore[attr-defined]

    def size(self, width: int, lr_power: float = LR_POWER) -> Size:
        """The model of this width, a multiple of the width of a head. Raises SpecError."""
        if (width, lr_power) not in self._sizes:
            self._sizes[width, lr_power] = self._size(width, lr_power)
        return self._sizes[width, lr_power]

    def _size(self, width: int, lr_power: float) -> Size:
        factor = width / self.width
        changes: dict[str, Any] = {"hidden_size": width, "heads": width // self.grain}
        own = self.train.model.model_dump(exclude_none=True)
        changes |= {n: max(1, round(own[n] * factor)) for n in SCALED if own.get(n)}
        try:
            model = type(self.train.model).model_validate({**own, **changes})
        except ValidationError as error:
            what = f"cannot be made {width} wide: {error.errors()[0]['msg']}"
            at = ("stages", self.stage, "train", "model")
            raise _wrong(self.loaded, at, what) from None
        stages = self.loaded.spec.stages
        train = self.train.model_copy(update={"model": model})
        stage = stages[self.stage].model_copy(update={"train": train})
        shape = shape_of({**stages, self.stage: stage}, self.stage)
        assert shape is not None
        parameters = parameter_count(shape)
        return Size(
            width,
            parameters,
            parameters - _vocabulary_parameters(shape),
            token_flops(shape, self.sequence).total,
            float(f"{self.train.optimizer.lr * factor**-lr_power:.4g}"),
            changes,
        )

    def sizes(self, target: float, ratios: Sequence[float], lr_power: float) -> list[Size]:
        """Models whose parameters are nearest to ``target`` times each ratio, without copies."""
        found = {}
        for ratio in ratios:
            size = self.nearest(target * ratio, lr_power)
            found[size.width] = size
        return [found[width] for width in sorted(found)]

    def nearest(self, parameters: float, lr_power: float) -> Size:
        """The model whose logarithm of parameters is nearest."""
        few = 1  # heads
        while self.size(2 * few * self.grain, lr_power).parameters < parameters:
            few *= 2
        many = 2 * few
        while many - few > 1:
            half = (few + many) // 2
            if self.size(half * self.grain, lr_power).parameters < parameters:
                few = half
            else:
                many = half
        both = (self.size(heads * self.grain, lr_power) for heads in (few, many))
        return min(both, key=lambda size: abs(math.log(size.parameters / parameters)))

    def changes(self, size: Size, steps: int, repetition: int = 0) -> dict[str, Any]:
        """What the spec of a run changes."""
        train: dict[str, Any] = {
            "model": dict(size.changes),
            "optimizer": {"lr": size.lr},
            "budget": f"{steps} steps",
        }
        if repetition:
            train["repetition"] = repetition
        return {"stages": {self.stage: {"train": train}}}


def _check_model(loaded: Loaded, train: Train, at: Location) -> None:
    """Raises SpecError for a model whose width cannot be changed."""
    model = train.model
    if model.origin.stage or model.origin.path:
        raise _wrong(
            loaded, at, "is a trained one; a ladder's models are new, and of several sizes"
        )
    lacks = [name for name in FIELDS if name not in type(model).model_fields]
    if lacks:
        what = f"'{model.type_name}' has no {' and no '.join(lacks)}, so it cannot be made wider"
        raise _wrong(loaded, at, what)


def _vocabulary_parameters(shape: ModelShape) -> int:
    """Parameters of the embedding and, if it is another matrix, of the head."""
    return shape.vocabulary * shape.hidden_size * (1 if shape.tied else 2)


def _wrong(loaded: Loaded, at: Location, what: str) -> SpecError:
    return SpecError(*loaded.source.told([(at, what)]))

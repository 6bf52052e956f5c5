"""The body of a model, by what its parts do: embeddings, layers, and norms around them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from engine import SpecError
from engine.modeling import backbone, layers, small_copy


@dataclass(frozen=True, slots=True)
class Body:
    """Names of the parts of the module that runs the layers.

    ``path``: where that module is in the backbone, which in models such as OPT only wraps it.
    ``embeddings`` are tables of tokens (``tokens``) and positions; ``norms`` all before the layers but
    the last one, which follows them. ``outputs``: how many a layer returns in a tuple, None for its
    hidden states alone.
    """

    path: str
    tokens: str
    embeddings: tuple[str, ...]
    layers: str
    norms: tuple[str, ...]
    outputs: int | None

    @classmethod
    def of(cls, model: Any) -> Body:
        """Raises SpecError for a model with other parts than these."""
        base: Any = backbone(model)
        own = layers(base)
        path, module = "", base
        while len(held := _held(module)) == 1 and not isinstance(held[0][1], nn.ModuleList):
            name, module = held[0]
            path = f"{path}.{name}".lstrip(".")
        table = base.get_input_embeddings()
        found: dict[str, list[str]] = {"layers": [], "embeddings": [], "norms": [], "others": []}
        for name, part in module.named_children():
            if isinstance(part, nn.ModuleList) and list(part) == own:
                found["layers"].append(name)
            elif isinstance(part, nn.Embedding):
                found["embeddings"].append(name)
            elif is_norm(part) or "Norm" in type(part).__name__:
                found["norms"].append(name)
            elif (name, part) in held:
                found["others"].append(name)
        tokens = [n for n in found["embeddings"] if getattr(module, n) is table]
        if found["others"] or not tokens or not found["layers"]:
            parts = ", ".join(sorted(name for name, _ in held))
            raise SpecError(
                f"a {model.config.model_type} cannot be divided: it does not consist of only "
                f"embeddings, layers and norms, but of {parts}",
                hint="use data, shard and expert, or a model built like llama",
            )
        tables, (run,) = tuple(found["embeddings"]), found["layers"]
        norms = tuple(found["norms"])
        return cls(path, tokens[0], tables, run, norms, _outputs(model))

    def runner(self, base: nn.Module) -> Any:
        """The module of the backbone that runs the layers."""
        return base.get_submodule(self.path)


def is_norm(module: nn.Module) -> bool:
    """Whether a module has only vectors, which every rank holds, and treats each position by itself."""
    sizes = [parameter.dim() for parameter in module.parameters()]
    return bool(sizes) and set(sizes) == {1}


def _outputs(model: Any) -> int | None:
    """The length of the tuple that a layer returns; None for a tensor."""
    seen: list[Any] = []
    with torch.random.fork_rng([]), torch.no_grad():
        small = small_copy(model).eval()
        layers(backbone(small))[0].register_forward_hook(lambda _, __, out: seen.append(out))
        backbone(small)(input_ids=torch.zeros(1, 2, dtype=torch.long), use_cache=False)
    return len(seen[0]) if isinstance(seen[0], tuple) else None


def _held(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The parts that have parameters."""
    return [(n, m) for n, m in module.named_children() if next(m.parameters(), None) is not None]

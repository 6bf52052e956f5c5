"""How figures of steps are called on the page, in which group they stand, and in which unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

GROUPS = ("Loss", "Objective", "Optimisation", "Speed and memory")
_GB = 1e-9


@dataclass(frozen=True, slots=True)
class Title:
    """A figure's ``text`` and ``group``; values are multiplied by ``factor``, which gives the ``unit``.
    ``format`` is that of the axis, as d3 writes formats; ``decimals``, if not None, are the digits
    after the point of a value that is read out."""

    text: str
    group: str
    unit: str = ""
    factor: float = 1.0
    format: str = ""
    decimals: int | None = None


_KNOWN = {
    "lr": Title("Learning rate", "Optimisation", format="~g"),
    "grad_norm": Title("Gradient norm", "Optimisation"),
    "tokens_per_second": Title("Speed", "Speed and memory", "tokens per second", format="~s"),
    "utilisation": Title("Utilisation", "Speed and memory", "share of the peak", format="~%"),
    "memory": Title("Peak memory of a process", "Speed and memory", "GB", _GB),
    "tokens": Title("Tokens seen", "Speed and memory", "tokens", format="~s"),
    "kl": Title("KL divergence", "Objective"),
    "approx_kl": Title("KL divergence, approximate", "Objective"),
}
_FIRST = ("loss", "grad_norm", "lr", "tokens_per_second", "utilisation", "memory", "tokens")


def title_of(name: str) -> Title:
    """The title of a figure; one that is not known is called by its name."""
    if name in _KNOWN:
        return _KNOWN[name]
    whole, _, part = name.partition("/")
    if whole in _KNOWN and part:
        of = _KNOWN[whole]
        return Title(f"{of.text}: {_words(part)}", of.group, of.unit, of.factor, of.format)
    text = _words(whole) + (f": {_words(part)}" if part else "")
    text = text[:1].upper() + text[1:]
    if whole == "loss" or whole.endswith("_loss"):
        return Title(text, "Loss", decimals=4)
    if whole == "seconds" or whole.endswith("_seconds"):
        return Title(text, "Speed and memory", "seconds")
    return Title(text, "Objective")


def tells_stability(name: str) -> bool:
    """Whether the figure is a loss or a norm of gradients, which show whether a training is stable."""
    return title_of(name).group == "Loss" or name.startswith("grad_norm")


def grouped(names: Sequence[str]) -> dict[str, list[str]]:
    """The figures of each group, in the order in which the page shows them."""
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in sorted(names, key=lambda name: (_place(name), names.index(name))):
        groups[title_of(name).group].append(name)
    return {group: own for group, own in groups.items() if own}


def _place(name: str) -> int:
    return _FIRST.index(name) if name in _FIRST else len(_FIRST)


def _words(name: str) -> str:
    return name.replace("_", " ").strip() or name

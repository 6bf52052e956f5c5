"""A study as tables of 80 columns."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from engine import ScalingLaw
from engine_scaling.fitting.study import AHEAD, Study, bits_per_byte
from engine_scaling.laws.constants import Constant
from engine_scaling.laws.influence import outliers
from engine_scaling.laws.isoflop import Parabola
from engine_scaling.laws.leaps import Reach
from engine_scaling.laws.spans import Span

_NAMED = 5
"""Runs with influence that are named."""
_UNTOLD = "not to be told"
_NONE = "–"
_ALIKE = 1.2
"""Ratio of factors between budgets up to which they are said as one."""


def shown(study: Study) -> Iterator[RenderableType]:
    """What to print, in order: what is believed first."""
    yield from _believed(study)
    yield Text()
    yield _optima(study)
    yield Text()
    yield _variants(study)
    yield Text()
    yield _constants(study.constants)
    yield Text()
    if study.isoflop.parabolas:
        yield from _parabolas(study.isoflop.parabolas)
        yield Text()
    yield _exponents(study)
    yield Text()
    yield _power_laws(study)
    yield from _remarks(study)


def _believed(study: Study) -> Iterator[Text]:
    belief = study.belief
    low, high = belief.law.flops
    best = belief.variants[0]
    yield Text(
        f"{len(study.points.points)} runs, {short(low)} to {short(high)} FLOPs; "
        f"loss in {study.points.metric}"
    )
    yield Text(f"believed: {formula(belief.law.best)}", style="bold")
    if best.tested:
        by = [f"{_factor(one)} budgets to {_percent(one.error)}" for one in best.leaps.values()]
        tested = sum(one.tested for one in belief.variants)
        yield Text(
            f"It is the variant that predicts larger budgets best: {', '.join(by)} (rms), the least "
            f"error of {tested} variants over {best.predicted} predicted runs."
        )
    odd = ", those far off that are named below included" if outliers(belief) else ""
    yield Text(f"Single runs lie {_percent(belief.law.noise)} off it (standard deviation{odd}).")


def _optima(study: Study) -> Table:
    table = _table("budget", "FLOPs", "best parameters", "tokens", "loss")
    for one in study.optima:
        _row(
            table,
            "largest" if one.factor == 1 else f"{one.factor}×",
            short(one.flops),
            counted(one.parameters),
            counted(one.tokens),
            spanned(one.loss),
        )
    return table


def _variants(study: Study) -> Table:
    best, *_ = variants = study.belief.variants
    table = _table("variant and its errors", "runs", "fit", *map(_factor, best.leaps.values()), "")
    for one in variants:
        errors = [
            _percent(one.leaps[length].error) if one.tested else _NONE for length in best.leaps
        ]
        mark = "clearly worse" if one.worse else ("believed" if one is best else "")
        if best.tested and not one.tested:
            mark = "not tested"
        style = "bold" if one is best else ("dim" if mark else "")
        _row(table, one.name, str(one.points), _percent(one.in_sample), *errors, mark, style=style)
    return table


def _factor(reach: Reach) -> str:
    """The factor between budgets, or from which to which where it varies."""
    if reach.most < _ALIKE * reach.least:
        return f"{reach.factor:.2g}×"
    return f"{reach.least:.2g}–{reach.most:.2g}×"


def _constants(constants: Iterable[Constant]) -> Table:
    table = _table("constant", "value", "95 % interval", "")
    for one in constants:
        span = one.span
        _row(
            table,
            one.name,
            f"{span.value:.3f}" if one.told else "",
            f"[{span.low:.3f}, {span.high:.3f}]",
            "" if one.told else _UNTOLD,
        )
    return table


def _parabolas(parabolas: Sequence[Parabola]) -> Iterator[RenderableType]:
    table = _table("parabola", "best parameters", "none", "sizes", "over", "method's error")
    for one in parabolas:
        best = _UNTOLD if one.optimum is None else counted(one.optimum)
        bias = f"{one.bias:+.1%}" if math.isfinite(one.bias) else _NONE
        sizes, over = str(one.sizes), f"{one.spread:.3g}×"
        _row(table, short(one.flops), best, f"{one.without:.1%}", sizes, over, bias)
    yield table
    yield Text("none: parabolas through resampled losses without a lowest point among the sizes")
    if any(not math.isfinite(one.bias) for one in parabolas):
        yield Text(f"{_NONE}: a parabola through the law's own losses has none there either")


def _exponents(study: Study) -> Table:
    table = _table("best size over FLOPs", "exponent")
    _row(table, "N by parabolas", _told(study.isoflop.exponent))
    _row(table, "N by best runs", _told(study.frontier.exponent))
    return table


def _power_laws(study: Study) -> Table:
    """Each law has another variable, of which its losses are said for multiples."""
    ahead = [k for k in AHEAD if k > 1]
    table = _table("one variable", "exponent", *(f"loss at {k}× of it" for k in ahead))
    for law in study.power_laws:
        name = f"L({law.variable}), {law.variable} ≤ {short(law.largest)}"
        if law.exponent is None:
            _row(table, name, f"{_UNTOLD}: {law.runs} runs")
        else:
            _row(table, name, spanned(law.exponent), *(spanned(law.at[k]) for k in ahead))
    return table


def _told(span: Span | None) -> str:
    return _UNTOLD if span is None else spanned(span)


def _remarks(study: Study) -> Iterator[Text]:
    if study.influences:
        yield Text()
        yield Text("The fit depends on (change at ten times the largest budget without the run):")
    for one in study.influences[:_NAMED]:
        turned = f"; {one.variant} is believed then" if one.variant else ""
        turned += "; the fit turns over without it" if one.turns else ""
        yield Text(f"  {one.name}: loss {one.loss:+.2%}, best size {one.size:+.1%}{turned}")
    if len(study.influences) > _NAMED:
        yield Text(f"  and {len(study.influences) - _NAMED} more")
    rate = bits_per_byte(study.points)
    if math.isfinite(rate):
        yield Text(f"\n1 nat per token is {rate:.4f} bits per byte of this text.")
    for note in study.notes:
        yield Text(note)
    for name, why in study.points.left_out:
        yield Text(f"left out: {name}: {why}", style="yellow")


def formula(law: ScalingLaw) -> str:
    """The law with its constants."""
    tied = law.alpha == law.beta
    count = "parameters of the body" if law.counted == "body" else "all parameters"
    offset = f"{law.E:.4g} + " if law.E else ""
    return (
        f"L = {offset}{law.A:.4g}/N^{law.alpha:.3f} + {law.B:.4g}/D^{law.beta:.3f}"
        f", N {count}" + (", one exponent" if tied else "")
    )


def short(number: float) -> str:
    """A number with three digits and a letter, or as a power of ten where there is no letter."""
    rounded = float(f"{number:.3g}")
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if size <= rounded < 1e15:
            return f"{rounded / size:.3g}{letter}"
    return f"{number:.3g}".replace("e+", "e")


def counted(span: Span) -> str:
    """Parameters or tokens with their interval: whole numbers, and at least one."""
    value, low, high = (short(max(1, round(one))) for one in (span.value, span.low, span.high))
    return f"{value} [{low}, {high}]"


def spanned(span: Span) -> str:
    """A figure with its interval, both with the digits that the latter leaves."""
    if max(map(abs, (span.value, span.low, span.high))) >= 1e3:
        return f"{short(span.value)} [{short(span.low)}, {short(span.high)}]"
    return f"{span.value:.3f} [{span.low:.3f}, {span.high:.3f}]"


def _percent(share: float) -> str:
    return f"{share:.2%}" if math.isfinite(share) else _NONE


def _row(table: Table, *cells: str, style: str = "") -> None:
    """Adds a row of plain texts: an interval in brackets is no markup."""
    table.add_row(*map(escape, cells), style=style)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(first, overflow="fold")
    for name in others:
        right = name not in ("", "95 % interval")
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    return table

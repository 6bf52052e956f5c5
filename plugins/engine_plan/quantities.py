"""Numbers as people write them and read them: sizes, FLOPs, counts, durations."""

from __future__ import annotations

import re

from engine import SpecError

PF_DAY = 86400e15
"""FLOPs in a PF-day: a day at 10^15 a second."""
_YEAR = 365.25 * 86400
_NUMBER = r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*"
_SIZE = re.compile(_NUMBER + r"([KMGT]?)(i?)B?\s*", re.IGNORECASE)
_FLOPS = re.compile(
    _NUMBER + r"([KMGTPEZY]?)(?:F(?:LOPs?)?(/s)?[- ]?(?:(s)|(d(?:ays?)?))?)?\s*", re.IGNORECASE
)
_COUNT = re.compile(_NUMBER + r"([KMBGT]?)\s*", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "B": 3, "T": 4, "P": 5, "E": 6, "Z": 7, "Y": 8}
_MOST = 1e60
"""More is a slip, and would make figures that follow from it infinite."""


def parse_size(text: str) -> float:
    """Parses ``24GB``, ``24 GiB``, ``512M`` or plain bytes, in either case. Raises SpecError."""
    found = _SIZE.fullmatch(text)
    value = _quantity(found, 1, 1024 if found and found[3] else 1000)
    if value is None:
        raise SpecError(f"'{text}' is no size", hint="write e.g. 24GB or 16GiB")
    return value


def parse_flops(text: str) -> float:
    """Parses ``3640PFd``, ``3640 PF-days``, ``3.14e23`` or ``20 EFLOPs``, in either case. Raises
    SpecError, as for a speed (``3 PFLOP/s``), which is no amount."""
    found = _FLOPS.fullmatch(text)
    rate, seconds, days = found.groups()[2:] if found else (None, None, None)
    value = _quantity(found, 86400 if days else 1)
    if value is None or (rate and not seconds and not days):
        raise SpecError(
            f"'{text}' is no amount of compute",
            hint="write FLOPs, e.g. 3.14e23 or 20EFLOPs, with k, M, G, T, P, E, Z or Y, "
            "or PF-days, e.g. 3640PFd",
        )
    return value


def parse_count(text: str) -> float:
    """Parses ``1.8T``, ``175B`` or ``70e9``, in either case. Raises SpecError."""
    value = _quantity(_COUNT.fullmatch(text), 1)
    if value is None:
        raise SpecError(f"'{text}' is no number above 0", hint="write e.g. 1.8T, 175B or 70e9")
    return value


def _quantity(found: re.Match[str] | None, factor: float, thousand: float = 1000) -> float | None:
    """The value of a number with a letter; None unless it is from 1 to :data:`_MOST`."""
    if found is None:
        return None
    value = float(found[1]) * thousand ** _POWERS[found[2].upper()] * factor
    return value if 1 <= value <= _MOST else None


def number(value: float) -> str:
    """Formats a number for people: ``2.56M``; from 1000E on, and below a thousandth, with its power of
    ten."""
    value = float(f"{value:.3g}")
    if value >= 1e21 or 0 < value < 1e-3:
        return _power(value)
    for factor, letter in (
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "B"),
        (1e6, "M"),
        (1e3, "k"),
    ):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def _power(value: float) -> str:
    digits, power = f"{value:.2e}".split("e")
    return f"{float(digits):g}e{int(power)}"


def pf_days(flops: float) -> str:
    """Formats FLOPs as PF-days."""
    days = flops / PF_DAY
    told = f"{days:,.0f}" if 100 <= days < 1e9 else _power(days) if days >= 1e9 else number(days)
    return f"{told} PF-days"


def duration(seconds: float) -> str:
    """Formats seconds for people: ``2 min``, to two digits, as it is an estimate."""
    if seconds >= 10 * _YEAR:
        return f"about {number(float(f'{seconds / _YEAR:.2g}'))} years"
    for factor, unit in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * factor:
            return f"about {float(f'{seconds / factor:.2g}'):g} {unit}"
    if seconds < 1e-3:
        return "less than 1 ms"
    if seconds < 1:
        return f"about {float(f'{1000 * seconds:.2g}'):g} ms"
    return f"about {seconds:.1f} s"


def money(amount: float) -> str:
    """Formats an amount of money: ``2.87M``, to the cent below 1000, to one digit below a cent."""
    if 0 < amount < 0.01:
        return f"{amount:.1g}"
    return number(amount) if amount >= 1000 else f"{amount:.2f}"


def energy(kilowatt_hours: float) -> str:
    """Formats an energy: ``334 MWh``."""
    for factor, unit in ((1e6, "GWh"), (1e3, "MWh"), (1, "kWh")):
        if kilowatt_hours >= factor:
            return f"{kilowatt_hours / factor:.3g} {unit}"
    return f"{1000 * kilowatt_hours:.3g} Wh"

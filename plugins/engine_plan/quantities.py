"""Numbers as people write them and read them: sizes, FLOPs, counts, durations."""

from __future__ import annotations

import math
import re

from engine import SpecError

PF_DAY = 86400e15
"""FLOPs in a PF-day: a day at 10^15 a second."""
_NUMBER = r"\s*([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*"
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]?)(i?)B?\s*")
_FLOPS = re.compile(_NUMBER + r"([kMGTPEZ]?)(?:F(?:LOPs?)?(?:/s)?(-?d(?:ays?)?)?)?\s*")
_COUNT = re.compile(_NUMBER + r"([kMBGT]?)\s*")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "B": 3, "T": 4, "P": 5, "E": 6, "Z": 7}


def parse_size(text: str) -> float:
    """Parses ``24GB``, ``24 GiB``, ``512M`` or plain bytes. Raises SpecError."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise SpecError(f"'{text}' is no size", hint="write e.g. 24GB or 16GiB")
    thousand = 1024 if found[3] else 1000
    return float(float(found[1]) * thousand ** _POWERS[found[2]])


def parse_flops(text: str) -> float:
    """Parses ``3640PFd``, ``3640 PF-days``, ``3.14e23`` or ``20 EFLOPs``. Raises SpecError."""
    found = _FLOPS.fullmatch(text)
    days = bool(found and found[3])
    value = _positive(found, 86400 if days else 1)
    if value is None or ("/s" in text and not days):
        raise SpecError(
            f"'{text}' is no amount of compute",
            hint="write FLOPs, e.g. 3.14e23 or 20EFLOPs, or PF-days, e.g. 3640PFd",
        )
    return value


def parse_count(text: str) -> float:
    """Parses ``1.8T``, ``175B`` or ``70e9``. Raises SpecError."""
    value = _positive(_COUNT.fullmatch(text), 1)
    if value is None:
        raise SpecError(f"'{text}' is no number above 0", hint="write e.g. 1.8T, 175B or 70e9")
    return value


def _positive(found: re.Match[str] | None, factor: float) -> float | None:
    if found is None:
        return None
    value = float(found[1]) * 1000.0 ** _POWERS[found[2]] * factor
    return value if 0 < value < math.inf else None


def number(value: float) -> str:
    """Formats a number for people: ``2.56M``; from 1000E on with its power of ten."""
    if value >= 1e21:
        return f"{value:.3g}".replace("e+", "e")
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


def pf_days(flops: float) -> str:
    """Formats FLOPs as PF-days."""
    days = flops / PF_DAY
    return f"{days:,.0f} PF-days" if days >= 100 else f"{days:.3g} PF-days"


def duration(seconds: float) -> str:
    """Formats seconds for people: ``2 min``, to two digits, as it is an estimate."""
    for factor, unit in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * factor:
            return f"about {float(f'{seconds / factor:.2g}'):g} {unit}"
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

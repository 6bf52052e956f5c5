"""What FLOPs cost on a machine: utilisation, money and energy."""

from __future__ import annotations

from dataclasses import dataclass

from engine import Precision
from engine.hardware import peak_speed
from engine_plan.machine import Machine
from engine_plan.terms import Terms

USUAL = "assumed, as usual for large models (PaLM 46%, Llama 3 38 to 43%)"
"""Chowdhery et al. 2022, table 3; Llama team 2024, table 4."""
ASSUMED = "as --speed says"
_JOULES = 3.6e6
"""In a kilowatt-hour."""


@dataclass(frozen=True, slots=True)
class Utilisation:
    """The share of the peak speed that training reaches, waiting and communication included.

    ``model``: by the model's FLOPs; ``executed``: by those executed, with what is computed again;
    ``peak``: FLOP/s of a device in this precision; ``source``: where the peak is from, with its date;
    ``origin``: where the speed is from.
    """

    model: float
    executed: float
    peak: float
    precision: Precision
    source: str
    origin: str


@dataclass(frozen=True, slots=True)
class Price:
    """Of a process for an hour, in USD if it is the table's; ``source`` with its date."""

    hour: float
    source: str
    currency: str


@dataclass(frozen=True, slots=True)
class Bill:
    """Cost in the price's currency, and energy in kilowatt-hours of the devices at full power, without
    the rest of their machines; None where unknown."""

    price: Price | None
    cost: float | None
    energy: float | None


def bill(machine: Machine, terms: Terms, seconds: float | None) -> Bill:
    """The bill of a training that takes so long."""
    price = _price(machine, terms)
    power = machine.known and machine.known.power
    if seconds is None:
        return Bill(price, None, None)
    time = seconds * machine.processes
    cost = price.hour * time / 3600 if price else None
    return Bill(price, cost, power * time / _JOULES if power else None)


def utilisation(
    machine: Machine, precision: Precision, *, model: float, executed: float
) -> Utilisation | None:
    """The utilisation by FLOPs per second of a process; None where the peak is unknown."""
    known = machine.known
    if known is not None:
        peak: float | None = known.peak(precision)
        source = f"{known.source}, {known.date}"
    elif machine.device == "cpu" and machine.assumed_speed is None:
        peak = peak_speed(precision, "cpu", machine.processes)
        source = "products measured here"
    else:
        return None
    if peak is None:
        return None
    if machine.assumed_speed is not None:
        origin = ASSUMED
    else:
        origin = "as a layer is timed here" if machine.is_here else USUAL
    return Utilisation(model / peak, executed / peak, peak, precision, source, origin)


def _price(machine: Machine, terms: Terms) -> Price | None:
    known = machine.known
    if terms.price is not None:
        return Price(terms.price, "--price", "")
    if known is None or known.price is None:
        return None
    told = ", ".join(filter(None, (known.price_source, known.price_date)))
    return Price(known.price, told, "USD")

"""``engine scaling sweep``: from the command line's options to a ladder, and its results."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from engine import SpecError, load_spec, write_cleaned, write_durably
from engine_scaling.ladder.models import Template
from engine_scaling.ladder.predictions import HeldOut
from engine_scaling.ladder.results import markdown
from engine_scaling.ladder.show import Show
from engine_scaling.ladder.sweep import Asked, Sweep
from engine_scaling.runner import Launch, in_a_process

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def climb(
    spec: Path,
    folder: Path | None,
    asked: Asked,
    *,
    overrides: Sequence[str] = (),
    blocked: Sequence[str] = (),
    allow: Sequence[str] = (),
    as_json: bool = False,
    launch: Launch = in_a_process,
) -> None:
    """Climbs a ladder and writes ``results.json``, ``results.md`` and plots into its folder. Raises
    SpecError, RunError."""
    for option, number in (("--flops", asked.flops), ("--lr-power", asked.lr_power)):
        if number is not None and not math.isfinite(number):
            raise SpecError(f"{option} {number}: is not a finite number")
    loaded = load_spec(spec, overrides=overrides, blocked=blocked, allow=allow)
    template = Template.of(loaded)
    folder = folder or Path("sweeps") / loaded.spec.name
    show = Show(silent=as_json)
    options = [part for name in blocked for part in ("--no-plugin", name)]
    options += [part for word in allow for part in ("--allow", word)]
    sweep = Sweep(template, folder, asked, show, options=options, launch=launch)
    climbed = sweep.run()
    data = json.dumps(climbed.data(), indent=1, allow_nan=False) + "\n"
    write_durably(folder / "results.json", data)
    write_durably(folder / "results.md", markdown(climbed))
    from engine_scaling.ladder.plots import save_plots

    save_plots(climbed, folder)
    if as_json:
        write_cleaned(data)
    show.result(climbed, folder)


def held_out_of(text: str) -> tuple[HeldOut, ...]:
    """``4,10,10x4`` or ``none``. Raises SpecError."""
    if text.strip() == "none":
        return ()
    try:
        found = tuple(map(HeldOut.parse, text.split(",")))
    except ValueError:
        raise SpecError(
            f"--held-out {text}: is no list of budgets over the largest fitted one",
            hint="write e.g. 4,10,10x4, where x4 is four times the best width, or none",
        ) from None
    if len(set(found)) < len(found):
        raise SpecError(f"--held-out {text}: one run is named twice")
    return found


def seconds_of(text: str) -> float:
    """``15m`` in seconds. Raises SpecError."""
    number = text.strip().rstrip("".join(sorted(set("".join(_UNITS)))))
    unit = text.strip()[len(number) :]
    try:
        seconds = float(number) * _UNITS[unit]
    except (ValueError, KeyError):
        seconds = 0.0
    if not 0 < seconds < 1e9:
        raise SpecError(f"--budget {text}: is no time", hint="write e.g. 15m, 90s or 2h")
    return seconds

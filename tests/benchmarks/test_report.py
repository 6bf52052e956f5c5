"""How long a report takes, beside reading the events of its runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from engine_report.page.report import write_report
from support.made_runs import begun, made_run

RUNS, STEPS, ROUNDS = 100, 10_000, 3


def runs(folder: Path) -> list[Path]:
    """Runs whose steps have the fields of a real training."""
    line = (
        '{{"time": 179607659{0}.654, "stage": "base", "step": {0}, "tokens": {1}, "loss": 2.{0}29417, '
        '"lr": 0.001, "grad_norm": 0.34{0}304845, "skipped": false, "tokens_per_second": 15{0}.4, '
        '"utilisation": 0.3{0}, "memory": 573915136, "event": "step"}}\n'
    )
    steps = "".join(line.format(n, 1024 * n) for n in range(1, STEPS + 1))
    made = []
    for number in range(RUNS):
        spec = {"seed": number, "stages": {"base": {"train": {"budget": f"{STEPS} steps"}}}}
        made.append(made_run(folder / f"run-{number}", [begun()], spec=spec))
        with (made[-1] / "events.jsonl").open("a") as log:
            log.write(steps)
    return made


def read_twice(made: list[Path]) -> None:
    """Parses every line of the logs, twice."""
    for _ in range(2):
        for run in made:
            with (run / "events.jsonl").open("rb") as log:
                for line in log:
                    json.loads(line)


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
def test_a_report_takes_no_longer_than_reading_its_events_twice(tmp_path):
    """100 runs of 10,000 steps: the page beside two times ``json.loads`` of each line, alternately; and
    it is under 5 MB."""
    made = runs(tmp_path / "runs")
    page = tmp_path / "page.html"
    ratios = []
    for number in range(ROUNDS):
        started = time.perf_counter()
        write_report(made, page, False)
        reported = time.perf_counter() - started
        started = time.perf_counter()
        read_twice(made)
        ratios.append(reported / (time.perf_counter() - started))
        print(f"round {number + 1}: report / reading twice = {ratios[-1]:.2f} ({reported:.1f} s)")
    print(f"page: {page.stat().st_size / 1e6:.2f} MB")
    assert page.stat().st_size < 5e6
    assert sorted(ratios)[ROUNDS // 2] <= 1

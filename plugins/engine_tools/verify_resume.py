"""Kills and resumes a run of the user's spec, and compares its weights with an uninterrupted run's."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from engine import (
    Loaded,
    RunError,
    Terminal,
    load_spec,
)

_TIMEOUT = 3600.0
"""Seconds within which a small run must end."""
_NAMED = 5
"""Number of differing weights to name."""


def verify_resume(
    spec: Path,
    overrides: Sequence[str],
    steps: int,
    kills: int,
    nproc: int,
    allow: Sequence[str] = (),
) -> int:
    """Returns 0 if the weights are bit-identical, else prints which differ and returns 1. Raises
    RunError."""
    console = Terminal()
    loaded = load_spec(spec, overrides=overrides, processes=nproc, allow=allow)
    command = _command(loaded, spec, overrides, steps, nproc)
    command += [f"--allow={word}" for word in allow]
    with tempfile.TemporaryDirectory(prefix="verify-resume-") as scratch:
        whole, broken = Path(scratch, "whole"), Path(scratch, "broken")
        console.print(f"unbroken run, {steps} steps a stage …")
        _run([*command, "--runs", str(whole)])
        _copy_prepared(loaded, whole, broken)
        for number, (name, at) in enumerate(_moments(loaded, steps, kills), 1):
            console.print(f"killed after step {at} of {name} ({number} of {kills}) …")
            _run_and_kill([*command, "--runs", str(broken)], broken / loaded.spec.name, name, at)
        console.print("resumed to the end …")
        _run([*command, "--runs", str(broken)])
        different = _differences(loaded, whole, broken)
    if different:
        more = f" and {len(different) - _NAMED} more" if len(different) > _NAMED else ""
        console.print(f"[red]different[/]: {', '.join(different[:_NAMED])}{more}")
        return 1
    console.print("[green]identical[/]: every weight, bit by bit")
    return 0


def _command(
    loaded: Loaded, spec: Path, overrides: Sequence[str], steps: int, nproc: int
) -> list[str]:
    command = [sys.executable, "-P", "-m", "engine.cli", "run", str(spec)]
    command += ["--json", "--deterministic", "--nproc", str(nproc)]
    for assignment in overrides:
        command += ["--set", assignment]
    for name, stage in loaded.spec.stages.items():
        if stage.train:
            at = f"stages.{name}.train"
            command += ["--set", f"{at}.budget={steps} steps"]
            command += ["--set", f"{at}.checkpoint={{every: 2 steps, keep: 2}}"]
    return command


def _moments(loaded: Loaded, steps: int, kills: int) -> list[tuple[str, int]]:
    """The stages and steps at which to kill, in the run's order: one in each of the last train stages,
    which read what the others left; with more kills than stages, several in some."""
    names = [name for name in loaded.spec.order if loaded.spec.stages[name].train]
    chance = random.Random(loaded.spec.seed)
    places = [(-1 - number) % len(names) for number in range(kills)]
    moments = sorted((place, chance.randrange(1, steps)) for place in places)
    return [(names[place], step) for place, step in moments]


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    if done.returncode:
        raise RunError(f"the run failed (status {done.returncode}): {done.stderr.strip()[-2000:]}")


def _run_and_kill(command: list[str], folder: Path, stage: str, step: int) -> None:
    """Kills all processes of the run (SIGKILL) once ``stage`` has newly reached ``step``."""
    events = folder / "events.jsonl"
    seen = events.stat().st_size if events.exists() else 0
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    until = time.monotonic() + _TIMEOUT
    while process.poll() is None and not _reached(events, seen, stage, step):
        if time.monotonic() > until:
            raise RunError(f"the run did not reach step {step} of {stage} in {_TIMEOUT:.0f} s")
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _reached(events: Path, seen: int, stage: str, step: int) -> bool:
    if not events.exists():
        return False
    with events.open(encoding="utf-8") as file:
        file.seek(seen)
        for line in file:
            if '"event": "step"' in line and line.endswith("\n"):
                event = json.loads(line)
                if event["stage"] == stage and event["step"] >= step:
                    return True
    return False


def _copy_prepared(loaded: Loaded, whole: Path, broken: Path) -> None:
    """Copies the prepare stages, so that they run only once."""
    for name, stage in loaded.spec.stages.items():
        if stage.prepare:
            shutil.copytree(whole / loaded.spec.name / name, broken / loaded.spec.name / name)


def _differences(loaded: Loaded, whole: Path, broken: Path) -> list[str]:
    import torch
    from safetensors.torch import load_file

    different = []
    for name, stage in loaded.spec.stages.items():
        own, other = (runs / loaded.spec.name / name for runs in (whole, broken))
        for file in sorted(own.glob("*/model.safetensors")) if stage.train else []:
            ours, theirs = load_file(file), load_file(other / file.relative_to(own))
            part = name if file.parent.name == "final" else f"{name}/{file.parent.name}"
            names = list(ours.keys() ^ theirs.keys())
            both = ours.keys() & theirs.keys()
            names += [k for k in both if not torch.equal(ours[k], theirs[k])]
            different += [f"{part}/{k}" for k in sorted(names)]
    return different

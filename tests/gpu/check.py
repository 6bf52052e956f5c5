"""The check for a GPU: sections in the order of importance, each in a process of its own.

    python tests/gpu/check.py [--device cpu] [--out check.json] [--only losses,speed]

A section that fails, or takes longer than its limit, leaves the others and its own rows as they are.
The table is printed section by section, and the file is written anew after each. The status is 1 where
anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

SECTIONS = {
    "ready_specs": (70, "Ready specs train, score, save and generate"),
    "losses": (40, "Losses beside those of a CPU in fp32"),
    "packing": (20, "Packed documents are as they are alone"),
    "resume": (60, "Killed and resumed, to the bit"),
    "memory": (30, "Memory beside the plan"),
    "parts": (45, "Compiled layers, fused optimizer, background checkpoints, answers"),
    "speed": (200, "Speed"),
}
"""Seconds on a GPU, and what is shown. Together they are under eight minutes."""
_ON_A_CPU = 300
_LAST_LINES = 12
"""Of what a failed section told."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--out", type=Path, default=Path("check.json"))
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--section", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.section:
        return _section(given.section, given.device, given.out)
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    names = given.only.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if given.device == "cuda" and (missing := _no_gpu()):
        parser.error(f"{missing}; --device cpu tries the check itself at a tiny size")
    report: dict[str, Any] = {"machine": _machine(given.device), "sections": []}
    print(" · ".join(f"{name} {value}" for name, value in report["machine"].items()), flush=True)
    for name in names:
        found = _run(name, given.device)
        report["sections"].append(found)
        _print(found)
        given.out.write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    failed = [s["name"] for s in report["sections"] if s["status"] != "passed"]
    seconds = sum(s["seconds"] for s in report["sections"])
    told = f"failed: {', '.join(failed)}" if failed else "all passed"
    print(f"\n{len(names)} sections in {seconds:.0f} s, {told}; {given.out}")
    return bool(failed)


def _section(name: str, device: str, out: Path) -> int:
    """One section in this process: its rows go to the file as they come."""
    with out.open("w", encoding="utf-8") as file:
        for row in import_module(name).rows(device):
            file.write(json.dumps(asdict(row)) + "\n")
            file.flush()
    return 0


def _run(name: str, device: str) -> dict[str, Any]:
    limit, title = SECTIONS[name]
    limit = limit if device == "cuda" else _ON_A_CPU
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        out, told = Path(scratch, "rows"), Path(scratch, "told")
        command = [sys.executable, __file__, "--section", name, "--device", device]
        with told.open("wb") as output:
            process = subprocess.Popen(
                [*command, "--out", str(out)],
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = "failed" if process.wait(limit) else "passed"
            except subprocess.TimeoutExpired:
                status = f"stopped after {limit} s"
            if status != "passed" and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        lines = out.read_text(encoding="utf-8").splitlines() if out.exists() else []
        rows = [json.loads(line) for line in lines]
        if status == "passed" and any(row["passed"] is False for row in rows):
            status = "failed"
        error = told.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
    return {
        "name": name,
        "title": title,
        "status": status,
        "seconds": round(time.perf_counter() - started, 1),
        "rows": rows,
        "error": [] if status == "passed" else error,
    }


def _print(section: dict[str, Any]) -> None:
    print(f"\n{section['title']}: {section['status']}, {section['seconds']} s")
    for row in section["rows"]:
        mark = {True: "ok", False: "FAILED", None: ""}[row["passed"]]
        print(f"  {row['what']:<44} {row['figure']:>16} {row['wanted']:<10} {mark}".rstrip())
    for line in section["error"]:
        print(f"  | {line}")
    sys.stdout.flush()


def _no_gpu() -> str | None:
    """Why there is none for the check."""
    from engine.errors import RunError
    from engine.hardware.devices import device_of

    try:
        return None if device_of(0).type == "cuda" else "there is no GPU that torch can use"
    except RunError as error:
        return str(error)


def _machine(device: str) -> dict[str, str]:
    import torch

    names = ("torch", "transformers", "tokenizers", "training-engine")
    versions = {name: metadata.version(name) for name in names}
    if device == "cuda":
        kind = torch.cuda.get_device_name()
        versions["cuda"] = str(torch.version.cuda)
    else:
        kind = f"{os.cpu_count()} CPU cores"
    return {"device": kind, "python": platform.python_version(), **versions}


if __name__ == "__main__":
    raise SystemExit(main())

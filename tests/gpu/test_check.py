"""The check for a GPU runs to its end: on a CPU at a tiny size, on a GPU where there is one."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).with_name("check.sh")
SECTIONS = ["ready_specs", "losses", "packing", "resume", "memory", "parts", "speed"]


def _checked(out: Path, *options: str) -> dict:
    """The report; prints the table."""
    done = subprocess.run(
        ["bash", CHECK, "--out", out, *options],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.fixture
def check(monkeypatch):
    """The script as a module."""
    monkeypatch.syspath_prepend(str(CHECK.parent))
    return importlib.import_module("check")


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_runs_on_a_cpu(name, warm, tmp_path):
    """With all its rows, so that the check is no older than the code; in the process that the check
    starts for it, but that torch is imported already."""
    out = tmp_path / "rows"
    command = (CHECK.with_suffix(".py"), "--section", name, "--device", "cpu", "--out", out)
    done = warm.run(command, env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert rows
    assert not [row for row in rows if row["passed"] is False]


def test_the_check_has_these_sections(check, tmp_path):
    """And a report of each that is asked for."""
    assert list(check.SECTIONS) == SECTIONS
    report = _checked(tmp_path / "check.json", "--device", "cpu", "--only", "memory")
    assert [section["name"] for section in report["sections"]] == ["memory"]
    assert all(section["rows"] for section in report["sections"])


def test_a_section_that_fails_leaves_the_others_and_its_own_rows(check, tmp_path, monkeypatch):
    """And the status says so; so does one that takes too long."""
    (tmp_path / "good.py").write_text(
        "from rows import at_most\ndef rows(device):\n    yield at_most('a', 1.0, 2.0)\n"
    )
    (tmp_path / "bad.py").write_text(
        "from rows import at_most\n"
        "def rows(device):\n    yield at_most('b', 1.0, 2.0)\n    raise ValueError('broken')\n"
    )
    (tmp_path / "slow.py").write_text(
        "import time\nfrom rows import at_most\n"
        "def rows(device):\n    yield at_most('c', 3.0, 2.0)\n    time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(
        check, "SECTIONS", {"bad": (30, "Bad"), "slow": (30, "Slow"), "good": (30, "Good")}
    )
    monkeypatch.setattr(check, "_ON_A_CPU", 4)
    out = tmp_path / "check.json"
    monkeypatch.setattr(
        sys, "argv", ["check.py", "--device", "cpu", "--out", str(out), "--only", "bad,slow,good"]
    )
    assert check.main() == 1
    bad, slow, good = json.loads(out.read_text(encoding="utf-8"))["sections"]
    assert [s["status"] for s in (bad, slow, good)] == ["failed", "stopped after 4 s", "passed"]
    assert [len(s["rows"]) for s in (bad, slow, good)] == [1, 1, 1]
    assert bad["error"][-1] == "ValueError: broken"
    assert slow["rows"][0]["passed"] is False


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--only", "loses"), "no section loses; there are ready_specs, losses,"),
        ((), "there is no GPU that torch can use; --device cpu tries the check itself"),
    ],
)
def test_what_it_cannot_do_is_one_line(options, told):
    """A section that there is not, and a machine without a GPU."""
    done = subprocess.run(
        ["bash", CHECK, *options],
        env={**os.environ, "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_every_section_passes_on_a_gpu(tmp_path):
    """Everything that the check holds."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no GPU that torch can use")
    _checked(tmp_path / "check.json", "--device", "cuda")

"""Python files that lie in the working directory, as beside a spec, are imported by nothing."""

from __future__ import annotations

import subprocess
import sys


def test_python_files_beside_a_spec_are_not_run(tmp_path, monkeypatch):
    """No process that the engine starts imports from the working directory, where `python -m` looks
    first."""
    from engine_evals.benchmarks.math_matching import Judge

    for name in ("json", "math_verify", "torch", "engine"):
        (tmp_path / f"{name}.py").write_text(f"open('ran', 'w').write('{name}')", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert Judge().compare("2", "$2$").same
    start = "from engine.processes.process import spawn; raise SystemExit(spawn(1, ['--help']))"
    subprocess.run([sys.executable, "-P", "-c", start], check=True, capture_output=True)
    assert not (tmp_path / "ran").exists()


def test_no_python_that_a_command_starts_imports_what_lies_beside_a_spec(tmp_path):
    """Neither a rank's or worker's (`-m`), nor a library's helper's (`-c`): torch's compiler asks a
    Python what the processor can do."""
    for name in ("struct", "ctypes"):
        text = "open('ran', 'w').close()\nraise SystemExit('imported')"
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    code = (
        "import subprocess, sys\n"
        "from engine.cli.commands import main, cli\n"
        "@cli.command('x')\n"
        "def x():\n"
        "    for words in (['-c', 'import ctypes, struct'], ['-m', 'struct']):\n"
        "        subprocess.run([sys.executable, *words], check=True)\n"
        "main(['x'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "ran").exists()

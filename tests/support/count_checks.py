"""Counts what each test file checks, at one commit or as a difference between two.

    python tests/support/count_checks.py [BEFORE [AFTER]]

A commit is a name that git knows; without AFTER the working tree is counted, without BEFORE it alone.
Prints asserts (``assert`` statements, ``pytest.raises`` and ``warns``, ``assert_close`` and its like)
and collected cases, benchmarks and soaks included. A file that git sees as renamed is one file; the
status is 1 where the sum of asserts or of cases has become smaller.
"""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path

Counts = dict[str, tuple[int, int]]
"""Asserts and cases by file."""
_ASSERTING = ("assert_", "raises", "warns")
"""How the names of functions begin that assert."""


def main(before: str | None = None, after: str | None = None) -> int:
    found = _counted(after)
    if before is None:
        for name, (asserts, cases) in sorted(found.items()):
            print(f"{asserts:6} {cases:6}  {name}")
        print(f"{_sum(found, 0):6} {_sum(found, 1):6}  asserts and cases in all")
        return 0
    names = _renamed(before, after)
    earlier = {names.get(name, name): counts for name, counts in _counted(before).items()}
    for name in sorted(earlier.keys() | found.keys()):
        was, now = earlier.get(name, (0, 0)), found.get(name, (0, 0))
        if was != now:
            print(f"{was[0]:6} → {now[0]:<6} {was[1]:6} → {now[1]:<6} {name}")
    fewer = False
    for which, kind in enumerate(("asserts", "cases")):
        was, now = _sum(earlier, which), _sum(found, which)
        print(f"{was} → {now} {kind} in all")
        fewer |= now < was
    return int(fewer)


def _sum(counts: Counts, which: int) -> int:
    return sum(pair[which] for pair in counts.values())


def _counted(commit: str | None) -> Counts:
    """Of a commit, or of the working tree."""
    if commit is None:
        return _of(Path(_git("rev-parse", "--show-toplevel").decode().strip()))
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(_git("archive", commit))) as packed:
            packed.extractall(folder, filter="data")
        return _of(Path(folder))


def _of(root: Path) -> Counts:
    files = sorted((root / "tests").rglob("*.py"))
    asserts = {str(file.relative_to(root)): _asserts(file) for file in files}
    cases = _cases(root)
    return {name: (n, cases[name]) for name, n in asserts.items() if n or cases[name]}


def _asserts(file: Path) -> int:
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return sum(
        isinstance(node, ast.Assert) or _called(node).startswith(_ASSERTING) for node in nodes
    )


def _called(node: ast.AST) -> str:
    """The last part of a called function's name."""
    function = getattr(node, "func", None)
    return getattr(function, "attr", getattr(function, "id", ""))


def _cases(root: Path) -> Counter[str]:
    """By file, as pytest collects them with the code beside them."""
    paths = [str(root / name) for name in ("", "plugins", "tests")]
    options = ("-o", "addopts=--import-mode=importlib", "-p", "no:cacheprovider", "-q")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", *options, "tests"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr)
    lines = done.stdout.splitlines()
    return Counter(line.split("::")[0] for line in lines if line.startswith("tests/"))


def _renamed(before: str, after: str | None) -> dict[str, str]:
    """Files' new names by their old ones."""
    told = _git("diff", "--name-status", "--find-renames=40%", before, *([after] if after else []))
    changes = (line.split("\t") for line in told.decode().splitlines())
    return {old: new for kind, old, *rest in changes if kind.startswith("R") for new in rest}


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))

"""Each distribution in contrib installs by itself and passes its tests, a run of its example too."""

from __future__ import annotations

from pathlib import Path

import pytest

CONTRIB = Path(__file__).parents[1] / "contrib"


@pytest.mark.parametrize(
    "project", sorted(p.parent for p in CONTRIB.glob("*/pyproject.toml")), ids=lambda p: p.name
)
def test_a_contrib_package_works_as_installed(project, installed, tmp_path):
    """The same tests that its author runs."""
    python = installed(project)
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", project / "tests", cwd=tmp_path)

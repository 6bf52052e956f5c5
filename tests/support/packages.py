"""System packages that pip cannot install and the gate does."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacks(package: str) -> NoReturn:
    """Skips a test for lack of a system package; fails it in the gate, which installs the package."""
    if os.environ.get("GATE"):
        pytest.fail(f"the gate has no {package}, which it is to install")
    pytest.skip(f"needs the system package {package}")

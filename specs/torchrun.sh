#!/usr/bin/env bash
# A spec on several machines, by torchrun: the same command on each of them.
#
#   HEAD=10.0.0.1 NODES=2 PER_NODE=8 specs/torchrun.sh SPEC [options of engine run]
#
# HEAD is a machine that all reach; the run's folder lies on a disk that all share. Where a process is
# lost, all start anew from the last checkpoint, up to RESTARTS times (3). LOCAL is this machine's own
# address, if its name does not lead to it.
set -euo pipefail
own=()
if [[ -n ${LOCAL:-} ]]; then
    own=(--local-addr "$LOCAL" --rdzv-conf "is_host=$([[ $LOCAL == "$HEAD" ]] && echo 1 || echo 0)")
fi
export PYTHONSAFEPATH=1 # Python files that lie beside a spec are none of the engine's
exec torchrun \
    --nnodes "$NODES" --nproc-per-node "${PER_NODE:-1}" --max-restarts "${RESTARTS:-3}" \
    --rdzv-backend c10d --rdzv-endpoint "$HEAD:${PORT:-29400}" "${own[@]}" \
    -m engine.cli run "$@"

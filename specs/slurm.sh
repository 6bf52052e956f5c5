#!/usr/bin/env bash
# A spec as a SLURM job: sbatch --nodes 2 --gpus-per-node 8 specs/slurm.sh SPEC [options of engine run]
#SBATCH --job-name=engine
#SBATCH --ntasks-per-node=1
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
# Two minutes before the time is up SLURM sends SIGTERM: the run saves, and the next job goes on.
set -euo pipefail
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export HEAD NODES=$SLURM_NNODES PER_NODE=${SLURM_GPUS_ON_NODE:-1} PORT=$((20000 + SLURM_JOB_ID % 20000))
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=110
# To the processes themselves: where srun is told to end, it kills them.
trap 'scancel --signal TERM "$SLURM_JOB_ID"' TERM
srun specs/torchrun.sh "$@" &
wait $! || wait $!

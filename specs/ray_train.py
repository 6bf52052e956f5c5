"""A spec on a Ray cluster, by Ray Train: one process on each worker, the same command.

    WORKERS=16 GPU=1 python specs/ray_train.py SPEC [options of engine run]

Joins the cluster of RAY_ADDRESS, or starts one of this machine alone. The run's folder lies on a
disk that all share. Where a worker or its machine is lost, all start anew from the last checkpoint,
up to RESTARTS times (3).
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys

os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray
import ray.train
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchTrainer

_PR_SET_PDEATHSIG = 1  # prctl(2)


def join(told: dict) -> None:
    """On each worker: `engine run` as one rank, in a process that ends when the worker does."""
    context = ray.train.get_context()
    with socket.socket() as free:
        free.bind(("", 0))
        here = (ray.util.get_node_ip_address(), free.getsockname()[1])
    address, port = broadcast_from_rank_zero(here)
    rank = {
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
        "RANK": context.get_world_rank(),
        "WORLD_SIZE": context.get_world_size(),
        "LOCAL_RANK": context.get_local_rank(),
        "LOCAL_WORLD_SIZE": context.get_local_world_size(),
        "ENGINE_ALLOW": told["allow"],
    }
    status = subprocess.run(
        [sys.executable, "-P", "-m", "engine.cli", "run", *told["arguments"]],
        env={**os.environ, **{name: str(value) for name, value in rank.items()}},
        cwd=told["folder"],
        preexec_fn=lambda: ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        check=False,
    ).returncode
    if status:
        raise RuntimeError(f"rank {context.get_world_rank()} ended with status {status}")


def main() -> None:
    """Runs it and ends with status 1 where it failed."""
    trainer = TorchTrainer(
        join,
        train_loop_config={
            "arguments": sys.argv[1:],
            "folder": os.getcwd(),
            "allow": os.environ.get("ENGINE_ALLOW", ""),
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=int(os.environ.get("WORKERS", "1")),
            use_gpu=os.environ.get("GPU", "0") == "1",
        ),
        run_config=ray.train.RunConfig(
            failure_config=ray.train.FailureConfig(
                max_failures=int(os.environ.get("RESTARTS", "3"))
            ),
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()

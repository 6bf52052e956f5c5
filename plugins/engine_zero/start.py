"""Imports DeepSpeed on use, in the engine's process group, without its logging."""

from __future__ import annotations

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from types import ModuleType

import torch.distributed as dist

from engine import Context, RunError


@contextmanager
def deepspeed_for(context: Context) -> Iterator[ModuleType]:
    """The module ``deepspeed``, silenced, for building its engine."""
    device = context.device
    if not dist.is_initialized():  # one process: a group without a rendezvous
        backend = "gloo" if device.type == "cpu" else f"cpu:gloo,{device.type}:nccl"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # DeepSpeed reads it at every step
    os.environ.setdefault("DS_ACCELERATOR", device.type)  # else DeepSpeed searches, and logs it
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # deprecations in DeepSpeed, not in the user's code
        import deepspeed

        yield _calm(deepspeed)
    # A warning at every step about how DeepSpeed calls torch's collectives.
    warnings.filterwarnings(
        "ignore", message="`torch.distributed.* is deprecated", category=FutureWarning
    )


def _calm(deepspeed: ModuleType) -> ModuleType:
    """Keeps DeepSpeed's log off standard output, which may be machine-readable events."""
    for handler in logging.getLogger("DeepSpeed").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
    # It would run a compiler to find out which of its kernels can be built, and on a CPU build one for
    # inference. None is needed: collectives are torch's, the optimizer is the spec's.
    vars(deepspeed.ops).setdefault("__compatible_ops__", {})
    return deepspeed


def check_disk(deepspeed: ModuleType) -> None:
    """Raises RunError where DeepSpeed cannot read and write files asynchronously."""
    if not deepspeed.ops.op_builder.AsyncIOBuilder().is_compatible():
        raise RunError(
            "strategy 'zero': offloading to disk needs DeepSpeed's async_io, which cannot be built "
            "here: libaio or a compiler is missing",
            hint="install libaio with its headers (libaio-dev), or offload to cpu",
        )

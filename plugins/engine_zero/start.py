"""DeepSpeed as a quiet library: imported on use, in our process group, without a log of its own."""

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
    """The module, to build an engine with; it prints nothing."""
    device = context.device
    if not dist.is_initialized():  # one process: a group that needs no meeting place
        backend = "gloo" if device.type == "cpu" else f"cpu:gloo,{device.type}:nccl"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    os.environ.setdefault("LOCAL_RANK", str(device.index or 0))  # it is read at every step
    os.environ.setdefault("DS_ACCELERATOR", device.type)  # else searched for, and told
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # deprecations that are not the user's to mend
        import deepspeed

        yield _calm(deepspeed)
    # At every step, of the names by which DeepSpeed calls torch's collectives.
    warnings.filterwarnings(
        "ignore", message="`torch.distributed.* is deprecated", category=FutureWarning
    )


def _calm(deepspeed: ModuleType) -> ModuleType:
    """Keeps standard output, which may be events for a machine to read, free of its log."""
    for handler in logging.getLogger("DeepSpeed").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(sys.stderr)
    # It would ask a compiler which of its kernels could be built here, and on a CPU build one for
    # inference. None of them is used: collectives are torch's, the optimizer is the spec's.
    vars(deepspeed.ops).setdefault("__compatible_ops__", {})
    return deepspeed


def check_disk(deepspeed: ModuleType) -> None:
    """Raises RunError where DeepSpeed has no way to read and write files beside the computation."""
    if not deepspeed.ops.op_builder.AsyncIOBuilder().is_compatible():
        raise RunError(
            "strategy 'zero': offloading to disk needs DeepSpeed's async_io, which cannot be built "
            "here: libaio or a compiler is missing",
            mend="install libaio with its headers (libaio-dev), or offload to cpu",
        )

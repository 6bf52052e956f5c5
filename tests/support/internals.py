"""What plugins' tests need of the engine beside its public names, in one place."""

from __future__ import annotations

from engine.cli import main
from engine.data import pieces
from engine.data.corpus.prepare import trained_texts
from engine.data.examples import TrainingData
from engine.data.holdout import is_held_out
from engine.data.holdout_file import held_out
from engine.data.mixture import Mixture, MixtureSource
from engine.data.shards import Shards, read_manifest
from engine.evaluation import evaluate
from engine.event_log import EventLog, SilentDisplay
from engine.modeling.packing import document_bounds
from engine.processes.process import Process
from engine.runs.precheck import check_run
from engine.runs.run import Run
from engine.runs.session import run_spec
from engine.spec.composition import Composer
from engine.storage import manifest
from engine.storage.checkpoints import Checkpoints
from engine.storage.model_folder import Artifact
from engine.storage.run_folder import RunFolder
from engine.testing.standalone import TINY_OPTIMIZER
from engine.training.loop_plan import Plan, Ramp

__all__ = [
    "TINY_OPTIMIZER",
    "Artifact",
    "Checkpoints",
    "Composer",
    "EventLog",
    "Mixture",
    "MixtureSource",
    "Plan",
    "Process",
    "Ramp",
    "Run",
    "RunFolder",
    "Shards",
    "SilentDisplay",
    "TrainingData",
    "check_run",
    "document_bounds",
    "evaluate",
    "held_out",
    "is_held_out",
    "main",
    "manifest",
    "pieces",
    "read_manifest",
    "run_spec",
    "trained_texts",
]

"""transformers.Trainer on the data, the initial weights and the optimizer of an engine run.

``python trainer_peer.py SPEC RUNS`` prints a JSON line per step, as ``engine run --json`` does.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from engine.data.examples import TrainingData
from engine.data.mixture import Mixture, MixtureSource
from engine.data.shards import Shards
from engine.data.windows import Windows
from engine.hardware.precision import resolved
from engine.spec.loading import load_spec


class Rows(IterableDataset):
    """The engine's rows in the engine's order."""

    def __init__(self, data: TrainingData) -> None:
        self._data = data

    def __iter__(self):
        cursor = 0
        while True:
            (example,), cursor = self._data.take(cursor, 1, (), 0, 1)
            ids = torch.from_numpy(example.fields["input_ids"])
            yield {"input_ids": ids, "labels": ids}


class Print(TrainerCallback):
    """Loss and time of every step."""

    def on_log(self, args, state, control, logs: dict[str, Any], **_) -> None:
        if "loss" in logs:
            line = {"event": "step", "time": time.time(), "loss": float(logs["loss"])}
            print(json.dumps(line), flush=True)


def main(spec_file: Path, runs: Path) -> None:
    spec = load_spec(spec_file).spec
    config: Any = spec.stages["base"].train
    shards = Shards.open(runs / spec.name / "corpus" / "shards" / "0")
    windows = Windows(shards, config.model.context)
    data = TrainingData(Mixture([MixtureSource("files", len(windows))], spec.seed), [windows])
    torch.manual_seed(spec.seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=spec.stages["corpus"].prepare.tokenizer.vocab_size,
            hidden_size=config.model.hidden_size,
            intermediate_size=config.model.intermediate_size,
            num_hidden_layers=config.model.layers,
            num_attention_heads=config.model.heads,
            max_position_embeddings=config.model.context,
            tie_word_embeddings=True,
            rms_norm_eps=config.model.norm_eps,
        )
    )
    optimizer = config.optimizer
    arguments = TrainingArguments(
        tempfile.mkdtemp(),
        use_cpu=True,
        bf16=resolved(config.precision, "cpu") == "bf16",
        per_device_train_batch_size=config.batch.tokens // config.model.context,
        max_steps=100_000,
        learning_rate=optimizer.lr,
        lr_scheduler_type="constant",
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=config.clip,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(model, arguments, train_dataset=Rows(data), callbacks=[Print()])
    trainer.remove_callback(PrinterCallback)  # its lines begin as ours do, and are no JSON
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

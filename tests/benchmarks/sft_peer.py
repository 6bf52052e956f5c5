"""TRL's SFTTrainer on the records, the model and the optimizer of an engine run.

``python sft_peer.py SPEC RUNS packed|padded EXAMPLES`` prints a JSON line per step, as
``engine run --json`` does. A step takes so many examples, or as many rows as the spec's batch has.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset, disable_progress_bars
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from engine.registry import Plugins
from engine.spec.loading import load_spec


class Print(TrainerCallback):
    """Loss, tokens so far and time of every step."""

    def on_log(self, args, state, control, logs: dict[str, Any], **_) -> None:
        if "loss" in logs:
            line = {"event": "step", "time": time.time(), "loss": float(logs["loss"])}
            print(json.dumps({**line, "tokens": logs["num_tokens"]}), flush=True)


def main(spec_file: Path, runs: Path, layout: str, examples: int) -> None:
    spec = load_spec(spec_file).spec
    config: Any = spec.stages["tuned"].train
    factory = Plugins.discover().of_kind("data-source")[config.data.type].load_factory()
    source = factory(config.data, None)
    records = (r for part in source.parts() for r in source.records(part))
    rows = [{"prompt": r.prompt, "completion": r.completion} for r in records]
    final = runs / spec.name / "base" / "final"
    disable_progress_bars()
    optimizer = config.optimizer
    packed = layout == "packed"
    arguments = SFTConfig(
        tempfile.mkdtemp(),
        use_cpu=True,
        bf16=True,
        packing=packed,
        max_length=config.batch.sequence,
        per_device_train_batch_size=(
            config.batch.tokens // config.batch.sequence if packed else examples
        ),
        activation_checkpointing=False,
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
    trainer = SFTTrainer(
        AutoModelForCausalLM.from_pretrained(final),
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(final),
        callbacks=[Print()],
    )
    trainer.remove_callback(PrinterCallback)  # its lines begin as ours do, and are no JSON
    trainer.train()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))

"""Records to learn answers from, stages that do so, and the objective on a tiny model's own tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine import record_from_row
from engine.modeling import head, hidden_states
from engine.testing import StandAloneContext

Rows = list[dict[str, Any]]


@pytest.fixture(scope="session")
def self_instruct(real_rows) -> Rows:
    """Instructions and answers, as completions."""
    found = []
    for row in real_rows("self_instruct_seeds"):
        one = row["instances"][0]
        prompt = f"{row['instruction']}\n{one['input']}\n" if one["input"] else row["instruction"]
        found.append({"prompt": prompt.rstrip() + "\n", "completion": one["output"].strip()})
    return found


@pytest.fixture(scope="session")
def hh(real_rows) -> Rows:
    """Conversations of people and assistants, the better ones."""
    found = []
    for row in real_rows("hh_harmless_sample"):
        turns = re.split(r"\n\n(Human|Assistant): ?", row["chosen"])[1:]
        roles = {"Human": "user", "Assistant": "assistant"}
        pairs = zip(turns[::2], turns[1::2], strict=True)
        found.append({"messages": [{"role": roles[r], "content": c} for r, c in pairs]})
    return found


@pytest.fixture(scope="session")
def sums() -> Rows:
    """Completions of unlike lengths that a tiny model can learn."""
    return [
        {"prompt": f"{a} and {b} are:\n", "completion": f"together {a + b}{'.' * (b % 4)}"}
        for a in range(8)
        for b in range(8)
    ]


@pytest.fixture(scope="session")
def talks() -> Rows:
    """Conversations of two turns, with a system's message before every second one."""
    found = []
    for n in range(48):
        system = [{"role": "system", "content": "Count."}] if n % 2 else []
        texts = [f"After {n}?", f"{n + 1}.", "And then?", f"Then {n + 2}, of course."]
        roles = ["user", "assistant"] * 2
        pairs = zip(roles, texts, strict=True)
        found.append({"messages": [*system, *({"role": r, "content": c} for r, c in pairs)]})
    return found


@pytest.fixture
def stage(tiny_spec, tmp_path) -> Callable[..., dict[str, Any]]:
    """The tiny spec with one more stage, ``tuned``, that learns from rows."""

    def add(rows: Sequence[dict[str, Any]], objective: Any = None, **train: Any) -> dict[str, Any]:
        schema = next(s for s in ("messages", "completion", "text") if s in rows[0])
        schema = {"messages": "chat"}.get(schema, schema)
        file = tmp_path / f"{schema}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        base = tiny_spec["stages"]["base"]["train"]
        base["model"]["context"] = 96
        base |= {"evaluate": [], "budget": "2 steps"}
        tiny_spec["stages"]["tuned"] = {
            "train": {
                "data": {"type": "files", "paths": [str(file)], "records": schema},
                "model": "base",
                "objective": objective or {"type": "sft"},
                "optimizer": {"type": "adamw", "lr": 3e-3},
                "precision": "fp32",
                "batch": {"tokens": 384},
                "budget": "4 steps",
                **train,
            }
        }
        return tiny_spec

    return add


class Bench:
    """The objective on one tiny model and a tokenizer of bytes."""

    def __init__(self, length: int = 512) -> None:
        self.context = StandAloneContext()
        self.tokenizer = self.context.tokenizer()
        self.length = length

    def model(self, seed: int = 0) -> Any:
        """With weights large enough that its answers differ much."""
        torch.manual_seed(seed)
        fields = {"hidden_size": 16, "layers": 2, "heads": 2, "context": 512, "init_std": 0.2}
        return self.context.build("model", {"type": "llama", **fields})

    def objective(self, **fields: Any) -> Any:
        """Its tokenizer has the template that the fields say."""
        self.tokenizer.chat_template = None
        built = self.context.build("objective", {"type": "sft", **fields})
        built.check(self.tokenizer)
        return built

    def encoded(self, objective: Any, rows: Sequence[dict[str, Any]]) -> list[Any]:
        """Every example, or the reason why there is none."""
        schema = "chat" if "messages" in rows[0] else "completion"
        found = []
        for number, row in enumerate(rows):
            record = record_from_row(schema, row, id=f"row-{number}", source="test")
            found += objective.encode(record, self.tokenizer, self.length)
        return found

    def learnt(self, example: Any) -> str:
        """The text of the tokens that count, answers parted by a bar."""
        pieces: list[list[int]] = [[]]
        for label in example.fields["labels"]:
            if label >= 0:
                pieces[-1].append(int(label))
            elif pieces[-1]:
                pieces.append([])
        return " ¦ ".join(self.tokenizer.decode(piece) for piece in pieces if piece)

    def means(self, objective: Any, model: Any, batches: Sequence[Any]) -> Any:
        """What a step makes of micro-batches: the mean loss, and its gradient by parameter."""
        count = sum(batch.counts["loss"] for batch in batches)
        total = sum(
            objective.loss(hidden_states(model, **b.inputs), head(model), b)["loss"]
            for b in batches
        )
        loss = total / count
        return SimpleNamespace(loss=loss.detach(), gradient=gradient(loss, model), count=count)


def gradient(loss: torch.Tensor, model: Any) -> dict[str, torch.Tensor]:
    """Of every parameter, by name."""
    named = dict(model.named_parameters())
    parts = torch.autograd.grad(loss, list(named.values()))
    return dict(zip(named, parts, strict=True))


@pytest.fixture(scope="session")
def bench() -> Bench:
    return Bench()


@pytest.fixture
def same() -> Callable[..., None]:
    """Compares two losses with their gradients."""

    def compare(ours: Any, theirs: Any, close: float = 1e-5) -> None:
        torch.testing.assert_close(ours.loss, theirs.loss, rtol=close, atol=close)
        assert ours.gradient.keys() == theirs.gradient.keys()
        for name, part in ours.gradient.items():
            torch.testing.assert_close(
                part,
                theirs.gradient[name],
                rtol=close,
                atol=close,
                msg=lambda m, n=name: f"{n} {m}",
            )

    return compare


@pytest.fixture
def trl_batch(tmp_path) -> Callable[..., Any]:
    """What TRL's SFTTrainer makes of rows: one batch of all of them, and its loss with gradient."""

    def make(model: Any, tokenizer: Any, rows: Sequence[dict[str, Any]], **options: Any) -> Any:
        import datasets
        from trl import SFTConfig, SFTTrainer

        arguments = SFTConfig(
            str(tmp_path / "trl"),
            use_cpu=True,
            bf16=False,
            report_to=[],
            per_device_train_batch_size=len(rows),
            activation_checkpointing=False,
            **{"max_length": 512, **options},
        )
        datasets.disable_progress_bars()
        try:
            trainer = SFTTrainer(
                model,
                args=arguments,
                train_dataset=datasets.Dataset.from_list(list(rows)),
                processing_class=tokenizer,
            )
        finally:
            datasets.enable_progress_bars()
        batch = next(iter(trainer.get_train_dataloader()))
        count = int((batch["labels"][:, 1:] >= 0).sum())
        loss = trainer.compute_loss(model, dict(batch), num_items_in_batch=count)
        return SimpleNamespace(
            batch=batch, loss=loss.detach(), gradient=gradient(loss, model), count=count
        )

    return make

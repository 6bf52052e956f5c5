"""Preferences as files, stages that learn from them, and objectives on a model's own tensors."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.internals import Artifact
from support.scoring_service import Service
from torch import Tensor

from engine import record_from_row
from engine.modeling import head, hidden_states, with_scalar_head
from engine.testing import StandAloneContext

Rows = list[dict[str, Any]]
_TURN = "\n\nAssistant:"
PAD = 319
"""A row of the tiny models' embeddings that is no token: transformers looks for an answer's end before
the first of them."""


@pytest.fixture(scope="session")
def hh(real_rows) -> Callable[[int], Rows]:
    """The first records of HH, parted before the last answer; skips where there are none."""
    return lambda count: [_parted(row) for row in real_rows("hh_harmless_sample", count)]


@pytest.fixture(scope="session")
def self_instruct(real_rows) -> Callable[[int], Rows]:
    """The first instructions as prompts; skips where there are none."""
    return lambda count: [
        {"prompt": row["instruction"]} for row in real_rows("self_instruct_seeds", count)
    ]


def _parted(row: dict[str, str]) -> dict[str, Any]:
    prompt, chosen = row["chosen"].rsplit(_TURN, 1)
    return {
        "prompt": prompt + _TURN,
        "chosen": chosen,
        "rejected": row["rejected"].rsplit(_TURN, 1)[1],
    }


@pytest.fixture(scope="session")
def animals() -> Rows:
    """Pairs that a tiny model can learn from: the chosen answer is of cats, the harmful one of dogs."""
    places = "mat chair tree roof box shelf garden street bed wall".split()
    moods = "small grey old young quiet".split()
    return [
        {
            "prompt": f"{mood} {place}:",
            "chosen": f" a cat{' there' * (i % 3)}",
            "rejected": f" two dogs{' here' * (j % 2)}",
            "chosen_safe": True,
            "rejected_safe": False,
        }
        for i, place in enumerate(places)
        for j, mood in enumerate(moods)
    ]


@pytest.fixture(scope="session")
def add_stage() -> Callable[..., dict[str, Any]]:
    """Adds a stage to a tiny spec, ``learned``, that learns from rows by an objective."""

    def add(
        spec: dict[str, Any],
        folder: Path,
        objective: dict[str, Any],
        rows: Sequence[Any],
        **train: Any,
    ) -> dict[str, Any]:
        fields = {"chosen": "preference", "label": "labelled", "completion": "completion"}
        schema = next((schema for field, schema in fields.items() if field in rows[0]), "prompt")
        file = folder / f"{schema}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        base = spec["stages"]["base"]["train"]
        base["model"]["context"] = 256  # for answers of HH
        base["batch"]["sequence"] = 32
        spec["stages"]["learned"] = {
            "train": {
                "data": {"type": "files", "paths": [str(file)], "records": schema},
                "model": "base",
                "objective": objective,
                "optimizer": {"type": "adamw", "lr": 3e-3},
                "precision": "fp32",
                "batch": {"examples": 8},
                "budget": "4 steps",
                **train,
            }
        }
        return spec

    return add


@pytest.fixture
def stage(tiny_spec, tmp_path, add_stage) -> Callable[..., dict[str, Any]]:
    """The tiny spec with one more stage."""
    return partial(add_stage, tiny_spec, tmp_path)


class Bench:
    """Objectives on one tiny model, a tokenizer of bytes, and another model as reference or teacher."""

    length = 64

    def __init__(self, folder: Path) -> None:
        plain = StandAloneContext()
        other = self.model(seed=1)
        Artifact.save(folder / "other", other, other.state_dict().items(), plain.tokenizer())
        self.context = StandAloneContext(folders={"other": folder / "other"})

    def model(self, seed: int = 0, *, scalar: bool = False) -> Any:
        """With weights large enough that its answers differ much."""
        torch.manual_seed(seed)
        fields = {"hidden_size": 16, "layers": 2, "heads": 2, "context": 64, "init_std": 0.2}
        model = StandAloneContext().build("model", {"type": "llama", **fields})
        model.config.pad_token_id = PAD
        return with_scalar_head(model, seed) if scalar else model

    def objective(self, type_name: str, **fields: Any) -> Any:
        return self.context.build("objective", {"type": type_name, **fields})

    def examples(self, objective: Any, rows: Sequence[dict[str, Any]], schema="preference") -> list:
        found = []
        for number, row in enumerate(rows):
            record = record_from_row(schema, row, id=str(number), source="test")
            found += objective.encode(record, self.context.tokenizer(), self.length)
        assert not [e for e in found if isinstance(e, str)]
        return objective.arrange(found, self.length)

    def sums(self, objective: Any, model: Any, batches: Sequence[Any], frozen: Any = None) -> Any:
        """What a step makes of micro-batches: means by term, and the gradient by parameter."""
        if frozen is None:
            frozen = objective.freeze(model)
        frozen = {n: m.eval().requires_grad_(False) for n, m in frozen.items()}
        with torch.no_grad():
            if objective.observes:
                seen = [objective.observe(batch, model)["kl"] for batch in batches]
                kl = sum(total for total, _ in seen) / sum(count for _, count in seen)
                batches = [objective.settle(batch, {"kl": kl}) for batch in batches]
            batches = [objective.annotate(batch, frozen) for batch in batches]
        counts: dict[str, int] = {}
        for batch in batches:
            counts = {n: counts.get(n, 0) + c for n, c in batch.counts.items()}
        means: dict[str, Tensor] = {}
        for batch in batches:
            terms = objective.loss(hidden_states(model, **batch.inputs), head(model), batch)
            for name, term in terms.items():
                means[name] = means.get(name, 0) + term / max(counts[name], 1)
        loss = sum(mean for name, mean in means.items() if not name.startswith("metric/"))
        return SimpleNamespace(loss=loss, gradient=gradient(loss, model), means=means, kept=batches)


def gradient(loss: Tensor, model: Any) -> dict[str, Tensor]:
    """By parameter, of those that have one."""
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    return {n: g for (n, _), g in zip(named, found, strict=True) if g is not None}


@pytest.fixture(scope="session")
def bench(tmp_path_factory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def same() -> Callable[..., None]:
    """That two losses and their gradients agree to 1e-5, and that there is a gradient at all."""

    def check(ours: Any, loss: Tensor, theirs: dict[str, Tensor]) -> None:
        torch.testing.assert_close(ours.loss, loss, rtol=1e-5, atol=1e-6)
        assert ours.gradient.keys() == theirs.keys()
        assert max(float(g.abs().max()) for g in theirs.values()) > 1e-3
        for name, value in ours.gradient.items():
            torch.testing.assert_close(value, theirs[name], rtol=1e-4, atol=1e-5, msg=name)

    return check


def _rows_as_trl_has_them(documents: Sequence[Any], *, shifted: bool) -> dict[str, Tensor]:
    """Padded on the right; ``shifted`` documents lack their last token, which is a label only."""
    whole = [d.input_ids.tolist() + d.labels[-1:].tolist() * shifted for d in documents]
    width = max(map(len, whole))
    counted = [[*([0] * shifted), *(d.labels != -100).astype(int).tolist()] for d in documents]

    def rows(lists: list[list[int]], fill: int = 0) -> Tensor:
        return torch.tensor([one + [fill] * (width - len(one)) for one in lists])

    return {
        "input_ids": rows(whole, PAD),
        "attention_mask": rows([[1] * len(one) for one in whole]),
        "completion_mask": rows(counted),
    }


@pytest.fixture(scope="session")
def trl_rows() -> Callable[..., dict[str, Tensor]]:
    return _rows_as_trl_has_them


@pytest.fixture
def service():
    made = Service()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.open.set()
    made.server.shutdown()
    made.server.server_close()
    thread.join()


class _Anything(dict):
    """Collects whatever a trainer measures."""

    def __missing__(self, key: str) -> list[Any]:
        return self.setdefault(key, [])


@pytest.fixture
def trainer() -> Callable[..., Any]:
    """As much of one of TRL's trainers as its loss asks for, on one process."""

    def make(**fields: Any) -> Any:
        def unchanged(value: Any) -> Any:
            return value

        model: Any = torch.nn.Identity()
        model.is_gradient_checkpointing = False
        alone = SimpleNamespace(
            device=torch.device("cpu"), gather=unchanged, gather_for_metrics=unchanged
        )
        return SimpleNamespace(
            accelerator=alone,
            model=model,
            aux_loss_enabled=False,
            _metrics={"train": _Anything()},
            _total_train_tokens=0,
            **fields,
        )

    return make

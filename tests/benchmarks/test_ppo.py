"""`ppo` against TRL's PPOTrainer at the same settings, phase by phase, by alternating runs."""

from __future__ import annotations

import math
import shutil
import statistics
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

EPISODES, ANSWER, MEAN, PAIRS = 64, 64, 24, 6
PHASES = ("rollout", "scoring", "update")
SIZES = {
    "4x128": {"layers": 4, "width": 128, "vocabulary": 4096},
    "4x128-50k": {"layers": 4, "width": 128, "vocabulary": 50_304},
    "8x384": {"layers": 8, "width": 384, "vocabulary": 4096},
}


def _corpus() -> dict:
    sources = [{"type": "python-library", "parts": ["docstrings"]}]
    tokenizer = {"type": "bpe", "vocab_size": 4096}
    prepare = {"sources": sources, "tokenizer": tokenizer, "holdout": 0}
    return {"engine": 1, "name": "corpus", "stages": {"corpus": {"prepare": prepare}}}


def _spec(model: Path) -> dict:
    """Both from the same model, whose copies are reference, critic and reward model."""
    questions = {"type": "python-questions", "questions": ["purpose"]}
    optimizer = {"type": "adamw", "lr": 1e-6, "schedule": {"type": "constant", "warmup": "0 steps"}}
    shared = {"answer_tokens": ANSWER, "value": "reward", "kl": 0.05}
    aligned = {
        "model": {"type": "pretrained", "path": str(model)},
        "data": {**questions, "records": "prompt"},
        "optimizer": optimizer,
        "batch": {"examples": EPISODES},
        "precision": "fp32",
        "clip": None,
        "budget": "100000 steps",
    }
    reward = {
        "model": {"type": "pretrained", "path": str(model)},
        "data": {**questions, "records": "preference"},
        "objective": {"type": "reward"},
        "batch": {"examples": 8},
        "budget": "1 steps",
    }
    ours = {"type": "ppo", "rewards": [{"type": "stage", "stage": "reward"}], **shared}
    theirs = {"type": "trl-ppo", "reward": "reward", **shared}
    stages = {
        "reward": {"train": reward},
        "ours": {"train": {**aligned, "objective": ours}},
        "theirs": {"train": {**aligned, "objective": theirs}},
    }
    return {"engine": 1, "name": "speed", "seed": 3, "stages": stages}


def _model(
    tokenizer_folder: Path, folder: Path, *, layers: int, width: int, vocabulary: int
) -> None:
    """Untrained, but for EOS: it ends an answer at every token by 1/``MEAN``."""
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=width * 8 // 3,
        num_hidden_layers=layers, num_attention_heads=width // 32, num_key_value_heads=width // 32,
        max_position_embeddings=512, tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.model.embed_tokens.weight.data[:, 0] = 1.0  # of every hidden state, alike
    with torch.no_grad():
        ids = torch.randint(len(tokenizer), (8, 64))
        same = model.model(input_ids=ids).last_hidden_state[..., 0].mean()
    row = model.lm_head.weight.data[tokenizer.eos_token_id]
    row.zero_()
    row[0] = math.log(vocabulary / (MEAN - 1)) / same
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("size", SIZES)
def test_faster_than_trl(size, write_spec, tmp_path, engine, paused, ratio):
    """In float32, all of TRL's rows in one pass; answers end after 1 to 64 tokens, 23 on average."""
    runs, model = tmp_path / "runs", tmp_path / "model"
    engine("run", write_spec(_corpus()), "--runs", runs)
    tokenizer = runs / "corpus" / "corpus" / "tokenizer"
    _model(tokenizer, model, **SIZES[size])
    spec = write_spec(_spec(model))
    engine("run", spec, "--runs", runs, "--stage", "reward")
    shutil.copytree(runs, tmp_path / "theirs")  # a run's folder is one process's
    eos = AutoTokenizer.from_pretrained(model).eos_token_id
    peer = Path(__file__).with_name("ppo_peer.py")
    processes = {
        name: paused(sys.executable, peer, spec, folder, name, eos, event="round")
        for name, folder in (("ours", runs), ("theirs", tmp_path / "theirs"))
    }
    for process in processes.values():
        process.burst(1)
    seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
    for pair in range(PAIRS):
        both = list(processes.items())
        for name, process in both if pair % 2 else reversed(both):
            seconds[name].append(process.burst(1))
    speedup = ratio(seconds["theirs"], seconds["ours"])
    print(f"\n{size}: {speedup}")
    counted = {n: p.told[3::2] for n, p in processes.items()}  # it was not stopped in these
    for phase in PHASES:
        ours, theirs = ([told[phase] for told in counted[name]] for name in ("ours", "theirs"))
        middle = f"{statistics.median(ours):.2f} and {statistics.median(theirs):.2f} s"
        print(f"{phase}: {ratio(theirs, ours)}; {middle}")
    for name, rounds in counted.items():
        tokens = statistics.fmean(told["answer_tokens"] for told in rounds)
        speed = EPISODES / statistics.median(seconds[name])
        print(f"{name}: {speed:.1f} episodes of {tokens:.1f} tokens a second")
    assert speedup.mean >= 2

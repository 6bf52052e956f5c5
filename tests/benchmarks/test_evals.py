"""Benchmarks and generation beside lm-eval's and transformers' own: CPU seconds, one thread.

Both answer the same requests in turn, in one process; what they answer is compared.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_inference.language_model import SharedPrefixLM

from engine import Generation, LogLikelihood
from engine.registry import Plugins
from engine.spec.composition import Composer

SIZES = {"4 × 128": (4, 128), "8 × 384": (8, 384)}
PAIRS = 5
HERE = Path(__file__).parents[2]
ROWS = Path(os.environ.get("ENGINE_REAL_DATA") or HERE.parent / "shared" / "data")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def tokenizer():
    """50,000 tokens, trained on what text is at hand: the library's, and the rows themselves."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if not ROWS.is_dir():
        pytest.skip(f"no real rows: {ROWS} (or set ENGINE_REAL_DATA)")
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))[:700]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    end = "<|endoftext|>"
    trainer = trainers.BpeTrainer(
        vocab_size=50_000,
        special_tokens=[end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train([str(f) for f in [*files, *sorted(ROWS.glob("*.jsonl"))]], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=end, bos_token=end, pad_token=end
    )


@pytest.fixture(scope="module", params=SIZES, ids=list(SIZES))
def model(request, tokenizer):
    from transformers import LlamaConfig, LlamaForCausalLM

    layers, width = SIZES[request.param]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50_000, hidden_size=width, intermediate_size=width * 8 // 3 // 64 * 64,
        num_hidden_layers=layers, num_attention_heads=width // 32,
        num_key_value_heads=width // 32, max_position_embeddings=2048,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def peer(model, tokenizer):
    pytest.importorskip("lm_eval")
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, max_length=2048)


def _requests(name: str, folder: Path, **fields: Any) -> list[Any]:
    """Of the first items, as the benchmark asks them of real rows."""
    from engine_evals.benchmarks.evaluator import build

    composer = Composer(Plugins.discover().selected(()))
    config = composer.config_class("evaluator", name)(type=name, rows=str(folder), **fields)
    items = [item for item, _ in zip(build(config, None).items(), range(100), strict=False)]
    return [request for item in items for request in item.requests]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The sample rows, laid out as `engine evals fetch` does."""
    folder = tmp_path_factory.mktemp("rows")
    places = {
        "hellaswag_val_sample": "hellaswag/validation",
        "mmlu_astronomy_dev": "mmlu/astronomy/dev",
        "mmlu_astronomy_test": "mmlu/astronomy/test",
        "gsm8k_train_sample": "gsm8k/train",
        "gsm8k_test_sample": "gsm8k/test",
    }
    for name, place in places.items():
        target = folder / f"{place}.jsonl"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROWS / f"{name}.jsonl").read_bytes())
    return folder


def _cpu(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    done = work()
    return time.process_time() - started, done


def _alternating(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[list, list, Any, Any]:
    """CPU seconds of each, and the last answers."""
    a: list[float] = []
    b: list[float] = []
    for _ in range(PAIRS):
        seconds, our_answer = _cpu(ours)
        a.append(seconds)
        seconds, their_answer = _cpu(theirs)
        b.append(seconds)
    return a, b, our_answer, their_answer


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("name", "fields", "least"), [
    ("hellaswag", {}, 2.0), ("mmlu", {"subjects": ["astronomy"]}, 5.0)
])  # fmt: skip
def test_log_likelihoods(name, fields, least, model, tokenizer, peer, rows, ratio):
    """Of HellaSwag's endings, and MMLU's letters after five worked examples."""
    from lm_eval.api.instance import Instance

    requests: list[LogLikelihood] = _requests(name, rows, **fields)
    pairs = [(r.context, r.continuation) for r in requests]
    asked = [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]
    lm = SharedPrefixLM(model, tokenizer)
    ours, theirs, a, b = _alternating(
        lambda: lm.loglikelihoods(requests), lambda: peer.loglikelihood(asked, disable_tqdm=True)
    )
    apart = max(abs(x.logprob - y) for x, (y, _) in zip(a, b, strict=True))
    found = ratio(theirs, ours)
    print(f"\n{name}: lm-eval / ours {found}, {len(pairs)} requests, apart {apart:.1e}")
    assert apart < 1e-3
    assert [x.greedy for x in a] == [greedy for _, greedy in b]
    assert found.mean > least


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_worked_problems(model, tokenizer, peer, rows, ratio):
    """GSM8K with five examples before each question, 64 new tokens."""
    from lm_eval.api.instance import Instance

    requests = [
        Generation(r.prompt, max_tokens=64, stop=r.stop) for r in _requests("gsm8k", rows)[:32]
    ]
    asked = [
        Instance(
            "generate_until",
            {},
            (r.prompt, {"until": list(r.stop), "max_gen_toks": 64, "do_sample": False}),
            i,
        )
        for i, r in enumerate(requests)
    ]
    lm = SharedPrefixLM(model, tokenizer, context=2048)
    ours, theirs, a, b = _alternating(
        lambda: lm.generations(requests), lambda: peer.generate_until(asked, disable_tqdm=True)
    )
    found = ratio(theirs, ours)
    same = sum(x.text == y for x, y in zip(a, b, strict=True))
    print(f"\ngsm8k: lm-eval / ours {found}, {same} of {len(a)} texts the same")
    assert same == len(a)
    assert found.mean > 1.3


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_answers_of_unequal_length(model, tokenizer, rows, ratio):
    """Beside ``model.generate`` at batch 32, which goes on until the longest is done."""
    chance = random.Random(0)
    prompts = [r.prompt[-200:] for r in _requests("gsm8k", rows, shots=0)[:32]]
    lengths = [chance.choice([16, 32, 64, 128, 256]) for _ in prompts]
    requests = [Generation(p, max_tokens=n) for p, n in zip(prompts, lengths, strict=True)]
    tokenizer.padding_side = "left"
    ids = tokenizer(prompts, return_tensors="pt", padding=True, add_special_tokens=False)
    lm = SharedPrefixLM(model, tokenizer)

    @torch.inference_mode()
    def generate() -> torch.Tensor:
        return model.generate(**ids, max_new_tokens=max(lengths), do_sample=False)

    ours, theirs, a, b = _alternating(lambda: lm.generations(requests), generate)
    new = b[:, ids["input_ids"].shape[1] :]
    same = sum(
        answer.text == tokenizer.decode(row[:n], skip_special_tokens=True)
        for answer, row, n in zip(a, new, lengths, strict=True)
    )
    found = ratio(theirs, ours)
    print(f"\ngenerate / ours {found}, {same} of {len(a)} texts the same")
    assert same == len(a)
    assert found.mean > 1.2


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_start_to_first_score(model, tokenizer, rows, tmp_path, ratio):
    """CPU seconds of a whole process that scores eight HellaSwag rows."""
    pytest.importorskip("lm_eval")
    folder = tmp_path / "model"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    place = rows / "hellaswag" / "validation.jsonl"
    evaluator = {"type": "hellaswag", "limit": 8, "rows": str(place)}
    models = [{"type": "pretrained", "path": str(folder)}]
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        json.dumps(
            {
                "engine": 1,
                "name": "scores",
                "stages": {"scores": {"evaluate": {"models": models, "evaluators": [evaluator]}}},
            }
        )
    )
    task = tmp_path / "tasks" / "own.yaml"
    task.parent.mkdir()
    data = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"validation": str(place)}}}
    prompt = {"doc_to_text": "{{ctx}}", "doc_to_target": "{{label}}", "doc_to_choice": "endings"}
    task.write_text(
        json.dumps(
            {
                "task": "own_hellaswag",
                "output_type": "multiple_choice",
                "validation_split": "validation",
                "metric_list": [{"metric": "acc"}],
                **data,
                **prompt,
            }
        )
    )
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def seconds(*command: object) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(list(map(str, command)), env=env, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    ours, theirs = [], []
    for number in range(PAIRS):
        runs = tmp_path / f"runs-{number}"
        ours.append(seconds(sys.executable, "-m", "engine.cli", "run", spec, "--runs", runs))
        theirs.append(
            seconds(
                sys.executable, "-m", "lm_eval", "--model", "hf",
                "--model_args", f"pretrained={folder}", "--tasks", "own_hellaswag",
                "--include_path", task.parent, "--limit", 8, "--device", "cpu",
            )
        )  # fmt: skip
    found = ratio(theirs, ours)
    print(f"\nstart to first score: lm-eval / ours {found}, ours {min(ours):.1f} s")
    assert found.mean > 1.5

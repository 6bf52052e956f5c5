"""FLOPs, days and money of trainings whose figures are published."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.usefixtures("on_a_cpu")
LAYERS, HIDDEN, SEQUENCE, VOCABULARY, TOKENS = 96, 12288, 2048, 51200, 300e9
DAY = 86400


@pytest.fixture
def gpt3(tiny_spec):
    """GPT-3 as Narayanan et al. 2021 train it; changes of its train stage come by name."""
    sizes = {"n_layer": LAYERS, "n_embd": HIDDEN, "n_head": 96, "n_positions": SEQUENCE}
    tiny_spec["stages"]["corpus"]["prepare"]["tokenizer"]["vocab_size"] = VOCABULARY
    tiny_spec["stages"]["base"]["train"] |= {
        "model": {"type": "causal-lm", "architecture": "gpt2", "config": sizes},
        "batch": {"tokens": 1536 * SEQUENCE, "sequence": SEQUENCE},
        "budget": "300B tokens",
        "precision": "bf16",
        "strategy": {"type": "mesh", "shard": 128, "tensor": 8},
    }
    return tiny_spec


@pytest.fixture
def planned(command, write_spec, tmp_path):
    """A stage's plan on 1,024 processes, as data."""

    def planned(spec, *options):
        fixed = ("--nproc", 1024, "--runs", tmp_path, "--json")
        ((stage),) = json.loads(command("plan", write_spec(spec), *options, *fixed)[0])
        return stage

    return planned


@pytest.fixture
def bought(command):
    """What compute buys, as data."""

    def bought(compute, *options):
        out, err = command("plan", "--compute", compute, *options, "--json")
        assert err == ""
        return json.loads(out)

    return bought


@pytest.mark.parametrize(
    ("again", "times", "days"), [(True, 96, 34.7), (False, 72, 26.1)], ids=["full", "none"]
)
def test_gpt3_as_narayanan_count_it(gpt3, planned, again, times, days):
    """Equation 3, on 1,024 A100s at 140 TFLOP/s; the plan counts only the half of attention that a
    causal mask leaves."""
    gpt3["stages"]["base"]["train"]["activation_checkpointing"] = again
    stage = planned(gpt3, "--speed", 140e12)
    assert stage["six_n_d"] == pytest.approx(3.15e23, rel=0.003)
    layers = times * TOKENS * LAYERS * HIDDEN**2
    attention, head = layers * SEQUENCE / (6 * HIDDEN), 6 * TOKENS * VOCABULARY * HIDDEN
    assert stage["executed_flops"] == pytest.approx(layers + attention / 2 + head, rel=1e-3)
    masked = attention / 2 / (1024 * 140e12)
    assert (stage["seconds"] + masked) / DAY == pytest.approx(days, abs=0.05)


def test_gpt3_by_six_n_d(bought):
    """Without attention and vocabulary: 8·N·D with full recomputation, 6·N·D without."""
    flops = 6 * 175e9 * 300e9
    shared = ("--nproc", 1024, "--speed", 140e12, "--parameters", "175B")
    plain, again = (bought(f"{f:.6g}", *shared) for f in (flops, flops * 8 / 6))
    assert plain["flops"] == pytest.approx(3.15e23)
    assert plain["pf_days"] == pytest.approx(3646, abs=0.5)
    assert 300e9 in [pytest.approx(one["tokens"]) for one in plain["sizes"]]
    assert plain["seconds"] / DAY == pytest.approx(25.4, abs=0.05)
    assert again["seconds"] / DAY == pytest.approx(33.9, abs=0.05)


def test_gpt3_on_v100s(bought):
    """At their peak 34 days take about 857: an accelerator without bf16 is planned in fp16."""
    one = bought("3640PFd", "--device", "V100-32GB", "--nproc", 857, "--speed", 125e12)
    assert one["flops"] == pytest.approx(3.145e23, rel=1e-3)
    assert one["seconds"] / DAY == pytest.approx(34, abs=0.05)
    assert one["utilisation"]["model"] == 1
    assert one["utilisation"]["precision"] == "fp16"


@pytest.mark.parametrize(
    ("days", "size", "left"), [(50_000, "1.8T", 0.40e12), (100_000, "10T", 0.144e12)]
)
def test_what_is_left_for_the_data_of_a_dense_model(bought, days, size, left):
    """C = 6·N·D."""
    sizes = bought(f"{days} PF-days", "--parameters", size)["sizes"]
    (tokens,) = [one["tokens"] for one in sizes if f"{one['parameters'] / 1e12:g}T" == size]
    assert tokens == pytest.approx(left, rel=0.005)


def test_the_optima_at_gopher_s_compute(bought):
    """By Hoffmann's rounded constants, and by the refit of their data."""
    refit, rounded = bought("5.76e23")["optima"]
    assert (refit["law"], rounded["law"]) == ("Besiroglu et al. 2024", "Hoffmann et al. 2022")
    assert rounded["parameters"] == pytest.approx(32.2e9, abs=0.05e9)
    assert rounded["tokens"] == pytest.approx(2.98e12, abs=0.005e12)
    assert refit["parameters"] == pytest.approx(72.4e9, abs=0.05e9)
    assert refit["tokens"] == pytest.approx(1.33e12, abs=0.005e12)


def test_the_bill_of_a_known_accelerator(gpt3, planned, bought):
    """Its list price and its power, for all devices and the whole time; or a price that is given."""
    gpt3["stages"]["base"]["train"]["activation_checkpointing"] = True
    known = ("--device", "A100-80GB")
    stage, given = planned(gpt3, *known), planned(gpt3, *known, "--price", 2)
    hours = 1024 * stage["seconds"] / 3600
    price, share = stage["price"], stage["utilisation"]
    assert stage["cost"] == pytest.approx(price["hour"] * hours)
    assert (price["hour"], price["currency"]) == (3.43, "USD")
    assert price["source"].endswith(", 2026-11-09")
    assert given["cost"] == pytest.approx(2 * hours)
    assert stage["kilowatt_hours"] == pytest.approx(0.4 * hours)
    assert share["peak"] == 312e12
    assert share["source"] == "NVIDIA A100 data sheet, 2021"
    step = stage["step"]
    each = step["executed_flops"] / step["seconds"] / 1024
    assert share["executed"] == pytest.approx(each / 312e12)
    assert share["executed"] < 0.4  # as it is while nothing is sent
    assert share["model"] == pytest.approx(
        share["executed"] * stage["flops"] / stage["executed_flops"]
    )
    simple = bought("3640PFd", *known, "--nproc", 1024)
    assert simple["utilisation"]["model"] == 0.4
    assert simple["cost"] == pytest.approx(3.43 * 1024 * simple["seconds"] / 3600)

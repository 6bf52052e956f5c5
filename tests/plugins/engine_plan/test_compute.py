"""`engine plan --compute` tells what compute buys, without a spec."""

from __future__ import annotations

import json

import pytest
from engine_plan.quantities import (
    duration,
    energy,
    money,
    number,
    parse_count,
    parse_flops,
    pf_days,
)

from engine import FittedLaw, ScalingLaw, SpecError

pytestmark = pytest.mark.usefixtures("on_a_cpu")


def test_the_table_fits_a_terminal(command):
    """With optima, sizes in order, time, cost with its date, and energy."""
    out, err = command(
        "plan", "--compute", "3640PFd", "--device", "A100-80GB", "--nproc", 1024,
        "--parameters", "175B",
    )  # fmt: skip
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    told = " ".join(out.split())
    assert "3.14e23 FLOPs 3,640 PF-days" in told
    assert "175B 300B 1.71" in told
    assert "40% of 312T FLOPs a second in bf16, NVIDIA A100 data sheet, 2021" in told
    assert "about 28 days" in told
    assert "M USD at 3.43 an hour: AWS p4de.24xlarge" in told
    assert "MWh at full power, 400 W a device" in told


def test_the_best_size_lies_between_worse_ones(command, tmp_path):
    """By the first law; a law of one's own stands beside it."""
    law = ScalingLaw(1.5, 20, 0.3, 60, 0.3)
    file = tmp_path / "law.json"
    file.write_text(FittedLaw(law, (law,), 0, "nats", (1, 2)).text(), encoding="utf-8")
    found = json.loads(command("plan", "--compute", "1e21", "--law", file, "--json")[0])
    excess = [one["excess"] for one in found["sizes"]]
    assert excess[2] == pytest.approx(0, abs=1e-9)
    assert min(excess[:2] + excess[3:]) > 0.005
    own = found["optima"][2]
    assert own["law"] == str(file)
    assert (own["parameters"], own["tokens"]) == pytest.approx(law.optimum(1e21))
    assert found["seconds"] is found["cost"] is found["utilisation"] is None
    assert "give --device or --speed" in command("plan", "--compute", "1e21")[0]


def fitted(tmp_path, counted=("all", "all", "all"), flops=(1e15, 1e20)):
    """The file of a law whose first draw is the best one."""
    draws = tuple(ScalingLaw(1.5 + d, 20, 0.3, 60, 0.3, one)
                  for d, one in zip((0, -0.1, 0.1), counted, strict=True))  # fmt: skip
    file = tmp_path / "law.json"
    file.write_text(FittedLaw(draws[0], draws, 0, "nats", flops).text(), encoding="utf-8")
    return file


def test_a_law_of_one_s_own_has_its_interval_and_its_range(command, tmp_path):
    """How many times outside its runs the compute is; the sizes' law is named."""
    shared = ("plan", "--compute", "1e21", "--law", fitted(tmp_path))
    own = json.loads(command(*shared, "--json")[0])["optima"][2]
    assert own["loss"] - 0.1 <= own["low"] < own["loss"] < own["high"] <= own["loss"] + 0.1
    assert own["warnings"] == ["10 times the FLOPs of the largest run that it was fitted to"]
    told = " ".join(command(*shared)[0].split())
    assert f"{own['loss']:.3f} ({own['low']:.3f} to {own['high']:.3f})" in told
    assert "10 times the FLOPs of the largest run" in told
    assert "sizes by Besiroglu et al. 2024" in told
    within = ("plan", "--compute", "1e19", "--law", fitted(tmp_path), "--json")
    assert json.loads(command(*within)[0])["optima"][2]["warnings"] == []


def test_laws_that_count_differently_have_no_interval_without_a_model(command, tmp_path):
    """It says why."""
    file = fitted(tmp_path, ("body", "all", "body"))
    found = json.loads(command("plan", "--compute", "1e19", "--law", file, "--json")[0])
    own = found["optima"][2]
    assert own["low"] is own["high"] is None
    assert own["warnings"] == ["no interval: the laws of its interval count different parameters"]


def test_a_published_law_outside_its_runs(command):
    """Warns, as a plan of a spec does."""
    best = json.loads(command("plan", "--compute", "1e25", "--json")[0])["optima"]
    assert all("outside that law's runs: 70M to" in one["warnings"][0] for one in best)
    within = json.loads(command("plan", "--compute", "1e21", "--json")[0])["optima"]
    assert [one["warnings"] for one in within] == [[], []]


def test_a_speed_above_the_peak_is_warned_of(command):
    """By how many times."""
    shared = ("plan", "--compute", "1e20", "--device", "A100-80GB", "--speed")
    assert "warning --speed is 2 times the device's peak" in " ".join(
        command(*shared, 624e12)[0].split()
    )
    assert "--speed is" not in command(*shared, 312e12)[0]


def test_a_user_s_table_has_other_devices_and_prices(command, tmp_path):
    """An unknown power or price is left out."""
    file = tmp_path / "mine.yaml"
    entry = "Chip 1: {bf16: 1000, fp32: 50, memory: 64, source: its maker, date: 2027}\n"
    own = "NVIDIA L4: {price: 0.25, price_source: our machines, price_date: 2026-12-01}\n"
    file.write_text(entry + own, encoding="utf-8")
    shared = ("--compute", "1e20", "--accelerators", file, "--json")
    chip = json.loads(command("plan", *shared, "--device", "Chip 1")[0])
    assert chip["seconds"] == pytest.approx(1e20 / (0.4 * 1e15))
    assert chip["price"] is chip["cost"] is chip["kilowatt_hours"] is None
    ours = json.loads(command("plan", *shared, "--device", "L4")[0])
    assert ours["cost"] == pytest.approx(0.25 * ours["seconds"] / 3600)
    assert ours["price"]["source"] == "our machines, 2026-12-01"


@pytest.mark.parametrize(
    ("text", "flops"),
    [
        ("3640PFd", 3640 * 86400e15),
        ("3640 PF-days", 3640 * 86400e15),
        ("1 PFLOP/s-day", 86400e15),
        ("3.14e23", 3.14e23),
        ("20 EFLOPs", 2e19),
        ("5e20FLOPs", 5e20),
        ("2Z", 2e21),
        ("1pfd", 86400e15),
        ("20EFLOPs/sd", 20e18 * 86400),
        ("3.8 pf-days", 3.8 * 86400e15),
        ("1PFs", 1e15),
        ("2 zflops", 2e21),
        ("1E23", 1e23),
    ],
)
def test_compute_as_people_write_it(text, flops):
    """FLOPs, or days at so many a second."""
    assert parse_flops(text) == pytest.approx(flops)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "much",
        "-1",
        "0",
        "1e999",
        "3 parrots",
        "3 PFLOP/s",
        "3 pflops/s",
        "3d",
        "1e61",
        "nan",
        "inf",
    ],
)
def test_what_is_no_compute(text):
    """Is told, with examples."""
    with pytest.raises(SpecError, match="is no amount of compute; write FLOPs, e"):
        parse_flops(text)


def test_counts():
    """Of parameters."""
    assert (parse_count("1.8T"), parse_count("175 B"), parse_count("70e9")) == (1.8e12, 175e9, 7e10)
    assert parse_count("1.8t") == 1.8e12
    with pytest.raises(SpecError, match="'many' is no number above 0"):
        parse_count("many")


def test_figures_for_people():
    """Are short."""
    assert (number(3.146e23), number(2.56e6), number(12)) == ("3.15e23", "2.56M", "12")
    assert [number(x) for x in (999.6e6, 0.0, 1.2e-5, 1e40)] == ["1B", "0", "1.2e-5", "1e40"]
    assert (pf_days(1e40), pf_days(1e3)) == ("1.16e20 PF-days", "1.16e-17 PF-days")
    assert [duration(x) for x in (1e-9, 0.05, 150, 8e6, 1e30)] == [
        "less than 1 ms", "about 50 ms", "about 2.5 min", "about 93 days", "about 3.2e22 years",
    ]  # fmt: skip
    assert (pf_days(3.14e23), pf_days(8.64e17)) == ("3,634 PF-days", "0.01 PF-days")
    assert [money(x) for x in (0, 0.0012, 2.5, 2.87e6)] == ["0.00", "0.001", "2.50", "2.87M"]
    assert [energy(x) for x in (3e6, 334e3, 5.0, 0.02)] == ["3 GWh", "334 MWh", "5 kWh", "20 Wh"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "`engine plan` needs a SPEC or --compute; e.g. "),
        (("spec.yaml", "--compute", "1e20"), "`engine plan` needs a SPEC or --compute, not both"),
        (("spec.yaml", "--parameters", "1B"), "--parameters is of no use without --compute"),
        (("--compute", "lots"), "'lots' is no amount of compute"),
        (("--compute", "1e20", "--parameters", "big"), "'big' is no number above 0"),
        (("--compute", "1e20", "--set", "seed=2"), "--set is of no use with --compute"),
        (("--compute", "1e20", "--no-plugin", "engine_sft"), "--no-plugin is of no use with"),
        (("--compute", "1e20", "--memory", "1GB"), "--memory is of no use with --compute"),
        (("--compute", "1e20", "--device", "A100"), "no data sheet of 'A100' is known; did you"),
        (("--compute", "1e20", "--accelerators", "no.yaml"), "no.yaml: cannot be read"),
    ],
)
def test_a_wrong_command_line(command, arguments, told):
    """Is told in one line, with status 2."""
    _, err = command("plan", *arguments, status=2)
    assert told in err
    assert "Traceback" not in err


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "1e999"])
@pytest.mark.parametrize(
    "option", ["--speed", "--price", "--memory", "--links", "--compute", "--parameters", "--nproc"]
)
def test_an_option_without_a_number_that_can_be(command, option, value):
    """Is named. What is free has a price all the same."""
    if (option, value) == ("--price", "0"):
        assert command("plan", "--compute", "1e20", "--price", 0)[1] == ""
        return
    _, err = command("plan", "spec.yaml", f"{option}={value}", status=2)
    assert option in err
    assert ("inf" if value == "1e999" and option in ("--speed", "--price") else value) in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "extremes",
    [
        ("--compute", "1", "--parameters", "1e60", "--speed", "1", "--price", "1e30"),
        ("--compute", "1e60", "--parameters", "1", "--speed", "1", "--price", "1e30"),
        ("--compute", "1e60", "--speed", "1e30", "--device", "L4"),
    ],
)
def test_extreme_figures_are_finite(command, extremes):
    """As data, and as a table."""
    json.loads(command("plan", *extremes, "--json")[0], parse_constant=pytest.fail)
    assert command("plan", *extremes)[1] == ""

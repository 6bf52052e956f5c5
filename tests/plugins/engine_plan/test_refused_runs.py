"""A run that cannot fit into memory is refused before it starts, and no other."""

from __future__ import annotations

import pytest
from engine_plan.forecast import forecasts
from engine_plan.machine import Machine
from support.internals import check_run

from engine import SpecError, load_spec

pytestmark = pytest.mark.usefixtures("on_a_cpu")


@pytest.fixture
def small(monkeypatch) -> None:
    """A machine of 10 MB."""
    monkeypatch.setattr("engine_plan.machine.memory_here", lambda: 10e6)


def test_a_run_that_cannot_fit_is_refused(train, tiny_spec, write_spec, command, small, tmp_path):
    """With numbers and the mend, before anything starts."""
    spec = write_spec(tiny_spec)
    _, err = command("run", spec, "--runs", tmp_path / "runs", status=2)
    assert "stages.base.train: needs at least " in err
    assert "MB of memory, and there are 10 MB; " in err
    assert "`engine plan` says what would make it fit; `--allow memory` tries" in err
    assert list(tmp_path.iterdir()) == [spec]


def test_what_may_fit_is_not_refused(train, tiny_spec, write_spec, small, tmp_path, monkeypatch):
    """Nor what is frozen in part, of unknown size, or not to be run."""
    train["freeze"] = ["*.embed_tokens.*"]
    check_run(load_spec(write_spec(tiny_spec)), tmp_path, 1, 1)
    del train["freeze"]
    check_run(load_spec(write_spec(tiny_spec)), tmp_path, 1, 1, only="corpus")
    selective = {"activation_checkpointing": "selective"}  # what compiling makes it at best
    least = []
    for compiled, changed in ((False, {}), (True, selective)):
        train.update(changed)
        needs = forecasts(load_spec(write_spec(tiny_spec)).situation(), Machine("cpu", "", 1))[
            "base"
        ]
        least.append(needs.chosen.estimate.memory.least)
        train.pop("activation_checkpointing", None)
        monkeypatch.setattr("engine_plan.machine.memory_here", lambda: least[-1])
        train["compile"] = compiled
        check_run(load_spec(write_spec(tiny_spec)), tmp_path, 1, 1)
    train["compile"] = False
    with pytest.raises(SpecError, match=r"needs at least .* of memory, and there are"):
        check_run(load_spec(write_spec(tiny_spec)), tmp_path, 1, 1)
    with pytest.raises(SpecError, match="of memory on each of 2 processes, and there are"):
        check_run(load_spec(write_spec(tiny_spec)), tmp_path, 2, 4)
    monkeypatch.setattr("engine_plan.machine.memory_here", lambda: 10e6)
    train["model"] = {"type": "pretrained", "path": "someone/model", "revision": "0" * 40}
    check_run(load_spec(write_spec(tiny_spec)), tmp_path, 1, 1)


def test_a_stage_that_is_done_needs_nothing(tiny_spec, write_spec, command, copied, small):
    """However small the machine has become; and who insists may try."""
    spec = write_spec(tiny_spec)
    check_run(load_spec(spec), copied.parent, 1, 1)
    command("run", spec, "--runs", copied.parent, "--allow", "memory")


def test_what_is_chosen_and_refused_depends_on_no_speed(
    train, tiny_spec, write_spec, monkeypatch, tmp_path
):
    """Neither asks for one."""
    monkeypatch.setattr(Machine, "speeds", None)
    train |= {"strategy": "auto", "budget": "1h"}
    check_run(load_spec(write_spec(tiny_spec), processes=2), tmp_path, 2, 2)
    chosen = {
        speed: forecasts(
            load_spec(write_spec(tiny_spec), processes=2).situation(2),
            Machine("cpu", "", 1e9, 2, speed),
        )
        for speed in (None, 1e6, 1e18)
    }
    assert len({str(found["base"].chosen) for found in chosen.values()}) == 1

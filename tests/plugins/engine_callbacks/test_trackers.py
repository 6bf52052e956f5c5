"""Callbacks `tensorboard`, `wandb` and `mlflow`, by what their own packages read back."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from engine_callbacks.config import MLflow, Wandb
from engine_callbacks.mlflow_run import MLflowTracker
from engine_callbacks.tensorboard_log import TensorBoardTracker
from engine_callbacks.tracker import Row
from engine_callbacks.wandb_run import WandbTracker
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from engine import RunError, SpecError, load_spec

TRACKERS = ["tensorboard", "wandb", "mlflow"]
each_tracker = pytest.mark.parametrize("tracker", TRACKERS)


@pytest.fixture
def train(tiny_spec):
    """The train stage's part of the tiny spec: twelve steps, scores every third of them."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"budget": "12 steps", "checkpoint": {"every": "4 steps"}}
    train["evaluate"] = [{"type": "perplexity", "every": "3 steps", "limit": 2}]
    return train


def _expected(run, name: str) -> list[tuple[int, float]]:
    """A figure's values as events.jsonl has them; of a step taken twice, the later one."""
    values = {e["step"]: e[name] for e in run.events("step")}
    return sorted((step, math.nan if v is None else float(v)) for step, v in values.items())


def _close(values: list[tuple[int, float]]):
    """TensorBoard keeps single precision."""
    return [(step, pytest.approx(value, rel=1e-6, nan_ok=True)) for step, value in values]


@each_tracker
def test_every_figure_and_score_is_written(tiny_spec, train, run_here, tracker, read_log):
    """At its step, as events.jsonl has it."""
    train["callbacks"] = [{"type": tracker}]
    run = run_here(tiny_spec)
    log = read_log(tracker, run.folder / "base")
    for name in ("loss", "lr", "grad_norm", "skipped", "tokens", "tokens_per_second"):
        assert log[name] == _close(_expected(run, name))
    scores = {e["step"]: e["value"] for e in run.events("score") if e["metric"] == "perplexity"}
    assert log["perplexity/perplexity"] == _close(sorted(scores.items()))
    assert list(scores) == [3, 6, 9, 12]


def test_a_wandb_run_that_was_broken_off_misses_nothing(
    tiny_spec, train, run_here, samples, read_log
):
    """If only wandb has time to close its files. Steps taken twice stand there once."""
    train["callbacks"] = [{"type": "wandb"}]
    samples.power_fails_before = 8
    with pytest.raises(samples.PowerFailure):
        run_here(tiny_spec)
    samples.power_fails_before = None
    run = run_here(tiny_spec)
    assert run.steps("step") == [*range(1, 8), *range(5, 13)]
    log = read_log("wandb", run.folder / "base")
    assert log["loss"] == _expected(run, "loss")
    assert [step for step, _ in log["perplexity/perplexity"]] == [3, 6, 9, 12]


def test_a_killed_run_goes_on_in_the_same_log(
    tiny_spec, train, write_spec, run_here, warm, monkeypatch, tmp_path, read_log
):
    """No step is there twice; what wandb had not yet written is missing, of the others nothing."""
    train |= {"budget": "40 steps", "checkpoint": {"every": "2 steps"}}
    train["callbacks"] = [{"type": tracker} for tracker in TRACKERS]
    run_here(tiny_spec, only="corpus")
    script = Path(__file__).with_name("killed_run.py")
    with monkeypatch.context() as patch:
        # This process may have a wandb service already; the other's own dies with it.
        patch.delenv("WANDB_SERVICE", raising=False)
        killed = warm.run([script, write_spec(tiny_spec), tmp_path / "runs", "21"])
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    run = run_here(tiny_spec)
    assert run.events("resumed")
    expected = _expected(run, "loss")
    assert [step for step, _ in expected] == list(range(1, 41))
    assert read_log("tensorboard", run.folder / "base")["loss"] == _close(expected)
    assert read_log("mlflow", run.folder / "base")["loss"] == expected
    written = read_log("wandb", run.folder / "base")["loss"]
    assert written[-20:] == expected[20:]
    assert sorted(set(written)) == written
    assert set(written) <= set(expected)


@each_tracker
def test_a_roll_back_leaves_each_step_once(tiny_spec, train, run_here, samples, tracker, read_log):
    """TensorBoard shows the steps that replaced others; wandb and MLflow keep what was written."""
    guard = {"type": "spike-guard", "patience": 2}
    train["callbacks"] = [{"type": tracker}, guard]
    samples.poison = {6 * 8: math.nan, 7 * 8: math.nan}
    run = run_here(tiny_spec)
    assert run.steps("step") == [*range(1, 9), *range(5, 13)]
    first = {e["step"]: e["loss"] for e in reversed(run.events("step"))}
    log = read_log(tracker, run.folder / "base")["loss"]
    if tracker == "tensorboard":
        assert log == _close(_expected(run, "loss"))
    else:
        assert [step for step, _ in log] == list(range(1, 13))
        assert [step for step, value in log if math.isnan(value)] == [7, 8]
        assert [v for _, v in log if not math.isnan(v)] == [
            v for _, v in sorted(first.items()) if v
        ]


@pytest.mark.parametrize(
    "build",
    [
        TensorBoardTracker,
        lambda context: WandbTracker(Wandb(), context),
        lambda context: MLflowTracker(MLflow(), context),
    ],
)
def test_other_ranks_write_nothing(build, tmp_path):
    """All are told, so that callbacks agree; rank 0 alone has a log."""
    callback = build(SimpleNamespace(rank=1))
    callback.stage_started("base", tmp_path, {})
    callback.step_finished({"step": 1, "time": 0.0, "loss": 1.0})
    callback.scored({"step": 1, "time": 0.0, "evaluator": "quiz", "metric": "points", "value": 1.0})
    callback.state()
    callback.stage_finished()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.covers("callback/wandb.project", "callback/wandb.entity")
def test_a_wandb_run_is_where_the_spec_says(tiny_spec, train, run_here, wandb_records):
    """Named after run and stage, with the stage's configuration."""
    train["callbacks"] = [{"type": "wandb", "project": "zoo", "entity": "keepers"}]
    run = run_here(tiny_spec)
    (made,) = (r.run for r in wandb_records(run.folder / "base") if r.run.run_id)
    assert (made.project, made.entity, made.display_name) == ("zoo", "keepers", "tiny/base")
    assert made.run_group == "tiny"
    config = {u.key: json.loads(u.value_json) for u in made.config.update}
    assert config["budget"] == "12 steps"


@pytest.mark.parametrize(
    "planted", ["", "abc", "../../x 000000000000001\n", "é" * 8, "0" * 100_000]
)
def test_a_damaged_place_in_a_wandb_run_is_named(planted, tmp_path):
    """The file that keeps its id and its last step."""
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "engine-run").write_text(planted, encoding="utf-8")
    tracker = WandbTracker(Wandb(), SimpleNamespace(rank=0))
    with pytest.raises(RunError, match="wandb/engine-run: is damaged; remove it"):
        tracker.open("base", tmp_path, {})


@pytest.mark.covers("callback/wandb.mode", "callback/wandb.key_env")
def test_a_wandb_run_goes_online_with_a_key_from_the_environment(
    tiny_spec, train, run_here, monkeypatch
):
    """The key that the spec names a variable for; it is in no file of the run."""
    import wandb

    asked = []
    init = wandb.init

    def stays_at_home(**options):
        asked.append((options["mode"], options["settings"].api_key))
        return init(**{**options, "mode": "offline"})

    monkeypatch.setattr(wandb, "init", stays_at_home)
    key = "0123456789abcdef" * 2 + "01234567"
    train["callbacks"] = [{"type": "wandb"}]
    run_here(tiny_spec, runs="offline")
    train["callbacks"] = [{"type": "wandb", "mode": "online", "key_env": "KEY_OF_THE_ZOO"}]
    online = {
        "runs": "online",
        "allow": ["network=api.wandb.ai", "secret=KEY_OF_THE_ZOO@api.wandb.ai"],
    }
    with pytest.raises(RunError, match=r"variable KEY_OF_THE_ZOO is not set.*mode: offline"):
        run_here(tiny_spec, **online)
    monkeypatch.setenv("KEY_OF_THE_ZOO", key)
    run = run_here(tiny_spec, **online)
    assert asked == [("offline", None), ("online", key)]
    files = [f for f in run.folder.rglob("*") if f.is_file()]
    assert not any(key.encode() in f.read_bytes() for f in files)


@pytest.mark.covers("callback/mlflow.uri", "callback/mlflow.experiment")
def test_an_mlflow_run_is_where_the_spec_says(tiny_spec, train, run_here, tmp_path, write_spec):
    """Named after run and stage, with the stage's configuration; a password is refused."""
    uri = f"sqlite:///{tmp_path}/zoo.db"
    train["callbacks"] = [{"type": "mlflow", "uri": uri, "experiment": "zoo"}]
    run = run_here(tiny_spec, allow=["files"])
    assert not (run.folder / "base" / "mlflow.db").exists()
    client = MlflowClient(uri)
    (made,) = client.search_runs([client.get_experiment_by_name("zoo").experiment_id])
    assert (made.info.run_name, made.info.status) == ("tiny/base", "FINISHED")
    assert made.data.params["model.hidden_size"] == "32"
    train["callbacks"][0]["uri"] = "https://keeper:hush@mlflow.zoo"
    with pytest.raises(
        SpecError, match=r"yaml:\d+: an address with a password.*environment variables"
    ) as refused:
        load_spec(write_spec(tiny_spec))
    assert "hush" not in str(refused.value)


def test_an_mlflow_store_that_does_not_answer_gets_its_figures_later(
    monkeypatch, tmp_path, read_log
):
    """One warning, and training goes on: nothing is lost. Names become those that MLflow takes."""
    log_batch, answers = MlflowClient.log_batch, iter([True, False, True])

    def unreliable(self, *arguments, **options):
        if not next(answers):
            raise MlflowException("out to lunch")
        return log_batch(self, *arguments, **options)

    tracker = MLflowTracker(MLflow(), SimpleNamespace(rank=0))
    tracker.stage_started("base", tmp_path, {})
    monkeypatch.setattr(MlflowClient, "log_batch", unreliable)
    score = {"evaluator": "humaneval", "metric": "pass@1"}

    def four_steps():
        for step in range(1, 5):  # a row is written when the next step is finished
            tracker.step_finished({"step": step, "time": 1.0, "loss": 5.0 - step})
            tracker.scored({"step": step, "time": 1.0, **score, "value": 0.1 * step})

    with pytest.warns(UserWarning, match="mlflow: 2 figures wait: out to lunch") as warned:
        four_steps()
    assert len(warned) == 1
    tracker.state()
    tracker.stage_finished()
    found = read_log("mlflow", tmp_path)
    assert found["loss"] == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    assert [step for step, _ in found["humaneval/pass_1"]] == [1, 2, 3, 4]


def test_an_mlflow_store_that_is_none_is_the_user_s_to_mend(
    tiny_spec, train, run_here, monkeypatch
):
    """As an error that names stage and field."""
    train["callbacks"] = [{"type": "mlflow", "uri": "zoo://animals"}]
    with pytest.raises(
        SpecError, match=r"uri: is neither https://HOST, sqlite:///FILE nor a folder"
    ):
        run_here(tiny_spec)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    train["callbacks"][0]["uri"] = "http://127.0.0.1:9"
    with pytest.raises(RunError, match=r"base: mlflow: .*`uri`"):
        run_here(tiny_spec)


def test_tensorboard_files_sort_as_they_were_written(tmp_path):
    """Even where a run is killed and goes on within one second: others TensorBoard passes over."""
    folder = tmp_path / "tensorboard"
    folder.mkdir()
    killed = folder / f"events.out.tfevents.{int(time.time())}.zz.99999999.0"
    killed.touch()
    tracker = TensorBoardTracker(SimpleNamespace(rank=0))
    tracker.open("base", tmp_path, {})
    tracker.write(Row(1, time.time(), {"loss": 1.0}))
    tracker.close()
    assert min(folder.iterdir()) == killed
    assert len(list(folder.iterdir())) == 2


def test_settings_beside_a_spec_do_not_move_the_key(tmp_path, monkeypatch):
    """wandb reads settings from the folder that it is started in; the server is the user's choice."""
    (tmp_path / "wandb").mkdir()
    settings = "[default]\nbase_url = http://evil.example\n"
    (tmp_path / "wandb" / "settings").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEY", "0123456789abcdef" * 2 + "01234567")
    tracker = WandbTracker(Wandb(mode="online", key_env="KEY"), SimpleNamespace(rank=0))
    assert tracker._settings("base").base_url == "https://api.wandb.ai"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.zoo")
    assert tracker._settings("base").base_url == "https://wandb.zoo"
    words = [need.word for need in Wandb(mode="online", key_env="KEY").needs()]
    assert words == ["network=wandb.zoo", "secret=KEY@wandb.zoo"]
    assert list(Wandb().needs()) == []


def test_settings_beside_a_spec_are_not_read(tmp_path, monkeypatch):
    """Nor does a run keep where and by whom it was started, or tell wandb's makers of errors."""
    (tmp_path / "wandb").mkdir()
    settings = "[default]\nhttps_proxy = http://evil.example\ninsecure_disable_ssl = true\n"
    (tmp_path / "wandb" / "settings").write_text(settings, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WANDB_ERROR_REPORTING", raising=False)
    wandb.teardown()
    (tmp_path / "base").mkdir()
    tracker = WandbTracker(Wandb(), SimpleNamespace(rank=0))
    tracker.stage_started("base", tmp_path / "base", {})
    tracker.stage_finished()
    used = tracker._run.settings
    assert used.https_proxy is None
    assert not used.insecure_disable_ssl
    assert used.disable_git
    assert used.x_disable_meta
    assert os.environ["WANDB_ERROR_REPORTING"] == "false"
    assert Path.cwd() == tmp_path

"""Callback `mlflow` beside a server: it gets what is allowed, and can do no harm."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import ClassVar
from urllib.parse import urlsplit

import pytest
from engine_callbacks.config import MLflow
from engine_callbacks.mlflow_run import MLflowTracker

from engine import RunError


class Store(BaseHTTPRequestHandler):
    """An MLflow server; ``replies`` are by the end of the address, and ``seen`` what came."""

    replies: ClassVar[dict[str, tuple[int, bytes]]] = {}
    seen: ClassVar[list[tuple[str, str | None]]] = []

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append((self.path, self.headers.get("Authorization")))
        run = (
            b'{"run": {"info": {"run_id": "abc", "experiment_id": "1", "run_name": "\\u001b[2J"}}}'
        )
        there = {
            "get-by-name": (200, b'{"experiment": {"experiment_id": "1", "name": "engine"}}'),
            "create": (200, run),
            "update": (200, run),
            "get": (200, run),
            **self.replies,
        }
        name = urlsplit(self.path).path.rpartition("/")[2]
        status, body = there.get(name, (200, b"{}"))
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.do_POST()

    def log_message(self, *told):
        pass


@pytest.fixture
def store(monkeypatch, tmp_path):
    """A tracker that asks a server of ours, and what it asked."""
    monkeypatch.setattr(Store, "replies", {})
    monkeypatch.setattr(Store, "seen", [])
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for name in ("NETRC", "MLFLOW_ALLOW_HTTP_REDIRECTS", "no_proxy", "MLFLOW_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Store) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = MLflow(uri=f"http://127.0.0.1:{server.server_port}")
        assert list(config.needs()) == []
        yield lambda: MLflowTracker(config, SimpleNamespace(rank=0))
        server.shutdown()


def test_an_mlflow_server_gets_what_is_allowed(store, tmp_path, monkeypatch, capfd):
    """No password of ~/.netrc; no proxy hears of what is for this machine, nor do MLflow's makers; and
    a server writes nothing to the terminal."""
    from mlflow.telemetry import utils

    (tmp_path / ".netrc").write_text("default login me password hunter2", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    tracker = store()
    tracker.stage_started("base", tmp_path, {})
    for step in (1, 2):
        tracker.step_finished({"step": step, "time": 1.0, "loss": 1.0})
    tracker.stage_finished()
    assert {login for _, login in Store.seen} == {None}
    assert [path for path, _ in Store.seen if path.endswith("log-batch")]
    monkeypatch.setattr(utils, "_IS_IN_CI_ENV_OR_TESTING", False)
    assert utils.is_telemetry_disabled()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("get-by-name", (307, b"")),
        ("get-by-name", (400, b'{"error_code": "\\u001b[2J", "message": "%s"}' % (b"x" * 9999))),
        ("create", (200, b'{"run": {"info": {"run_id": "\xc3\xa9"}}}')),
        ("create", (200, b'{"run": [7]}')),
        ("get-history", (200, b'{"metrics": [{"key": "loss", "value": "x", "step": "y"}]}')),
    ],
)
def test_an_mlflow_server_that_means_ill(store, tmp_path, capfd, request_, reply):
    """Is told in a line, and leads nowhere."""
    Store.replies[request_] = reply
    with pytest.raises(RunError, match=r"base: mlflow: .*; check its `uri`") as told:
        store().stage_started("base", tmp_path, {})
    assert len(str(told.value)) < 500
    assert "/elsewhere" not in {path for path, _ in Store.seen}
    assert capfd.readouterr() == ("", "")


def test_mlflow_s_stored_login_needs_a_word_as_one_in_the_environment_does(tmp_path, monkeypatch):
    """MLflow sends both to whatever server it is given."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    server = MLflow(uri="http://localhost:5000")
    assert list(server.needs()) == []
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").touch()
    words = [need.word for need in server.needs()]
    assert words == [f"secret=MLFLOW_TRACKING_{n}@localhost" for n in ("USERNAME", "PASSWORD")]

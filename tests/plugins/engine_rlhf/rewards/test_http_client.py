"""Services that mean ill: what they reply costs no more than the spec's time and a fixed memory."""

from __future__ import annotations

import gzip
import itertools
import socket
import threading
import time

import pytest
from pydantic import ValidationError

from engine import RunError

OK = b"HTTP/1.1 200 OK\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture
def replying():
    """An address where each question is answered by the next of these pieces, one by one."""
    listeners, asked = [], []

    def start(pieces):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve():
            connection, _ = listener.accept()
            asked.append(connection.recv(65536))
            try:
                for piece in pieces:
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:  # whoever asked is gone
                pass
            connection.close()

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start, asked
    for listener in listeners:
        listener.close()


def slowly(pieces):
    for piece in pieces:
        time.sleep(0.05)
        yield piece


BOMB = gzip.compress(b" " * (100 << 20), 9)
HEAD = OK + JSON
ILL = {
    "gzip that grows a thousand times": (
        [HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB), BOMB],
        "the reply is compressed",
    ),
    "a body without end": (
        itertools.chain([HEAD + b"\r\n"], itertools.repeat(b"9" * (1 << 20))),
        "more than 16,777,216 bytes",
    ),
    "a byte now and then": (
        slowly(itertools.chain([HEAD + b"\r\n"], itertools.repeat(b" "))),
        "not whole after 0.5 s",
    ),
    "headers now and then": (
        slowly(itertools.chain([OK], itertools.repeat(b"X: y\r\n"))),
        "not whole after 0.5 s",
    ),
    "no word": (slowly(itertools.repeat(b"")), "not whole after 0.5 s"),
    "lists in lists": ([HEAD + b"Connection: close\r\n\r\n" + b"[" * 200_000], "RecursionError"),
    "a number of many digits": ([HEAD + b"Connection: close\r\n\r\n" + b"9" * 9999], "ValueError"),
    "no HTTP": ([b"SSH-2.0-x\r\n\r\n"], "ProtocolError"),
    "a reason that fills the screen": (
        [b"HTTP/1.1 500 " + b"x" * 60_000 + b"\r\n\r\n"],
        "Server error '500 x{99}",
    ),
}


@pytest.mark.parametrize("kind", ILL)
def test_a_service_that_means_ill(bench, replying, kind):
    """Is told in a line, and ended where it would go on forever."""
    start, _ = replying
    pieces, why = ILL[kind]
    config = {"type": "http", "url": start(pieces), "attempts": 1}
    config["timeout"] = 0.5 if "whole" in why else 20
    reward = bench.context.build("reward", config)
    with pytest.raises(RunError, match=f"no answer after 1 attempts .*{why}") as told:
        reward.score(["p"], ["a"], [{}])
    assert len(str(told.value)) < 1000


def test_an_address_that_cannot_be_asked(bench):
    """Is told in a line, too: the library that asks has limits of its own."""
    config = {"type": "http", "url": "http://127.0.0.1/" + "x" * 70_000, "attempts": 1}
    with pytest.raises(RunError, match="InvalidURL: URL too long"):
        bench.context.build("reward", config).score(["p"], ["a"], [{}])


def test_a_limit_that_no_clock_knows_is_refused(bench):
    """With its field, and not by an OverflowError where the service is asked."""
    config = {"type": "http", "url": "http://127.0.0.1/", "timeout": 1e10}
    with pytest.raises(ValidationError, match="timeout"):
        bench.context.build("reward", config)


def test_the_name_of_a_score_is_told_in_part(bench, replying):
    """A service may call it anything."""
    start, _ = replying
    body = b'{"scores": {"%s": ["x"]}}' % (b"n" * 50_000)
    url = start([HEAD + b"Content-Length: %d\r\n\r\n" % len(body), body])
    reward = bench.context.build("reward", {"type": "http", "url": url, "attempts": 1})
    with pytest.raises(RunError, match=r"its scores 'n+' are not 1 finite numbers") as told:
        reward.score(["p"], ["a"], [{}])
    assert len(str(told.value)) < 1000


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(bench, replying, status):
    """Neither prompts nor the key reach another address than the spec's."""
    start, asked = replying
    other = start([OK + b'Content-Length: 16\r\n\r\n{"scores": [1.0]}'])
    moved = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n"
    url = start([moved % (status, other.encode())])
    reward = bench.context.build("reward", {"type": "http", "url": url, "attempts": 1})
    with pytest.raises(RunError, match=f"{status}: redirects are not followed"):
        reward.score(["p"], ["a"], [{}])
    assert len(asked) == 1
    assert b"accept-encoding: identity" in asked[0].lower()


def test_what_is_for_this_machine_goes_to_no_proxy(bench, replying, monkeypatch):
    """Whatever the environment says of others."""
    start, asked = replying
    monkeypatch.setenv("HTTP_PROXY", start([b"HTTP/1.1 500 No\r\n\r\n"]))
    url = start([OK + b'Content-Length: 17\r\n\r\n{"scores": [1.5]}'])
    reward = bench.context.build("reward", {"type": "http", "url": url, "attempts": 1})
    assert reward.score(["p"], ["a"], [{}])["http"].tolist() == [1.5]
    assert len(asked) == 1

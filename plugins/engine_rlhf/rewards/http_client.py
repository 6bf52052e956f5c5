"""Posts to an untrusted service: limits the time and the reply's size, and follows no redirect."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, TimeoutError as Late
from threading import Thread

import httpx

from engine import host_of, is_loopback

_MOST = 16 << 20
"""Largest reply in bytes, enough for the scores of more than 100,000 answers."""


def post(url: str, content: bytes, headers: Mapping[str, str], seconds: float) -> bytes:
    """The service's reply. Raises OSError where the request fails or takes longer than ``seconds``.

    A redirect counts as a failure, as it may lead to another host. A socket's time limit restarts with
    every byte, so a thread sends the request, and closing the connection ends the thread.
    """
    # The client's own limit ends the thread if closing does not. This machine needs no proxy.
    client = httpx.Client(timeout=seconds + 1, trust_env=not is_loopback(host_of(url)))
    reply: Future[bytes] = Future()
    Thread(target=_ask, args=(client, url, content, headers, reply), daemon=True).start()
    try:
        return reply.result(seconds)
    except Late as error:
        raise TimeoutError(f"the reply was not whole after {seconds:g} s") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConnectionError(f"{type(error).__name__}: {error}") from error
    finally:
        client.close()


def _ask(
    client: httpx.Client,
    url: str,
    content: bytes,
    headers: Mapping[str, str],
    reply: Future[bytes],
) -> None:
    try:
        # A small compressed reply could expand beyond memory.
        asked = {**headers, "Accept-Encoding": "identity"}
        with client.stream("POST", url, content=content, headers=asked) as response:
            if response.is_redirect:
                raise ConnectionError(f"{response.status_code}: redirects are not followed")
            response.raise_for_status()
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise ConnectionError(f"the reply is compressed ({encoding})")
            reply.set_result(_read(response))
    except Exception as error:  # raised by post(), which waits
        reply.set_exception(error)


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    for part in response.iter_raw():
        body += part
        if len(body) > _MOST:
            raise ConnectionError(f"the reply has more than {_MOST:,} bytes")
    return bytes(body)

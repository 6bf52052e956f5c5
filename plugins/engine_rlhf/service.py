"""Asks a service that nobody vouches for: within a time, for so many bytes, and nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from threading import Thread

import httpx

from engine import host_of, is_loopback

_MOST = 16 << 20
"""Bytes of a reply: numbers of a hundred thousand answers and more."""


def post(url: str, content: bytes, headers: Mapping[str, str], seconds: float) -> bytes:
    """What the service replies. Raises OSError where that is no success, or not whole in time.

    A redirect is not followed, as it may lead to another host. Time limits of sockets count from byte
    to byte, so another thread does the asking, which closing the connection ends.
    """
    # Its own limit ends the thread, after us. What is for this machine goes to no proxy.
    client = httpx.Client(timeout=seconds + 1, trust_env=not is_loopback(host_of(url)))
    reply: Future[bytes] = Future()
    Thread(target=_ask, args=(client, url, content, headers, reply), daemon=True).start()
    try:
        return reply.result(seconds)
    except Late as error:
        raise TimeoutError(f"the reply was not whole after {seconds:g} s") from error
    except httpx.HTTPError as error:
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
        # Compressed, a few bytes might stand for any number of them.
        asked = {**headers, "Accept-Encoding": "identity"}
        with client.stream("POST", url, content=content, headers=asked) as response:
            if response.is_redirect:
                raise ConnectionError(f"{response.status_code}: redirects are not followed")
            response.raise_for_status()
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise ConnectionError(f"the reply is compressed ({encoding})")
            reply.set_result(_read(response))
    except Exception as error:  # for who waits to raise
        reply.set_exception(error)


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    for part in response.iter_raw():
        body += part
        if len(body) > _MOST:
            raise ConnectionError(f"the reply has more than {_MOST:,} bytes")
    return bytes(body)

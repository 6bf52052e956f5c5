"""Chromium without a window, driven by its DevTools protocol over a pipe: no library, no port."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_SECONDS = 60
"""Longest wait for an answer; a busy machine takes several seconds to start Chromium."""
_START = 'exec 3<&"$1" 4>&"$2"; shift 2; exec "$@"'
"""Chromium reads commands from file 3 and writes answers to file 4."""


def chromium() -> str | None:
    """The program, if it is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with one page, which no network can be reached from."""

    def __init__(self, program: str, home: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._calls, self._unread = 0, b""
        ends = (*os.pipe(), *os.pipe())
        # Above 10, so that making 3 and 4 of two of them closes no other.
        theirs, self._write, self._read, answers = (
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends
        )
        for end in ends:
            os.close(end)
        switches = (
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--remote-debugging-pipe", "--host-resolver-rules=MAP * ~NOTFOUND",
            "--disable-background-networking", "--disable-component-update", f"--user-data-dir={home}",
        )  # fmt: skip
        self._process = subprocess.Popen(
            ["bash", "-c", _START, "bash", str(theirs), str(answers), program, *switches],
            pass_fds=(theirs, answers),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs)
        os.close(answers)
        self._session: str | None = None
        try:
            self._attach()
        except AssertionError:
            self.close()
            raise

    def _attach(self) -> None:
        """Opens a page without a network."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        offline = {"latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
        self.call("Network.emulateNetworkConditions", offline=True, **offline)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of a command; events that arrive before it are kept."""
        self._calls += 1
        message: dict[str, Any] = {"id": self._calls, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self._calls:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _message(self) -> dict[str, Any]:
        until = time.monotonic() + _SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._read], [], [], max(0, until - time.monotonic()))
            part = os.read(self._read, 1 << 20) if ready else b""
            assert part, "Chromium does not answer"
            self._unread += part
        line, _, self._unread = self._unread.partition(b"\0")
        return json.loads(line)

    def open(self, file: Path, ready: str) -> None:
        """Opens a file and waits until the expression ``ready`` is true."""
        self.events.clear()
        self.call("Page.navigate", url=file.as_uri())
        until = time.monotonic() + _SECONDS
        while not self.value(f"Boolean({ready})"):
            thrown = any(event["method"] == "Runtime.exceptionThrown" for event in self.events)
            late = time.monotonic() > until
            assert not thrown, self.complaints()
            assert not late, f"{ready} does not become true: {self.complaints()}"
            time.sleep(0.05)

    def value(self, expression: str) -> Any:
        """The value of an expression of JavaScript; a promise is waited for."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def complaints(self) -> list[str]:
        """What the console says since a file was opened: errors, warnings and uncaught exceptions."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [json.dumps(e["params"]) for e in self.events if e["method"] in kinds]

    def requests(self) -> list[str]:
        """The addresses that were asked for since a file was opened, this file among them."""
        sent = (e for e in self.events if e["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in sent]

    def screen(self, width: int, height: int = 900, *, dark: bool = False, media: str = "") -> None:
        """Sets the size of the window, and what the style sheets are told."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        # Charts take the new width in their next frames.
        frames = "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50)))"
        self.value(f"new Promise((done) => {frames})")

    def screenshot(self) -> bytes:
        """A picture of the whole page, as PNG."""
        return base64.b64decode(
            self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        )

    def printed(self) -> bytes:
        """The page as it is printed, as PDF."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])

    def press(self, key: str) -> None:
        """Presses and releases a key, such as ``Tab`` or ``ArrowLeft``."""
        codes = {"Tab": 9, "Enter": 13, "End": 35, "ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}
        known = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def point(self, x: float, y: float) -> None:
        """Moves the pointer to a place in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def close(self) -> None:
        """Ends the browser."""
        self._session = None
        try:
            if self._process.poll() is None:
                self.call("Browser.close")
            self._process.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._read)
        os.close(self._write)


@contextmanager
def browser(program: str) -> Iterator[Browser]:
    """A browser with a profile of its own, which goes with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        opened = Browser(program, Path(home))
        try:
            yield opened
        finally:
            opened.close()

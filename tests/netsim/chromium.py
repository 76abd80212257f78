"""A headless Chromium, driven over its debugging pipe: opens a page, says what happened, takes pictures.

The pipe carries JSON messages that end with a zero byte (Chrome DevTools Protocol): no port, no
other library.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
DEADLINE = 120.0  # seconds for any answer: only a browser that hangs takes so long

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have little of it
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def program() -> str | None:
    """Where Chromium is, if it is here."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """One page. requests: addresses that it asked for.  complaints: what its console and log said."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number = 0
        self._session: str | None = None
        self._pending = b""
        self._loaded = False
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def open(self, page: Path | str, width: int, height: int, scheme: str) -> None:
        """Load a file or an address in a window of this size in CSS pixels; scheme: light or dark."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.requests.clear()
        self.complaints.clear()
        self._loaded = False
        self.call("Page.navigate", url=page if isinstance(page, str) else page.absolute().as_uri())
        while not self._loaded:
            self._take(self._receive())
        # Whatever is in the window has been decoded, and drawn, when two frames have passed.
        self.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def value(self, expression: str) -> Any:
        """What a script gives; of a promise, what it comes to."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str, seconds: float = DEADLINE) -> None:
        """Wait until an expression is true of the page, which is asked whenever the page changes."""
        changed = """new Promise(done => {
            const seen = new MutationObserver(() => look());
            const look = () => { if (%s) { seen.disconnect(); done(true) } };
            seen.observe(document, {subtree: true, childList: true, characterData: true, attributes: true});
            setTimeout(() => { seen.disconnect(); done(false) }, %d);
            look();
        })"""
        assert self.value(changed % (condition, 1000 * seconds)), f"it never came to {condition}"

    def click(self, selector: str) -> None:
        """As with a mouse, in the middle of an element."""
        x, y = self.place(selector, 0.5, 0.5)
        self.drag([(x, y)])

    def place(self, selector: str, across: float, down: float) -> tuple[float, float]:
        """A point of an element, which is scrolled into view, in the window's CSS pixels."""
        box = self.value(
            "(e => (e.scrollIntoView({block: 'center'}), e.getBoundingClientRect().toJSON()))"
            + f"(document.querySelector({json.dumps(selector)}))"
        )
        return box["x"] + across * box["width"], box["y"] + down * box["height"]

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse's button at the first point, move through the others, and let go at the last."""
        first, last = points[0], points[-1]
        mouse = [
            ("mousePressed", first),
            *(("mouseMoved", point) for point in points[1:]),
            ("mouseReleased", last),
        ]
        for kind, (x, y) in mouse:
            self.call(
                "Input.dispatchMouseEvent",
                type=kind, x=x, y=y, button="left", buttons=int(kind != "mouseReleased"), clickCount=1,
            )  # fmt: skip

    def picture(self, path: Path) -> None:
        """The whole page, as a PNG file."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        _write_all(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._take(answer)

    def _take(self, event: dict[str, Any]) -> None:
        params = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Log.entryAdded":
                self.complaints.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(params))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._answers], [], [], DEADLINE)
            assert ready, "chromium does not answer"
            piece = os.read(self._answers, 1 << 20)
            assert piece, "chromium has gone"
            self._pending += piece
        message, _, self._pending = self._pending.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


def assert_shown(browser: Browser, *, pictures: int) -> None:
    """The open page shows so many pictures, all within the window's width, and asked nobody for them."""
    assert browser.value("document.images.length") == pictures
    assert browser.value(
        "Promise.all([...document.images].map(i => i.decode().then(() => i.naturalWidth > 0 && i.width > 0)))"
        ".then(all => all.every(Boolean))"
    )
    assert browser.value("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.complaints == []
    assert all(url.startswith(("file:", "data:")) for url in browser.requests)


def _write_all(descriptor: int, message: bytes) -> None:
    while message:
        message = message[os.write(descriptor, message) :]


@contextlib.contextmanager
def browsing(path: str, profile: Path) -> Iterator[Browser]:
    """Start Chromium with a fresh profile folder; it and all its helpers end with the block."""
    there, commands = (_high(end) for end in os.pipe())
    answers, back = (_high(end) for end in os.pipe())
    try:
        # The browser reads from descriptor 3 and writes to 4.
        script = f'exec "$@" 3<&{there} 4>&{back} {there}<&- {back}>&-'
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", path, *FLAGS, f"--user-data-dir={profile}"],
            pass_fds=(there, back),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(profile)},
        )
    finally:
        os.close(there)
        os.close(back)
    try:
        browser = Browser(commands, answers)
        yield browser
        browser._session = None
        browser.call("Browser.close")
    finally:
        os.close(commands)  # on which a browser that is still there ends by itself
        os.close(answers)
        try:
            process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _high(descriptor: int) -> int:
    """The same under a number that is not needed for anything else."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved

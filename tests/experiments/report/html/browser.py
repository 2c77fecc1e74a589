"""A headless Chromium, asked over the pipe of its debugging protocol, so that no package is needed for it."""

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str | None:
    """The program, if it is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Page:
    """A page of the browser.

    Attributes:
        told: Messages of the console and of the log, and requests that left the page.
    """

    def __init__(self, reading: Any, writing: Any) -> None:
        self._reading, self._writing = reading, writing
        self._number, self._session = 0, ""
        self.told: list[str] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writing.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return dict(answer["result"])

    def open(self, file: Path, width: int, height: int = 900) -> None:
        mobile = width < 600
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        self.ask("Page.navigate", url=file.resolve().as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def show_as(self, medium: str = "screen", scheme: str = "light") -> None:
        """Show pages as a medium does, to readers who prefer a colour scheme."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=medium, features=features)

    def value(self, expression: str) -> Any:
        how = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        result = self.ask("Runtime.evaluate", expression=expression, **how)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, file: Path, whole: bool = False) -> None:
        picture = self.ask(
            "Page.captureScreenshot", captureBeyondViewport=whole, **({} if not whole else self._whole())
        )
        file.write_bytes(base64.b64decode(picture["data"]))

    def pdf(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self.ask("Page.printToPDF", preferCSSPageSize=True)["data"]))

    def _whole(self) -> dict[str, Any]:
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def _next(self) -> dict[str, Any]:
        content = bytearray()
        while (letter := self._reading.read(1)) != b"\0":
            if not letter:
                raise EOFError("the browser has ended")
            content += letter
        message: dict[str, Any] = json.loads(content)
        method, parameters = message.get("method", ""), message.get("params", {})
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            self.told.append(json.dumps(parameters))
        if method == "Network.requestWillBeSent" and parameters["request"]["url"].startswith(("http", "ws", "ftp")):
            self.told.append(parameters["request"]["url"])
        return message


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Page]:
    """A page of a browser that ends with the block; its profile is in a folder."""
    (read_by_it, writing), (reading, written_by_it) = os.pipe(), os.pipe()
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe"]
    command = [program, *flags, f"--user-data-dir={folder}", "about:blank"]
    process = subprocess.Popen(
        ["bash", "-c", f'exec "$0" "$@" 3<&{read_by_it} 4>&{written_by_it}', *command],
        pass_fds=(read_by_it, written_by_it),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(read_by_it)
    os.close(written_by_it)
    try:
        with os.fdopen(writing, "wb", buffering=0) as into, os.fdopen(reading, "rb") as out:
            yield Page(out, into)
    finally:
        process.terminate()
        process.wait(timeout=30)

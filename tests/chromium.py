"""Chromium, headless, through its own driver: what the tests of all pages share."""

import io
import json
import time
from typing import Any

import numpy as np
from PIL import Image

PATIENCE = 120.0  # seconds; WebGL on a processor takes its time

# So that WebGL2 works without a graphics card.
SWITCHES = ("--headless=new", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def until(browser: Any, condition: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not browser.execute_script(f"return Boolean({condition})"):
        assert time.monotonic() < deadline, f"not so after {PATIENCE:.0f} s: {condition}"
        time.sleep(0.2)


def shot(element: Any) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def addresses_asked(browser: Any) -> list[str]:
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def no_console_error(browser: Any) -> None:
    errors = [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not errors, "\n".join(errors)

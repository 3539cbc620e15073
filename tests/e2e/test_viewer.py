"""The viewer and the report in a real browser: Chromium, headless, through its own driver."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from chromium import addresses_asked, no_console_error, shot, until

from medseg.workflows.evaluate import evaluate

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def metrics(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of two cases, of which the second lacks a part; its labels have names."""
    folder = tmp_path_factory.mktemp("evaluation")
    masks = folder / "masks"
    masks.mkdir()
    for name, cut in (("blob_00", 0), ("blob_01", 6)):
        image = nibabel.load(blobs / "labels" / f"{name}.nii.gz")
        label_map = np.asarray(image.dataobj)
        label_map[:, :, :cut] = 0
        nibabel.save(nibabel.Nifti1Image(label_map, image.affine), masks / f"{name}.nii.gz")
    labels = [
        {"name": "shell", "value": 2, "colour": [228, 26, 28]},
        {"name": "core", "value": 5, "colour": [0, 90, 255]},
    ]
    (masks / "predictions.json").write_text(json.dumps({"labels": {"items": labels}, "asked": ["blob_00", "blob_01"]}))
    evaluate(masks, blobs, folder / "metrics", metrics=["overlap"], workers=1)
    return folder / "metrics"


@pytest.fixture
def address(metrics: Path) -> Iterator[str]:
    """Of a viewer that runs as a user starts it, and ends as one ends it."""
    command = [sys.executable, "-m", "medseg", "view", str(metrics), "--no-browser"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as viewer:
        assert viewer.stderr is not None
        yield viewer.stderr.readline().split()[0]
        viewer.send_signal(signal.SIGINT)
        try:
            assert viewer.wait(20) == 0
        finally:
            viewer.kill()  # where Ctrl-C was not heard, as in a job of the background


def canvas(browser: Any) -> np.ndarray:
    """What is seen of the slices, outlines included."""
    time.sleep(1)
    return shot(browser.find_element("css selector", "main"))


def reddish(pixels: np.ndarray) -> int:
    """Pixels of the label that is red."""
    red, green, blue = np.moveaxis(pixels, -1, 0)
    return int(((red > green + 40) & (red > blue + 40)).sum())


def click(browser: Any, name: str) -> None:
    browser.execute_script(
        "[...document.querySelectorAll('label')].find((each) => each.textContent.includes(arguments[0])).click()", name
    )


def test_viewer(browser: Any, address: str) -> None:
    browser.get(address)
    until(browser, "document.querySelector('#busy').hidden && nv.volumes.length === 4 && nv.meshes.length === 4")
    page = browser.find_element("css selector", "aside").text
    assert "shell" in page
    assert "core" in page
    assert browser.find_element("css selector", "#cases option:checked").text == "1. blob_01"  # the worst

    before = canvas(browser)
    assert (before.max(axis=-1) > 60).mean() > 0.1  # the image
    assert reddish(before) > 500  # the overlay
    click(browser, "shell")
    without = canvas(browser)
    assert reddish(without) < 0.1 * reddish(before)
    click(browser, "shell")
    assert reddish(canvas(browser)) == pytest.approx(reddish(before), rel=0.05)

    click(browser, "error map")
    assert (canvas(browser) != before).any(axis=-1).mean() > 0.005
    click(browser, "error map")

    press_key(browser, "n")
    until(browser, "document.querySelector('#cases').value === '1' && document.querySelector('#busy').hidden")
    until(browser, "nv.meshes.length === 4")
    press_key(browser, "v")
    assert browser.find_element("css selector", "[aria-pressed=true]").text == "axial"

    asked = addresses_asked(browser)
    assert any("layer0.nii" in each for each in asked)
    assert [each for each in asked if not each.startswith((address, "data:", "blob:", "chrome:"))] == []
    no_console_error(browser)
    browser.get("about:blank")


def press_key(browser: Any, key: str) -> None:
    browser.find_element("css selector", "body").send_keys(key)


def test_report(browser: Any, metrics: Path) -> None:
    browser.get((metrics / "report.html").as_uri())
    page = browser.find_element("css selector", "body").text
    assert "shell" in page
    assert "core" in page
    first = browser.find_element("css selector", "figure.slice")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", first)
    seen = partial(shot, first)
    before = seen()
    assert (before.max(axis=-1) > 60).mean() > 0.2
    browser.execute_script("document.querySelector('#show-errors').click()")
    assert (seen() != before).any(axis=-1).sum() > 100
    asked = addresses_asked(browser)
    assert [each for each in asked if not each.startswith(("file:", "data:"))] == []
    no_console_error(browser)


@pytest.fixture(scope="module")
def comparison(blobs: Path, metrics: Path) -> Path:
    """Of the masks of ``metrics`` and of others that lack more; with probabilities of the first."""
    masks, other = metrics.parent / "masks", metrics.parent / "other"
    other.mkdir()
    (other / "predictions.json").write_text((masks / "predictions.json").read_text())
    for path in masks.glob("*.nii.gz"):
        image = nibabel.load(path)
        label_map = np.asarray(image.dataobj)
        label_map[:, :, :5] = 0
        nibabel.save(nibabel.Nifti1Image(label_map, image.affine), other / path.name)
        folder = masks / "probabilities" / path.name.removesuffix(".nii.gz")
        folder.mkdir(parents=True)
        for name, value in (("shell", 2), ("core", 5)):
            given = np.where(np.asarray(image.dataobj) == value, 0.8, 0.1).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(given, image.affine), folder / f"{name}.nii.gz")
    evaluate([masks, other], blobs, metrics.parent / "compared", metrics=["overlap"], workers=1)
    return metrics.parent / "compared"


def test_report_of_a_comparison(browser: Any, comparison: Path) -> None:
    browser.get((comparison / "report.html").as_uri())
    text = browser.find_element("tag name", "main").text
    for word in ("shell", "core", "masks", "other", "p, Holm", "Where they differ most", "noise of seeds"):
        assert word in text
    hidden = "return getComputedStyle(document.querySelector('.slice path.method-1')).display"
    assert browser.execute_script(hidden) == "inline"
    click(browser, "other")
    assert browser.execute_script(hidden) == "none"
    assert all(address.startswith(("file:", "data:")) for address in addresses_asked(browser))
    no_console_error(browser)


def test_report_with_calibration(browser: Any, comparison: Path) -> None:
    browser.get((comparison / "masks" / "report.html").as_uri())
    text = browser.find_element("tag name", "main").text
    assert "Calibration" in text
    assert text.count("Brier score") >= 2
    heights = "return [...document.querySelectorAll('.drawing .bar')].map((each) => each.getBBox().height)"
    assert sum(height > 10 for height in browser.execute_script(heights)) == 4  # of two labels two bins each
    assert all(address.startswith(("file:", "data:")) for address in addresses_asked(browser))
    no_console_error(browser)

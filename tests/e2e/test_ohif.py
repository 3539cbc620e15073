"""OHIF in Chromium shows what medseg writes where it lies, beside an archive (Orthanc) that speaks DICOMweb."""

import io
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_kinds import KINDS, balls_in, write_kind
from ohif import ohif_folder, served_ohif, wait_until
from PIL import Image
from scipy.ndimage import binary_fill_holes

from medseg.io.dicom.series import find_series, read_dicom
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.mask_formats import FORMATS, REPORTS, write_mask
from medseg.labels import Labels

pytestmark = pytest.mark.slow

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
COLOURS = {"liver": (228, 26, 28), "kidney_left": (55, 126, 184)}
LABELS = Labels.from_names({"liver": 1, "kidney_left": 2}).described(
    {name: {"colour": colour} for name, colour in COLOURS.items()}
)
LEAST_AGREEMENT = 0.85
PATIENCE = 60.0  # seconds that a viewer has to draw a mask
LEAST_CHROMA = 40  # of a pixel that has a label's colour; the image is grey
SHOWN = """
const viewport = services.cornerstoneViewportService.getCornerstoneViewport(
    services.viewportGridService.getActiveViewportId());
const world = (x, y) => Array.from(viewport.canvasToWorld([x, y]));
return {element: viewport.element, n: viewport.getImageIds().length,
        origin: world(0, 0), right: world(100, 0), down: world(0, 100)};
"""
TO_SLICE = """
const viewport = services.cornerstoneViewportService.getCornerstoneViewport(
    services.viewportGridService.getActiveViewportId());
return viewport.setImageIdIndex(arguments[0]).then(() => viewport.render());
"""
SEGMENTS = """
return services.segmentationService.getSegmentations().map(
    each => Object.values(each.segments).filter(segment => segment).map(segment => segment.label));
"""
PDF = 'object[type="application/pdf"]'
# Closes a segmentation, so that the next one is alone.
CLOSE = """
services.segmentationService.getSegmentations().forEach(
    each => services.segmentationService.remove(each.segmentationId));
"""


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Orthanc."""
    if shutil.which("Orthanc") is None or not PLUGIN.exists():
        pytest.skip("needs Debian's orthanc and orthanc-dicomweb")
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {
        "HttpPort": port, "DicomServerEnabled": False, "StorageDirectory": str(folder), "IndexDirectory": str(folder),
        "AuthenticationEnabled": False, "Plugins": [str(PLUGIN)],
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        program = subprocess.Popen(["Orthanc", folder / "settings.json"], stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    wait_until(lambda: urllib.request.urlopen(f"{address}/system", timeout=5).read())
    yield address
    program.terminate()
    program.wait(30)


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory, archive: str) -> LabelMapVolume:
    """Two balls, whose images and masks in all forms the archive has."""
    folder = tmp_path_factory.mktemp("study")
    (source,) = find_series(write_kind(folder / "series", KINDS["CT"])).sources
    volume = read_dicom(source)
    segmented = LabelMapVolume(balls_in(volume.array[0]), volume.geometry, LABELS, source, "Model 7")
    known = {**FORMATS, **REPORTS}
    names = ("dicom-seg", "dicom-seg-labelmap", "rtstruct", "dicom-sr", "dicom-sc", "dicom-pdf")
    written = [write_mask(known[name], known[name].path(folder, "case"), segmented).path for name in names]
    for file in (*source.files, *written):
        asked = urllib.request.Request(f"{archive}/instances", data=file.read_bytes(), method="POST")
        urllib.request.urlopen(asked, timeout=60).read()
    return segmented


@pytest.fixture(scope="module")
def opened(chromium: Any, archive: str, segmented: LabelMapVolume) -> Iterator[Any]:
    """The study in OHIF."""
    assert segmented.source is not None
    with served_ohif(ohif_folder(), f"{archive}/dicom-web") as address:
        chromium.set_window_size(1300, 850)
        chromium.get(f"{address}/segmentation?StudyInstanceUIDs={segmented.source.study_uid}")
        wait_until(lambda: chromium.execute_script(SHOWN)["n"] == len(segmented.source.files))
        yield chromium
        chromium.get("about:blank")


def thumbnail(browser: Any, description: str) -> Any:
    found = browser.find_elements("css selector", '[data-cy^="study-browser-thumbnail"]')
    return next(each for each in found if description in each.text)


def open_series(browser: Any, description: str) -> list[str]:
    """Opens a segmentation by a double click, and returns the names of its segments."""
    from selenium.webdriver.common.action_chains import ActionChains

    shown = wait_until(lambda: thumbnail(browser, description))
    ActionChains(browser).double_click(shown).perform()
    return wait_until(lambda: browser.execute_script(SEGMENTS))[0]


def seen(browser: Any) -> tuple[np.ndarray, np.ndarray]:
    """The pixels (row, column, 3) of the slice, and the place of each in RAS mm."""
    shown = browser.execute_script(SHOWN)
    pixels = np.asarray(Image.open(io.BytesIO(shown["element"].screenshot_as_png)).convert("RGB")).astype(int)
    origin, right, down = (np.array(shown[key]) for key in ("origin", "right", "down"))
    row, column = np.indices(pixels.shape[:2])[..., None]
    return pixels, (origin + column * (right - origin) / 100 + row * (down - origin) / 100) * (-1, -1, 1)


@pytest.fixture(scope="module")
def middles(opened: Any, segmented: LabelMapVolume) -> dict[int, int]:
    """The number that the viewer gives to a slice through each label."""
    found = {}
    for number in range(len(segmented.source.files)):
        opened.execute_script(TO_SLICE, number)
        height = opened.execute_script(SHOWN)["origin"][2]
        z = round(float(segmented.geometry.index(np.array([0, 0, height]))[2]))
        found.update({value: number for value in (1, 2) if (segmented.label_map[:, :, z] == value).sum() > 60})
    return found


@pytest.mark.parametrize("description", ["Segmentation of", "Label map of", "Structures of"])
def test_ohif_shows_masks_over_their_organs_with_names_and_colours(
    opened: Any, segmented: LabelMapVolume, middles: dict[int, int], description: str, tmp_path: Path
) -> None:
    assert open_series(opened, description) == ["liver", "kidney_left"]
    for value, name in enumerate(COLOURS, start=1):
        opened.execute_script(TO_SLICE, middles[value])
        until, agreement = time.monotonic() + PATIENCE, 0.0
        while agreement <= LEAST_AGREEMENT and time.monotonic() < until:  # it is drawn by a processor
            agreement = agreement_of(opened, segmented, value)
        opened.save_screenshot(str(tmp_path / f"{name}.png"))
        assert agreement > LEAST_AGREEMENT, name
    opened.execute_script(CLOSE)


def agreement_of(browser: Any, segmented: LabelMapVolume, value: int) -> float:
    """What is drawn in a label's colour against where the label lies: pixels of both by pixels of either."""
    pixels, world = seen(browser)
    index = np.rint(segmented.geometry.index(world)).astype(int)
    inside = ((index >= 0) & (index < segmented.geometry.shape)).all(axis=-1)
    x, y, z = np.moveaxis(index.clip(0, np.array(segmented.geometry.shape) - 1), -1, 0)
    drawn = (segmented.label_map[x, y, z] == value) & inside
    assert drawn.sum() > 1000
    colour = np.array(list(COLOURS.values())[value - 1])
    away, expected = pixels - pixels.mean(axis=-1, keepdims=True), colour - colour.mean()
    likeness = away @ expected / (np.linalg.norm(away, axis=-1) * np.linalg.norm(expected) + 1e-6)
    coloured = binary_fill_holes((np.ptp(pixels, axis=-1) > LEAST_CHROMA) & (likeness > 0.9) & near(drawn))
    return float((coloured & drawn).sum() / (coloured | drawn).sum())


def near(mask: np.ndarray) -> np.ndarray:
    """The box around a mask, with some pixels more: outside of it are letters and tools in colours."""
    row, column = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    box = np.zeros_like(mask)
    box[max(row[0] - 40, 0) : row[-1] + 40, max(column[0] - 40, 0) : column[-1] + 40] = True
    return box


def test_the_overlay_and_the_page_open(opened: Any, segmented: LabelMapVolume) -> None:
    """The overlay as frames of a series, the page in the mode that knows PDF, byte by byte."""
    from selenium.webdriver.common.action_chains import ActionChains

    shown = wait_until(lambda: thumbnail(opened, "Overlay of"))
    ActionChains(opened).double_click(shown).perform()
    slices = np.unique(np.nonzero(segmented.label_map)[2])
    wait_until(lambda: opened.execute_script(SHOWN)["n"] == len(slices))
    opened.get(opened.current_url.replace("/segmentation?", "/viewer?"))
    wait_until(lambda: opened.execute_script(SHOWN)["n"] == len(segmented.source.files))
    for hint in [each for each in opened.find_elements("css selector", "button") if each.text == "Skip all"]:
        hint.click()
    ActionChains(opened).double_click(wait_until(lambda: thumbnail(opened, "Page of"))).perform()
    address = wait_until(lambda: opened.find_element("css selector", PDF).get_attribute("data"))
    asked = "const [address, done] = arguments; fetch(address).then(found => found.text()).then(done);"
    assert opened.execute_async_script(asked, address).startswith("%PDF")

"""``medseg annotate`` as people use it: a browser, a mouse, a server that is killed."""

import http.client
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nibabel
import numpy as np
import pytest
from chromium import addresses_asked, no_console_error, until
from nibabel.affines import apply_affine
from scipy.ndimage import distance_transform_edt

from medseg.config import load
from medseg.io import Geometry, write_nifti
from medseg.workflows.preprocess import preprocess
from medseg.workflows.train import train

pytestmark = pytest.mark.slow

SHAPE = (48, 40, 24)

# Of a training in seconds.
PROMPTS = (
    "training.prompts=labels", "planning.cpu_base_features=8", "training.batch_size=2", "training.epochs=1",
    "training.steps_per_epoch=120", "training.fit_inference=false",
)  # fmt: skip


def kidney(seed: int) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """An image with something like a kidney, its mask, and an oblique grid in LPS."""
    random = np.random.default_rng(seed)
    turn = np.linalg.qr(np.eye(3) + 0.08 * random.normal(size=(3, 3)))[0]
    turn = turn * np.sign(np.diag(turn))
    grid = Geometry(SHAPE, nibabel.affines.from_matvec(turn @ np.diag([1.0, 1.0, 2.0]), (9, -20, 4))).oriented_as("LPS")
    centre = np.array(grid.shape) / 2 + random.uniform(-3, 3, 3)
    x, y, z = (index - middle for index, middle in zip(np.indices(grid.shape), centre, strict=True))
    mask = (x / 9) ** 2 + (y / 7) ** 2 + (z / 6) ** 2 < 1
    mask &= ((x - 8) / 5) ** 2 + (y / 4) ** 2 + (z / 4) ** 2 > 1  # its hilum
    image = np.where(mask, 140.0, 40.0) + random.normal(0, 10, grid.shape)
    return image.astype(np.int16), mask, grid


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    (tmp_path / "scans").mkdir()
    for number in range(3):
        image, _, grid = kidney(number)
        write_nifti(tmp_path / "scans" / f"ct_{number}.nii.gz", image, grid)
    return tmp_path / "scans"


class Annotating:
    """A server that runs as a user starts it."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "medseg", "annotate", *arguments, "--no-browser"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        told = []
        while "http://" not in (line := self.process.stderr.readline()):
            told.append(line)
            assert line, "".join(told)
        self.address = line.split()[0]

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(90) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def server(scans: Path) -> Iterator[Annotating]:
    running = Annotating("--data", str(scans), "--label", "kidney", "--label", "tumour", "--annotator", "Ada")
    yield running
    if running.process.poll() is None:
        running.end()


def opened(browser: Any, address: str) -> Any:
    browser.get("about:blank")
    browser.get(address)
    until(browser, "document.querySelector('#busy').hidden && state.grid && nv.drawBitmap && nv.volumes.length === 1")
    return browser


def canvas_place(browser: Any, voxel: list[float]) -> tuple[float, float]:
    """Where the middle of a voxel lies on the axial view, from the middle of the canvas, in pixels of CSS."""
    script = """
      const [i, j, k] = arguments[0].map((each) => each + 0.5), { dims } = state.grid;
      nv.scene.crosshairPos = [i / dims[0], j / dims[1], k / dims[2]];
      nv.drawScene();
      const place = placing(0, dims), box = nv.gl.canvas.getBoundingClientRect(), scale = nv.uiData.dpr;
      return [place.x(i, j) / scale - box.width / 2, place.y(i, j) / scale - box.height / 2];
    """
    x, y = browser.execute_script(script, voxel)
    return x, y


def drag(browser: Any, voxels: list[list[float]]) -> None:
    """Presses the mouse at the first voxel, and moves it over the others, which lie on its slice."""
    from selenium.webdriver import ActionChains

    places = [canvas_place(browser, voxel) for voxel in voxels]
    canvas_place(browser, voxels[0])
    canvas = browser.find_element("css selector", "#canvas")
    actions = ActionChains(browser, duration=20).move_to_element_with_offset(canvas, *map(round, places[0]))
    actions.click_and_hold()
    for x, y in places[1:]:
        actions.move_to_element_with_offset(canvas, round(x), round(y))
    actions.release().perform()
    browser.execute_async_script("const done = arguments[0]; state.queue.then(() => done());")


def shown_label_map(browser: Any) -> np.ndarray:
    dims = browser.execute_script("return state.grid.dims")
    found = browser.execute_script("return [...nv.drawBitmap.entries()].filter((each) => each[1])")
    label_map = np.zeros(int(np.prod(dims)), np.uint8)
    for index, value in found:
        label_map[index] = value
    return label_map.reshape(dims, order="F")


def test_drawn_by_hand_saved_reloaded_and_prepared(browser: Any, server: Annotating, scans: Path) -> None:
    opened(browser, server.address)
    assert browser.execute_script("return $('problem').textContent") == ""
    assert browser.find_element("css selector", "[data-tool=point]").get_attribute("disabled")  # there is no model
    browser.execute_script("look('axial')")
    browser.find_element("css selector", "body").send_keys("b")
    for k in (10, 14):
        drag(browser, [[18, 20, k], [28, 20, k], [28, 24, k], [18, 24, k]])
    browser.find_element("css selector", "#interpolate").click()
    until(browser, "nv.drawBitmap.filter((each) => each === 1).length > 300")
    browser.find_element("css selector", "body").send_keys("2")  # the tumour
    drag(browser, [[20, 20, 12], [22, 20, 12]])
    browser.find_element("css selector", "body").send_keys("e")
    drag(browser, [[28, 24, 12], [27, 24, 12]])
    drawn = shown_label_map(browser)
    assert set(np.unique(drawn)) == {0, 1, 2}
    assert sorted(set(np.argwhere(drawn == 2)[:, 2])) == [12]
    assert sorted(set(np.argwhere(drawn == 1)[:, 2])) == [10, 11, 12, 13, 14]

    no_console_error(browser)
    browser.get("about:blank")  # which does not look at a training any longer
    server.kill()  # nothing was saved
    again = Annotating("--data", str(scans), "--annotator", "Ada")
    try:
        opened(browser, again.address + "#ct_0")
        np.testing.assert_array_equal(shown_label_map(browser), drawn)
        browser.find_element("css selector", "#undo").click()
        until(browser, "$('saved').textContent.includes('draft')")
        browser.execute_async_script("state.queue.then(() => arguments[0]())")
        assert (shown_label_map(browser) != drawn).any()
        browser.find_element("css selector", "#save").click()
        until(browser, "$('saved').textContent.startsWith('saved')")
        kept = shown_label_map(browser)
        browser.refresh()
        opened(browser, again.address + "#ct_0")
        np.testing.assert_array_equal(shown_label_map(browser), kept)
    finally:
        again.end()

    saved, image = nibabel.load(scans / "annotations/final/ct_0.nii.gz"), nibabel.load(scans / "ct_0.nii.gz")
    np.testing.assert_array_equal(saved.affine, image.affine)
    turned = nibabel.as_closest_canonical(saved)
    np.testing.assert_array_equal(np.asarray(turned.dataobj), kept)
    record = json.loads((scans / "annotations/final/ct_0.json").read_text())
    assert (record["author"], record["client"], record["model"]) == ("Ada", "annotate", None)
    assert record["seconds"] > 0
    assert record["edits"] >= 4
    prepared = preprocess(scans, scans.parent / "prepared")
    assert [case.case_id for case in prepared.record.cases] == ["ct_0"]
    assert prepared.record.labels is not None
    assert prepared.record.labels.names == ["kidney", "tumour"]
    asked = addresses_asked(browser)
    assert {urlsplit(each).hostname for each in asked if each.startswith("http")} == {"127.0.0.1"}
    no_console_error(browser)


def test_two_windows_on_one_case(browser: Any, server: Annotating) -> None:
    first = browser.current_window_handle
    browser.switch_to.new_window("window")
    second = browser.current_window_handle
    try:
        for window in (first, second):
            browser.switch_to.window(window)
            opened(browser, server.address + "#ct_0").execute_script("look('axial')")
        strokes = {first: [[18, 20, 10], [28, 20, 10]], second: [[22, 16, 10], [22, 24, 10]]}
        shown = {}
        for window, stroke in strokes.items():
            browser.switch_to.window(window)
            browser.find_element("css selector", "body").send_keys("b" if window == first else "2b")
            drag(browser, stroke)
            shown[window] = shown_label_map(browser)
        assert set(np.unique(shown[first])) == {0, 1}
        # The second window did not know of the first stroke; both are there, and it shows both.
        assert ((shown[second] == 2) | (shown[first] == shown[second])).all()
        assert set(np.unique(shown[second])) == {0, 1, 2}
        browser.switch_to.window(first)
        browser.find_element("css selector", "#undo").click()
        until(browser, "$('problem').textContent.includes('in another window')")
        browser.execute_async_script("state.queue.then(() => arguments[0]())")
        np.testing.assert_array_equal(shown_label_map(browser), shown[second])
        browser.find_element("css selector", "#undo").click()
        until(browser, "$('problem').textContent === '' && !nv.drawBitmap.includes(2)")
        np.testing.assert_array_equal(shown_label_map(browser), shown[first])
        no_unexpected = [each for each in browser.get_log("browser") if "409" not in each["message"]]
        assert not [each for each in no_unexpected if each["level"] == "SEVERE"]
    finally:
        browser.switch_to.window(second)
        browser.close()
        browser.switch_to.window(first)


def request(address: str, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> int:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.request(method, path, body, headers)
    return connection.getresponse().status


def test_strangers_and_floods_are_refused(server: Annotating, scans: Path) -> None:
    page = urlsplit(server.address).path
    assert request(server.address, "GET", page, {}) == 200
    assert request(server.address, "GET", "/wrong-token-of-some-length/annotate/", {}) == 403
    assert request(server.address, "GET", "/annotate/", {}) == 401
    other = {"Origin": "http://evil.example", "Content-Type": "text/plain"}
    for address in ("labels", "case/ct_0/save", "case/ct_0/undo", "training"):
        assert request(server.address, "POST", page + address, other, b"{}") == 403
    two_gigabytes = {"Content-Length": str(2 * 2**30), "X-Bounds": "0,1,0,1,0,1"}
    assert request(server.address, "POST", f"{page}case/ct_0/edit", two_gigabytes) == 413
    assert not (scans / "annotations" / "final").exists()


@pytest.mark.parametrize("moment", [0, 2])
def test_kill_9_while_saving(server: Annotating, scans: Path, moment: int) -> None:
    """The old or the new label map is on the disk, whole, and what was drawn is not lost."""
    page, last = urlsplit(server.address).path, 0
    size = b"\1" * int(np.prod(SHAPE))
    bounds = {"X-Bounds": ",".join(f"0,{n}" for n in SHAPE)}

    def draw(value: int) -> None:
        body = bytes([value]) * len(size)
        assert request(server.address, "POST", f"{page}case/ct_0/edit", bounds, body) == 200

    draw(1)
    assert request(server.address, "POST", f"{page}case/ct_0/save", {}) == 200
    draw(2)
    parts = urlsplit(server.address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=20)
    connection.request("POST", f"{page}case/ct_0/save")
    time.sleep(moment * 0.02)
    server.kill()
    saved = nibabel.load(scans / "annotations/final/ct_0.nii.gz")
    (last,) = set(np.unique(np.asarray(saved.dataobj)).tolist())
    assert last in (1, 2)
    again = Annotating("--data", str(scans))
    try:
        parts = urlsplit(again.address)
        connection = http.client.HTTPConnection(parts.netloc, timeout=20)
        connection.request("GET", f"{parts.path}case/ct_0/drawing.nii")
        drawing = nibabel.Nifti1Image.from_bytes(connection.getresponse().read())
        assert set(np.unique(np.asarray(drawing.dataobj)).tolist()) == {2}
    finally:
        again.end()
    affine = nibabel.load(scans / "ct_0.nii.gz").affine
    np.testing.assert_allclose(apply_affine(saved.affine, [3, 4, 5]), apply_affine(affine, [3, 4, 5]))


@pytest.fixture(scope="module")
def promptable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network of ``medseg train --prompts``, which has learnt from eight kidneys."""
    place = tmp_path_factory.mktemp("kidneys")
    for folder in ("images", "labels"):
        (place / folder).mkdir()
    for number in range(10, 18):
        image, mask, grid = kidney(number)
        write_nifti(place / "images" / f"ct_{number}.nii.gz", image, grid)
        write_nifti(place / "labels" / f"ct_{number}.nii.gz", mask.astype(np.uint8), grid)
    (place / "dataset.json").write_text('{"labels": {"background": 0, "kidney": 1}}')
    preprocess(place, place / "prepared", config=load(None, ["preprocessing.workers=1"]))
    train(place / "prepared", place / "run", config=load(None, list(PROMPTS)), device="cpu")
    return place / "run"


def dice(drawn: np.ndarray, reference: np.ndarray) -> float:
    return float(2 * ((drawn == 1) & (reference == 1)).sum() / ((drawn == 1).sum() + reference.sum()))


def test_boxes_lassos_and_scribbles_on_a_kidney(browser: Any, scans: Path, promptable: Path) -> None:
    """Each alone finds it; undo takes each back."""
    server = Annotating("--data", str(scans), "--model", str(promptable))
    try:
        opened(browser, server.address + "#ct_2")
        browser.execute_script("look('axial')")
        _, mask, grid = kidney(2)
        reference = nibabel.as_closest_canonical(nibabel.Nifti1Image(mask.astype(np.uint8), grid.affine)).get_fdata()
        k = int(reference.sum((0, 1)).argmax())
        (x0, y0), (x1, y1) = (getattr(np.argwhere(reference[:, :, k]), end)(0).tolist() for end in ("min", "max"))
        middle = (y0 + y1) // 2
        drawings = {
            "x": [[x0 - 1, y0 - 1, k], [x1 + 1, y1 + 1, k]],
            "o": [[x0 - 1, y0 - 1, k], [x1 + 1, y0 - 1, k], [x1 + 1, y1 + 1, k], [x0 - 1, y1 + 1, k]],
            "s": [[x0 + 2, middle, k], [x0 + 6, middle, k]],
        }
        browser.execute_async_script("state.queue.then(() => arguments[0]())")
        assert not shown_label_map(browser).any()
        for key, places in drawings.items():
            browser.find_element("css selector", "body").send_keys(key)
            drag(browser, places)
            until(browser, "$('busy').hidden")
            assert browser.execute_script("return $('problem').textContent") == ""
            found = dice(shown_label_map(browser), reference)
            assert found >= 0.8, (key, found)
            browser.find_element("css selector", "#undo").click()
            browser.execute_async_script("state.queue.then(() => arguments[0]())")
            until(browser, "$('busy').hidden")
            assert not shown_label_map(browser).any()
        no_console_error(browser)
    finally:
        server.end()


def test_three_clicks_on_a_kidney(browser: Any, scans: Path, promptable: Path) -> None:
    """As a user clicks: amid the kidney of the page, then twice where it looks wrong."""
    server = Annotating("--data", str(scans), "--model", str(promptable), "--annotator", "Ada")
    try:
        opened(browser, server.address + "#ct_1")
        browser.execute_script("look('axial')")
        browser.find_element("css selector", "body").send_keys("c")
        _, mask, grid = kidney(1)
        upright = nibabel.as_closest_canonical(nibabel.Nifti1Image(mask.astype(np.uint8), grid.affine))
        reference = np.asarray(upright.dataobj)
        for _ in range(3):
            drawn = shown_label_map(browser)
            missed, wrong = (reference == 1) & (drawn != 1), (reference == 0) & (drawn == 1)
            larger = missed if missed.sum() >= wrong.sum() else wrong
            if not larger.any():
                break
            depth = distance_transform_edt(np.pad(larger, 1))[1:-1, 1:-1, 1:-1]
            place = np.unravel_index(depth.argmax(), depth.shape)
            click(browser, [int(i) for i in place], positive=larger is missed)
        drawn = shown_label_map(browser)
        reached = dice(drawn, reference)
        assert reached >= 0.9
        browser.find_element("css selector", "#save").click()
        until(browser, "$('saved').textContent.startsWith('saved')")
        record = json.loads((scans / "annotations/final/ct_1.json").read_text())
        assert (record["model"], record["voxels"]) == (promptable.name, {"kidney": int((drawn == 1).sum())})
        assert 1 <= record["prompts"] <= 3
        saved = nibabel.load(scans / "annotations/final/ct_1.nii.gz")
        np.testing.assert_array_equal(saved.affine, nibabel.load(scans / "ct_1.nii.gz").affine)
        found = np.asarray(saved.dataobj) == 1
        assert 2 * found[mask].sum() / (found.sum() + mask.sum()) == pytest.approx(reached)
        no_console_error(browser)
    finally:
        server.end()


def click(browser: Any, voxel: list[int], *, positive: bool) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    x, y = canvas_place(browser, [float(i) for i in voxel])
    canvas = browser.find_element("css selector", "#canvas")
    actions = ActionChains(browser, duration=20).move_to_element_with_offset(canvas, round(x), round(y))
    actions = actions if positive else actions.key_down(Keys.SHIFT)
    actions = actions.click()
    (actions if positive else actions.key_up(Keys.SHIFT)).perform()
    until(browser, "$('busy').hidden")
    browser.execute_async_script("state.queue.then(() => arguments[0]())")
    assert browser.execute_script("return $('problem').textContent") == ""


def test_a_round_of_training(tmp_path: Path) -> None:
    """Of seven drawn cases one is held back: a network is trained, measured on that one, and asked about the rest."""
    (tmp_path / "scans").mkdir()
    masks = {}
    for number in range(8):
        image, masks[f"ct_{number}"], grid = kidney(number)
        write_nifti(tmp_path / "scans" / f"ct_{number}.nii.gz", image, grid)
    small = ("network.features=[4,8,8,8]", "training.batch_size=2", "training.fit_inference=false")
    options = [f"--train-option={part}" for setting in small for part in ("--set", setting)]
    server = Annotating(
        "--data", str(tmp_path / "scans"), "--label", "kidney", "--held-back", "0.1", "--max-time", "6s", *options
    )
    try:
        state = told(server.address, "state.json")
        (held,) = (case["case_id"] for case in state["cases"] if case["held_back"])
        last = next(case["case_id"] for case in reversed(state["cases"]) if not case["held_back"])
        for case, mask in masks.items():
            if case != last:
                values = np.ascontiguousarray(np.flip(mask, (0, 1)))  # from LPS to RAS
                bounds = {"X-Bounds": ",".join(f"0,{n}" for n in mask.shape)}
                page = urlsplit(server.address).path
                body = values.astype(np.uint8).tobytes(order="F")
                assert request(server.address, "POST", f"{page}case/{case}/edit", bounds, body) == 200
                assert request(server.address, "POST", f"{page}case/{case}/save", {}) == 200
        assert (
            request(server.address, "POST", urlsplit(server.address).path + "training", {}, b'{"start": true}') == 200
        )
        deadline = time.monotonic() + 600
        while (training := told(server.address, "training.json"))["status"] == "RUNNING":
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert training["status"] == "DONE", training
        (point,) = training["curve"]["points"]
        assert (point["cases"], point["held_back"]) == (6, 1)
        assert 0 <= point["dice"] <= 1
        assert told(server.address, "state.json")["model"]["name"] == "trained-here"
        choice = told(server.address, "next.json?strategy=doubtful")
        assert choice["case_id"] == last
        assert "expects a Dice of" in choice["reason"]
        assert held not in (tmp_path / "scans/annotations/runs" / point["run"] / "training/cases.csv").read_text()
    finally:
        server.end()


def told(address: str, what: str) -> Any:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    connection.request("GET", parts.path + what)
    return json.loads(connection.getresponse().read())

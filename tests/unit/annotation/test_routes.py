"""The page's requests, against the application as ``medseg annotate`` builds it."""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
from nibabel.affines import apply_affine
from PIL import Image
from scipy.ndimage import label as components

pytest.importorskip("starlette", reason="medseg[serve] is not installed")

from starlette.testclient import TestClient

from medseg.annotation.folder import AnnotatedFolder
from medseg.annotation.open_case import LEFT, OpenCase
from medseg.annotation.open_cases import KEPT
from medseg.annotation.rounds import Rounds
from medseg.annotation.routes import BEFORE_HEADER, BOUNDS_HEADER, VERSION_HEADER, AnnotationRoutes
from medseg.dataset.layouts import find_cases
from medseg.device import choose_device
from medseg.interactive.object_mask import MaskChange
from medseg.io import Geometry, write_nifti
from medseg.labels import Labels
from medseg.serve.access import AccessRules
from medseg.serve.app import create_app
from medseg.serve.datastore import Datastore
from medseg.serve.state import ServerState
from medseg.volume import Volume

SHAPE = (12, 10, 8)
TOKEN = "a-token-of-enough-characters"
BASE = f"http://127.0.0.1/{TOKEN}/annotate/"


def tilted(orientation: str) -> Geometry:
    turn = np.linalg.qr(np.eye(3) + 0.1 * np.random.default_rng(1).normal(size=(3, 3)))[0]
    turn = turn * np.sign(np.diag(turn))
    return Geometry(SHAPE, nibabel.affines.from_matvec(turn @ np.diag([1.0, 1.5, 2.5]), (5, -7, 9))).oriented_as(
        orientation
    )


def image_of(grid: Geometry) -> np.ndarray:
    image = np.zeros(grid.shape, np.int16)
    image[2:7, 3:8, 2:6] = 100  # an organ
    image[4:6, 4:6, 3:5] = 200  # something in it
    return image


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Six images, in several orders of axes."""
    (tmp_path / "scans").mkdir()
    for number, orientation in enumerate(("LPS", "RAS", "PIR", "ASL", "LPS", "LPS")):
        grid = tilted(orientation)
        write_nifti(tmp_path / "scans" / f"ct_{number}.nii.gz", image_of(grid), grid)
    return tmp_path / "scans"


class FakeSession:
    """Answers to a point with the connected part of one grey value around it; a negative one empties it."""

    def __init__(self, model: Any, image: Volume) -> None:
        self.model, self.image, self.object = model, image, "object"
        self.masks: dict[str, list[np.ndarray]] = {}
        self.asked: list[Any] = []

    @property
    def mask(self) -> np.ndarray:
        return self.masks.setdefault(self.object, [np.zeros(self.image.geometry.shape, bool)])[-1]

    def add_point(self, index: tuple[int, ...], positive: bool = True) -> MaskChange:
        self.asked.append(("point", tuple(index), positive))
        image = self.image.array[0]
        found = components(image == image[tuple(index)])[0]
        return self._becomes((found == found[tuple(index)]) if positive else np.zeros(image.shape, bool))

    def add_box(self, bounds: Any, positive: bool = True) -> MaskChange:
        self.asked.append(("box", bounds, positive))
        mask = np.zeros_like(self.mask)
        mask[tuple(slice(*pair) for pair in bounds)] = True
        return self._becomes(mask)

    def add_scribble(self, mask: np.ndarray, positive: bool = True, *, origin: tuple[int, int, int]) -> MaskChange:
        self.asked.append(("scribble", mask.shape, origin))
        whole = np.zeros_like(self.mask)
        whole[tuple(slice(low, low + n) for low, n in zip(origin, mask.shape, strict=True))] = mask
        return self._becomes(whole)

    def add_initial_mask(self, mask: np.ndarray) -> MaskChange:
        self.asked.append(("initial", int(mask.sum())))
        return self._becomes(mask)

    def undo(self) -> None:
        self.masks[self.object].pop()

    def _becomes(self, mask: np.ndarray) -> MaskChange:
        self.masks.setdefault(self.object, [np.zeros(mask.shape, bool)]).append(mask)
        return MaskChange(tuple((0, n) for n in mask.shape), mask)


class FakeModel:
    name, is_promptable, fingerprint = "fake", True, "f1f2"
    record = SimpleNamespace(labels=Labels.from_names({"organ": 3, "other": 4}))
    label_names = ("organ", "other")

    def promptable(self) -> "FakeModel":
        return self

    def seen(self, case: Any, image: Volume, channels: Any) -> Volume:
        return image

    def segment(self, case: Any, channels: Any) -> Any:
        image = nibabel.load(case.images[0].path)
        array = np.asarray(image.dataobj)
        label_map = np.where(array == 100, 3, np.where(array == 200, 4, 0))
        return SimpleNamespace(label_map=Volume(label_map[None], Geometry(array.shape, image.affine)))


class Page(TestClient):
    """A browser's side of the page."""

    routes: AnnotationRoutes

    def drawing(self, case: str = "ct_0") -> tuple[np.ndarray, np.ndarray]:
        """The label map as it is shown, and its affine."""
        answer = self.get(f"case/{case}/drawing.nii")
        image = nibabel.Nifti1Image.from_bytes(answer.content)
        return np.asarray(image.dataobj), image.affine

    def edit(self, bounds: Any, value: int | np.ndarray, case: str = "ct_0") -> Any:
        size = [stop - start for start, stop in bounds]
        values = np.broadcast_to(np.asarray(value, np.uint8), size)
        header = ",".join(str(end) for pair in bounds for end in pair)
        return self.post(f"case/{case}/edit", content=values.tobytes(order="F"), headers={BOUNDS_HEADER: header})

    def prompt(self, case: str = "ct_0", **message: Any) -> Any:
        return self.post(f"case/{case}/prompt", json={"label": "organ", "kind": "point", **message})


def page_of(scans: Path, model: FakeModel | None = None, largest_body: int = 10**6) -> Page:
    datastore = Datastore(scans)
    folder = AnnotatedFolder(datastore)
    for name in ("organ", "lesion"):
        if name not in folder.labels.names:
            folder.add_label(name)
    models: dict[str, Any] = {} if model is None else {"fake": model}
    rules = AccessRules.of("127.0.0.1", TOKEN, True, (), largest_body)
    rounds = Rounds(folder, models, choose_device("cpu"))
    state = ServerState(datastore, models, rules, choose_device("cpu"), training=rounds)
    routes = AnnotationRoutes(state, folder, rounds, "Ada", "10m")
    page = Page(create_app(state, routes.routes()), base_url=BASE)
    page.routes = routes
    return page


@pytest.fixture
def page(scans: Path) -> Iterator[Page]:
    with page_of(scans) as client:
        yield client


@pytest.fixture
def helped(scans: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page with a model that answers."""
    module = SimpleNamespace(InteractiveSession=FakeSession)
    monkeypatch.setitem(sys.modules, "medseg.interactive.session", module)  # its own imports torch
    with page_of(scans, FakeModel()) as client:
        yield client


def test_the_page_and_its_parts(page: Page) -> None:
    html = page.get("").text
    for part in ("niivue.js", "slices.js", "drawing.js", "annotate.js", "page.css"):
        assert part in html
        assert page.get(part).status_code == 200
    assert "script-src 'self'" in page.get("").headers["Content-Security-Policy"]
    for other in ("viewer.js", "%2e%2e/server.py", "case/nobody/scene.json", "case/..%2f..%2fx/scene.json"):
        assert page.get(other).status_code == 404


def test_strangers_are_refused(page: Page) -> None:
    wrong = BASE.replace(TOKEN, "another-token-of-enough-characters")
    assert page.get(f"{wrong}state.json").status_code == 403
    assert page.post("case/ct_0/save", headers={"Origin": "http://evil.example"}).status_code == 403
    assert page.post("labels", json={"name": "x"}, headers={"Origin": "null"}).status_code == 403
    assert page.get("state.json", headers={"Host": "evil.example"}).status_code == 400
    assert [label["name"] for label in page.get("state.json").json()["labels"]] == ["organ", "lesion"]
    assert page.post("labels", json={"name": "x"}, headers={"Origin": "http://127.0.0.1"}).status_code == 200


def test_too_much_is_refused(scans: Path) -> None:
    with page_of(scans, largest_body=1000) as page:
        assert (
            page.post("case/ct_0/edit", content=bytes(2000), headers={BOUNDS_HEADER: "0,1,0,1,0,1"}).status_code == 413
        )


@pytest.mark.parametrize("number", range(4))
def test_what_is_drawn_lies_where_it_was_seen(page: Page, scans: Path, number: int) -> None:
    """By nibabel alone: each drawn voxel has, in the world, the same place on the page and in the saved file."""
    case = f"ct_{number}"
    shown = nibabel.Nifti1Image.from_bytes(page.get(f"case/{case}/image.nii").content)
    assert nibabel.aff2axcodes(shown.affine) == ("R", "A", "S")
    bright = np.asarray(shown.dataobj) == 200
    low, high = np.argwhere(bright).min(0), np.argwhere(bright).max(0) + 1
    bounds = [(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    assert page.edit(bounds, 2, case).status_code == 200
    assert page.post(f"case/{case}/save").status_code == 200
    saved = nibabel.load(scans / "annotations" / "final" / f"{case}.nii.gz")
    source = nibabel.load(scans / f"{case}.nii.gz")
    np.testing.assert_array_equal(np.asarray(saved.dataobj) == 2, np.asarray(source.dataobj) == 200)
    np.testing.assert_array_equal(saved.affine, source.affine)
    here = apply_affine(saved.affine, np.argwhere(np.asarray(saved.dataobj)))
    there = apply_affine(shown.affine, np.argwhere(page.drawing(case)[0]))
    np.testing.assert_allclose(here[np.lexsort(here.T.round(3))], there[np.lexsort(there.T.round(3))], atol=1e-4)


def test_the_folder_becomes_a_dataset_with_provenance(page: Page, scans: Path) -> None:
    page.post("labels", json={"name": "vessel", "colour": [1, 2, 3]})
    for case in ("ct_0", "ct_3"):
        page.edit(((0, 2), (0, 2), (0, 2)), 3, case)
        page.post(f"case/{case}/save")
    found = find_cases(scans)
    assert sorted(case.case_id for case in found.cases if case.label) == ["ct_0", "ct_3"]
    assert found.labels is not None
    assert found.labels.names == ["organ", "lesion", "vessel"]
    assert found.labels.items[2].colour == (1, 2, 3)
    record = json.loads((scans / "annotations" / "final" / "ct_0.json").read_text())
    assert (record["author"], record["client"], record["voxels"]) == ("Ada", "annotate", {"vessel": 8})
    assert record["edits"] == 1
    states = {case["case_id"]: case["state"] for case in page.get("state.json").json()["cases"]}
    assert (states["ct_0"], states["ct_1"]) == ("saved", "new")


def test_reload_and_a_new_server_lose_nothing(page: Page, scans: Path) -> None:
    page.edit(((1, 3), (1, 3), (1, 3)), 1)
    page.edit(((2, 4), (1, 3), (1, 3)), 2)
    before = page.drawing()[0]
    with page_of(scans) as other:
        np.testing.assert_array_equal(other.drawing()[0], before)
        assert (
            next(each for each in other.get("state.json").json()["cases"] if each["case_id"] == "ct_0")["state"]
            == "draft"
        )
        assert other.post("case/ct_0/undo").status_code == 200
        assert set(np.unique(other.drawing()[0])) == {0, 1}


def test_two_windows_draw_on_one_case(page: Page) -> None:
    """Each sends what it has drawn, and leaves what it does not know of."""
    seen = page.get("case/ct_0/drawing.nii").headers[VERSION_HEADER]
    box = ((0, 4), (0, 4), (0, 1))
    first, second = np.full((2, 4, 4, 1), LEFT, np.uint8)
    first[0], second[3] = 1, 2
    versions = [page.edit(box, each).headers for each in (first, second)]
    assert versions[0][BEFORE_HEADER] == seen and versions[1][BEFORE_HEADER] == versions[0][VERSION_HEADER]
    drawing = page.drawing()[0][:4, :4, 0]
    assert (drawing[0] == 1).all() and (drawing[3] == 2).all() and not drawing[1:3].any()
    for what in ("undo", "save"):  # in the first window, which does not show the second stroke
        answer = page.post(f"case/ct_0/{what}", headers={VERSION_HEADER: versions[0][VERSION_HEADER]})
        assert answer.status_code == 409 and "in another window" in answer.json()["detail"]
    now = {VERSION_HEADER: page.get("case/ct_0/drawing.nii").headers[VERSION_HEADER]}
    assert now[VERSION_HEADER] == versions[1][VERSION_HEADER]
    assert page.post("case/ct_0/undo", headers=now).status_code == 200
    assert page.post("case/ct_0/save").status_code == 200


def test_a_label_map_that_is_edited_by_hand_meanwhile(page: Page, scans: Path) -> None:
    page.edit(((0, 2), (0, 2), (0, 2)), 1)
    page.post("case/ct_0/save")
    path = scans / "annotations" / "final" / "ct_0.nii.gz"
    before = page.edit(((5, 6), (5, 6), (5, 6)), 2).headers[VERSION_HEADER]
    saved = nibabel.load(path)
    by_hand = np.asarray(saved.dataobj).copy()
    by_hand[:3] = 2
    nibabel.save(nibabel.Nifti1Image(by_hand, saved.affine), path)
    assert page.post("case/ct_0/save", headers={VERSION_HEADER: before}).status_code == 409
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), by_hand)  # nothing of it is lost
    answer = page.get("case/ct_0/drawing.nii")
    shown = page.drawing()[0]
    assert (shown == 2).sum() == (by_hand == 2).sum() + 1  # both are there
    assert page.post("case/ct_0/save", headers={VERSION_HEADER: answer.headers[VERSION_HEADER]}).status_code == 200
    assert (np.asarray(nibabel.load(path).dataobj) == 2).sum() == (shown == 2).sum()
    path.unlink()
    assert not page.drawing()[0].any()


def test_a_case_that_is_worked_on_stays_in_memory(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an answer is awaited, others open more cases than are kept: else it would be drawn on one nobody sees."""
    began, ends = Event(), Event()
    usual = OpenCase.interpolate

    def slow(case: OpenCase, label: str, axis: int) -> Any:
        began.set()
        assert ends.wait(20)
        return usual(case, label, axis)

    monkeypatch.setattr(OpenCase, "interpolate", slow)
    for k in (1, 3):
        page.edit(((2, 5), (2, 5), (k, k + 1)), 1)
    with ThreadPoolExecutor() as others:
        filled = others.submit(page.post, "case/ct_0/interpolate", json={"label": "organ", "axis": 2})
        assert began.wait(20)
        for number in range(1, 6):
            assert page.get(f"case/ct_{number}/scene.json").status_code == 200
        ends.set()
        assert filled.result().status_code == 200
    page.edit(((0, 1), (0, 1), (0, 1)), 2)
    assert (page.drawing()[0][2:5, 2:5, 1:4] == 1).all()
    assert len(page.routes.cases.open) == KEPT


def test_wrong_edits_are_refused_in_words(page: Page) -> None:
    assert page.edit(((0, 1), (0, 1), (0, 1)), 9).status_code == 400  # no such label
    assert page.edit(((0, 99), (0, 1), (0, 1)), 1).status_code == 400
    for header in ("", "0,1,0,1,0", "0,1,0,1,0,-1", "a", "0," * 6, "9" * 40 + ",1,0,1,0,1"):
        assert page.post("case/ct_0/edit", content=b"\1", headers={BOUNDS_HEADER: header}).status_code == 400
    assert page.post("case/ct_0/edit", content=b"\1\1", headers={BOUNDS_HEADER: "0,1,0,1,0,1"}).status_code == 400
    for body in (
        b"",
        b"[]",
        b'{"label": 3}',
        b"\xff",
        b'{"label": "organ", "axis": 7}',
        b'{"label": "no", "axis": 1}',
        b"[" * 10**5,
    ):
        answer = page.post("case/ct_0/interpolate", content=body)
        assert answer.status_code == 400
        assert answer.json()["detail"]
    assert page.post("labels", json={"name": "organ"}).status_code == 400
    assert page.post("labels", json={"name": " \n"}).status_code == 400
    assert page.post("training", json={"start": True}).status_code == 400  # nothing is drawn
    assert "no model" in page.prompt(place=[0, 0, 0]).json()["detail"]
    assert not page.drawing()[0].any()


def test_interpolation_fills_and_undo_empties(page: Page) -> None:
    for k in (1, 5):
        page.edit(((3, 8), (3, 8), (k, k + 1)), 1)
    page.edit(((4, 5), (4, 5), (3, 4)), 2)  # another label in between stays
    answer = page.post("case/ct_0/interpolate", json={"label": "organ", "axis": 2})
    assert answer.headers[BOUNDS_HEADER].endswith("2,5")
    drawing = page.drawing()[0]
    assert [(drawing[..., k] == 1).sum() for k in range(1, 6)] == [25, 25, 24, 25, 25]
    page.post("case/ct_0/undo")
    assert (page.drawing()[0] == 1).sum() == 50


@pytest.mark.parametrize("number", range(4))
def test_a_click_finds_the_organ_on_any_grid(helped: Page, number: int) -> None:
    case = f"ct_{number}"
    shown = np.asarray(nibabel.Nifti1Image.from_bytes(helped.get(f"case/{case}/image.nii").content).dataobj)
    place = np.argwhere(shown == 100)[0].tolist()
    answer = helped.prompt(case, place=place)
    assert answer.status_code == 200
    np.testing.assert_array_equal(helped.drawing(case)[0] == 1, shown == 100)


def test_what_lay_beneath_comes_back(helped: Page) -> None:
    shown = np.asarray(nibabel.Nifti1Image.from_bytes(helped.get("case/ct_0/image.nii").content).dataobj)
    place = np.argwhere(shown == 200)[0].tolist()
    whole = tuple((0, n) for n in shown.shape)
    helped.edit(whole, (shown > 0).astype(np.uint8))
    organ = helped.drawing()[0]
    helped.prompt(label="lesion", place=place)
    assert (helped.drawing()[0] == 2).sum() == (shown == 200).sum()
    helped.prompt(label="lesion", place=place, positive=False)  # the lesion is gone, the organ whole again
    np.testing.assert_array_equal(helped.drawing()[0], organ)
    helped.post("case/ct_0/undo")
    helped.post("case/ct_0/undo")
    np.testing.assert_array_equal(helped.drawing()[0], organ)
    assert helped.prompt(label="lesion", place=place, keeps_others=True).status_code == 204  # all of it is organ


def test_the_session_follows_the_brush_and_undo(helped: Page) -> None:
    shown = np.asarray(nibabel.Nifti1Image.from_bytes(helped.get("case/ct_0/image.nii").content).dataobj)
    place = np.argwhere(shown == 100)[0].tolist()
    helped.edit(((0, 2), (0, 2), (0, 2)), 1)
    helped.prompt(place=place)
    session = helped.routes.cases.open["ct_0"]._session
    assert isinstance(session, FakeSession)
    assert [each[0] for each in session.asked] == ["initial", "point"]
    helped.prompt(kind="box", bounds=[[1, 3], [1, 3], [1, 3]])
    assert [each[0] for each in session.asked] == ["initial", "point", "box"]  # nothing else was drawn since
    helped.post("case/ct_0/undo")
    helped.prompt(place=place)
    assert [each[0] for each in session.asked][3:] == ["point"]
    bits = np.packbits(np.ones(8, np.uint8), bitorder="little")
    helped.prompt(kind="scribble", bounds=[[0, 2], [0, 2], [0, 2]], voxels=base64.b64encode(bits.tobytes()).decode())
    assert session.asked[-1] == ("scribble", (2, 2, 2), (10, 8, 0))  # LPS: two axes are flipped
    assert (helped.drawing()[0] == 1).sum() == 8
    for message in (
        {"place": [99, 0, 0]},
        {"label": "nobody", "place": [0, 0, 0]},
        {"kind": "box", "bounds": [[3, 3], [0, 1], [0, 1]]},
        {"kind": "scribble", "bounds": [[0, 9], [0, 9], [0, 2]], "voxels": "AA=="},
        {"kind": "spell"},
    ):
        assert helped.prompt(**message).status_code == 400


def test_the_models_own_mask(helped: Page, scans: Path) -> None:
    helped.edit(((0, 1), (0, 1), (0, 1)), 2)
    helped.post("case/ct_0/first-mask", json={})
    shown = np.asarray(nibabel.Nifti1Image.from_bytes(helped.get("case/ct_0/image.nii").content).dataobj)
    drawing = helped.drawing()[0]
    np.testing.assert_array_equal(drawing == 1, shown == 100)  # "organ" is 3 in the model, 1 here
    assert drawing[0, 0, 0] == 2  # what was drawn stays
    assert (drawing == 2).sum() == 1  # "other" is no label here
    helped.post("case/ct_0/save")
    record = json.loads((scans / "annotations" / "final" / "ct_0.json").read_text())
    assert (record["model"], record["prompts"], record["edits"]) == ("fake", 0, 1)
    helped.edit(((0, 1), (0, 1), (0, 1)), 1)  # a correction by hand: it still began with the model's mask
    helped.post("case/ct_0/save")
    record = json.loads((scans / "annotations" / "final" / "ct_0.json").read_text())
    assert (record["model"], record["edits"]) == ("fake", 2)
    helped.edit(((0, 1), (0, 1), (0, 1)), 1, "ct_1")
    helped.post("case/ct_1/save")
    assert json.loads((scans / "annotations" / "final" / "ct_1.json").read_text())["model"] is None


def test_next_case_keeps_held_back_ones_apart(page: Page) -> None:
    (held,) = page.routes.folder.held_back
    offered = []
    for _ in range(6):
        choice = page.get("next.json", params={"strategy": "unlike"}).json()
        offered.append(choice["case_id"])
        assert ("held back" in choice["reason"]) == (choice["case_id"] == held)
        page.edit(((0, 1), (0, 1), (0, 1)), 1, choice["case_id"])
        page.post(f"case/{choice['case_id']}/save")
    assert sorted(offered) == sorted(page.routes.folder.datastore.cases)
    assert page.get("next.json").json() is None
    assert held not in page.routes.rounds.cases()
    assert page.get("next.json", params={"strategy": "magic"}).status_code == 400


def test_the_next_case_is_another_one(page: Page) -> None:
    """Neither the one that is shown, nor one that somebody draws on, as long as there are others."""
    first = page.get("next.json", params={"strategy": "random"}).json()["case_id"]
    second = page.get("next.json", params={"strategy": "random", "shown": first}).json()["case_id"]
    assert second != first
    cases = list(page.routes.folder.datastore.cases)
    for case in cases[1:]:
        page.edit(((0, 1), (0, 1), (0, 1)), 1, case)
    for strategy in ("random", "unlike"):
        assert page.get("next.json", params={"strategy": strategy}).json()["case_id"] == cases[0]
        assert page.get("next.json", params={"strategy": strategy, "shown": cases[0]}).json() is not None


def test_oblique_dicom(tmp_path: Path, write_slices: Callable[..., list[Path]]) -> None:
    """Judged by SimpleITK: what was drawn on a slice of the page lies on the pixels of the DICOM files."""
    import SimpleITK as sitk

    stored = np.zeros((6, 9, 7), np.int16)  # slice, row, column
    stored[2:4, 3:6, 1:4] = 100
    files = write_slices(tmp_path / "scans" / "series", stored)
    with page_of(tmp_path / "scans") as page:
        (case,) = page.routes.folder.datastore.cases
        shown = nibabel.Nifti1Image.from_bytes(page.get(f"case/{case}/image.nii").content)
        bright = np.asarray(shown.dataobj) == 100
        assert bright.sum() == 18
        page.edit([(0, n) for n in bright.shape], bright.astype(np.uint8), case)
        assert page.post(f"case/{case}/save").status_code == 200
    saved = sitk.ReadImage(str(tmp_path / "scans" / "annotations" / "final" / f"{case}.nii.gz"))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in files])
    on_series = sitk.Resample(saved, reader.Execute(), sitk.Transform(), sitk.sitkNearestNeighbor)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(on_series) == 1, stored == 100)
    assert [each.case_id for each in find_cases(tmp_path / "scans").cases if each.label] == [case]


@pytest.mark.parametrize("colours", [False, True])
def test_pictures(tmp_path: Path, colours: bool) -> None:
    """Judged by Pillow: the label map is a picture, and lies on the pixels that were drawn on."""
    pixels = np.zeros((20, 30, 3) if colours else (20, 30), np.uint8)  # row, column
    pixels[4:9, 11:25] = 200
    (tmp_path / "scans").mkdir()
    Image.fromarray(pixels).save(tmp_path / "scans" / "cells.png")
    with page_of(tmp_path / "scans") as page:
        scene = page.get("case/cells/scene.json").json()
        assert scene["flat"]
        shown = np.asarray(nibabel.Nifti1Image.from_bytes(page.get("case/cells/image.nii").content).dataobj)
        bright = (shown["R"] if colours else shown) == 200
        page.edit([(0, n) for n in bright.shape], bright.astype(np.uint8) * 2, "cells")
        assert page.post("case/cells/save").status_code == 200
    saved = np.asarray(Image.open(tmp_path / "scans" / "annotations" / "final" / "cells.png"))
    np.testing.assert_array_equal(saved == 2, (pixels if not colours else pixels[..., 0]) == 200)

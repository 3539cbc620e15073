import http.client
import json
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medseg.viewer.contents import ViewerContents
from medseg.viewer.opening import open_cases
from medseg.viewer.server import Server

Get = Callable[[str], tuple[int, bytes]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image with a ramp, a mask, and a reference with another order of axes."""
    folder = tmp_path_factory.mktemp("files")
    affine = np.diag([-1.0, -2.0, 3.0, 1.0])
    mask = np.zeros((10, 12, 8), np.uint8)
    mask[2:6, 3:9, 2:6] = 1
    nibabel.save(nibabel.Nifti1Image(np.arange(960, dtype=np.int16).reshape(10, 12, 8), affine), folder / "ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask, affine), folder / "mask.nii.gz")
    reference = nibabel.Nifti1Image(np.roll(mask, 1, axis=0), affine)
    turned = nibabel.as_closest_canonical(reference)
    nibabel.save(turned, folder / "reference.nii.gz")
    return folder


@pytest.fixture(scope="module")
def server(files: Path) -> Iterator[Server]:
    cases = open_cases(files / "ct.nii.gz", [files / "mask.nii.gz"], files / "reference.nii.gz")
    running = Server(ViewerContents(cases, "ct.nii.gz"))
    thread = threading.Thread(target=running.serve_forever, args=(0.02,))
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def get(server: Server) -> Get:
    """Of a path as it is, dots and all."""

    def fetch(path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()

    return fetch


def test_it_listens_on_this_machine_only(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.token) >= 32


def test_a_wrong_token_is_forbidden(server: Server, get: Get) -> None:
    assert get(f"/{server.token}/")[0] == 200
    for path in ("/", "/wrong/", f"/{server.token[:-1]}/", f"/{server.token}x/", "/case/0/image.nii", "/%C3%A4/"):
        assert get(path)[0] == 403


@pytest.mark.parametrize("dots", ["..", "%2e%2e", "..%2f..", "x/../..", "a%2f..%2fb"])
def test_dots_lead_nowhere(server: Server, get: Get, dots: str) -> None:
    assert get(f"/{server.token}/{dots}/pyproject.toml")[0] == 404
    assert get(f"/{dots}/etc/passwd")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        "nothing",
        "server.py",
        "niivue/LICENSE",
        "case/1/image.nii",
        "case/0/layer2.nii",
        "case/0/layer0-2.mz3",
        f"case/{'9' * 5000}/scene.json",
        f"case/0/layer{'1' * 5000}.nii",
        "case/%D9%A3/scene.json",  # an Arabic 3
        "%ff",
        "case/-1/scene.json",
    ],
)
def test_nothing_else_is_served(server: Server, get: Get, path: str) -> None:
    assert get(f"/{server.token}/{path}")[0] == 404


def test_an_address_that_is_none_is_refused(get: Get) -> None:
    assert get("//[")[0] == 403


def test_a_defect_is_told_in_a_line_and_answered(
    server: Server, get: Get, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: str) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(server, "find", broken)
    assert get(f"/{server.token}/")[0] == 500
    assert "a defect of medseg" in capsys.readouterr().err


def test_the_image_and_its_masks_come_as_nifti_in_one_orientation(server: Server, get: Get) -> None:
    volumes = [
        nibabel.Nifti1Image.from_bytes(get(f"/{server.token}/case/0/{name}.nii")[1])
        for name in ("image", "layer0", "layer1", "errors")
    ]
    assert {"".join(nibabel.aff2axcodes(volume.affine)) for volume in volumes} == {"RAS"}
    image, mask, reference, errors = (np.asarray(volume.dataobj) for volume in volumes)
    assert image[::-1, ::-1].ravel().tolist() == list(range(960))
    assert (mask != reference).sum() == (errors != 0).sum() == 48
    assert (errors[(mask == 1) & (reference == 0)] == 2).all()
    assert (errors[(mask == 0) & (reference == 1)] == 1).all()


def test_the_scene_names_labels_colours_and_volumes(server: Server, get: Get) -> None:
    scene = json.loads(get(f"/{server.token}/case/0/scene.json")[1])
    assert [layer["role"] for layer in scene["layers"]] == ["prediction", "reference"]
    (label,) = scene["layers"][0]["labels"]
    assert label["name"] == "foreground"
    assert label["ml"] == pytest.approx(96 * 6 / 1000)
    assert scene["notes"] == []


def test_a_surface_lies_around_its_mask(server: Server, get: Get) -> None:
    status, content = get(f"/{server.token}/case/0/layer0-1.mz3")
    assert status == 200
    magic, _, n_faces, n_vertices, _ = struct.unpack_from("<HHIII", content)
    vertices = np.frombuffer(content, "<f4", offset=16 + 12 * n_faces).reshape(n_vertices, 3)
    assert magic == 0x5A4D
    # Faces of the outermost voxels, half a voxel beyond their centres, in RAS.
    assert vertices.min(axis=0) == pytest.approx([-5.5, -17, 4.5], abs=1.6)
    assert vertices.max(axis=0) == pytest.approx([-1.5, -5, 16.5], abs=1.6)
    faces = np.frombuffer(content, "<i4", count=3 * n_faces, offset=16).reshape(n_faces, 3)
    a, b, c = np.moveaxis(vertices[faces].astype(float), 1, 0)
    volume = (a * np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(96 * 6, rel=0.3)  # corners are round; positive: faces look outwards


def test_everything_the_page_loads_is_here(server: Server, get: Get) -> None:
    page = get(f"/{server.token}/")[1].decode()
    assert "http" not in page
    for name in ("viewer.js", "niivue.js", "cases.json"):
        assert get(f"/{server.token}/{name}")[0] == 200

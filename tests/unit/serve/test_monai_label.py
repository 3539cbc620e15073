"""MONAI Label's REST API: the calls of 3D Slicer's module and of OHIF's plugin, as their sources make them."""

import errno
import http.client
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

import httpx
import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from dicom_kinds import KINDS, write_kind
from model_records import record_of
from promptable import INSIDE, channel, model_of
from serving import LPS, OBLIQUE, TOKEN, app_of, client_of, draw, served, state_of

from medseg.dataset.annotations import Authorship
from medseg.device import choose_device
from medseg.inferers.model import Model
from medseg.labels import Labels
from medseg.plan import Plan
from medseg.serve.datastore import Datastore
from medseg.serve.state import ServerState

LABELS = Labels.from_names({"absent": 2, "box": 5, "dark": 9})


class BrightAndDark(torch.nn.Module):
    """Says of what is bright that it is the box, and of nothing that it is there but background."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - image, torch.full_like(image, -9), image - 0.5, torch.full_like(image, -9)], 1)


@pytest.fixture
def model(tiny_plan: Plan) -> Model:
    return Model(Path("auto/model"), record_of(tiny_plan, LABELS, ("CT",)), BrightAndDark(), choose_device("cpu"))


@pytest.fixture
def state(tmp_path: Path, model: Model) -> ServerState:
    data = tmp_path / "data"
    draw(data / "lps.nii.gz", LPS)
    draw(data / "oblique.nii.gz", OBLIQUE)
    models = {"auto": served(model, "auto", tmp_path), "click": served(model_of(), "click", tmp_path)}
    return state_of(data, models)


@pytest.fixture
def client(state: ServerState) -> Iterator[httpx.Client]:
    with client_of(app_of(state)) as client:
        yield client


def read(content: bytes, path: Path) -> SimpleITK.Image:
    path.write_bytes(content)
    return SimpleITK.ReadImage(str(path))


def is_at(mask: SimpleITK.Image, image: Path, value: int) -> bool:
    """Whether the voxels of a value lie where the image is bright, in the eyes of ITK."""
    shown = SimpleITK.ReadImage(str(image))
    same_place = all(
        np.allclose(getattr(mask, each)(), getattr(shown, each)(), atol=1e-4)
        for each in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize")
    )
    bright = SimpleITK.GetArrayFromImage(shown) > 0.5
    return same_place and np.array_equal(SimpleITK.GetArrayFromImage(mask) == value, bright)


def slicer(client: httpx.Client, method: str, selector: str, fields: dict, files: dict) -> tuple[int, dict, dict]:
    """A request as 3D Slicer's module makes it, by http.client, a boundary of its own, and whole paths as names."""
    boundary = "----------lImIt_of_THE_fIle_eW_$"
    body = bytearray()
    for name, value in fields.items():
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
    for name, path in files.items():
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{path}"\r\n'.encode()
        body += b"Content-Type: application/octet-stream\r\n\r\n" + Path(path).read_bytes() + b"\r\n"
    body += f"--{boundary}--\r\n\r\n".encode()
    headers = {"content-type": f"multipart/form-data; boundary={boundary}", "content-length": str(len(body))}
    address = urlsplit(str(client.base_url))
    connection = http.client.HTTPConnection(address.hostname or "", address.port)
    connection.request(method, f"/{TOKEN}{selector}", bytes(body), headers)
    response = connection.getresponse()
    if "multipart" not in response.getheader("content-type", ""):
        return response.status, json.loads(response.read()), {}
    mark = response.getheader("content-type", "").partition("boundary=")[2].encode()
    parts = {}
    for part in response.read().split(b"--" + mark)[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        name = re.findall(rb'name="([^"]+)"', head)[-1].decode()  # of the file, where it has one
        parts[name] = content.removesuffix(b"\r\n")
    return response.status, json.loads(parts.pop("params")), parts


def test_what_clients_are_told(client: httpx.Client) -> None:
    info = client.get("/info/").json()
    assert not info.get("config")  # 3D Slicer refuses a server that has one
    assert isinstance(info["labels"], list) and {"absent", "box", "dark", "bright"} <= set(info["labels"])
    assert info["models"]["auto"]["type"] == "segmentation"
    assert info["models"]["auto"]["labels"] == {"absent": 1, "box": 2, "dark": 3}
    assert info["models"]["click-points"]["type"] == "deepgrow"
    assert info["models"]["click-scribbles"]["type"] == "scribbles"
    assert all(isinstance(stats, dict) for stats in info["train_stats"].values())
    assert info["datastore"] == {"total": 2, "completed": 0, "label_tags": {}, "train": []}


@pytest.mark.parametrize("image", ["lps", "oblique"])
def test_a_label_map_for_3d_slicer(client: httpx.Client, state: ServerState, tmp_path: Path, image: str) -> None:
    params = json.dumps({"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz"})
    status, told, files = slicer(client, "POST", f"/infer/auto?image={image}", {"params": params}, {})
    ((name, content),) = files.items()
    assert status == 200 and name.endswith(".nrrd") and "/" not in name
    # The names are those of the values that are there, in their order: Slicer numbers what it finds.
    assert told["label_names"] == ["box"]
    assert is_at(read(content, tmp_path / "a.nrrd"), state.datastore.case(image).images[0].path, 2)


def test_outputs_and_formats(client: httpx.Client, state: ServerState, tmp_path: Path) -> None:
    image = state.datastore.case("oblique").images[0].path
    for ending in (".nii.gz", ".nii", ".nrrd"):
        params = {"params": json.dumps({"result_extension": ending, "result_compress": False})}
        answer = client.post("/infer/auto?image=oblique&output=image", data=params)
        assert answer.headers["content-disposition"].endswith(f'{ending}"')
        assert is_at(read(answer.content, tmp_path / f"a{ending}"), image, 2)
    assert client.post("/infer/auto?image=oblique&output=json").json()["label_names"] == ["box"]
    with image.open("rb") as stream:
        sent = client.post("/infer/auto?output=image", files={"file": ("/x/y/ct.nii.gz", stream)})
    assert is_at(read(sent.content, tmp_path / "sent.nii.gz"), image, 2)


def test_ohif_gets_voxels_of_the_type_that_it_asks_for(client: httpx.Client, tmp_path: Path) -> None:
    for dtype, pixel in {
        "uint8": SimpleITK.sitkUInt8,
        "uint16": SimpleITK.sitkUInt16,
        "odd": SimpleITK.sitkUInt8,
    }.items():
        params = {"params": json.dumps({"result_extension": ".nrrd", "result_dtype": dtype})}
        answer = client.post("/infer/auto?image=oblique&output=image", data=params)
        assert read(answer.content, tmp_path / "a.nrrd").GetPixelID() == pixel


def test_names_in_any_letters(tmp_path: Path) -> None:
    write_kind(tmp_path / "data" / "患者", KINDS["CT"])
    state = state_of(tmp_path / "data")
    (case_id,) = state.datastore.cases
    assert "患者" in case_id
    with client_of(app_of(state)) as client:
        answer = client.get("/datastore/image", params={"image": case_id})
    assert answer.headers["content-disposition"] == f"attachment; filename*=utf-8''{quote(case_id)}.nrrd"


def test_a_damaged_record_and_a_full_disk(
    client: httpx.Client, state: ServerState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_map = np.ones((20, 18, 12), np.uint8)
    for case_id in ("lps", "oblique"):
        state.datastore.save(case_id, label_map, {1: "liver"}, Authorship("ann"))
    (state.datastore.folder / "annotations" / "final" / "lps.json").write_text("{")
    objects = client.get("/datastore/?output=all").json()["objects"]
    assert objects["lps"]["labels"]["final"]["info"] == {}
    assert objects["oblique"]["labels"]["final"]["info"]["author"] == "ann"

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    draw(tmp_path / "new.nii.gz", shape=(5, 6, 7))
    file = {"file": str(tmp_path / "new.nii.gz")}
    status, told, _ = slicer(client, "PUT", "/datastore/?image=lps", {"params": "{}"}, file)
    assert status == 409 and "there is an image 'lps' already" in told["detail"]
    monkeypatch.setattr("shutil.copyfile", full)
    status, told, _ = slicer(client, "PUT", "/datastore/?image=new", {"params": "{}"}, file)
    assert status == 507 and "No space left" in told["detail"] and "new" not in state.datastore.cases
    monkeypatch.setattr("medseg.serve.datastore.TemporaryDirectory", full)
    nibabel.save(nibabel.Nifti1Image(label_map, LPS), tmp_path / "sent.nii.gz")
    sent = {"label": str(tmp_path / "sent.nii.gz")}
    status, told, _ = slicer(client, "PUT", "/datastore/label?image=lps", {"params": "{}"}, sent)
    assert status == 507 and "No space left" in told["detail"]


def test_ohif_asks_by_the_series_and_saves_bytes(tmp_path: Path, model: Model) -> None:
    write_kind(tmp_path / "data" / "study", KINDS["oblique"])
    bright = Model(model.folder, model.record, Bright500(), model.device)
    state = state_of(tmp_path / "data", {"auto": served(bright, "auto", tmp_path)})
    (case,) = state.datastore.cases.values()
    params = {
        "result_extension": ".nrrd",
        "result_dtype": "uint8",
        "result_compress": False,
        "restore_label_idx": False,
    }
    with client_of(app_of(state)) as client:
        series = case.images[0].series_uid
        answer = client.post(f"/infer/auto?image={series}&output=image", data={"params": json.dumps(params)})
        mask = read(answer.content, tmp_path / "a.nrrd")
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "data" / "study")))
        shown = reader.Execute()
        assert np.allclose(mask.GetDirection(), shown.GetDirection()) and np.allclose(
            mask.GetOrigin(), shown.GetOrigin(), atol=1e-3
        )
        balls = SimpleITK.GetArrayFromImage(shown) > 500
        found = SimpleITK.GetArrayFromImage(mask) > 0
        assert 2 * (found & balls).sum() > 0.95 * (found.sum() + balls.sum())  # the network saw it at 1 mm
        info = {"label_info": [{"name": "ball", "idx": 1}]}
        files = {"label": ("label.bin", balls.astype(np.uint8).tobytes())}
        saved = client.put(f"/datastore/label?image={series}", data={"params": json.dumps(info)}, files=files)
        assert saved.json() == {"image": case.case_id, "label": case.case_id}
        # 3D Slicer gets a DICOM series as one file.
        image = client.get("/datastore/image", params={"image": case.case_id})
        assert image.headers["content-disposition"].endswith('.nrrd"')
        got = read(image.content, tmp_path / "image.nrrd")
        assert np.array_equal(SimpleITK.GetArrayFromImage(got), SimpleITK.GetArrayFromImage(shown))
    written = SimpleITK.ReadImage(str(state.datastore.label_path(case.case_id)))
    assert np.array_equal(SimpleITK.GetArrayFromImage(written) > 0, balls)


class Bright500(torch.nn.Module):
    """Of four outputs the box, where stored values are over 500."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.cat([500 - image, torch.full_like(image, -9e9), image - 500, torch.full_like(image, -9e9)], 1)


def test_3d_slicer_prompts(client: httpx.Client, state: ServerState, tmp_path: Path) -> None:
    """All points come with each call; the box of the image is bright, and so is the object."""
    image = state.datastore.case("oblique").images[0].path
    params = {
        "label": "tumour",
        "foreground": [[7, 5, 7]],
        "background": [],
        "client_id": "ann",
        "result_extension": ".nrrd",
    }
    for points in ([[7, 5, 7]], [[7, 5, 7], [8.2, 6, 6]]):
        sent = {"params": json.dumps({**params, "foreground": points})}
        _, told, files = slicer(client, "POST", "/infer/click-points?image=oblique", sent, {})
        assert told["label_names"] == ["tumour"]
        assert is_at(read(*files.values(), tmp_path / "a.nrrd"), image, 1)
    outside = {"params": json.dumps({**params, "foreground": [[7, 5, 700]]})}
    status, told, _ = slicer(client, "POST", "/infer/click-points?image=oblique", outside, {})
    assert status == 400 and "lies outside of the image" in told["detail"]
    status, told, _ = slicer(client, "POST", "/infer/click-points?image=oblique", {"params": "{}"}, {})
    assert status == 400 and "nothing is prompted yet" in told["detail"]


def test_an_image_that_comes_with_the_request_is_the_one_that_is_segmented(
    client: httpx.Client, tmp_path: Path
) -> None:
    draw(tmp_path / "first.nii.gz", LPS)
    other = np.asarray(nibabel.load(tmp_path / "first.nii.gz").dataobj)[::-1, ::-1]
    nibabel.save(nibabel.Nifti1Image(other, LPS), tmp_path / "second.nii.gz")
    for name, point in {"first.nii.gz": [7, 5, 7], "second.nii.gz": [12, 12, 7]}.items():
        clicked = {"params": json.dumps({"foreground": [point], "client_id": "ann"})}
        with (tmp_path / name).open("rb") as stream:
            sent = client.post("/infer/click-points?output=image", data=clicked, files={"file": ("a.nii.gz", stream)})
        assert is_at(read(sent.content, tmp_path / "mask.nii.gz"), tmp_path / name, 1)


def test_points_after_one_that_was_refused(tmp_path: Path) -> None:
    """Those that the session had lost by then are set again."""
    draw(tmp_path / "data" / "lps.nii.gz", LPS)
    model = model_of(channel(INSIDE), patch=(20, 20, 28))
    with client_of(app_of(state_of(tmp_path / "data", {"click": served(model, "click", tmp_path)}))) as client:
        first, second, outside = [2, 2, 2], [16, 15, 9], [2, 2, 99]
        for points, status in (([first], 200), ([second, outside], 400), ([first, second], 200)):
            sent = {"params": json.dumps({"foreground": points, "result_extension": ".nii"})}
            answer = client.post("/infer/click-points?image=lps&output=image", data=sent)
            assert answer.status_code == status
    mask = SimpleITK.GetArrayFromImage(read(answer.content, tmp_path / "mask.nii")).T
    assert mask[tuple(first)] == mask[tuple(second)] == 1


def test_channels_are_seen_as_in_training(tmp_path: Path) -> None:
    """The folder has them in the order of their names, the model in another one."""
    for kind in ("flair", "t1"):
        draw(tmp_path / "data" / "p1" / f"p1_{kind}.nii.gz")
    dark = nibabel.Nifti1Image(np.zeros((20, 18, 12), np.float32), LPS)
    nibabel.save(dark, tmp_path / "data" / "p1" / "p1_flair.nii.gz")
    datastore = Datastore(tmp_path / "data", ["flair=**/*_flair*", "t1=**/*_t1*"])
    (case,) = datastore.cases.values()
    offered = served(model_of(), "click", tmp_path)
    offered.record = offered.record.model_copy(update={"channels": ("t1", "flair")})
    image = datastore.volume(case.case_id)
    seen = offered.seen(case, image, datastore.channels)
    assert np.array_equal(seen.array, image.array[::-1]) and image.array[1].max() > 1


def test_3d_slicer_draws_strokes(client: httpx.Client, state: ServerState, tmp_path: Path) -> None:
    strokes = np.zeros((20, 18, 12), np.uint8)
    strokes[5:9, 5, 7], strokes[0, 0, :] = 3, 2
    nibabel.save(nibabel.Nifti1Image(strokes, OBLIQUE), tmp_path / "scribbles.nii.gz")
    names = ["tumour", "background_scribbles", "foreground_scribbles"]
    info = [{"name": name, "id": number} for number, name in enumerate(names, start=1)]
    sent = json.dumps({"label_info": info, "selected_label_name": "tumour", "roi": []})
    files = {"label": str(tmp_path / "scribbles.nii.gz")}
    _, told, found = slicer(client, "POST", "/infer/click-scribbles?image=oblique", {"params": sent}, files)
    assert told["label_names"] == ["tumour"]
    image = state.datastore.case("oblique").images[0].path
    assert is_at(read(*found.values(), tmp_path / "a.nii.gz"), image, 1)


def test_the_next_case_is_opened_corrected_and_saved(client: httpx.Client, state: ServerState, tmp_path: Path) -> None:
    sample = client.post("/activelearning/first", json={"client_id": "ann"}).json()
    assert sample["id"] == "lps" and sample["name"] == "lps.nii.gz" and Path(sample["path"]).is_file()
    image = client.get(f"/datastore/image?image={quote_plus(sample['id'])}")
    assert image.content == Path(sample["path"]).read_bytes()
    label_map = np.zeros((20, 18, 12), np.uint8)
    label_map[2:5], label_map[8:10] = 1, 2
    nibabel.save(nibabel.Nifti1Image(label_map, LPS), tmp_path / "sent.nii.gz")
    # Slicer counts segments that it leaves out ("background" was the first), and writes 1, 2, … all the same.
    info = {
        "label_info": [{"name": "liver", "idx": 2}, {"name": "tumour", "idx": 3}],
        "model": "auto",
        "client_id": "ann",
    }
    sent = {"label": str(tmp_path / "sent.nii.gz")}
    status, told, _ = slicer(client, "PUT", "/datastore/label?image=lps", {"params": json.dumps(info)}, sent)
    assert (status, told) == (200, {"image": "lps", "label": "lps"})
    annotation = state.datastore.annotation("lps")
    assert annotation is not None and annotation.voxels == {"liver": 3 * 18 * 12, "tumour": 2 * 18 * 12}
    assert annotation.author == "ann" and annotation.model == "auto" and annotation.seconds is not None
    assert annotation.model_fingerprint == state.models["auto"].fingerprint
    objects = client.get("/datastore/?output=all").json()["objects"]
    assert objects["lps"]["labels"]["final"]["info"]["params"]["label_names"] == {"liver": 1, "tumour": 2}
    label = client.get("/datastore/label?label=lps&tag=final")
    assert "lps.nii.gz" in label.headers["content-disposition"]
    assert np.array_equal(SimpleITK.GetArrayFromImage(read(label.content, tmp_path / "got.nii.gz")).T, label_map)
    assert client.get("/info/").json()["datastore"]["completed"] == 1
    assert client.post("/activelearning/first").json()["id"] == "oblique"
    assert client.delete("/datastore/label?id=lps&tag=final").status_code == 200
    assert client.post("/activelearning/first").json()["id"] == "lps"


@pytest.mark.parametrize(
    ("info", "voxels"),
    [
        ([("background", 0), ("liver", 1), ("tumour", 2)], {"liver": 1, "tumour": 2}),
        ([("nothing", 0), ("liver", 1), ("tumour", 2)], {"liver": 1, "tumour": 2}),
        ([("tumour", 2), ("liver", 1)], {"liver": 1, "tumour": 2}),
        ([("liver", 2), ("tumour", 3)], {"liver": 1, "tumour": 2}),  # 3D Slicer's, which left a segment out
        ([("liver", 1), ("liver", 2)], {"liver": 3}),
        ([("", 1), ("liver", 2)], None),
        ([("a\nb", 1), ("liver", 2)], None),
        ([("background", 1), ("liver", 2)], None),
    ],
)
def test_what_values_stand_for(
    client: httpx.Client, state: ServerState, tmp_path: Path, info: list[tuple[str, int]], voxels: dict[str, int] | None
) -> None:
    label_map = np.zeros((20, 18, 12), np.uint8)
    label_map[0, 0, 0], label_map[1, 0, :2] = 1, 2
    nibabel.save(nibabel.Nifti1Image(label_map, LPS), tmp_path / "sent.nii.gz")
    params = json.dumps({"label_info": [{"name": name, "idx": idx} for name, idx in info], "model": None})
    files = {"label": ("sent.nii.gz", (tmp_path / "sent.nii.gz").read_bytes())}
    saved = client.put("/datastore/label?image=lps", data={"params": params}, files=files)
    assert saved.status_code == (400 if voxels is None else 200), saved.text
    if voxels is not None:
        annotation = state.datastore.annotation("lps")
        assert annotation is not None and annotation.voxels == voxels


def test_paths_need_no_slash_at_their_ends(client: httpx.Client) -> None:
    for path in ("/info", "/datastore", "/auth", "/logs"):
        assert client.get(path).content == client.get(f"{path}/").content
    assert client.get("/train").json()["detail"] == "nothing was trained yet"


def test_a_seg_nrrd_brings_its_names(client: httpx.Client, state: ServerState, tmp_path: Path) -> None:
    from medseg.io.label_map_volume import LabelMapVolume
    from medseg.io.seg_nrrd.writer import write_seg_nrrd

    label_map = np.zeros((20, 18, 12), np.uint8)
    label_map[1, 2, 3:9] = 4
    drawn = LabelMapVolume(label_map, state.datastore.grid("oblique"), Labels.from_names({"vessel": 4}))
    write_seg_nrrd(tmp_path / "sent.seg.nrrd", drawn)
    sent = {"label": str(tmp_path / "sent.seg.nrrd")}
    assert slicer(client, "PUT", "/datastore/label?image=oblique", {"params": "{}"}, sent)[0] == 200
    assert np.array_equal(state.datastore.label_map("oblique") > 0, label_map > 0)
    assert state.datastore.labels.names == ["vessel"]


def test_what_cannot_be_is_refused_in_words(client: httpx.Client, tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.ones((20, 18, 12), np.uint8), OBLIQUE), tmp_path / "off.nii.gz")
    params = {"params": json.dumps({"label_info": [{"name": "liver", "idx": 1}]})}
    status, told, _ = slicer(
        client, "PUT", "/datastore/label?image=lps", params, {"label": str(tmp_path / "off.nii.gz")}
    )
    assert status == 400 and "does not lie on the grid" in told["detail"] and "/tmp" not in told["detail"].split(":")[0]
    refused = {
        ("POST", "/infer/auto?image=../../etc/passwd"): 404,
        ("POST", "/infer/nothing?image=lps"): 404,
        ("POST", "/infer/auto"): 400,
        ("POST", "/infer/auto?image=lps&output=video"): 400,
        ("GET", "/datastore/image?image=../lps.nii.gz"): 404,
        ("GET", "/datastore/label?label=lps&tag=../../data"): 400,
        ("GET", "/datastore/label?label=lps&tag=final"): 404,
        ("PUT", "/datastore/label?image=lps"): 400,
        ("POST", "/activelearning/best"): 404,
        ("GET", "/train/?check_if_running=true"): 404,
        ("DELETE", "/train/"): 404,
        ("POST", "/train/auto"): 400,
        ("GET", "/session/nothing"): 404,
    }
    for (method, path), status in refused.items():
        answer = client.request(method, path)
        assert answer.status_code == status, path
        assert answer.json()["detail"]
    for params in ("[1]", "{", '{"foreground": [[1, 2]]}', "9" * 100, "[" * 100_000):
        assert client.post("/infer/click-points?image=lps", data={"params": params}).status_code == 400


def test_images_that_are_lent_for_a_while(client: httpx.Client, state: ServerState, tmp_path: Path) -> None:
    image = state.datastore.case("oblique").images[0].path
    with image.open("rb") as stream:
        answer = client.put("/session/", files=[("files", ("a.nii.gz", stream))], data={"client_id": "ann"}).json()
    session = answer["session_id"]
    assert client.get(f"/session/{session}").json()["expiry"] == 3600
    got = client.post(f"/infer/auto?session_id={session}&output=image")
    assert is_at(read(got.content, tmp_path / "a.nii.gz"), image, 2)
    clicked = {"params": json.dumps({"foreground": [[7, 5, 7]]})}
    got = client.post(f"/infer/click-points?session_id={session}&output=image", data=clicked)
    assert is_at(read(got.content, tmp_path / "b.nii.gz"), image, 1)
    assert client.delete(f"/session/{session}").status_code == 200
    assert client.post(f"/infer/auto?session_id={session}").status_code == 404
    write_kind(tmp_path / "study", KINDS["oblique"])
    files = [
        ("files", (path.name, path.read_bytes())) for path in sorted((tmp_path / "study").rglob("*")) if path.is_file()
    ]
    assert len(files) > 1 and client.put("/session/", files=files).status_code == 200


def test_lent_images_take_no_more_of_the_disk_than_some_requests(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "a.nii.gz")
    size = (tmp_path / "data" / "a.nii.gz").stat().st_size
    state = state_of(tmp_path / "data", largest_body=size + 2000)
    with client_of(app_of(state)) as client:
        answers = [
            client.put("/session/", files=[("files", ("a.nii.gz", (tmp_path / "data" / "a.nii.gz").read_bytes()))])
            for _ in range(6)
        ]
        sessions = [each.json()["session_id"] for each in answers]
        found = [client.get(f"/session/{each}").status_code for each in sessions]
    kept = 4 * (size + 2000) // size
    assert found == [404] * (6 - kept) + [200] * kept


def test_two_people_are_given_two_cases(client: httpx.Client) -> None:
    def next_of(person: str) -> str:
        return client.post("/activelearning/first", json={"client_id": person}).json()["id"]

    assert [next_of(person) for person in ("ann", "bob", "ann", "bob")] == ["lps", "oblique", "lps", "oblique"]
    assert next_of("eve") == "lps"  # there is no third one


def test_an_image_is_added_under_the_name_that_3d_slicer_gives(client: httpx.Client, tmp_path: Path) -> None:
    draw(tmp_path / "tmpabc.nii.gz", OBLIQUE)
    file = {"file": str(tmp_path / "tmpabc.nii.gz")}
    for _ in range(2):
        assert slicer(client, "PUT", "/datastore/?image=MRHead", {"params": "{}"}, file)[:2] == (
            200,
            {"image": "MRHead"},
        )
    assert client.post("/infer/auto?image=MRHead&output=json").json()["label_names"] == ["box"]


def test_others_are_answered_while_a_model_works(
    client: httpx.Client, state: ServerState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two users ask at once: one after the other has the device, and both have an answer."""
    from concurrent.futures import ThreadPoolExecutor

    working: list[int] = []

    def slow(self: object, *_: object) -> None:
        working.append(1)
        time.sleep(0.03)
        assert sum(working) == 1  # never two
        working.pop()

    draw(tmp_path / "small.nii.gz", shape=(12, 9, 10))
    state.datastore.add_image("small", tmp_path / "small.nii.gz")
    asked_for = "/infer/auto?image=small&output=json"
    monkeypatch.setattr(BrightAndDark, "forward", _after(slow, BrightAndDark.forward))
    with ThreadPoolExecutor() as users:
        asked = [users.submit(client.post, asked_for) for _ in range(2)]
        assert client.get("/healthz").json() == {"ok": True}
        assert not all(each.done() for each in asked)
        assert [each.result().status_code for each in asked] == [200, 200]
    state.queue.most_waiting = 0
    busy = client.post("/infer/auto?image=lps")
    assert busy.status_code == 503 and busy.headers["retry-after"]


def _after(first: object, then: object):  # type: ignore[no-untyped-def]
    def both(self: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
        first(self)  # type: ignore[operator]
        return then(self, image)  # type: ignore[operator, no-any-return]

    return both


def test_what_was_said_can_be_read(client: httpx.Client) -> None:
    client.post("/infer/nothing?image=lps")
    client.post("/activelearning/first")
    answer = client.get("/logs/?lines=20")
    assert answer.headers["content-type"].startswith("text/plain")

"""nnInteractive's protocol, asked by its own client from PyPI."""

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from nnInteractive.inference.remote import nnInteractiveRemoteInferenceSession as RemoteSession
from nnInteractive.inference.remote.remote_session import ServerAtCapacityError, SessionExpiredError
from nnInteractive.inference.remote.serialization import pack_array, unpack_array
from promptable import INSIDE, RADIUS_MM, channel, model_of
from serving import LPS, OBLIQUE, TOKEN, draw, on_a_port, served, state_of

from medseg.device import Device
from medseg.errors import ConfigError
from medseg.io.read import read_volume
from medseg.serve.app import create_app
from medseg.serve.datastore import Datastore
from medseg.serve.nninteractive.array_place import ArrayPlaces
from medseg.serve.nninteractive.leases import Leases
from medseg.serve.nninteractive.packed_array import pack, unpack
from medseg.serve.nninteractive.routes import NnInteractive
from medseg.serve.state import ServerState


@pytest.fixture
def state(tmp_path: Path) -> ServerState:
    draw(tmp_path / "data" / "lps.nii.gz", LPS)
    draw(tmp_path / "data" / "oblique.nii.gz", OBLIQUE)
    return state_of(tmp_path / "data", {"click": served(model_of(), "click", tmp_path)})


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def address(state: ServerState, clock: list[float]) -> Iterator[str]:
    leases = Leases(most=2, clock=lambda: clock[0])
    with on_a_port(create_app(state, NnInteractive(state, leases=leases).routes)) as address:
        yield address


def slicer_array(state: ServerState, name: str) -> tuple[np.ndarray, list[float]]:
    """The array (1, k, j, i) and the spacing (k, j, i) that 3D Slicer's extension sends."""
    volume = state.datastore.volume(name)
    return volume.array.transpose(0, 3, 2, 1), list(reversed(volume.geometry.spacing))


@pytest.mark.parametrize("name", ["lps", "oblique"])
def test_prompts_and_masks_in_the_order_of_3d_slicer(state: ServerState, address: str, name: str) -> None:
    array, spacing = slicer_array(state, name)
    bright = array[0] > 0.5
    with RemoteSession(address, TOKEN) as session:
        assert all(session.supported_interactions[kind] for kind in ("points", "bbox2d", "bbox3d", "scribble", "lasso"))
        session.set_image(array, {"spacing": spacing})
        assert session.original_image_shape == array.shape
        mask = np.zeros(array.shape[1:], np.uint8)
        session.set_target_buffer(mask)
        changed = session.add_point_interaction((7, 5, 7), include_interaction=True)
        assert changed == [[5, 9], [3, 8], [4, 11]]
        assert np.array_equal(mask, bright)
        session.add_point_interaction((7, 5, 7), include_interaction=False)
        assert mask.sum() < bright.sum()
        assert session.undo() and np.array_equal(mask, bright)
        assert session.undo() and not mask.any()
        assert not session.undo()
        session.add_bbox_interaction([[5, 6], [3, 8], [4, 11]], include_interaction=True)
        assert np.array_equal(mask, bright)
        session.reset_interactions()
        scribble = np.ones((1, 1, 3), np.uint8)
        session.add_scribble_interaction(
            scribble, True, interaction_bbox=[[6, 7], [5, 6], [6, 9]], run_prediction=False
        )
        assert not mask.any()
        session._predict()
        assert np.array_equal(mask, bright)
        lasso = np.zeros(array.shape[1:], np.uint8)
        lasso[6, 3:8, 4:11] = 1
        session.add_lasso_interaction(lasso, True)
        session.add_initial_seg_interaction(1 - bright.astype(np.uint8))
        assert np.array_equal(mask, ~bright)
        assert 0 < session.heartbeat() <= 600 and session.lease_status()["remaining_seconds"] > 0


def test_points_lie_where_they_were_set(tmp_path: Path) -> None:
    """A network that answers with the ball around a point: its middle is the voxel that was clicked, in world space."""
    draw(tmp_path / "data" / "oblique.nii.gz", OBLIQUE, (40, 36, 24))
    state = state_of(tmp_path / "data", {"click": served(model_of(channel(INSIDE)), "click", tmp_path)})
    array, spacing = slicer_array(state, "oblique")
    with on_a_port(create_app(state, NnInteractive(state).routes)) as address, RemoteSession(address, TOKEN) as session:
        session.set_image(array, {"spacing": spacing})
        mask = np.zeros(array.shape[1:], bool)
        session.set_target_buffer(mask)
        session.add_point_interaction((9, 25, 11), include_interaction=True)
    grid = state.datastore.grid("oblique")
    found = grid.world(np.argwhere(mask)[:, ::-1]) - grid.world((11, 25, 9))
    assert np.abs(found.mean(0)).max() < 1
    assert RADIUS_MM - 1.5 < np.linalg.norm(found, axis=1).max() < RADIUS_MM + 1.5


def test_arrays_lie_as_the_image_that_they_are_else_as_was_said(state: ServerState, tmp_path: Path) -> None:
    (tmp_path / "data" / "lps.nii.gz").unlink()  # whose voxels are the same
    places = ArrayPlaces(Datastore(tmp_path / "data"), "SPL")
    image = read_volume(tmp_path / "data" / "oblique.nii.gz")
    array, spacing = slicer_array(state, "oblique")
    known = places.volume(array, (spacing[0], spacing[1], spacing[2]))
    assert np.allclose(known.geometry.world((5, 4, 3)), image.geometry.world((3, 4, 5)))
    assert np.allclose(places.volume(image.array, image.geometry.spacing).geometry.affine, image.geometry.affine)
    other = places.volume(array + 1, (2.5, 1.1, 0.9))
    assert other.geometry.orientation == "SPL" and other.geometry.spacing == (2.5, 1.1, 0.9)
    with pytest.raises(ConfigError, match="--array-orientation XYZ"):
        ArrayPlaces(state.datastore, "XYZ")


def test_sessions_of_several_users_do_not_touch(state: ServerState, address: str) -> None:
    array, spacing = slicer_array(state, "lps")
    masks = [np.zeros(array.shape[1:], np.uint8) for _ in range(2)]
    with RemoteSession(address, TOKEN) as one, RemoteSession(address, TOKEN) as other:
        with pytest.raises(ServerAtCapacityError, match="2 sessions are open"):
            RemoteSession(address, TOKEN)
        for session, mask in zip((one, other), masks, strict=True):
            session.set_image(array, {"spacing": spacing})
            session.set_target_buffer(mask)
        one.add_point_interaction((7, 5, 7), include_interaction=True)
        assert masks[0].any() and not masks[1].any() and not other.undo()
    with RemoteSession(address, TOKEN):  # they have given theirs back
        pass


def test_a_session_ends_when_nobody_does_anything_or_the_client_is_gone(address: str, clock: list[float]) -> None:
    resting, gone = (RemoteSession(address, TOKEN) for _ in range(2))
    for clock[0] in range(0, 601, 50):
        resting.heartbeat()  # which is no work
    clock[0] = 601
    for session in (resting, gone):
        with pytest.raises(SessionExpiredError):
            session.set_do_autozoom(True)
        session.close()
    with RemoteSession(address, TOKEN):
        pass


def test_what_is_wrong_is_refused_in_words(state: ServerState, address: str) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="403"):
        RemoteSession(address, "wrong-token-of-somebody")
    array, _ = slicer_array(state, "lps")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx.Client(base_url=address, headers=headers) as client:
        headers = {"X-Lease-Token": client.post("/claim").json()["lease_token"]}

        def refusal(path: str, **request: object) -> str:
            answer = client.post(path, headers={**headers, **request.pop("headers", {})}, **request)  # type: ignore
            assert answer.status_code == 400, answer.text
            return str(answer.json()["detail"])

        point = {"coordinates": [1, 2, 3], "include_interaction": True}
        assert "no image yet" in refusal("/add_point_interaction", json=point)
        client.post("/set_image", headers=headers, content=pack_array(array))
        assert "lies outside" in refusal("/add_point_interaction", json={**point, "coordinates": [1, 2, 300]})
        assert "'coordinates.2' is missing" in refusal("/add_point_interaction", json={**point, "coordinates": [1, 2]})
        assert "is missing" in refusal("/add_bbox_interaction", json={})
        assert "the mask has" in refusal("/set_target_buffer", json={"shape": [1, 2, 3], "dtype": "uint8"})
        assert "dtype" in refusal("/set_target_buffer", json={"shape": [12, 18, 20], "dtype": "object"})
        assert "cannot be read" in refusal("/add_scribble_interaction", content=b"NNIA")
        small = pack_array(np.ones((1, 1, 1), np.uint8))
        meta = {"X-Meta": '{"interaction_bbox": [[0, 2], [0, 1], [0, 1]]}'}
        assert "interaction_bbox" in refusal("/add_scribble_interaction", content=small, headers=meta)
        meta = {"X-Meta": '{"interaction_bbox": [[11, 13], [0, 1], [0, 1]]}'}
        beyond = pack_array(np.ones((2, 1, 1), np.uint8))
        assert "does not lie inside" in refusal("/add_scribble_interaction", content=beyond, headers=meta)
        assert "has 3 axes" in refusal("/set_image", content=pack_array(array[0]))
        assert "no JSON" in refusal("/add_bbox_interaction", content=b"{")
        assert client.post("/undo").status_code == 410


def test_who_is_gone_leaves_no_image_in_memory(
    state: ServerState, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nobody else comes."""
    monkeypatch.setattr("medseg.serve.app.UPKEEP", 0.02)
    leases = Leases(clock=lambda: clock[0])
    with on_a_port(create_app(state, NnInteractive(state, leases=leases).routes)) as address:
        httpx.post(f"{address}/{TOKEN}/claim")
        assert len(leases._leases) == 1
        clock[0] += 100
        deadline = time.monotonic() + 20
        while leases._leases and time.monotonic() < deadline:
            time.sleep(0.02)
    assert not leases._leases


def test_voxels_of_a_metre_do_not_kill_the_server(
    state: ServerState, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Device, "free_memory_mb", lambda self: 1024.0)
    with httpx.Client(base_url=f"{address}/{TOKEN}") as client:
        headers = {"X-Lease-Token": client.post("/claim").json()["lease_token"]}
        headers["X-Meta"] = '{"image_properties": {"spacing": [1000, 1000, 1000]}}'
        answer = client.post("/set_image", headers=headers, content=pack_array(np.zeros((1, 5, 5, 5), np.uint8)))
    assert answer.status_code == 400 and "1.2e+11 voxels at the spacing of click" in answer.json()["detail"]


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32", "int64"])
def test_arrays_are_those_of_the_protocol(dtype: str) -> None:
    array = (np.random.default_rng(0).uniform(0, 3, (3, 5, 7))).astype(dtype)
    assert np.array_equal(unpack_array(pack(array)), array)
    for filters in (None, []):
        assert np.array_equal(unpack(pack_array(array, filters=filters or None), 10**6), array)


def test_arrays_that_lie_about_themselves_are_refused() -> None:
    content = bytearray(pack(np.zeros((40, 40), np.uint8)))
    shape_at = 8 + len("uint8")
    for change, message in (
        (lambda c: c[:20], "cut short"),
        (lambda c: c[:-3], "do not fit"),
        (lambda c: c[:shape_at] + struct.pack("<2q", 2**40, 2**40) + c[shape_at + 16 :], "is not taken"),
        (lambda c: c[:shape_at] + struct.pack("<2q", -1, -1600) + c[shape_at + 16 :], "is not taken"),
        (lambda c: c[:shape_at] + struct.pack("<2q", 40, 50) + c[shape_at + 16 :], "do not fit"),
        (lambda c: c[:8] + b"objec" + c[13:], "of type 'objec'"),
        (lambda c: c[:-20] + bytes(20), "damaged|another number|do not fit|cut short"),
        (lambda c: b"XXXX" + c[4:], "no packed array"),
    ):
        with pytest.raises(ValueError, match=message):
            unpack(bytes(change(bytes(content))), 10**6)


def test_without_a_promptable_model_it_says_so(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "a.nii.gz")
    state = state_of(tmp_path / "data")
    with on_a_port(create_app(state, NnInteractive(state).routes)) as address:
        answer = httpx.post(f"{address}/{TOKEN}/claim")
        assert answer.status_code == 404 and "medseg train --prompts" in answer.json()["detail"]

import json
import resource
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from model_records import record_of

import medseg
from medseg.architecture import CUSTOM_NETWORK
from medseg.device import Device
from medseg.errors import ConfigError, ModelError, OutputError
from medseg.inferers.model import load_model, save_model
from medseg.networks.registry import build_network
from medseg.plan import Plan
from medseg.weights import write_tensors

CPU = Device(torch.device("cpu"), torch.float32)


@pytest.fixture
def saved(tmp_path: Path, tiny_plan: Plan) -> tuple[Path, torch.nn.Module]:
    record = record_of(tiny_plan, {"a": 1, "b": 5}, ("T1",))
    network = build_network(1, 3, tiny_plan.architecture)
    save_model(tmp_path / "model", record, network.state_dict())
    return tmp_path, network


@pytest.mark.parametrize("below", ["", "model"])
def test_the_loaded_model_gives_the_same_logits(saved: tuple[Path, torch.nn.Module], below: str) -> None:
    folder, network = saved
    model = load_model(folder / below, CPU)
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.inference_mode():
        assert torch.allclose(model.network(image), network.eval()(image), atol=1e-4)
    assert model.record.labels.values == [1, 5]


def test_paths_and_devices_may_be_text(saved: tuple[Path, torch.nn.Module]) -> None:
    folder = str(saved[0])
    assert load_model(folder, "cpu").device.is_cpu
    assert len(load_model([folder, folder], "cpu").folders) == 2
    with pytest.raises(ConfigError, match="cqu"):
        load_model(folder, "cqu")


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is no model"):
        load_model(tmp_path, CPU)
    (tmp_path / "run.json").touch()
    with pytest.raises(ModelError, match=r"has no model/ yet.*--resume.*model-last"):
        load_model(tmp_path, CPU)


def test_damaged_and_foreign_models_are_refused(saved: tuple[Path, torch.nn.Module]) -> None:
    folder = saved[0] / "model"
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"weights.safetensors: .*damaged or not safetensors"):
        load_model(folder, CPU)
    content = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**content, "format_version": 7}))
    with pytest.raises(ModelError, match="format version 7"):
        load_model(folder, CPU)
    (folder / "model.json").write_text("{")
    with pytest.raises(ModelError, match="damaged or not JSON"):
        load_model(folder, CPU)


def test_weights_of_another_network_are_refused(saved: tuple[Path, torch.nn.Module]) -> None:
    folder = saved[0] / "model"
    content = json.loads((folder / "model.json").read_text())
    content["plan"]["architecture"]["features"] = [8, 16]
    (folder / "model.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"weights.safetensors does not fit the network in model.json"):
        load_model(folder, CPU)


def test_weights_that_do_not_fit_on_the_disk_leave_the_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.zeros(8)})
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OutputError, match=r"weights.safetensors: cannot be written .*File too large"):
            write_tensors(path, {"a": torch.zeros(8192)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


ABSURD = {
    "plan.architecture.features": [[-4, 8], [4, 8, 16], [], [4] * 17, [10**9, 8]],
    "plan.architecture.strides": [[[1, 1, 1]], [[1, 1, 1], [2, 2]], [[1, 1, 1], [0, 2, 2]]],
    "plan.architecture.arguments": [{"layers": 10**6}, {"unknown": 1}],
    "plan.patch_size": [[10**9, 8, 8], [0, 8, 8], [8, 8]],
    "plan.grid.orientation": ["RRS", "", 3],
    "plan.grid.spacing": [[1, 1, -1], [1, 1, None]],
    "plan.grid.normalization": [[], [{"kind": "none"}] * 2],
    "plan.slice_axis": [2, 7],
    "plan.regions": [[{"name": "all", "values": [7], "value": 1}]],
    "labels.items": [3, [{"name": "a", "value": 10**25, "colour": [0, 0, 0]}]],
    "postprocessing": [[{"label": "liver"}]],
    "channels": [[], None],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in ABSURD.items() for value in values])
def test_what_a_model_cannot_mean_is_refused_before_it_is_built(
    saved: tuple[Path, torch.nn.Module], key: str, value: object
) -> None:
    path = saved[0] / "model" / "model.json"
    content = json.loads(path.read_text())
    place, *rest = [content, *key.split(".")]
    for part in rest[:-1]:
        place = place[part]
    place[rest[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"model\.json: ") as caught:
        load_model(path.parent, CPU)
    assert len(str(caught.value)) < 1000


def test_weights_that_do_not_fit_are_told_before_memory_is_taken(
    saved: tuple[Path, torch.nn.Module], tiny_plan: Plan
) -> None:
    path = saved[0] / "model" / "model.json"
    content = json.loads(path.read_text())
    content["plan"]["architecture"]["features"] = [60_000, 60_000]  # 400 GB
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"weights\.safetensors does not fit"):
        load_model(path.parent, CPU)


def test_weights_that_are_no_numbers_are_refused(saved: tuple[Path, torch.nn.Module]) -> None:
    folder, network = saved
    weights = network.state_dict()
    first = next(iter(weights))
    write_tensors(folder / "model" / "weights.safetensors", {**weights, first: weights[first] * float("nan")})
    with pytest.raises(ModelError, match=f"'{first}' holds what is no number"):
        load_model(folder, CPU)


def test_a_network_of_the_users_own_is_given_again(tmp_path: Path, tiny_plan: Plan) -> None:
    architecture = tiny_plan.architecture.model_copy(update={"name": CUSTOM_NETWORK})
    own = torch.nn.Conv3d(1, 3, 3, padding=1)
    record = record_of(tiny_plan.model_copy(update={"architecture": architecture}), {"a": 1, "b": 5}, ("T1",))
    save_model(tmp_path / "model", record, own.state_dict())
    image = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.random.default_rng(0).random((12, 11, 9), np.float32), np.eye(4)), image)
    with pytest.raises(ModelError, match=r"network of the user's own.*medseg.predict\(…, network=module\)"):
        medseg.predict(tmp_path / "model", image, device="cpu")
    with pytest.raises(ModelError, match="does not fit the network that was given"):
        medseg.predict(tmp_path / "model", image, device="cpu", network=torch.nn.Conv3d(1, 2, 3, padding=1))
    with pytest.raises(ConfigError, match="network: is a str"):
        medseg.predict(tmp_path / "model", image, device="cpu", network="unet")  # type: ignore[arg-type]
    again = torch.nn.Conv3d(1, 3, 3, padding=1)
    before = again.weight.clone()
    (prediction,) = medseg.predict(tmp_path / "model", image, device="cpu", network=again).predictions
    assert torch.equal(again.weight, before)  # a copy got the weights
    assert prediction.label_map.array.shape == (1, 12, 11, 9)
    assert set(np.unique(prediction.label_map.array)) <= {0, 1, 5}
    model = load_model(tmp_path / "model", CPU, network=again)
    assert torch.equal(model.network.weight, own.weight)  # type: ignore[arg-type]

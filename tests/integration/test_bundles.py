"""Bundles of MONAI give the logits and the label maps that MONAI gives, and are read as data."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from bundles import BUNDLES, parsed, run_by_monai, write_bundle, write_image
from parameters import mostly_slow

import medseg
from medseg.device import choose_device
from medseg.inferers.case_stream import predict_logits
from medseg.inferers.model import load_model
from medseg.inferers.model_record import read_model_record
from medseg.inferers.predictor import Predictor
from medseg.transforms.prepared import prepare


def affine() -> np.ndarray:
    """Axes in another order and direction than RAS, turned, and voxels that are no multiple of the bundles'."""
    cosine, sine = np.cos(0.1), np.sin(0.1)
    turned = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    axes = np.array([[0, -1, 0], [1, 0, 0], [0, 0, -1]]) * [0.9, 1.1, 2.6]
    return np.block([[turned @ axes, np.array([[30], [-20], [60]])], [np.zeros((1, 3)), np.ones((1, 1))]])


SHAPE = (38, 46, 21)
EQUAL = 1e-4
LARGEST = {"_target_": "KeepLargestConnectedComponentd", "keys": "pred", "applied_labels": [1, 2, 3, 4]}
AGAIN = [name for name in BUNDLES if name not in ("spleen", "short_axis")]  # a bundle out holds no 2D network


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medseg.device._cpu_has_bf16", lambda: False)


@pytest.mark.parametrize("name", mostly_slow(BUNDLES, "spleen"))
@pytest.mark.usefixtures("in_float32")
def test_a_bundle_predicts_what_monai_predicts(name: str, tmp_path: Path) -> None:
    config = BUNDLES[name]()
    if name == "whole_body":  # on the model grid, before the label map is brought back
        config["postprocessing"]["transforms"][2:2] = [LARGEST]
    bundle = write_bundle(tmp_path / name, config)
    n_channels = config["network_def"].get("in_channels", 1)
    files = [write_image(tmp_path / f"case_{i:04d}.nii.gz", affine(), SHAPE, seed=i) for i in range(n_channels)]
    logits, label_map = run_by_monai(bundle, files[0] if n_channels == 1 else files)

    folder = medseg.import_model(bundle, tmp_path / "model")
    model = load_model(folder, choose_device("cpu", "fp32"))
    plan = model.record.plan
    volumes = [medseg.read_volume(file) for file in files]
    volume = medseg.Volume(np.concatenate([each.array for each in volumes]), volumes[0].geometry)
    prepared = prepare(volume, None, plan.grid)
    own = predict_logits(model.network, prepared.image, plan, model.record.inference, model.device)
    assert own.shape == logits.shape
    if not plan.regions:  # whose outputs have another order
        assert float((own - logits).abs().max()) < EQUAL
    assert float(logits.std()) > 0.1

    masks = tmp_path / "masks"
    result = medseg.predict(folder, tmp_path, masks, images="case_*.nii.gz", device="cpu", backend="torch")
    assert not result.problems
    (mask,) = masks.glob("*.nii.gz")
    mine = np.asarray(nibabel.load(mask).dataobj)
    assert len(np.unique(label_map)) > 1
    differ = mine != label_map
    if plan.grid.crop_last:  # MONAI's labels reach up to a voxel of the model grid beyond the box, medseg's half of one
        differ &= mine > 0
    assert differ.mean() < 0.001


@pytest.mark.slow
@pytest.mark.usefixtures("in_float32")
def test_a_network_of_full_size_gives_the_logits_of_monai(tmp_path: Path) -> None:
    """The network of wholeBody_ct_segmentation: its group norms are as exact in channels-last as in channels-first."""
    config = BUNDLES["whole_body"]()
    config["network_def"] |= {"init_filters": 32, "blocks_down": [1, 2, 2, 4], "blocks_up": [1, 1, 1]}
    config["network_def"]["out_channels"] = 105
    bundle = write_bundle(tmp_path / "bundle", config)
    model = load_model(medseg.import_model(bundle, tmp_path / "model"), choose_device("cpu", "fp32"))
    noise = torch.rand(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    window = torch.nn.functional.interpolate(noise, size=(64, 64, 64), mode="trilinear")
    network = parsed(bundle, "network_def")
    network.load_state_dict(torch.load(bundle / "models" / "model.pt", weights_only=True))
    with torch.inference_mode():
        right, ours = network.eval()(window), Predictor(model.network, model.record.plan, model.device)(window)
    assert float(right.std()) > 0.1
    assert float((ours - right).abs().max()) < 2e-5  # 6e-5 with PyTorch's own


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spleen", *AGAIN])
@pytest.mark.usefixtures("in_float32")
def test_a_bundle_packaged_again_predicts_what_it_did(name: str, tmp_path: Path) -> None:
    config = BUNDLES[name]()
    place = {"spleen": 3, "whole_body": 2}.get(name)
    if place is not None:
        config["postprocessing"]["transforms"][place:place] = [LARGEST | {"applied_labels": [1]}]
    bundle = write_bundle(tmp_path / name, config)
    channels = range(config["network_def"].get("in_channels", 1))
    files = [write_image(tmp_path / f"case_{i:04d}.nii.gz", affine(), SHAPE, seed=i) for i in channels]
    logits, label_map = run_by_monai(bundle, files)
    model = medseg.import_model(bundle, tmp_path / "model")
    again = medseg.package(model, tmp_path / "again", format="monai-bundle")
    before, network, inferer, after = parsed(again, "preprocessing", "network_def", "inferer", "postprocessing")
    data = before({"image": files})
    with torch.no_grad():
        data["pred"] = inferer(data["image"][None], network)[0]
    assert data["pred"].shape == logits.shape
    if name != "tumour":  # whose outputs have another order
        assert float((data["pred"].as_tensor() - logits).abs().max()) < EQUAL
    found = after(data)["pred"].as_tensor()[0].numpy()
    assert len(np.unique(label_map)) > 1
    assert (found != label_map).mean() < 0.001
    assert read_model_record(medseg.import_model(again, tmp_path / "back")) == read_model_record(model)

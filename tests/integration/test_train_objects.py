"""From drawn nuclei to objects: prepared, trained, predicted; in 2D, and in 3D with thick slices."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import medseg
from medseg.config import InferenceConfig, load
from medseg.dataset.store import PreparedDataset
from medseg.inferers.model_record import read_model_record
from medseg.io.nifti.writer import write_nifti
from medseg.io.read import read_volume
from medseg.metrics.objects import object_pairs
from medseg.plan import ObjectOutputs
from medseg.table import read_table
from medseg.training import validation
from medseg.volume import Geometry

SMALL = ["training.fit_inference=false", "preprocessing.workers=1", "training.threads=2", "training.folds=3"]


def draw(random, shape, radii, pitch):
    """Objects that nearly touch or do, and an image of them."""
    centres = np.stack(np.meshgrid(*(np.arange(p / 2, n, p) for p, n in zip(pitch, shape, strict=True))), -1)
    places, objects = np.moveaxis(np.indices(shape), 0, -1), np.zeros(shape, np.uint16)
    nearest = np.full(shape, 1.0)
    for number, centre in enumerate(centres.reshape(-1, len(shape)), start=1):
        centre = centre + random.uniform(-1, 1, len(shape)) * (np.array(pitch) - 2 * np.array(radii) + 1) / 2
        distance = np.linalg.norm((places - centre) / radii, axis=-1)
        objects[distance < nearest] = number
        nearest = np.minimum(nearest, distance)
    rim = 40 * (nearest > 0.8) * (objects > 0)
    return objects, 60 + 120 * (objects > 0) - rim + random.normal(0, 10, shape)


@pytest.fixture(scope="module")
def nuclei(tmp_path_factory) -> Path:
    folder, random = tmp_path_factory.mktemp("nuclei"), np.random.default_rng(0)
    for case in range(6):
        objects, image = draw(random, (40, 48), (5, 5), (11, 11))
        for name, array in (("images", image.clip(0, 255).astype(np.uint8)), ("labels", objects)):
            (folder / name).mkdir(exist_ok=True)
            Image.fromarray(array).save(folder / name / f"nuclei_{case}.png")
    return folder


def trained(source, folder, settings, dims):
    config = load(overrides=[*SMALL, *settings])
    medseg.preprocess(source, folder / "prepared", config=config, instances=["nucleus"])
    result = medseg.train(folder / "prepared", folder / "run", dims=dims, config=config)
    return PreparedDataset(folder / "prepared"), result


@pytest.mark.slow
def test_objects_are_learnt_and_written_beside_the_label_map(nuclei, tmp_path):
    steps = ["training.epochs=1", "training.steps_per_epoch=2", "planning.patch_size=[16,16]",
             "training.metric=object_ap"]  # fmt: skip
    dataset, result = trained(nuclei, tmp_path, [*steps, "planning.cpu_base_features=4"], 2)
    case_id = dataset.case_ids[0]
    depth, objects = dataset.targets(case_id, "distance", 2), dataset.objects(case_id)
    assert ((depth > 0) == (objects > 0)).all()
    record = read_model_record(result.model)
    assert record.outputs == ("background", "nucleus", "distance", "core")
    assert record.grouping is not None
    assert 0 <= float(read_table(tmp_path / "run" / "log.csv", "")[-1]["val_object_ap_nucleus"]) <= 1
    predicted = medseg.predict(result.model, nuclei / "images", tmp_path / "masks")
    entries = json.loads((tmp_path / "masks" / "predictions.json").read_text())["cases"]
    for prediction, entry in zip(predicted, entries, strict=True):
        mask = read_volume(tmp_path / "masks" / f"{prediction.case_id}.png").array[0]
        found = read_volume(tmp_path / "masks" / "objects" / f"{prediction.case_id}.png").array[0]
        assert entry["objects"] == ({"nucleus": found.max()} if found.any() else {})
        assert not found[mask == 0].any()
    kept = medseg.predict(result.model, nuclei / "images")
    assert all(each.objects is not None for each in kept)
    resumed = medseg.train(tmp_path / "prepared", tmp_path / "run", resume=True)
    assert resumed.steps == 2


def test_a_run_without_targets_learns_labels_alone(nuclei, tmp_path):
    steps = ["training.epochs=1", "training.steps_per_epoch=1", "planning.patch_size=[16,16]"]
    _, result = trained(nuclei, tmp_path, [*steps, "planning.cpu_base_features=4", "training.object_targets=[]"], 2)
    assert read_model_record(result.model).outputs == ("background", "nucleus")


def test_the_best_weights_are_those_with_the_best_objects(nuclei, tmp_path, monkeypatch):
    medseg.preprocess(nuclei, tmp_path / "prepared", config=load(overrides=SMALL), instances=["nucleus"])
    dataset = PreparedDataset(tmp_path / "prepared").subset(["nuclei_0", "nuclei_1"])
    plan = dataset.plans.plan_2d.model_copy(update={"objects": ObjectOutputs(values=(1,), targets=("distance",))})
    wrong = iter(dataset.case_ids)

    def predicted(stream):
        case_id = next(wrong)
        objects = np.array(dataset.objects(case_id))
        n = objects.max()
        if case_id == "nuclei_1":
            objects[objects == n] = 0  # one is missed
        return np.array(dataset.label_map(case_id)), SimpleNamespace(object_map=objects, n=n)

    monkeypatch.setattr(validation, "predict_objects", predicted)
    monkeypatch.setattr(validation, "CaseStream", lambda *arguments: None)
    predictor = SimpleNamespace(plan=plan, network=None, device=None)
    result = validation.validate(predictor, dataset, InferenceConfig(), metric="object_ap")
    n = int(dataset.objects("nuclei_1").max())
    assert result.score == pytest.approx((1 + (n - 1) / n) / 2)
    assert result.mean_dice == 1  # which a missed object does not change: its label stays


@pytest.mark.slow
def test_touching_ellipsoids_with_thick_slices_are_told_apart(tmp_path):
    random, affine = np.random.default_rng(1), np.diag([1.0, 1.0, 4.0, 1.0])
    truth = {}
    for part, n in (("train", 6), ("test", 2)):
        for case in range(n):
            objects, image = draw(random, (48, 48, 16), (7, 7, 1.9), (13, 13, 3.8))
            grid = Geometry(objects.shape, affine)
            write_nifti(tmp_path / part / "images" / f"case_{case}.nii.gz", image.astype(np.float32), grid)
            write_nifti(tmp_path / part / "labels" / f"case_{case}.nii.gz", objects, grid)
            truth[part, f"case_{case}"] = objects
    steps = ["training.epochs=3", "training.steps_per_epoch=50", "training.batch_size=4"]
    size = ["planning.cpu_base_features=8", "planning.patch_size=[32,32,8]"]
    _, result = trained(tmp_path / "train", tmp_path, [*steps, *size], 3)
    masks = tmp_path / "masks"
    medseg.predict(result.model, tmp_path / "test" / "images", masks, preview=True)
    scores, components = [], []
    for case_id in ("case_0", "case_1"):
        found = read_volume(masks / "objects" / f"{case_id}.nii.gz").array[0].astype(int)
        label_map = read_volume(masks / f"{case_id}.nii.gz").array[0].astype(int)  # all that touches is one in it
        for these, array in ((scores, found), (components, label_map)):
            these.append(object_pairs(truth["test", case_id], array).average_precision(0.5))
        with Image.open(masks / "preview" / f"{case_id}.png") as picture:
            pixels = np.asarray(picture.convert("HSV")).astype(int)
        hues = pixels[..., 0][(pixels[..., 1] > 100) & (pixels[..., 2] > 100)]
        assert (np.bincount(hues // 16, minlength=16) > 200).sum() > 3  # neighbours have other colours
    assert np.mean(scores) >= 0.95
    assert np.mean(components) < 0.3

"""Channels on different grids: what predict gives to the network is what training saw."""

from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel
import numpy as np
import pytest
from model_records import record_of

from medseg.config import load
from medseg.dataset.store import PreparedDataset
from medseg.errors import SourceError
from medseg.files import write_json
from medseg.inferers.model import save_model
from medseg.inferers.model_record import read_model_record
from medseg.inferers.segmentation import SegmentationResult
from medseg.networks.registry import build_network
from medseg.prediction import case_segmentation as predicting
from medseg.transforms.prepared import Prepared
from medseg.workflows.predict import predict
from medseg.workflows.preprocess import preprocess
from medseg.workflows.train import train

WriteImage = Callable[..., Path]
WriteSlices = Callable[..., list[Path]]

CT_GRID = np.diag((2.0, 2.0, 3.0, 1.0))
PET_GRID = np.array([[4.0, 0, 0, 1.0], [0, 4.0, 0, 1.0], [0, 0, 3.0, 0], [0, 0, 0, 1]])  # half as fine in the plane
CHANNELS = ("CT=*/CT.nii.gz", "PET=*/PET.nii.gz")


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape) + shape[0]).integers(1, 900, shape).astype(np.int16)


@pytest.fixture
def patients(tmp_path: Path, write_image: WriteImage) -> Path:
    """Two patients as NIfTI, with a mask on the CT."""
    label_map = np.zeros((24, 20, 6), np.uint8)
    label_map[6:14, 5:15, 2:5] = 1
    for name in ("P1", "P2"):
        folder = tmp_path / "patients" / name
        write_image(folder / "CT.nii.gz", values(24, 20, 6), CT_GRID)
        write_image(folder / "CT_mask.nii.gz", label_map, CT_GRID)
        write_image(folder / "PET.nii.gz", values(12, 10, 6), PET_GRID)
    return tmp_path / "patients"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """What the network is given, case by case, instead of a prediction."""
    given: list[np.ndarray] = []

    def segment(network: object, prepared: Prepared, *_: object) -> SegmentationResult:
        given.append(np.asarray(prepared.image))
        return SegmentationResult(np.ones(prepared.source.shape, np.uint8), windows=1, skipped_windows=0)

    monkeypatch.setattr(predicting, "segment", segment)
    return given


def trained(source: Path, folder: Path, images: Sequence[str], *, registered: bool) -> PreparedDataset:
    """A prepared dataset, and a model beside it that learnt nothing."""
    options = ["preprocessing.workers=1", f"preprocessing.registered={registered}"]
    result = preprocess(source, folder, config=load(overrides=options), images=images, labels="*/CT_mask.nii.gz")
    assert result.plans is not None and result.record.labels is not None
    plan = result.plans.plan_2d
    network = build_network(2, 2, plan.architecture)
    record = record_of(plan, result.record.labels, result.record.channels)
    save_model(folder / "model", record, network.state_dict())
    return PreparedDataset(folder)


def test_predict_resamples_as_preprocess_did(patients: Path, tmp_path: Path, seen: list[np.ndarray]) -> None:
    dataset = trained(patients, tmp_path / "prepared", CHANNELS, registered=True)
    result = predict(tmp_path / "prepared" / "model", patients, tmp_path / "masks", images=CHANNELS, device="cpu")
    assert [prediction.case_id for prediction in result] == ["P1", "P2"] and not result.problems
    for case_id, given in zip(dataset.cases, seen, strict=True):
        np.testing.assert_allclose(given, dataset.image(case_id), atol=2e-3)  # stored in float16
    mask = nibabel.load(tmp_path / "masks" / "P1.nii.gz")
    assert mask.shape == (24, 20, 6) and np.array_equal(mask.affine, CT_GRID)


def test_channels_are_put_in_the_order_of_training(patients: Path, tmp_path: Path, seen: list[np.ndarray]) -> None:
    trained(patients, tmp_path / "prepared", CHANNELS, registered=True)
    for images in (CHANNELS, CHANNELS[::-1]):
        predict(tmp_path / "prepared" / "model", patients / "P1", images=[i.replace("*/", "") for i in images])
    assert seen[0].shape == seen[1].shape == (2, 24, 20, 6)
    np.testing.assert_array_equal(seen[0], seen[1])


def test_a_model_of_one_grid_needs_to_be_told(
    patients: Path, tmp_path: Path, write_image: WriteImage, seen: list[np.ndarray]
) -> None:
    for name in ("P1", "P2"):
        write_image(patients / name / "PET_on_CT.nii.gz", values(24, 20, 6), CT_GRID)
    trained(patients, tmp_path / "prepared", ("CT=*/CT.nii.gz", "PET=*/PET_on_CT.nii.gz"), registered=False)
    model = tmp_path / "prepared" / "model"
    with pytest.raises(SourceError, match="no case could be predicted; .*say so with --registered"):
        predict(model, patients, images=CHANNELS)
    assert len(list(predict(model, patients, images=CHANNELS, registered=True))) == 2
    with pytest.raises(
        SourceError, match=r"trained on 2 \(CT, PET\); give all .*--images 'CT=GLOB' --images 'PET=GLOB'"
    ):
        predict(model, patients / "P1" / "CT.nii.gz")


def test_a_study_is_resampled_by_its_frame_of_reference(
    patients: Path, tmp_path: Path, write_slices: WriteSlices, seen: list[np.ndarray]
) -> None:
    trained(patients, tmp_path / "prepared", CHANNELS, registered=True)
    for uid, name, shape, spacing in (("1.3.1", "CT 3mm", (4, 12, 10), 2.0), ("1.3.2", "PET wb", (4, 6, 5), 4.0)):
        write_slices(
            tmp_path / "study", values(*shape), orientation=(1, 0, 0, 0, 1, 0), spacing=(spacing, spacing, 3.0),
            uids=("P1", "1.2", uid), names=[f"{uid}.{i}" for i in range(4)], SeriesDescription=name,
            FrameOfReferenceUID="1.2.3.4",
        )  # fmt: skip
    result = predict(tmp_path / "prepared" / "model", tmp_path / "study", images=("CT=CT*", "PET=PET*"))
    (prediction,) = result
    assert prediction.label_map.geometry.shape == (10, 12, 4) and seen[0].shape == (2, 10, 12, 4)


def learnt_without(folder: Path) -> Path:
    """A model that was trained with channel dropout."""
    record = read_model_record(folder)
    write_json(folder / "model.json", record.model_copy(update={"channel_dropout": True}).model_dump(mode="json"))
    return folder


def test_a_missing_channel_is_zeros_where_the_model_learnt_without(
    patients: Path, tmp_path: Path, seen: list[np.ndarray]
) -> None:
    trained(patients, tmp_path / "prepared", CHANNELS, registered=True)
    model = tmp_path / "prepared" / "model"
    whole = {prediction.case_id for prediction in predict(model, patients, images=CHANNELS)}
    (patients / "P2" / "CT.nii.gz").unlink()
    refused = predict(model, patients, images=CHANNELS)
    assert [problem.case_id for problem in refused.problems] == ["P2"]
    seen.clear()
    found = predict(learnt_without(model), patients, images=CHANNELS[::-1])
    assert {prediction.case_id for prediction in found} == whole and not found.problems
    warnings = {prediction.case_id: " ".join(prediction.warnings) for prediction in found}
    assert "has no CT: zeros stand for it" in warnings["P2"] and "has no" not in warnings["P1"]
    (complete, lacking) = seen
    assert complete[0].any() and complete[1].any()
    assert not lacking[0].any() and lacking[1].any()


def test_the_only_image_is_named_by_its_glob(patients: Path, tmp_path: Path, seen: list[np.ndarray]) -> None:
    trained(patients, tmp_path / "prepared", CHANNELS, registered=True)
    model = learnt_without(tmp_path / "prepared" / "model")
    assert len(list(predict(model, patients, images="PET=*/PET.nii.gz"))) == 2
    assert all(not image[0].any() and image[1].any() for image in seen)
    with pytest.raises(SourceError, match="channel_dropout_probability"):
        predict(model, patients / "P1" / "CT.nii.gz")  # nothing says which channel it is


def test_numbered_files_say_which_channel_is_missing(
    patients: Path, tmp_path: Path, write_image: WriteImage, seen: list[np.ndarray]
) -> None:
    trained(patients, tmp_path / "prepared", CHANNELS, registered=True)
    for name in ("a_0000", "a_0001", "b_0000", "b_0001", "c_0001"):
        write_image(tmp_path / "new" / f"{name}.nii.gz", values(24, 20, 6), CT_GRID)
    found = predict(learnt_without(tmp_path / "prepared" / "model"), tmp_path / "new")
    assert [prediction.case_id for prediction in found] == ["a", "b", "c"]
    assert [[bool(channel.any()) for channel in image] for image in seen] == [[True, True], [True, True], [False, True]]


@pytest.mark.slow
def test_a_network_learns_to_do_without_a_channel(blobs: Path, tmp_path: Path, write_image: WriteImage) -> None:
    """Both channels show the balls, so either is enough."""
    random = np.random.default_rng(0)
    for path in sorted((blobs / "images").iterdir()):
        image = nibabel.load(path)
        shown = np.asarray(image.dataobj)
        case = tmp_path / "data" / path.name.removesuffix(".nii.gz")
        for name in ("T1", "T2"):
            write_image(case / f"{name}.nii.gz", shown + random.normal(0, 5, shown.shape), image.affine)
        label = nibabel.load(blobs / "labels" / path.name)
        write_image(case / "mask.nii.gz", np.asarray(label.dataobj), label.affine)
    channels = ("T1=*/T1.nii.gz", "T2=*/T2.nii.gz")
    config = load(
        overrides=[
            "preprocessing.workers=1", "planning.cpu_base_features=8", "training.batch_size=2", "training.epochs=7",
            "training.steps_per_epoch=20", "training.learning_rate=1e-2",
            "augmentation.channel_dropout_probability=0.5",
        ]
    )  # fmt: skip
    preprocess(tmp_path / "data", tmp_path / "prepared", config=config, images=channels, labels="*/mask.nii.gz")
    train(tmp_path / "prepared", tmp_path / "run", config=config, device="cpu")
    for channel in channels:
        for prediction in predict(tmp_path / "run", tmp_path / "data", images=channel, device="cpu"):
            reference = np.asarray(nibabel.load(blobs / "labels" / f"{prediction.case_id}.nii.gz").dataobj) > 0
            found = prediction.label_map.label_map > 0
            assert 2 * (found & reference).sum() / (found.sum() + reference.sum()) > 0.8

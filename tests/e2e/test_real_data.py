"""The whole way on real scans, with networks too small to be good: what is tested is that everything fits together and
that masks lie where the anatomy lies, by SimpleITK's reading of source and mask."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

import medseg
from medseg.config import load
from medseg.dataset.store import PreparedDataset

TINY = ["planning.cpu_base_features=4", "training.batch_size=2", "training.steps_per_epoch=3", "training.epochs=1"]


def read_series(folder: Path) -> sitk.Image:
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def corners(image: sitk.Image) -> np.ndarray:
    """LPS mm of the eight corner voxels."""
    ends = [(0, n - 1) for n in image.GetSize()]
    return np.array([image.TransformIndexToPhysicalPoint(index) for index in product(*ends)])


def assert_same_grid(one: sitk.Image, other: sitk.Image) -> None:
    assert one.GetSize() == other.GetSize()
    assert np.abs(corners(one) - corners(other)).max() < 1e-4


def same_voxels(one: sitk.Image, other: sitk.Image) -> bool:
    return np.array_equal(sitk.GetArrayFromImage(one), sitk.GetArrayFromImage(other))


@pytest.fixture(scope="module")
def hippocampus(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset.json of ten of the cases, by their paths."""
    source = real_data / "hippocampus"
    content = json.loads((source / "dataset.json").read_text())
    content["training"] = [
        {key: str(source / path) for key, path in entry.items()} for entry in content["training"][:10]
    ]
    folder = tmp_path_factory.mktemp("hippocampus")
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


def test_hippocampus_is_prepared_trained_and_a_dicom_series_segmented(
    hippocampus: Path, real_data: Path, tmp_path: Path
) -> None:
    config = load(overrides=[*TINY, "preprocessing.workers=1"])
    medseg.preprocess(hippocampus, tmp_path / "prepared", config=config)
    dataset = PreparedDataset(tmp_path / "prepared")
    assert len(dataset.cases) == 10
    assert dataset.labels.names == ["Anterior", "Posterior"]
    medseg.train(tmp_path / "prepared", tmp_path / "run", config=config, device="cpu")
    series = real_data / "dicom_studies" / "hippocampus_study" / "13_HCropVolume"
    medseg.predict(tmp_path / "run", series, tmp_path / "masks", device="cpu")
    (record,) = json.loads((tmp_path / "masks" / "predictions.json").read_text())["cases"]
    mask = sitk.ReadImage(str(tmp_path / "masks" / record["masks"]["nifti"]))
    assert_same_grid(mask, read_series(series))
    values = sitk.GetArrayFromImage(mask)
    assert set(np.unique(values)) <= {0, 1, 2}
    voxel_ml = np.prod(mask.GetSpacing()) / 1000
    expected = {name: (values == value).sum() * voxel_ml for name, value in (("Anterior", 1), ("Posterior", 2))}
    assert record["volumes_ml"] == pytest.approx(expected, abs=1e-3)


def test_a_dicom_study_becomes_nifti_as_simpleitk_reads_it(real_data: Path, tmp_path: Path) -> None:
    study = real_data / "dicom_studies" / "hippocampus_study"
    result = medseg.preprocess(study, tmp_path, config=load(overrides=["preprocessing.workers=1"]))
    assert not result.problems
    written = [sitk.ReadImage(str(tmp_path / case.images[0])) for case in result.record.cases]
    originals = [read_series(folder) for folder in sorted(study.iterdir())]
    assert len(written) == len(originals) == 5
    for original in originals:
        (twin,) = (image for image in written if same_voxels(image, original))
        assert_same_grid(twin, original)


@pytest.mark.slow
def test_one_modality_of_a_nested_dataset_by_two_patterns(real_data: Path, tmp_path: Path) -> None:
    """Several kinds of images with a mask each, on grids of their own: MR is chosen by globs."""
    source = tmp_path / "sarcoma"
    source.mkdir()
    for patient in ("STS_001", "STS_002", "STS_003"):
        (source / patient).symlink_to(real_data / "sarcoma" / "nifti" / patient)
    images, labels = "*/MR_T1_image.nii.gz", "*/MR_T1_mask.nii.gz"
    config = load(overrides=[*TINY, "preprocessing.workers=1", "preprocessing.spacing=[3,3,6]"])
    prepared = medseg.preprocess(source, tmp_path / "prepared", images=images, labels=labels, config=config)
    assert not prepared.problems
    assert [case.case_id for case in prepared.record.cases] == ["STS_001", "STS_002", "STS_003"]
    trained = medseg.train(tmp_path / "prepared", tmp_path / "run", config=config, device="cpu")
    assert trained.finished and trained.evaluation is not None and not trained.evaluation.problems
    predicted = medseg.predict(tmp_path / "run", source, tmp_path / "masks", images=images, device="cpu")
    assert len(predicted.predictions) == 3
    for prediction in predicted.predictions:
        image = sitk.ReadImage(str(prediction.source))
        mask = sitk.ReadImage(str(prediction.path))
        assert_same_grid(mask, image)
        assert set(np.unique(sitk.GetArrayFromImage(mask))) <= {0, 1}


@pytest.fixture(scope="module")
def membrane(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("membrane")
    for kind, number in product(("images", "labels"), range(4)):
        (folder / kind).mkdir(exist_ok=True)
        (folder / kind / f"{number}.png").symlink_to(real_data / "membrane" / kind / f"{number}.png")
    return folder


def test_membranes_in_2d_png(membrane: Path, real_data: Path, tmp_path: Path) -> None:
    config = load(
        overrides=[*TINY, "preprocessing.workers=1", "training.steps_per_epoch=12", "training.learning_rate=1e-2"]
    )
    medseg.preprocess(membrane, tmp_path / "prepared", config=config)
    trained = medseg.train(tmp_path / "prepared", tmp_path / "run", dims=2, config=config, device="cpu")
    assert trained.finished
    unseen = real_data / "membrane" / "images" / "20.png"
    (prediction,) = medseg.predict(tmp_path / "run", unseen, tmp_path / "masks", device="cpu").predictions
    assert prediction.path == tmp_path / "masks" / "20.png"
    mask = np.asarray(Image.open(prediction.path))
    assert mask.shape == (512, 512)
    assert set(np.unique(mask)) == {0, 255}
    reference = np.asarray(Image.open(real_data / "membrane" / "labels" / "20.png")) > 0
    dice = 2 * (reference & (mask > 0)).sum() / (reference.sum() + (mask > 0).sum())
    # All of it membrane would be the base rate; the mask transposed or mirrored falls to it.
    for wrong in (mask.T, mask[::-1], mask[:, ::-1]):
        assert dice > 2 * (reference & (wrong > 0)).sum() / (reference.sum() + (wrong > 0).sum()) + 0.01

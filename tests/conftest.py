"""Shared fixtures. Real data is found by MEDSEG_TEST_DATA (default: ../shared/data beside the checkout)."""

import gc
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dicom_drawn
import nibabel
import numpy as np
import pytest
from pydicom.dataset import FileDataset
from pydicom.uid import CTImageStorage, generate_uid

from medseg.architecture import Architecture
from medseg.plan import Grid, Normalization, Plan
from medseg.progress import show_progress

# The networks of the tests are tiny: threads cost them more than they give. Before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent

# A plane that is turned about two axes, as a tilted head in a scanner is.
OBLIQUE = (0.96, 0.28, 0.0, -0.168, 0.576, 0.8)


def pytest_collection(session: pytest.Session) -> None:
    """PyTorch, MONAI and thousands of tests stay until the end: to search them for garbage took a tenth of the time."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file begins first. As the last one, it would run on one process, and the others would wait for it."""
    items.sort(key=lambda item: item.path.name != "test_family.py")


def pytest_collection_finish(session: pytest.Session) -> None:
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def same_chance() -> None:
    """Weights of networks are random: no test may pass or fail by them."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def shown() -> Iterator[None]:
    """Tests look at what the command line would show."""
    show_progress()
    yield
    show_progress(False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    folder = Path(os.environ.get("MEDSEG_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("MEDSEG_REQUIRE_TEST_DATA"):
            pytest.fail(f"no real data at {folder}, which MEDSEG_REQUIRE_TEST_DATA asks for")
        pytest.skip(f"no real data at {folder}; set MEDSEG_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def cases_that_go_wrong(real_data: Path) -> Path:
    """Small inputs on which version 0.1 was wrong; a folder each. Its README.md says what is right."""
    folder = Path(os.environ.get("MEDSEG_TEST_CASES", real_data.parent / "cases"))
    if not folder.is_dir():
        if os.environ.get("MEDSEG_REQUIRE_TEST_DATA"):
            pytest.fail(f"no cases at {folder}, which MEDSEG_REQUIRE_TEST_DATA asks for")
        pytest.skip(f"no cases at {folder}; set MEDSEG_TEST_CASES")
    return folder


@pytest.fixture
def write_slices() -> Callable[..., list[Path]]:
    """Writes stored values (slice, row, column) as one DICOM series; see ``_write_slices``."""
    return _write_slices


@pytest.fixture
def write_image() -> Callable[..., Path]:
    """Writes a small NIfTI file, of zeros unless an array is given, and makes its folders."""
    return _write_image


@pytest.fixture
def write_seg() -> Callable[..., Path]:
    """Writes frames as a DICOM SEG; see ``dicom_drawn.write_seg``."""
    return dicom_drawn.write_seg


@pytest.fixture
def write_rtstruct() -> Callable[..., Path]:
    """Writes contours as an RTSTRUCT; see ``dicom_drawn.write_rtstruct``."""
    return dicom_drawn.write_rtstruct


def _write_slices(
    folder: Path,
    stored: np.ndarray,
    *,
    spacing: tuple[float, float, float] = (0.7, 0.5, 2.5),
    orientation: tuple[float, ...] = OBLIQUE,
    names: list[str] | None = None,
    uids: tuple[str, str, str] | None = None,
    **tags: Any,
) -> list[Path]:
    """``stored``: (slice, row, column). ``spacing``: mm between columns, rows, slices. ``uids``: patient,
    study, series. ``tags`` are set on every slice; a list of as many values as slices gives each slice its
    own.
    """
    patient, study, series = uids or ("P1", generate_uid(), generate_uid())
    normal = np.cross(orientation[:3], orientation[3:])
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i, values in enumerate(stored):
        header = _header(patient, study, series)
        header.Rows, header.Columns = values.shape
        header.PixelSpacing = [spacing[1], spacing[0]]
        header.ImageOrientationPatient = list(orientation)
        header.ImagePositionPatient = list(np.array([-20.0, 13.0, 7.0]) + normal * spacing[2] * i)
        header.InstanceNumber = len(stored) - i
        header.BitsAllocated = header.BitsStored = values.dtype.itemsize * 8
        header.HighBit = header.BitsStored - 1
        header.PixelRepresentation = int(values.dtype.kind == "i")
        header.PixelData = values.tobytes()
        for name, value in tags.items():
            setattr(header, name, value[i] if isinstance(value, list) and len(value) == len(stored) else value)
        path = folder / (names[i] if names else f"{i:03d}.dcm")
        header.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _header(patient: str, study: str, series: str) -> FileDataset:
    header = dicom_drawn.new_header(CTImageStorage)
    header.PatientID, header.StudyInstanceUID, header.SeriesInstanceUID = patient, study, series
    header.Modality, header.SeriesDescription = "CT", "Abdomen"
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.SliceThickness = 3
    return header


def _write_image(path: Path, array: np.ndarray | None = None, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.zeros((4, 3, 2), dtype=np.int16) if array is None else array
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def write_blob_dataset(
    folder: Path, n_cases: int, *, shape: tuple[int, int, int] = (24, 22, 12), seed: int = 0
) -> Path:
    """``images/`` and ``labels/`` with a large bright ball (value 2) and a small brighter one in it (value
    5)."""
    import nibabel
    import numpy as np

    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"))
    spacing = np.array((1.0, 1.0, 2.0))
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for case in range(n_cases):
        centre = np.array(shape) / 2 + random.uniform(-2, 2, 3)
        distance = np.linalg.norm((grid - centre[:, None, None, None]) * spacing[:, None, None, None], axis=0)
        label_map = np.where(distance < 3.5, 5, np.where(distance < 7.5, 2, 0)).astype(np.uint8)
        image = 100 + 60 * (label_map == 2) + 140 * (label_map == 5) + random.normal(0, 12, shape)
        affine = np.diag((-1.0, -1.0, 2.0, 1.0))
        affine[:3, 3] = random.uniform(-50, 50, 3)
        nibabel.save(nibabel.Nifti1Image(image.astype(np.int16), affine), folder / "images" / f"blob_{case:02d}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label_map, affine), folder / "labels" / f"blob_{case:02d}.nii.gz")
    return folder


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of six small cases with the label values 2 and 5."""
    return write_blob_dataset(tmp_path_factory.mktemp("blobs"), 6)


@pytest.fixture(scope="session")
def prepared(blobs: Path, tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """``blobs``, prepared."""
    from medseg.config import load
    from medseg.dataset.store import PreparedDataset
    from medseg.workflows.preprocess import preprocess

    folder = tmp_path_factory.mktemp("prepared")
    preprocess(blobs, folder, config=load(overrides=["preprocessing.workers=1"]))
    return PreparedDataset(folder)


@pytest.fixture
def tiny_plan() -> Plan:
    """3D, 8×8×8 voxels of 1 mm, two stages of 4 and 8 features."""
    grid = Grid(orientation="RAS", spacing=(1, 1, 1), crop_to_nonzero=True, normalization=(Normalization(kind="none"),))
    architecture = Architecture(features=(4, 8), strides=((1,) * 3, (2,) * 3), kernel_sizes=((3,) * 3,) * 2)
    return Plan(dims=3, grid=grid, patch_size=(8, 8, 8), batch_size=2, slice_axis=None, architecture=architecture)

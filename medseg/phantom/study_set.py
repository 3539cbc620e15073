"""A set of synthetic studies as a hospital would hand it over: DICOM series, and label maps drawn on them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.uid import generate_uid
from scipy.spatial.transform import Rotation

from medseg.files import write_json
from medseg.io.nifti.writer import write_nifti
from medseg.phantom.anatomy import LABELS, SUPINE_AXIAL, abdomen
from medseg.phantom.dicom_study import SeriesIdentity, write_dicom_series
from medseg.progress import track
from medseg.volume import Geometry

# Pixels of a slice are as many in every study; what differs is the field of view. Voxels are as coarse as
# organs allow: halving the edges would make the demo eight times as slow, and teach nothing more.
MATRIX = (76, 64)
SCANNED_MM = 192.0
TILT_DEGREES = (12.0, 0.0, 8.0)  # about x, y, z


@dataclass(frozen=True)
class StudySet:
    """Where the studies are.

    ``train`` and ``test`` each hold ``images/<case_id>/`` (a DICOM series), ``labels/<case_id>.nii.gz`` on the same
    grid, and ``dataset.json`` with the names of channel and labels.

    Attributes:
        folder: That holds both.
    """

    folder: Path

    @property
    def train(self) -> Path:
        """The folder of the studies to train on."""
        return self.folder / "train"

    @property
    def test(self) -> Path:
        """The folder of the studies for which a model can be asked afterwards."""
        return self.folder / "test"

    @property
    def test_images(self) -> Path:
        """The folder with the DICOM series of ``test``."""
        return self.test / "images"

    @property
    def test_labels(self) -> Path:
        """The folder with the label maps of ``test``."""
        return self.test / "labels"


def make_study_set(folder: Path, *, n_train: int, n_test: int, seed: int = 0) -> StudySet:
    """Writes labelled studies to train on, and others for which a model can be asked afterwards.

    No two patients are alike, nor do they have the same spacing, number of slices or origin. The last patient of each
    of the two sets was scanned on a tilted grid. A test patient does not depend on ``n_train``.

    Args:
        folder: Where to.
        n_train: How many to train on.
        n_test: How many others.
        seed: Of all that is random.

    Raises:
        OutputError: A file cannot be written.
    """
    study_set = StudySet(Path(folder))
    patients = [(study_set.train, "patient", n, n_train) for n in range(1, n_train + 1)]
    patients += [(study_set.test, "unseen", n, n_test) for n in range(1, n_test + 1)]
    for part, name, number, count in track(patients, "Synthetic studies", len(patients)):
        _write_study(part, f"{name}_{number:02d}", seed, tilted=number == count)
    for part in (study_set.train, study_set.test):
        write_json(part / "dataset.json", {"channel_names": {"0": "CT"}, "labels": {"background": 0, **LABELS}})
    return study_set


def _write_study(part: Path, case_id: str, seed: int, *, tilted: bool) -> None:
    rng = np.random.default_rng([seed, *case_id.encode()])
    geometry = _scanner_grid(rng, tilted)
    directions = geometry.affine[:3, :3] / geometry.spacing
    image, label_map = abdomen(
        int(rng.integers(2**32)), shape=geometry.shape, spacing=geometry.spacing, directions=directions
    )
    write_dicom_series(
        part / "images" / case_id,
        image,
        geometry,
        SeriesIdentity(
            patient_id=case_id,
            study_uid=generate_uid(entropy_srcs=["study", str(seed), case_id]),
            series_uid=generate_uid(entropy_srcs=["series", str(seed), case_id]),
            description="Abdomen tilted" if tilted else "Abdomen axial",
        ),
    )
    write_nifti(part / "labels" / f"{case_id}.nii.gz", label_map, geometry)


def _scanner_grid(rng: np.random.Generator, tilted: bool) -> Geometry:
    """Returns a grid whose spacing, number of slices and place in the world differ between studies."""
    in_plane = round(float(rng.uniform(4.8, 5.2)), 3)
    spacing = np.array([in_plane, in_plane, rng.choice([6.0, 6.5, 7.0, 7.5, 8.0])])
    shape = (*MATRIX, round(SCANNED_MM / float(spacing[2])))
    tilt = Rotation.from_euler("xyz", TILT_DEGREES if tilted else (0, 0, 0), degrees=True).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt @ SUPINE_AXIAL * spacing
    affine[:3, 3] = rng.uniform([-30, -30, -700], [30, 30, 300]) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Geometry(shape, affine)

"""Writes a volume as a classic DICOM CT series, one file a slice, as a scanner exports it."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from medseg.errors import GeometryError
from medseg.files import written_whole
from medseg.io.dicom.derived_object import decimals
from medseg.io.dicom.geometry import LPS_TO_RAS
from medseg.volume import SHEAR_TOLERANCE, Array, Geometry

# What stored value 0 stands for in HU.
INTERCEPT = -1024


class SeriesIdentity(NamedTuple):
    """Whose series it is, and what it is called.

    Attributes:
        patient_id: PatientID; the name is made from it.
        study_uid: StudyInstanceUID.
        series_uid: SeriesInstanceUID, from which the UIDs of the slices follow.
        description: SeriesDescription.
    """

    patient_id: str
    study_uid: str
    series_uid: str
    description: str


def write_dicom_series(folder: Path, image: Array, geometry: Geometry, identity: SeriesIdentity) -> Path:
    """Writes a CT volume as CT Image Storage in Explicit VR Little Endian, one file a slice.

    Array axis x becomes the columns of the slices, y their rows, and z the slices. As in clinical exports, files have
    no extension, their names do not follow the slices, and instance numbers count from the last slice down. The same
    arguments give the same bytes.

    Args:
        folder: Where the files go; it is made.
        image: HU ``(x, y, z)``, rounded to whole numbers when written.
        geometry: The grid of ``image``, in RAS mm.
        identity: Patient, study, series and its description.

    Returns:
        The folder.

    Raises:
        ValueError: Image and geometry differ in shape.
        GeometryError: The grid is sheared. Classic DICOM cannot say that: its rows and columns are at right angles.
    """
    if image.shape != geometry.shape:
        raise ValueError(f"an image of shape {image.shape} does not lie on a grid of shape {geometry.shape}")
    if geometry.shear > SHEAR_TOLERANCE:
        raise GeometryError(f"{folder}: a sheared grid cannot be written as a DICOM series; resample it first")
    stored = np.clip(np.rint(image) - INTERCEPT, 0, 4095).astype("<i2")
    for k in range(stored.shape[2]):
        sop_uid = generate_uid(entropy_srcs=[identity.series_uid, str(k)])
        dataset = Dataset()
        _describe_patient_and_study(dataset, identity)
        _describe_series(dataset, identity)
        _place_slice(dataset, geometry, k)
        _store_pixels(dataset, stored[:, :, k].T)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, sop_uid
        dataset.InstanceNumber = stored.shape[2] - k
        _save(dataset, folder / hashlib.sha256(sop_uid.encode()).hexdigest()[:10].upper())
    return folder


def _describe_patient_and_study(dataset: Dataset, identity: SeriesIdentity) -> None:
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName = f"Phantom^{identity.patient_id}"
    dataset.PatientID = identity.patient_id
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = identity.study_uid
    dataset.StudyID = "1"
    dataset.StudyDate = dataset.ContentDate = "20250101"
    dataset.StudyTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = ""
    dataset.ReferringPhysicianName = ""


def _describe_series(dataset: Dataset, identity: SeriesIdentity) -> None:
    dataset.Modality = "CT"
    dataset.SeriesInstanceUID = identity.series_uid
    dataset.SeriesNumber = 1
    dataset.SeriesDescription = identity.description
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[identity.series_uid, "frame of reference"])
    dataset.PositionReferenceIndicator = ""
    dataset.Manufacturer = "medseg"
    dataset.ManufacturerModelName = "synthetic abdomen"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.AcquisitionNumber = 1
    dataset.KVP = "120"


def _place_slice(dataset: Dataset, geometry: Geometry, k: int) -> None:
    affine = LPS_TO_RAS @ geometry.affine  # which is its own inverse
    column_step, row_step, slice_step = geometry.spacing
    along_row, along_column = affine[:3, 0] / column_step, affine[:3, 1] / row_step
    corner = affine[:3, 3] + k * affine[:3, 2]
    dataset.PixelSpacing = decimals(row_step, column_step)
    dataset.SliceThickness = decimals(slice_step)[0]
    dataset.ImageOrientationPatient = decimals(*along_row, *along_column)
    dataset.ImagePositionPatient = decimals(*corner)
    dataset.PatientOrientation = ""


def _store_pixels(dataset: Dataset, rows: Array) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = rows.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(INTERCEPT), "1", "HU"
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    dataset.PixelData = np.ascontiguousarray(rows).tobytes()


def _save(dataset: Dataset, path: Path) -> None:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with written_whole(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)

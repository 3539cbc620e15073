"""DICOM series of every kind that hospitals hand over: each shows the same two balls at the same places in the world.

They are made with pydicom, gdcm and highdicom; nothing of medseg is in them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
from parameters import mostly_slow
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    RLELossless,
    generate_uid,
)
from scipy import ndimage

Field = Callable[[np.ndarray], np.ndarray]  # values at LPS mm (…, 3)

AXIAL = (1, 0, 0, 0, 1, 0)
EVEN = tuple(2.5 * i for i in range(20))
CLASSES = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "PT": PositronEmissionTomographyImageStorage,
}
GDCM = {
    JPEGLosslessSV1: gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    JPEGLSLossless: gdcm.TransferSyntax.JPEGLSLossless,
    JPEG2000Lossless: gdcm.TransferSyntax.JPEG2000Lossless,
}

ROWS, COLUMNS = 40, 44
BETWEEN_ROWS, BETWEEN_COLUMNS = 1.2, 0.9  # mm
CENTRE = np.array([12.3, -20.7, 31.1])  # of the whole series, LPS mm
# Centre (RAS mm) and radius (mm) of each: no flip or turn maps them to one another.
BALLS = (((-18.3, 24.7, 36.1), 8.0), ((-3.3, 27.7, 23.1), 5.0))


@dataclass(frozen=True)
class Kind:
    """``heights``: mm along the normal, from the first slice. ``tilt``: degrees of the gantry."""

    orientation: tuple[float, ...] = AXIAL
    heights: tuple[float, ...] = EVEN
    tilt: float = 0.0
    modality: str = "CT"
    syntax: str = ExplicitVRLittleEndian
    enhanced: bool = False

    @property
    def is_grid(self) -> bool:
        """Whether the slices lie on one grid as they are."""
        return not self.tilt and len({round(step, 6) for step in np.diff(self.heights)}) == 1


KINDS = {
    "CT": Kind(),
    "MR": Kind(modality="MR"),
    "PET": Kind(modality="PT"),
    "sagittal": Kind((0, 1, 0, 0, 0, -1)),
    "coronal": Kind((1, 0, 0, 0, 0, -1)),
    "prone": Kind((-1, 0, 0, 0, -1, 0)),
    "decubitus": Kind((0, 1, 0, -1, 0, 0)),
    "left-handed": Kind((-1, 0, 0, 0, 1, 0)),  # slices are counted the other way
    "oblique": Kind((0.96, 0.28, 0.0, -0.168, 0.576, 0.8)),
    "tilted by 20°": Kind(tilt=20.0),
    "tilted by -20°": Kind(tilt=-20.0),
    "uneven": Kind(heights=tuple(np.cumsum([0.0] + [1.5] * 15 + [2.7] * 9))),
    "missing slice": Kind(heights=tuple(h for i, h in enumerate(EVEN) if i != 11)),
    "enhanced": Kind(enhanced=True),
    "enhanced oblique": Kind((0.96, 0.28, 0.0, -0.168, 0.576, 0.8), enhanced=True),
    "enhanced tilted": Kind(tilt=20.0, enhanced=True),
    "big-endian": Kind(syntax=ExplicitVRBigEndian),
    "implicit": Kind(syntax=ImplicitVRLittleEndian),
    "deflated": Kind(syntax=DeflatedExplicitVRLittleEndian),
    "RLE": Kind(syntax=RLELossless),
    "JPEG lossless": Kind(syntax=JPEGLosslessSV1),
    "JPEG-LS": Kind(syntax=JPEGLSLossless),
    "JPEG 2000": Kind(syntax=JPEG2000Lossless),
}

# For tests of each kind: one of each sort in every run, the others in the slow one.
OFTEN = ("CT", "PET", "left-handed", "oblique", "tilted by 20°", "missing slice", "enhanced tilted", "JPEG 2000")
EACH_KIND = mostly_slow(KINDS, *OFTEN)


def balls(lps: np.ndarray) -> np.ndarray:
    """1000 inside, 0 outside, half a mm of both at the rim."""
    inside = [
        np.clip(radius - np.linalg.norm(lps * (-1, -1, 1) - centre, axis=-1) + 0.5, 0, 1) for centre, radius in BALLS
    ]
    return 1000 * np.sum(inside, axis=0)


def balls_in(image: np.ndarray) -> np.ndarray:
    """The label map of an image (x, y, z): 1 the larger ball, 2 the smaller one."""
    parts, _ = ndimage.label(image > 500)
    sizes = np.bincount(parts.ravel())[1:]
    assert len(sizes) == len(BALLS)
    ranks = np.argsort(np.argsort(-sizes)) + 1
    return np.concatenate([[0], ranks]).astype(np.uint8)[parts]


def write_kind(folder: Path, kind: Kind, field: Field = balls, **tags: Any) -> Path:
    """Writes ``field`` as one series into ``folder``, and returns that. ``tags`` are set on every file; None leaves one
    out."""
    folder.mkdir(parents=True, exist_ok=True)
    slices = _slices(kind, field)
    if kind.enhanced:
        slices = [_enhanced(slices)]
    with pydicom.config.disable_value_validation():
        for i, header in enumerate(slices):
            for name, value in tags.items():
                header.pop(name, None)
                if value is not None:
                    setattr(header, name, value)
            # Neither names nor instance numbers follow the slices.
            _save(header, folder / f"{i * 7 % len(slices):03d}", kind.syntax)
    return folder


def _slices(kind: Kind, field: Field) -> list[Dataset]:
    along_row, down_column = (np.array(v, dtype=float) for v in np.reshape(kind.orientation, (2, 3)))
    normal = np.cross(along_row, down_column)
    row, column = np.meshgrid(np.arange(ROWS) - ROWS / 2, np.arange(COLUMNS) - COLUMNS / 2, indexing="ij")
    in_plane = row[..., None] * BETWEEN_ROWS * down_column + column[..., None] * BETWEEN_COLUMNS * along_row
    study, series, frame_of_reference = (generate_uid() for _ in range(3))
    slices = []
    for i, height in enumerate(kind.heights):
        up = height - kind.heights[-1] / 2
        places = CENTRE + in_plane + up * (normal + np.tan(np.radians(kind.tilt)) * down_column)
        header = _patient_and_study(study)
        header.SOPClassUID, header.SOPInstanceUID = CLASSES[kind.modality], generate_uid()
        header.Modality, header.SeriesInstanceUID, header.SeriesNumber = kind.modality, series, 3
        header.SeriesDescription, header.Manufacturer = "Abdomen", "maker"
        header.FrameOfReferenceUID, header.PositionReferenceIndicator = frame_of_reference, ""
        header.InstanceNumber = len(kind.heights) - i
        header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        header.PixelSpacing, header.SliceThickness = [BETWEEN_ROWS, BETWEEN_COLUMNS], 3
        header.ImageOrientationPatient = list(kind.orientation)
        header.ImagePositionPatient = [f"{v:.10g}" for v in places[0, 0]]
        header.PatientPosition = ""
        _store(header, field(places), slope=1 + 0.01 * i if kind.modality == "PT" else 1)
        slices.append(header)
    return slices


def _patient_and_study(study: str) -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 192"
    header.PatientName, header.PatientID, header.PatientBirthDate, header.PatientSex = "Doe^Jane", "P1", "19700101", "F"
    header.StudyInstanceUID, header.StudyID = study, "17"
    header.StudyDate, header.StudyTime = "20240229", "120000"
    header.AccessionNumber, header.ReferringPhysicianName = "A1", "Roe^Richard"
    return header


def _store(header: Dataset, values: np.ndarray, slope: float) -> None:
    header.Rows, header.Columns = values.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.RescaleSlope, header.RescaleIntercept = slope, 0
    header.PixelData = np.rint(values / slope).astype("<u2").tobytes()


def _enhanced(slices: list[Dataset]) -> Dataset:
    from highdicom.legacy import LegacyConvertedEnhancedCTImage

    for header in slices:
        header.file_meta = FileMetaDataset()
        header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    uids = {"series_instance_uid": generate_uid(), "sop_instance_uid": generate_uid()}
    return LegacyConvertedEnhancedCTImage(slices[::-1], series_number=3, instance_number=1, **uids)


def _save(header: Dataset, path: Path, syntax: str) -> None:
    if not hasattr(header, "file_meta"):
        header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax in (RLELossless, *GDCM) else syntax
    if syntax == ExplicitVRBigEndian:
        header.PixelData = np.frombuffer(header.PixelData, "<u2").byteswap().tobytes()
    header.save_as(path, enforce_file_format=True)
    if syntax == RLELossless:
        compressed = pydicom.dcmread(path)
        compressed.compress(RLELossless, generate_instance_uid=False)
        compressed.save_as(path)
    elif syntax in GDCM:
        _compress(path, GDCM[syntax])


def _compress(path: Path, syntax: int) -> None:
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()

"""The DICOM series that a mask is drawn on: what the mask repeats of it, and how it refers to its slices."""

import uuid
from collections import defaultdict
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from pydicom import DataElement, Dataset, config, dcmread
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import UID
from pydicom.valuerep import validate_value

from medseg.errors import OutputError, SourceError, reading
from medseg.io.dicom.geometry import SlicePlane
from medseg.io.dicom.header import Header
from medseg.io.dicom.series import source_planes
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.source import ImageSource
from medseg.progress import warn

# Modules Patient, General Study and Patient Study (PS3.3, C.7.1.1, C.7.2.1, C.7.2.2): by them an archive files a mask
# with its images. Type 2: have to be there, may be empty.
TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
TYPE_3 = (
    "IssuerOfPatientID", "OtherPatientIDs", "PatientAge", "PatientSize", "PatientWeight", "EthnicGroup",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence", "StudyDescription",
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialTimePointID",
)  # fmt: skip
TYPE_2_OF_TRIALS = ("ClinicalTrialProtocolName", "ClinicalTrialSiteID", "ClinicalTrialSiteName")
SEXES = ("M", "F", "O")

KEYWORDS = (
    *TYPE_2, *TYPE_3,
    "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "FrameOfReferenceUID",
    "PositionReferenceIndicator", "Modality", "Units", "SeriesDescription", "SeriesNumber", "SliceThickness",
    "NumberOfFrames", "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip

# By these an archive knows whose mask it is: they are repeated however they are spelled.
IDENTITY = ("PatientName", "PatientID")

# By these a mask refers to its images.
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")

CHARACTER_SET = "ISO_IR 192"  # UTF-8: names of patients and structures may be in any script
DECIMALS = 3  # of directions and mm that tell the volumes of a series apart
LARGEST_NUMBER = 10**9  # of a series, so that more can be added: DICOM's numbers end at 2**31


@dataclass(frozen=True)
class SourceSeries:
    """The DICOM series that a mask is drawn on, with the items by which a mask refers to its slices.

    Attributes:
        header: Of the first slice, without pixels.
        patient_and_study: What masks repeat of the patient and the study.
        planes: The slices in order of position.
        references: An item for each plane that names it (Image SOP Instance Reference Macro, PS3.3, 10.3).
        instances: An item for each file.
        in_mosaic: Whether the slices lie side by side in one image, and cannot be referred to one by one.
    """

    header: Dataset
    patient_and_study: Dataset
    planes: list[SlicePlane]
    references: list[Dataset]
    instances: list[Dataset]
    in_mosaic: bool

    @property
    def uid(self) -> str:
        """The SeriesInstanceUID."""
        return str(self.header.SeriesInstanceUID)

    @property
    def number(self) -> int:
        """SeriesNumber; 0 where there is none, or an odd one."""
        number = Header(self.planes[0].path, self.header).number_if_any("SeriesNumber") or 0
        return int(number) if 0 <= number <= LARGEST_NUMBER else 0

    @property
    def name(self) -> str:
        """SeriesDescription, else Modality, else "image"."""
        return str(self.header.get("SeriesDescription") or self.header.get("Modality") or "image")

    @property
    def frame_of_reference_uid(self) -> str:
        """FrameOfReferenceUID; where there is none, one made from the series' UID, the same for all masks of a
        series."""
        return str(self.header.get("FrameOfReferenceUID") or "") or derived_uid(self.uid, "frame of reference")

    @property
    def slice_thickness(self) -> float:
        """The thickness of a slice in mm: as the header says, else the distance between slices."""
        thickness = Header(self.planes[0].path, self.header).number_if_any("SliceThickness")
        return abs(thickness or 0.0) or self.slice_distance

    @property
    def slice_distance(self) -> float:
        """The distance from slice to slice along the normal, in mm; the usual one where it is uneven."""
        along = np.sort([plane.position @ self.planes[0].normal for plane in self.planes])
        return float(np.median(np.diff(along))) if len(along) > 1 else self.planes[0].thickness or 1.0


def source_series(segmented: LabelMapVolume, path: Path) -> SourceSeries:
    """Reads the series that a label map lies on, from its headers.

    Args:
        segmented: The label map with its source.
        path: What is to be written, for messages.

    Raises:
        OutputError: There is no DICOM source, or no structure.
        SourceError: Files are gone, or lack the UIDs by which they can be referred to.
        GeometryError: The source is an X-ray projection, or its slices lie nowhere.
    """
    source = segmented.source
    if source is None or source.kind != "dicom":
        given = "no image" if source is None else f"{source.path} is none"
        raise OutputError(
            f"{path}: DICOM masks lie on the slices of a DICOM series ({given}); choose nifti or seg-nrrd, or give the "
            "series with --like"
        )
    if not segmented.labels.structures:
        raise OutputError(f"{path}: DICOM masks have at least one structure, and there is no label")
    planes = source_planes(source)
    frames: dict[Path, list[int]] = defaultdict(list)
    for plane in planes:
        frames[plane.path].append(plane.frame or 0)
    headers = {file: _read_header(file) for file in frames}
    header = headers[planes[0].path]
    series = SourceSeries(
        header=header,
        patient_and_study=_patient_and_study(header, source),
        planes=planes,
        references=[_reference(headers[plane.path], [plane.frame or 0]) for plane in planes],
        instances=[_reference(headers[file], frames[file]) for file in frames],
        in_mosaic=len(frames[planes[0].path]) > _n_frames(header),
    )
    if not header.get("FrameOfReferenceUID"):
        warn(f"{source.path}: has no FrameOfReferenceUID; {path.name} has one that was made from the series' UID")
    return series


def mask_digest(segmented: LabelMapVolume, series: SourceSeries) -> str:
    """Returns a digest that the UIDs of all objects of a mask follow from.

    Of a mask that a model predicted, that is of the images and of the model with its settings, not of voxels: a rerun
    that differs in some of them, or sees a slice that came later, gets the same UIDs, and replaces what was there. Of
    any other mask it is a digest of the mask and its slices.

    Args:
        segmented: The label map with its labels.
        series: That it lies on.
    """
    if segmented.predicted_by and segmented.source is not None:
        digest, texts = sha256(), (*_volume_names(segmented.source, series), segmented.predicted_by)
    else:
        digest = sha256(np.ascontiguousarray(segmented.label_map).data)
        files = (str(reference.ReferencedSOPInstanceUID) for reference in series.references)
        texts = (segmented.labels.model_dump_json(), segmented.algorithm, series.uid, *files)
    digest.update("\n".join(texts).encode())
    return digest.hexdigest()


def _volume_names(source: ImageSource, series: SourceSeries) -> tuple[str, ...]:
    """Returns what tells a volume from all others, however many of its slices are there: study and series, and in a
    series of several volumes which one, by its name and by how its slices lie."""
    plane = series.planes[0]
    directions = np.round((*plane.along_row, *plane.down_column, *plane.pixel_spacing), DECIMALS) + 0.0  # no -0
    lies = f"{plane.rows} {plane.columns} {directions.tolist()}"
    return (str(series.header.StudyInstanceUID), source.patient_id, series.uid, source.part, lies)


def derived_uid(*names: str) -> UID:
    """Returns a UID that follows from names (PS3.5, B.2, with a UUID of version 5)."""
    return UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(names)).int}")


def instance_reference(class_uid: str, uid: str) -> Dataset:
    """Returns an item that names a whole file, or another object of DICOM.

    Args:
        class_uid: SOPClassUID.
        uid: SOPInstanceUID.
    """
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = class_uid, uid
    return reference


def _read_header(path: Path) -> Dataset:
    """Reads what masks need of a header; what is malformed is left out.

    Raises:
        SourceError: A UID is missing then.
    """
    with reading(path, "DICOM"):  # some have no preamble, hence force
        header = dcmread(path, stop_before_pixels=True, specific_tags=list(KEYWORDS), force=True)
        for tag in list(header.keys()):
            if not _is_well_formed(header, tag):
                del header[tag]
                warn(f"{path}: {keyword_for_tag(tag)} in its header is malformed; masks are written without it")
    missing = [name for name in UIDS if not header.get(name)]
    if missing:
        raise SourceError(
            f"{path}: has no {', '.join(missing)}, so no DICOM mask can refer to it; choose nifti or seg-nrrd"
        )
    return header


def _is_well_formed(header: Dataset, tag: BaseTag) -> bool:
    """Says whether a value is of the kind that the standard says, and can be read. Of UIDs there is one, odd or not."""
    try:
        element = header[tag]
    except Exception:  # pydicom raises many kinds on malformed values
        return False
    several = element.VM > 1 and dictionary_VM(tag) == "1" and element.keyword not in (*TYPE_2, *TYPE_3)
    return element.VR in dictionary_VR(tag) and not several


def _reference(header: Dataset, frames: list[int]) -> Dataset:
    """Returns an item that names a file, and frames of it (from 0) where the file has more of them."""
    reference = instance_reference(str(header.SOPClassUID), str(header.SOPInstanceUID))
    if len(frames) < _n_frames(header):
        reference.ReferencedFrameNumber = [frame + 1 for frame in frames]
    return reference


def _n_frames(header: Dataset) -> int:
    return int(Header(Path(), header).number_if_any("NumberOfFrames") or 1)


def _patient_and_study(header: Dataset, source: ImageSource) -> Dataset:
    """Returns what masks repeat of patient and study; what DICOM does not allow is left empty, with a warning."""
    copied = Dataset()
    copied.StudyInstanceUID = header.StudyInstanceUID
    for keyword in (*TYPE_2, *TYPE_3):
        if keyword in TYPE_2:
            setattr(copied, keyword, "")
        try:
            if keyword in header:
                copied.add(_valid(header[keyword]))
        except Exception as error:  # pydicom raises many kinds on values that are none
            warn(f"{source.path}: {keyword} is left empty in masks, since DICOM does not allow it ({error})")
    for keyword in TYPE_2_OF_TRIALS if "ClinicalTrialSponsorName" in copied else ():
        if keyword not in copied:
            setattr(copied, keyword, "")
    return copied


def _valid(element: DataElement) -> DataElement:
    """Returns an element as it is. Raises ``ValueError`` for a value that its kind of element may not have."""
    if element.VM > 1 and dictionary_VM(element.tag) == "1":
        raise ValueError(f"{element.VM} values where there may be one")
    if element.is_empty or element.VR == "SQ" or element.keyword in IDENTITY:
        return element
    if element.keyword == "PatientSex" and element.value not in SEXES:
        raise ValueError(f"'{element.value}' is none of {', '.join(SEXES)}")
    for value in element.value if isinstance(element.value, MultiValue) else [element.value]:
        validate_value(element.VR, str(value), config.RAISE)
    return element

"""What all DICOM objects that are made from a series and its mask have in common."""

import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydicom import Dataset, FileDataset, FileMetaDataset, config
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

from medseg.files import written_whole
from medseg.io.dicom.source_series import CHARACTER_SET, SourceSeries, derived_uid, mask_digest, source_series
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.structure_names import LONGEST_LABEL, dicom_label
from medseg.terminology import Code
from medseg.version import VERSION

if TYPE_CHECKING:  # takes long to import, and few masks are written as DICOM
    from highdicom.sr import CodedConcept

NOT_CLINICAL = "not for clinical use"  # in the description of each series that medseg makes, which viewers show


class DerivedKind(NamedTuple):
    """What objects of a kind have in common.

    Attributes:
        class_uid: SOPClassUID.
        name: Of which its UIDs are made, beside what they follow from.
        modality: Such as "RTSTRUCT".
        what: It is, in SeriesDescription: such as "Overlay".
        series_numbers: Is added to the number of the source's series.
        syntax: Transfer syntax.
    """

    class_uid: UID
    name: str
    modality: str
    what: str
    series_numbers: int
    syntax: UID


def write_derived(
    path: Path, segmented: LabelMapVolume, make: Callable[[LabelMapVolume, SourceSeries], Dataset]
) -> list[Path]:
    """Writes an object that is made from a label map and its source, and returns its file.

    Args:
        path: The file.
        segmented: The label map with its grid, labels and source.
        make: Returns the object.

    Raises:
        OutputError: There is no DICOM source, or the file cannot be written.
        SourceError: The source cannot be referred to, or read.
    """
    with config.disable_value_validation(), warnings.catch_warnings(action="ignore", category=UserWarning):
        dataset = make(segmented, source_series(segmented, path))  # what sources hold is repeated, odd names too
        with written_whole(path) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
    return [path]


def series_description(what: str, series: SourceSeries) -> str:
    """Returns the SeriesDescription of an object: what it is, of which series, and that it is not for clinical use.

    Args:
        what: Such as "Segmentation".
        series: That it was made from. Its name is cut where all is too long for DICOM.
    """
    end = f" ({NOT_CLINICAL})"
    return dicom_label(f"{what} of {series.name}", LONGEST_LABEL - len(end)) + end


def new_object(segmented: LabelMapVolume, series: SourceSeries, kind: DerivedKind) -> FileDataset:
    """Returns an object without content: patient and study of its source, its own series, and what made it.

    Args:
        segmented: The mask that it shows.
        series: Of its source.
        kind: What it is.
    """
    content = mask_digest(segmented, series)
    now = datetime.now()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = kind.syntax
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = CHARACTER_SET
    dataset.update(series.patient_and_study)
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID = kind.class_uid
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = derived_uid(content, kind.name)
    dataset.SeriesInstanceUID = derived_uid(content, f"{kind.name} series")
    dataset.SeriesNumber, dataset.InstanceNumber = kind.series_numbers + series.number, 1
    dataset.Modality, dataset.SeriesDescription = kind.modality, series_description(kind.what, series)
    dataset.Manufacturer, dataset.ManufacturerModelName = "medseg", dicom_label(segmented.algorithm)
    dataset.SoftwareVersions = VERSION
    dataset.InstanceCreationDate, dataset.InstanceCreationTime = f"{now:%Y%m%d}", f"{now:%H%M%S}"
    return dataset


def decimals(*values: float) -> list[DSfloat]:
    """Returns values with as many digits as DICOM's 16 characters hold. ``+ 0.0`` turns -0 into 0."""
    return [DSfloat(float(value) + 0.0, auto_format=True) for value in values]


def concept(code: Code) -> "CodedConcept":
    """Returns a code as highdicom has it."""
    from highdicom.sr import CodedConcept

    return CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=dicom_label(code.meaning))


def coded(code: Code) -> Dataset:
    """Returns a code as an item of a sequence (PS3.3, 8.8)."""
    item = Dataset()
    item.CodingSchemeDesignator, item.CodeValue, item.CodeMeaning = code.scheme, code.value, dicom_label(code.meaning)
    return item

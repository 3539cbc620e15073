"""Label maps as DICOM RT structure sets: outlines of each structure on the slices of its source."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom import DataElement, Dataset, FileDataset
from pydicom.tag import Tag
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from medseg.io.dicom.derived_object import NOT_CLINICAL, DerivedKind, coded, new_object, write_derived
from medseg.io.dicom.geometry import SlicePlane, on_planes
from medseg.io.dicom.source_series import SourceSeries, instance_reference
from medseg.io.label_map_volume import LabelMapVolume
from medseg.io.rtstruct.outlines import Line, outlines
from medseg.io.structure_names import dicom_label, dicom_labels, storable_text
from medseg.structures import Region
from medseg.terminology import CATEGORIES
from medseg.version import VERSION
from medseg.volume import Array

KIND = DerivedKind(
    RTStructureSetStorage, "structure set", "RTSTRUCT", "Structures", series_numbers=2000, syntax=ImplicitVRLittleEndian
)
DECIMALS = 5  # of coordinates in mm; with them they fit into DICOM's 16 characters

LONGEST_DESCRIPTION = 1024  # characters, value representation ST

# What RTReferencedStudySequence refers to by custom, though it is retired.
DETACHED_STUDY_MANAGEMENT = "1.2.840.10008.3.1.2.3.1"

CONTOUR_DATA = Tag("ContourData")


def write_rtstruct(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes one DICOM RT structure set (PS3.3, A.19) with an ROI for each label and region.

    Each ROI has its outlines (``outlines``) on the slices of the source as they are, tilted and uneven ones too, in the
    plane of each: pixels whose centres lie inside are exactly those of the mask, also where there are holes. A
    structure that is nowhere is an ROI without contours. The same mask gets the same UIDs whenever it is written.

    Args:
        path: The file.
        segmented: The label map with its grid, labels and source.

    Returns:
        The file.

    Raises:
        OutputError: There is no DICOM source, or the file cannot be written.
        SourceError: The source cannot be referred to.
        LabelError: Values are no label's.
    """
    return write_derived(path, segmented, _structure_set)


def _structure_set(segmented: LabelMapVolume, series: SourceSeries) -> FileDataset:
    structures = list(enumerate(segmented.labels.structures, start=1))
    named = zip(structures, dicom_labels([structure.name for _, structure in structures]), strict=True)
    dataset = _file(segmented, series)
    dataset.ReferencedFrameOfReferenceSequence = [_frame_of_reference(series)]
    dataset.StructureSetROISequence = [
        _roi(number, label, structure.name, dataset) for (number, structure), label in named
    ]
    dataset.ROIContourSequence = _roi_contours(segmented, series)
    dataset.RTROIObservationsSequence = [_observation(number, structure) for number, structure in structures]
    return dataset


def _file(segmented: LabelMapVolume, series: SourceSeries) -> FileDataset:
    """Returns a data set without structures. Its VR is implicit, since explicit VR has no room for outlines of over 64
    kB."""
    dataset = new_object(segmented, series, KIND)
    dataset.OperatorsName = ""
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = series.frame_of_reference_uid, ""
    dataset.StructureSetLabel, dataset.StructureSetName = "medseg", dicom_label(segmented.algorithm)
    dataset.StructureSetDescription = NOT_CLINICAL
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.InstanceCreationDate, dataset.InstanceCreationTime
    dataset.ApprovalStatus = "UNAPPROVED"
    return dataset


def _frame_of_reference(series: SourceSeries) -> Dataset:
    images = Dataset()
    images.SeriesInstanceUID = series.uid
    images.ContourImageSequence = series.instances
    study = instance_reference(DETACHED_STUDY_MANAGEMENT, series.patient_and_study.StudyInstanceUID)
    study.RTReferencedSeriesSequence = [images]
    frame_of_reference = Dataset()
    frame_of_reference.FrameOfReferenceUID = series.frame_of_reference_uid
    frame_of_reference.RTReferencedStudySequence = [study]
    return frame_of_reference


def _roi(number: int, label: str, name: str, structure_set: Dataset) -> Dataset:
    roi = Dataset()
    roi.ROINumber, roi.ROIName = number, label
    if name != label:
        roi.ROIDescription = storable_text(name)[:LONGEST_DESCRIPTION]
    roi.ReferencedFrameOfReferenceUID = structure_set.FrameOfReferenceUID
    roi.ROIGenerationAlgorithm = "AUTOMATIC"
    roi.ROIGenerationDescription = dicom_label(f"{structure_set.ManufacturerModelName} (medseg {VERSION})")
    return roi


def _roi_contours(segmented: LabelMapVolume, series: SourceSeries) -> list[Dataset]:
    pixels = on_planes(segmented.label_map, segmented.geometry, series.planes)
    found = [set(np.unique(slice_).tolist()) for slice_ in pixels]
    segmented.labels.check(set().union(*found))
    items = []
    for number, structure in enumerate(segmented.labels.structures, start=1):
        item = Dataset()
        item.ReferencedROINumber = number
        item.ROIDisplayColor = list(structure.colour)
        slices = [i for i, values in enumerate(found) if values & set(structure.values)]
        if slices:
            item.ContourSequence = list(_contours(structure, pixels, slices, series))
        items.append(item)
    return items


def _contours(structure: Region, pixels: Array, slices: Sequence[int], series: SourceSeries) -> Iterator[Dataset]:
    number = 0
    for i in slices:
        for line in outlines(np.isin(pixels[i], structure.values)):
            number += 1
            contour = Dataset()
            contour.ContourNumber, contour.NumberOfContourPoints = number, len(line)
            contour.ContourGeometricType = "CLOSED_PLANAR"
            contour.ContourImageSequence = [series.references[i]]
            contour.add(_contour_data(line, series.planes[i]))
            yield contour


def _contour_data(line: Line, plane: SlicePlane) -> DataElement:
    """Returns x, y, z of each point in LPS mm, as text: pydicom takes long to make text of millions of numbers."""
    rows, columns = line.T[:, :, None]
    between_columns, between_rows = plane.pixel_spacing
    points = plane.position + columns * between_columns * plane.along_row + rows * between_rows * plane.down_column
    words = map(repr, np.round(points, DECIMALS).ravel().tolist())
    return DataElement(CONTOUR_DATA, "DS", "\\".join(words), already_converted=True)


def _observation(number: int, structure: Region) -> Dataset:
    coding = structure.coding
    observation = Dataset()
    observation.ObservationNumber = observation.ReferencedROINumber = number
    observation.RTROIInterpretedType = "ORGAN" if coding.category == CATEGORIES["anatomical"] else ""
    observation.ROIInterpreter = ""
    observation.SegmentedPropertyCategoryCodeSequence = [coded(coding.category)]
    observation.RTROIIdentificationCodeSequence = [coded(coding.type)]
    if coding.modifier is not None:
        code = observation.RTROIIdentificationCodeSequence[0]
        code.SegmentedPropertyTypeModifierCodeSequence = [coded(coding.modifier)]
    return observation

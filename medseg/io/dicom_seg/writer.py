"""Label maps as DICOM segmentations, on the slices of their source, through highdicom."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage, RLELossless

from medseg.errors import OutputError
from medseg.io.dicom.derived_object import concept, decimals, series_description, write_derived
from medseg.io.dicom.geometry import LPS_TO_RAS, SlicePlane, on_planes
from medseg.io.dicom.source_series import CHARACTER_SET, SourceSeries, derived_uid, instance_reference, mask_digest
from medseg.io.dicom.stack import stack_of
from medseg.io.label_map_volume import LabelMapVolume, SegmentationForm
from medseg.io.structure_names import dicom_label, dicom_labels, storable_text
from medseg.labels import Labels
from medseg.progress import say, warn
from medseg.structures import Region
from medseg.version import VERSION
from medseg.volume import Array, Geometry

if TYPE_CHECKING:  # takes long to import, and few masks are written as DICOM
    from highdicom.seg import Segmentation, SegmentDescription

ON_GRID = "dicom-seg-grid"  # what the format of ``write_dicom_seg_on_grid`` is called
LABEL_MAP = "dicom-seg-labelmap"  # the same of ``write_dicom_label_map``
MOST_FRAMES = 400  # above which some viewers show no segmentation (Weasis), and others are slow

UID_NAMES = {"BINARY": "segmentation", "LABELMAP": "label map", ON_GRID: "segmentation on grid"}

SERIES_NUMBERS = {"BINARY": 1000, "LABELMAP": 1500}  # a mask's series has this number and that of its source
SHARED = (
    "PositionReferenceIndicator", "LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod",
)  # fmt: skip


def write_dicom_seg(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes one binary DICOM SEG (PS3.3, A.51) with a segment for each label and region.

    Its frames lie on the slices of the source as they are, tilted and uneven ones too, and refer to them; slices
    without a structure have no frame. A structure that is nowhere keeps its entry in SegmentSequence; when all are,
    each has one empty frame, since DICOM knows no SEG without. It is not compressed: DICOM's compression of single bits
    is read by few. The same mask gets the same UIDs whenever it is written.

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
    return write_derived(path, segmented, partial(_binary, path))


def write_dicom_label_map(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes one DICOM SEG of the type LABELMAP (PS3.3, A.51; supplement 243, since DICOM 2024d).

    It has one frame a slice for all structures, whose pixels are the numbers of segments, and is compressed without
    loss (RLE). Older viewers don't know it. All else is as in ``write_dicom_seg``.

    Args:
        path: The file.
        segmented: The label map with its grid, labels and source.

    Returns:
        The file.

    Raises:
        OutputError: There is no DICOM source, structures overlap, or the file cannot be written.
        SourceError: The source cannot be referred to.
        LabelError: Values are no label's.
    """
    if _overlap(segmented.labels):
        raise OutputError(
            f"{path}: regions overlap their labels, and a label map holds one structure a pixel; choose dicom-seg"
        )
    return write_derived(path, segmented, _label_map)


def segmentation_uids(segmented: LabelMapVolume, series: SourceSeries, kind: str) -> tuple[UID, UID]:
    """Returns SOPInstanceUID and SeriesInstanceUID that the segmentation of a mask has, whether it is written or not.

    Args:
        segmented: The mask.
        series: That it lies on.
        kind: "BINARY", "LABELMAP" or ``ON_GRID``.
    """
    digest, name = mask_digest(segmented, series), UID_NAMES[kind]
    return derived_uid(digest, name), derived_uid(digest, f"{name} series")


def write_dicom_seg_on_grid(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes a DICOM SEG on the planes of the even, upright grid that the image was read on.

    That is for programs that know no other planes. Where slices are tilted, uneven or missing these planes are none of
    the source's, so frames refer to no slice; the file still names the series.

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
    return write_derived(path, segmented, _on_grid)


def _binary(path: Path, segmented: LabelMapVolume, series: SourceSeries) -> "Segmentation":
    if not stack_of(series.planes, path).is_grid:
        warn(
            f"{path}: lies on slices that are tilted, uneven or missing, where dcmqi and some viewers place DICOM SEG "
            f"wrong; for these write {ON_GRID} or rtstruct"
        )
    segmentation = _segmentation(segmented, series, "BINARY")
    _refer_to_slices(segmentation, series)
    if segmentation.NumberOfFrames > MOST_FRAMES:
        say(
            f"{path}: has {segmentation.NumberOfFrames} frames, one for each slice of each structure; where a viewer "
            f"is slow with it or shows nothing, {LABEL_MAP} has one for each slice"
        )
    return segmentation


def _label_map(segmented: LabelMapVolume, series: SourceSeries) -> "Segmentation":
    segmentation = _segmentation(segmented, series, "LABELMAP")
    # PixelPaddingValue says that 0 is no segment. Where the background is described as one, as highdicom does, OHIF
    # 3.13 gives each segment the colour of the one before.
    segmentation.SegmentSequence = [item for item in segmentation.SegmentSequence if item.SegmentNumber != 0]
    _refer_to_slices(segmentation, series)
    # By pydicom itself: gdcm's encoder ends the whole process on frames of some sizes.
    segmentation.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    return segmentation


def _on_grid(segmented: LabelMapVolume, series: SourceSeries) -> "Segmentation":
    series = replace(series, planes=_planes_of(segmented.geometry), references=[])
    segmentation = _segmentation(segmented, series, "BINARY", ON_GRID)
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        del frame.DerivationImageSequence
    return segmentation


def _refer_to_series(segmentation: "Segmentation", series: SourceSeries) -> None:
    """Names all files of the series, those of slices without a structure too."""
    segmentation.SourceImageSequence = series.instances
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence = [
        instance_reference(instance.ReferencedSOPClassUID, instance.ReferencedSOPInstanceUID)
        for instance in series.instances
    ]


def _planes_of(grid: Geometry) -> list[SlicePlane]:
    x, y, z = grid.spacing
    affine = LPS_TO_RAS @ grid.affine
    columns, rows, n = grid.shape
    return [
        SlicePlane(Path(), rows, columns, (x, y), affine[:3, 0] / x, affine[:3, 1] / y, (affine @ (0, 0, i, 1))[:3], z)
        for i in range(n)
    ]


def _segmentation(
    segmented: LabelMapVolume, series: SourceSeries, kind: SegmentationForm, written_as: str = ""
) -> "Segmentation":
    """Returns the object. ``written_as`` names objects that are another one than the usual of their kind."""
    from highdicom.seg import Segmentation

    content, structures = mask_digest(segmented, series), segmented.labels.structures
    uid, series_uid = segmentation_uids(segmented, series, written_as or kind)
    labels = dicom_labels([structure.name for structure in structures])
    pixels = on_planes(segmented.label_map, segmented.geometry, series.planes)
    used = [i for i, slice_ in enumerate(pixels) if slice_.any()] or [0]
    segmentation = Segmentation(
        source_images=[_classic_slice(series, i) for i in used],
        pixel_array=_segments(pixels[used], segmented.labels),
        segmentation_type=kind,
        segment_descriptions=[
            _description(number, label, structure, segmented.algorithm, content)
            for number, (label, structure) in enumerate(zip(labels, structures, strict=True), start=1)
        ],
        series_instance_uid=series_uid,
        series_number=SERIES_NUMBERS[kind] + series.number,
        sop_instance_uid=uid,
        instance_number=1,
        manufacturer="medseg",
        manufacturer_model_name=dicom_label(segmented.algorithm),
        software_versions=VERSION,
        device_serial_number="none",
        content_label="SEGMENTATION",
        content_description=dicom_label(f"{segmented.algorithm} on {series.name}"),
        series_description=series_description("Segmentation" if kind == "BINARY" else "Label map", series),
        specific_character_set=CHARACTER_SET,
        omit_empty_frames=bool(pixels.any()),
    )
    segmentation.ContentCreatorName = ""  # nobody, but DICOM asks for it
    _refer_to_series(segmentation, series)
    return segmentation


def _segments(pixels: Array, labels: Labels) -> Array:
    """Returns label values ``(plane, row, column)`` as highdicom takes segments: a map of their numbers, or where they
    overlap masks ``(plane, row, column, segment)``."""
    encoded, structures, is_part = labels.encode(pixels), labels.structures, _parts(labels)
    if _overlap(labels):
        masks: Array = is_part.T[encoded]
        return masks
    numbers: Array = (np.arange(1, len(structures) + 1) @ is_part).astype(np.uint8)[encoded]
    return numbers


def _parts(labels: Labels) -> Array:
    """Returns which values, 0 the first, are a part of which structure: boolean ``(structure, value)``."""
    return np.array([[value in each.values for value in (0, *labels.values)] for each in labels.structures])


def _overlap(labels: Labels) -> bool:
    return bool((_parts(labels).sum(axis=0) > 1).any())


def _description(number: int, label: str, structure: Region, algorithm: str, content: str) -> "SegmentDescription":
    """Returns the entry of a structure. Its name as it is, which may be too long for a label, is the segment's
    TrackingID."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    coding = structure.coding
    description = SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=concept(coding.category),
        segmented_property_type=concept(coding.type),
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=dicom_label(algorithm), family=codes.cid7162.ArtificialIntelligence, version=VERSION
        ),
        tracking_uid=derived_uid(content, "segment", str(number)),
        tracking_id=storable_text(structure.name).strip() or label,
        display_color=CIELabColor.from_rgb(*structure.colour),
    )
    if coding.modifier is not None:
        property_type = description.SegmentedPropertyTypeCodeSequence[0]
        property_type.SegmentedPropertyTypeModifierCodeSequence = [concept(coding.modifier)]
    return description


def _classic_slice(series: SourceSeries, i: int) -> Dataset:
    """Returns one slice as a classic image without pixels, named by its number: highdicom knows classic series and
    single enhanced files only. ``_refer_to_slices`` then names the files that slices are in."""
    plane = series.planes[i]
    image = Dataset()
    image.update(series.patient_and_study)
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = str(i)
    image.SeriesInstanceUID = series.uid
    image.FrameOfReferenceUID = series.frame_of_reference_uid
    image.Rows, image.Columns = plane.rows, plane.columns
    image.ImagePositionPatient = decimals(*plane.position)
    image.ImageOrientationPatient = decimals(*series.planes[0].along_row, *series.planes[0].down_column)
    between_columns, between_rows = plane.pixel_spacing
    image.PixelSpacing = decimals(between_rows, between_columns)
    image.SliceThickness, image.SpacingBetweenSlices = decimals(series.slice_thickness, series.slice_distance)
    for keyword in SHARED:
        if keyword in series.header:
            image.add(series.header[keyword])
    return image


def _refer_to_slices(segmentation: "Segmentation", series: SourceSeries) -> None:
    frames = segmentation.PerFrameFunctionalGroupsSequence
    sources = [frame.DerivationImageSequence[0].SourceImageSequence[0] for frame in frames]
    for source in {id(source): source for source in sources}.values():  # segments on one slice share it
        source.update(series.references[int(source.ReferencedSOPInstanceUID)])
        source.SpatialLocationsPreserved = "NO" if series.in_mosaic else "YES"

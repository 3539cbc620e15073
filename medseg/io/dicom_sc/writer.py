"""An image with the colours of its mask over it as a DICOM secondary capture, for archives that show no masks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import RLELosslessEncoder
from pydicom.tag import Tag
from pydicom.uid import MultiFrameTrueColorSecondaryCaptureImageStorage, RLELossless

from medseg.io.dicom.derived_object import NOT_CLINICAL, DerivedKind, decimals, new_object, write_derived
from medseg.io.dicom.geometry import SlicePlane, on_planes
from medseg.io.dicom.source_series import SourceSeries
from medseg.io.label_map_volume import LabelMapVolume
from medseg.pictures.coloured_slices import coloured_slice, enlargement, legend
from medseg.pictures.display import window
from medseg.structures import Colour, Label
from medseg.version import VERSION
from medseg.volume import Array

KIND = DerivedKind(
    MultiFrameTrueColorSecondaryCaptureImageStorage, "capture", "OT", "Overlay", series_numbers=4000, syntax=RLELossless
)


def write_dicom_sc(path: Path, segmented: LabelMapVolume) -> list[Path]:
    """Writes one Multi-frame True Color Secondary Capture (PS3.3, A.8.5): each slice with a structure, in colour.

    Labels are filled with their colours, and outlined; of objects that are told apart, each has a colour that its
    neighbours don't have. Below each slice stand the names and volumes of labels, the model, the version, the date,
    and that it is not for clinical use. The frames lie where the slices lie, small ones enlarged; CT is shown in the
    window of soft tissue. They are compressed without loss (RLE). Where nothing was found, the slice in the middle is
    written, and says so.

    Args:
        path: The file.
        segmented: The label map with its grid, labels and source.

    Returns:
        The file.

    Raises:
        OutputError: There is no DICOM source, or the file cannot be written.
        SourceError: The source cannot be referred to, or read.
        LabelError: Values are no label's.
    """
    return write_derived(path, segmented, _capture)


def _capture(segmented: LabelMapVolume, series: SourceSeries) -> FileDataset:
    capture = new_object(segmented, series, KIND)
    segmented.labels.check(np.unique(segmented.label_map).tolist())
    shown, items = segmented.shown
    pixels = on_planes(shown, segmented.geometry, series.planes)
    used = [i for i, slice_ in enumerate(pixels) if slice_.any()] or [len(pixels) // 2]
    planes, times = [series.planes[i] for i in used], enlargement(series.planes[0].columns)
    band = legend(_entries(segmented, items), _lines(segmented, capture), series.planes[0].columns * times)
    rows = series.planes[0].rows * times + len(band)
    _describe_pixels(capture, rows, band.shape[1], len(used))
    capture.FrameOfReferenceUID, capture.PositionReferenceIndicator = series.frame_of_reference_uid, ""
    _place(capture, planes, times)
    capture.SourceImageSequence = [series.references[i] for i in used]
    frames = (np.vstack([each, band]) for each in _slices(segmented, planes, pixels[used], times))
    capture.PixelData = encapsulate([_compressed(frame) for frame in frames])
    capture["PixelData"].VR = "OB"
    capture["PixelData"].is_undefined_length = True
    return capture


def _slices(segmented: LabelMapVolume, planes: Sequence[SlicePlane], pixels: Array, times: int) -> Iterator[Array]:
    """Yields the slices in colour, enlarged."""
    shown, black, white = window(segmented.image.array)
    for plane, values in zip(planes, pixels, strict=True):
        (slice_,) = on_planes(shown[0], segmented.geometry, [plane])
        grey = ((slice_.astype(np.float32) - black) / (white - black)).clip(0, 1) * 255
        large = [each.repeat(times, axis=0).repeat(times, axis=1) for each in (np.nan_to_num(grey), values)]
        yield coloured_slice(large[0].astype(np.uint8), large[1], segmented.shown[1])


def _compressed(frame: Array) -> bytes:
    """Returns a frame in RLE, by pydicom itself: gdcm's encoder ends the whole process on frames of some sizes."""
    rows, columns, _ = frame.shape
    return bytes(
        RLELosslessEncoder.encode(
            np.ascontiguousarray(frame),
            encoding_plugin="pydicom",
            rows=rows,
            columns=columns,
            samples_per_pixel=3,
            bits_allocated=8,
            bits_stored=8,
            pixel_representation=0,
            photometric_interpretation="RGB",
            planar_configuration=0,
            number_of_frames=1,
        )
    )


def _entries(segmented: LabelMapVolume, items: Sequence[Label]) -> list[tuple[Colour, str]]:
    """Returns colour and text of each structure that is there; of objects one of their colours."""
    measured, colours = segmented.measures, {item.name: item.colour for item in items}
    unit = "mm²" if measured.is_flat else "ml"
    pairs = zip(segmented.labels.structures, measured.rows, strict=True)
    shown = ((colours.get(each.name, each.colour), each, row) for each, row in pairs if row.voxels)
    return [(colour, f"{each.name} {row.size:.4g} {unit}") for colour, each, row in shown]


def _lines(segmented: LabelMapVolume, capture: Dataset) -> list[str]:
    date = capture.InstanceCreationDate
    said = f"{segmented.algorithm}, medseg {VERSION}, {date[:4]}-{date[4:6]}-{date[6:]}"
    nothing = [] if segmented.label_map.any() else ["No structure was found."]
    return [*nothing, said, f"{NOT_CLINICAL.capitalize()}. Derived from the original images."]


def _describe_pixels(capture: FileDataset, rows: int, columns: int, n_frames: int) -> None:
    """Adds what the modules SC Equipment, General Image, Image Pixel and SC Multi-frame ask for."""
    capture.ConversionType = "WSD"  # by a workstation
    capture.ImageType = ["DERIVED", "SECONDARY"]
    capture.DerivationDescription = f"Colours of an automatic segmentation over the image, {NOT_CLINICAL}"
    capture.ContentDate, capture.ContentTime = capture.InstanceCreationDate, capture.InstanceCreationTime
    capture.PatientOrientation, capture.Laterality = "", ""
    capture.BurnedInAnnotation = "NO"  # nothing that names a patient
    capture.SamplesPerPixel, capture.PhotometricInterpretation, capture.PlanarConfiguration = 3, "RGB", 0
    capture.Rows, capture.Columns, capture.NumberOfFrames = rows, columns, n_frames
    capture.BitsAllocated, capture.BitsStored, capture.HighBit, capture.PixelRepresentation = 8, 8, 7, 0
    capture.LossyImageCompression = "00"


def _place(capture: FileDataset, planes: Sequence[SlicePlane], times: int) -> None:
    """Adds where the frames lie: the centre of the first of the enlarged pixels is nearer to the corner."""
    first = planes[0]
    between_columns, between_rows = (mm / times for mm in first.pixel_spacing)
    measures, orientation, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = decimals(between_rows, between_columns)
    measures.SliceThickness = decimals(first.thickness or 1.0)[0]
    orientation.ImageOrientationPatient = decimals(*first.along_row, *first.down_column)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    capture.SharedFunctionalGroupsSequence = [shared]
    capture.FrameIncrementPointer = Tag("SliceLocationVector")
    along = [float(plane.position @ first.normal) for plane in planes]
    capture.SliceLocationVector = decimals(*along)
    capture.PerFrameFunctionalGroupsSequence = []
    shift = (times - 1) / 2
    for plane in planes:
        corner = plane.position - shift * (between_columns * plane.along_row + between_rows * plane.down_column)
        place, groups = Dataset(), Dataset()
        place.ImagePositionPatient = decimals(*corner)
        groups.PlanePositionSequence = [place]
        capture.PerFrameFunctionalGroupsSequence.append(groups)

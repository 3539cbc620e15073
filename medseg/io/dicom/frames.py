"""The slices that lie in one DICOM file: one, the frames of an enhanced object, or the tiles of a mosaic.

Each is given a header of its own that reads like that of a classic file with one slice, so that nothing else has to
know in which of the three ways it is stored.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.tag import BaseTag
from pydicom.uid import UID

from medseg.errors import SourceError
from medseg.io.dicom.header import FILES_KEPT, Header, is_several, value_in
from medseg.io.dicom.mosaic import is_mosaic, tiles_of

FRAME_KEYWORDS = (
    "NumberOfFrames", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "DimensionIndexSequence",
)  # fmt: skip

# The functional group of each attribute of a frame (PS3.3, C.7.6.16.2 and the modules of CT, MR and PET). Private
# groups often hold the header of a classic object, whose attributes of the same names mean something else: Philips'
# positions there are those of the corner of a pixel.
GROUPS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("PixelMeasuresSequence",): ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    ("PlanePositionSequence",): ("ImagePositionPatient",),
    ("PlaneOrientationSequence",): ("ImageOrientationPatient",),
    ("PixelValueTransformationSequence",): ("RescaleSlope", "RescaleIntercept", "RescaleType"),
    ("FrameContentSequence",): (
        "StackID", "InStackPositionNumber", "TemporalPositionIndex", "DimensionIndexValues", "FrameAcquisitionNumber",
    ),
    ("TemporalPositionSequence",): ("TemporalPositionTimeOffset",),
    ("CardiacSynchronizationSequence",): ("NominalPercentageOfCardiacPhase", "NominalCardiacTriggerDelayTime"),
    ("RespiratorySynchronizationSequence",): ("NominalPercentageOfRespiratoryPhase",),
    ("MRImageFrameTypeSequence",): ("FrameType", "ComplexImageComponent"),
    ("CTImageFrameTypeSequence",): ("FrameType",),
    ("PETFrameTypeSequence",): ("FrameType",),
    ("XRay3DFrameTypeSequence",): ("FrameType",),
    ("MREchoSequence",): ("EffectiveEchoTime",),
    ("MRModifierSequence",): ("InversionTimes",),
    ("MRTimingAndRelatedParametersSequence",): ("FlipAngle",),
    ("MRDiffusionSequence",): ("DiffusionBValue",),
    ("MRDiffusionSequence", "DiffusionGradientDirectionSequence"): ("DiffusionGradientOrientation",),
    ("CTReconstructionSequence",): ("ConvolutionKernel",),
    ("CTXRayDetailsSequence",): ("KVP",),
    ("SegmentIdentificationSequence",): ("ReferencedSegmentNumber",),
}  # fmt: skip

# What is left of the classic headers of a converted object (PS3.3, C.7.6.16.2.25 and 26): attributes as they were.
CONVERTED_KEYWORDS = ("UnassignedPerFrameConvertedAttributesSequence", "UnassignedSharedConvertedAttributesSequence")


def _number(keyword: str) -> int:
    number = tag_for_keyword(keyword)
    if number is None:
        raise KeyError(f"DICOM has no element '{keyword}'")
    return int(number)


# The paths of sequences at which a frame may have an attribute, by its tag.
PATHS: dict[int, list[tuple[int, ...]]] = {}
for _path, _keywords in GROUPS.items():
    for _keyword in _keywords:
        PATHS.setdefault(_number(_keyword), []).append(tuple(map(_number, _path)))
CONVERTED_PATHS = [(_number(keyword),) for keyword in CONVERTED_KEYWORDS]


@dataclass(frozen=True, eq=False)
class FrameHeader(Header):
    """What the header says of a frame of an enhanced object.

    What its own groups don't say, the shared ones do, and else the file's header. An attribute is looked for in its
    standard functional group alone.

    Attributes:
        own: The functional groups of the frame.
        shared: Those that all frames share.
        pointers: The tags of what the frames are sorted by.
    """

    own: Dataset = field(default_factory=Dataset)
    shared: Dataset = field(default_factory=Dataset)
    pointers: tuple[int, ...] = ()

    def _value(self, tag: int) -> Any:
        for path in (*PATHS.get(tag, ()), *CONVERTED_PATHS):
            for groups in (self.own, self.shared):
                value = _value_at(groups, path, tag)
                if value is not None:
                    return value
        value = super()._value(tag)
        # An attribute says more than its index; some writers give the index alone.
        return self._indices.get(tag) if value is None else value

    @cached_property
    def _indices(self) -> dict[int, Any]:
        if not self.pointers:
            return {}
        values = _value_at(self.own, PATHS[_number("DimensionIndexValues")][0], _number("DimensionIndexValues"))
        return dict(zip(self.pointers, values if is_several(values) else [values], strict=False))


@lru_cache(maxsize=FILES_KEPT)  # a file with many volumes is asked for once a volume
def frame_headers(header: Header) -> tuple[Header, ...]:
    """Returns a header for each slice in a file, which reads like that of a classic file with one slice.

    Raises:
        SourceError: The slices cannot be told.
    """
    if is_mosaic(header):
        return tuple(tiles_of(header))
    groups = header.items("PerFrameFunctionalGroupsSequence")
    n_frames = header.whole("NumberOfFrames")
    if groups:
        if n_frames not in (None, len(groups)):
            raise SourceError(
                f"{header.path}: NumberOfFrames is {n_frames}, but {len(groups)} functional groups tell where frames "
                "lie; export it again"
            )
        return tuple(_enhanced(header, groups))
    if (n_frames or 1) > 1:
        raise SourceError(
            f"{header.path}: {n_frames} frames without functional groups ({UID(header.text('SOPClassUID')).name}), so "
            "where each lies in the patient is unknown; export the series as CT, MR or PET images"
        )
    return (header,)


def _enhanced(header: Header, groups: list[Header]) -> list[Header]:
    pointers = tuple(_pointer(item) for item in header.items("DimensionIndexSequence"))
    shared = header.item("SharedFunctionalGroupsSequence").dataset
    frame = FrameHeader(header.path, header.dataset, shared=shared, pointers=pointers)
    for item in (header.item("SharedFunctionalGroupsSequence"), *groups):
        if len(item.items("PixelValueTransformationSequence")) > 1:
            raise SourceError(
                f"{header.path}: a frame has several items in its PixelValueTransformationSequence, so that its values "
                "are unknown; export it again"
            )
    several = len(groups) > 1
    return [replace(frame, own=own.dataset, frame=i if several else None) for i, own in enumerate(groups)]


def _pointer(item: Header) -> int:
    """Returns the tag that an item points to; 0, which is no attribute's, for what cannot be read."""
    value = item.value("DimensionIndexPointer")
    return int(value) if isinstance(value, BaseTag) else 0


def _value_at(groups: Dataset, path: tuple[int, ...], tag: int) -> Any:
    """Returns an attribute at a path of sequences; None unless each of them has one item, and the last one the
    attribute."""
    for sequence in path:
        items = value_in(groups, sequence)
        if items is None or isinstance(items, str) or len(items) != 1 or not isinstance(items[0], Dataset):
            return None
        groups = items[0]
    return value_in(groups, tag)

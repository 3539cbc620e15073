"""The volumes in one DICOM series: echoes, b-values, time points and phases are often stored as one.

Slices of one volume lie at different positions. Where a series has several slices at a position, it is split by the
first attribute whose values part them into volumes; each is named after it. Where no attribute does, the order
of the files' InstanceNumber at each position tells the volumes apart.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.datadict import tag_for_keyword

from medseg.errors import SourceError
from medseg.io.dicom.geometry import SAME_POSITION_MM, SlicePlane
from medseg.io.dicom.header import Header, is_several

SIEMENS_B_VALUE = 0x0019100C
GE_B_VALUE = 0x00431039

# Adds this to each b-value, which is found by the remainder (GE's manual of its private tags).
GE_B_OFFSET = 1_000_000_000

Slices = list["Slice"]


@dataclass(frozen=True)
class Slice:
    """One image of a series.

    Attributes:
        header: Read as that of a file with one slice.
        plane: Where it lies.
    """

    header: Header
    plane: SlicePlane


@dataclass(frozen=True)
class Attribute:
    """What volumes of one series may differ in.

    Attributes:
        name: In the names of the volumes.
        tags: That say it; the first that parts the slices into volumes counts.
        ranked: Whether volumes are numbered (time-1, time-2). Others show their value (b-1000).
    """

    name: str
    tags: tuple[str | int, ...]
    ranked: bool = False


# From the most to the least telling: a time of acquisition differs for other reasons too.
ATTRIBUTES = (
    Attribute("echo", ("EchoNumbers", "EffectiveEchoTime", "EchoTime")),
    Attribute("b", ("DiffusionBValue", SIEMENS_B_VALUE, GE_B_VALUE)),
    Attribute("direction", ("DiffusionGradientOrientation",), ranked=True),
    Attribute("inversion", ("InversionTime", "InversionTimes")),
    Attribute("type", ("ImageType", "FrameType", "ComplexImageComponent")),
    Attribute("phase", ("NominalPercentageOfCardiacPhase", "NominalPercentageOfRespiratoryPhase")),
    Attribute("time", ("TemporalPositionIdentifier", "TemporalPositionIndex", "TemporalPositionTimeOffset"), True),
    Attribute("trigger", ("TriggerTime", "NominalCardiacTriggerDelayTime"), ranked=True),
    Attribute("time", ("FrameReferenceTime", "AcquisitionNumber", "AcquisitionDateTime", "AcquisitionTime"), True),
    Attribute("flip", ("FlipAngle",)),
    Attribute("energy", ("KVP",)),
    Attribute("kernel", ("ConvolutionKernel",)),
    Attribute("thickness", ("SliceThickness",)),
    Attribute("stack", ("StackID",)),
    Attribute("contrast", ("ContrastBolusAgent",)),
    Attribute("time", ("ContentTime",), ranked=True),
)  # fmt: skip

VOLUME_TAGS = tuple(
    int(tag)
    for attribute in ATTRIBUTES
    for tag in (t if isinstance(t, int) else tag_for_keyword(t) for t in attribute.tags)
    if tag is not None
) + tuple(int(t) for t in map(tag_for_keyword, ("InstanceNumber", "NumberOfTemporalPositions")) if t is not None)


def split_into_volumes(slices: Sequence[Slice]) -> list[tuple[str, Slices]]:
    """Returns the volumes of parallel slices with their names, in the order of the attribute that parts them.

    Args:
        slices: Of one geometry.

    Returns:
        Name and slices of each; the name is ``""`` where there is one volume.
    """
    positions = positions_of(slices)
    if len(set(positions)) == len(positions):
        return [("", list(slices))]
    for attribute in ATTRIBUTES:
        for tag in attribute.tags:
            groups = _grouped(slices, _reader(tag))
            if groups is None or not _are_volumes(groups, len(set(positions))):
                continue
            return [
                ("_".join(part for part in (name, rest) if part), volume)
                for name, group in _named(attribute, groups)
                for rest, volume in split_into_volumes(group)
            ]
    return _by_order(slices, positions)


def positions_of(slices: Sequence[Slice]) -> list[int]:
    """Returns a number for each slice's position along the normal; equal for slices that lie in one plane."""
    normal = slices[0].plane.normal
    along = np.array([slice_.plane.position @ normal for slice_ in slices])
    order = np.argsort(along, kind="stable")
    new = np.diff(along[order], prepend=along[order[0]]) >= SAME_POSITION_MM
    numbers = np.empty(len(slices), dtype=int)
    numbers[order] = np.cumsum(new)
    return [int(number) for number in numbers]


def _grouped(slices: Sequence[Slice], value_of: Callable[[Header], Any]) -> dict[Any, Slices] | None:
    """Returns the slices by value; None when a slice has none, or all have the same."""
    groups: dict[Any, Slices] = defaultdict(list)
    for slice_ in slices:
        value = value_of(slice_.header)
        if value is None:
            return None
        groups[value].append(slice_)
    return groups if len(groups) > 1 else None


def _are_volumes(groups: dict[Any, Slices], n_positions: int) -> bool:
    """Says whether each group has a slice at every position; one may be incomplete (a scan that was stopped)."""
    incomplete = [group for group in groups.values() if len(set(positions_of(group))) < n_positions]
    return len(incomplete) <= (1 if len(groups) > 2 else 0)


def _named(attribute: Attribute, groups: dict[Any, Slices]) -> list[tuple[str, Slices]]:
    values = sorted(groups, key=_sortable)
    digits = len(str(len(values)))
    names = (
        [f"{i:0{digits}d}" for i in range(1, len(values) + 1)]
        if attribute.ranked
        else _distinguishing([str(value) if not isinstance(value, tuple) else "_".join(value) for value in values])
    )
    return [(f"{attribute.name}-{name}", groups[value]) for name, value in zip(names, values, strict=True)]


def _distinguishing(names: list[str]) -> list[str]:
    """Returns names without the words that all have: ``ORIGINAL_PRIMARY_M, ORIGINAL_PRIMARY_P`` are M and P."""
    words = [name.split("_") for name in names]
    common = set(words[0]).intersection(*words)
    short = ["_".join(word for word in each if word not in common) for each in words]
    return short if all(short) and len(set(short)) == len(short) else names


def _by_order(slices: Sequence[Slice], positions: Sequence[int]) -> list[tuple[str, Slices]]:
    at: dict[int, Slices] = defaultdict(list)
    for position, slice_ in zip(positions, slices, strict=True):
        at[position].append(slice_)
    volumes: dict[int, Slices] = defaultdict(list)
    for group in at.values():
        for i, slice_ in enumerate(sorted(group, key=_instance)):
            volumes[i].append(slice_)
    in_time = (slices[0].header.number_if_any("NumberOfTemporalPositions") or 1) > 1
    digits = len(str(len(volumes)))
    return [(f"{'time' if in_time else 'volume'}-{i + 1:0{digits}d}", volume) for i, volume in sorted(volumes.items())]


def _instance(slice_: Slice) -> tuple[float, str, int]:
    plane = slice_.plane
    return slice_.header.number_if_any("InstanceNumber") or 0, str(plane.path), plane.frame or 0


def _reader(tag: str | int) -> Callable[[Header], Any]:
    """Returns what reads a tag as a number, a word, or a tuple of words; None where there is none, or it cannot be
    read."""

    def value_of(header: Header) -> Any:
        try:
            value = header.value(tag)
        except SourceError:
            return None
        if tag == GE_B_VALUE and value is not None:
            return _ge_b_value(value)
        if is_several(value):
            return tuple(str(_plain(part)) for part in value)
        return _plain(value) if isinstance(value, (str, bytes, int, float)) else None

    return value_of


def _ge_b_value(value: Any) -> Any:
    """Returns the first of several numbers, which may be a list or, where the tag is unknown, text with backslashes."""
    first = value[0] if is_several(value) else str(_plain(value)).split("\\")[0]
    number = _plain(first)
    return None if isinstance(number, str) else number % GE_B_OFFSET


def _plain(value: Any) -> Any:
    """Returns a number where a value is one, DICOM's decimals being strings; else the text."""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace").strip("\0 ")
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return int(number) if number.is_integer() else number if math.isfinite(number) else str(value)


def _sortable(value: Any) -> tuple[bool, Any]:
    """Returns a key that sorts numbers first, then words."""
    return isinstance(value, (str, tuple)), value if not isinstance(value, tuple) else "_".join(value)

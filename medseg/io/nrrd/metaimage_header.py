"""Headers of MetaImage (.mha, .mhd), read strictly (https://itk.org/Wiki/ITK/MetaIO/Documentation).

What programs read differently, or what makes ITK take rubbish for voxels, is refused here, with the reason.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medseg.errors import GeometryError, SourceError, printable
from medseg.io.nrrd.raw_image import LONGEST_HEADER, RawImage, check_axes, grid_of, named_files, read_sizes
from medseg.volume import Geometry

TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}  # fmt: skip

# Other names of what is used here. A header with two of them is read differently by programs.
SYNONYMS = {
    "Rotation": "TransformMatrix",
    "Orientation": "TransformMatrix",
    "Position": "Offset",
    "Origin": "Offset",
    "ElementByteOrderMSB": "BinaryDataByteOrderMSB",
}
BOOLEAN = {"true": True, "1": True, "t": True, "false": False, "0": False, "f": False}
LAST = "ElementDataFile"


class MetaImageLines(NamedTuple):
    """The lines of a header.

    Attributes:
        values: By name: ``DimSize``, ``ElementType``, ….
        files: The lines after a list of files.
        start: The byte where voxels begin.
    """

    values: Mapping[str, str]
    files: Sequence[str]
    start: int


def read_metaimage_header(path: Path) -> RawImage:
    """Reads and checks the header of a MetaImage file; the voxels are not read.

    Raises:
        ValueError: The file is no MetaImage, or damaged.
        SourceError: It holds what is not read.
        GeometryError: Its place is not read.
    """
    lines = _lines(path)
    values = lines.values
    sizes = read_sizes("DimSize", values["DimSize"], values["NDims"])
    check_axes(path, len(sizes), sizes)
    n_components = int(values.get("ElementNumberOfChannels", "1"))
    if n_components < 1:
        raise ValueError(f"ElementNumberOfChannels is {n_components}")
    is_local = values[LAST].upper() == "LOCAL"
    compressed = _flag(values, "CompressedData")
    start = int(values.get("HeaderSize", "0"))
    if start < -1 or (start and (is_local or compressed)) or not _flag(values, "BinaryData", default=True):
        raise SourceError(f"{path}: voxels in text, or behind a header of their own, are not read; save it again")
    return RawImage(
        shape=(n_components, *sizes),
        dtype=_dtype(path, values),
        geometry=_geometry(path, values, sizes),
        files=(path,) if is_local else named_files(path, values[LAST], lines.files),
        start=lines.start if is_local else start,
        encoding="deflate" if compressed else "raw",
        compressed_size=_compressed_size(path, values, is_local) if compressed else None,
        unit=values.get("DistanceUnits", "mm").strip("?") or "mm",
        keys=values,
    )


def _lines(path: Path) -> MetaImageLines:
    """Reads all lines up to the name of the file of the voxels, which begin behind it where it is LOCAL."""
    with path.open("rb") as stream:
        content = stream.read(LONGEST_HEADER)
    values: dict[str, str] = {}
    start = 0
    while LAST not in values:
        end = content.find(b"\n", start)
        if end < 0 and not content[start:].startswith(LAST.encode()):
            raise ValueError(f"it names no {LAST}")
        name, separator, value = content[start : end if end >= 0 else None].decode("utf-8", "replace").partition("=")
        name = name.strip()
        if not separator or SYNONYMS.get(name, name) in values:
            raise ValueError(f"{name[:60]!r} is no line of its header, or there twice")
        values[SYNONYMS.get(name, name)] = value.strip()
        start = end + 1 if end >= 0 else len(content)
    missing = {"NDims", "DimSize", "ElementType"} - values.keys()
    if missing or values.get("ObjectType", "Image") != "Image":
        raise ValueError(f"its header lacks {', '.join(sorted(missing)) or 'ObjectType = Image'}")
    is_list = values[LAST].split()[:1] == ["LIST"]
    return MetaImageLines(values, content[start:].decode("utf-8", "replace").split("\n") if is_list else (), start)


def _flag(values: Mapping[str, str], name: str, *, default: bool = False) -> bool:
    if name not in values:
        return default
    if values[name].lower() not in BOOLEAN:
        raise ValueError(f"{name} is '{values[name]}', not True or False")
    return BOOLEAN[values[name].lower()]


def _dtype(path: Path, values: Mapping[str, str]) -> np.dtype[np.generic]:
    name = TYPES.get(values["ElementType"])
    if name is None:
        found = printable(values["ElementType"])
        raise SourceError(f"{path}: voxels of type {found} cannot be read; store integers or floats")
    return np.dtype((">" if _flag(values, "BinaryDataByteOrderMSB") else "<") + name)


def _compressed_size(path: Path, values: Mapping[str, str], is_local: bool) -> int | None:
    if "CompressedDataSize" in values:
        return int(values["CompressedDataSize"])
    if is_local:
        raise SourceError(
            f"{path}: does not say how many compressed bytes it holds (CompressedDataSize), without which ITK reads "
            "rubbish; save it again"
        )
    return None


def _geometry(path: Path, values: Mapping[str, str], sizes: Sequence[int]) -> Geometry:
    n = len(sizes)
    spacing = _numbers(values, "ElementSpacing" if "ElementSpacing" in values else "ElementSize", [1.0] * n)
    if not (spacing > 0).all():
        raise GeometryError(f"{path}: ElementSpacing is {spacing.tolist()}; correct its header")
    axes = _numbers(values, "TransformMatrix", np.eye(n).ravel().tolist()).reshape(n, n)
    if n == 4 and (axes[3, :3].any() or axes[:3, 3].any()):
        raise GeometryError(f"{path}: its fourth axis is turned in space; split it into volumes")
    affine = np.eye(4)
    spatial = min(n, 3)
    affine[:spatial, :spatial] = (axes.T * spacing)[:spatial, :spatial]
    affine[:spatial, 3] = _numbers(values, "Offset", [0.0] * n)[:spatial]
    return grid_of(path, sizes, affine)


def _numbers(values: Mapping[str, str], name: str, default: Sequence[float]) -> np.ndarray:
    """Returns the numbers of a line, as many as the default has."""
    numbers = [float(word) for word in values[name].split()] if name in values else default
    if len(numbers) != len(default) or not np.isfinite(numbers).all():
        raise ValueError(f"{name} is '{values.get(name, '')[:60]}'")
    return np.array(numbers, dtype=np.float64)

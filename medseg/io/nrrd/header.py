"""Headers of NRRD (.nrrd, .nhdr), read strictly (https://teem.sourceforge.net/nrrd/format.html).

What the format allows and programs read differently, or not at all, is refused here, with the reason.
"""

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import NamedTuple

import numpy as np

from medseg.errors import GeometryError, SourceError, printable
from medseg.io.nrrd.raw_image import LONGEST_HEADER, Encoding, RawImage, check_axes, grid_of, named_files, read_sizes
from medseg.volume import Geometry

MAGIC = re.compile(r"NRRD000[1-5]")
LINE = re.compile(r"(?P<field>[^:=#][^:]*?) ?: +(?P<value>.*)")
KEY = re.compile(r"(?P<key>[^:]+?):=(?P<value>.*)")
VECTOR = re.compile(r"none|\([^()]*\)")

FIELDS = {
    "content", "number", "type", "block size", "dimension", "space", "space dimension", "sizes", "spacings",
    "thicknesses", "axis mins", "axis maxs", "space directions", "centers", "centerings", "kinds", "labels", "units",
    "min", "max", "old min", "old max", "endian", "encoding", "line skip", "byte skip", "sample units", "space units",
    "space origin", "measurement frame", "data file",
}  # fmt: skip
OLD_FIELDS = {name.replace(" ", ""): name for name in FIELDS if not name.startswith("space ")}

TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
DTYPES = {name: dtype for dtype, names in TYPES.items() for name in names.split("|")}
ENDIANS = {"little": "<", "big": ">"}
ENCODINGS: dict[str, Encoding] = {
    "raw": "raw",
    "gzip": "deflate",
    "gz": "deflate",
    "ascii": "text",
    "text": "text",
    "txt": "text",
}

# To LPS, in which ITK keeps places. The others say nothing of the patient, and ITK takes them for LPS.
SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
    "scanner-xyz": (1, 1, 1),
    "3d-right-handed": (1, 1, 1),
    "3d-left-handed": (1, 1, 1),
}
PLACED = ("left-posterior-superior", "lps", "right-anterior-superior", "ras", "left-anterior-superior", "las")

DOMAINS = ("domain", "space", "time", "???", "none")
# How many components there are; 0: any number.
COMPONENTS = {
    "list": 0, "vector": 0, "point": 0, "normal": 0, "covariant-vector": 0, "2-vector": 2, "3-color": 3, "rgb-color": 3,
    "hsv-color": 3, "xyz-color": 3, "4-color": 4, "rgba-color": 4, "3-vector": 3, "3-gradient": 3, "3-normal": 3,
    "4-vector": 4, "quaternion": 4,
}  # fmt: skip


class NrrdLines(NamedTuple):
    """The lines of a header.

    Attributes:
        fields: What the format defines, by name: ``type``, ``sizes``, ….
        keys: What else the header says.
        files: The lines after a list of files.
        start: The byte where voxels begin.
    """

    fields: Mapping[str, str]
    keys: Mapping[str, str]
    files: Sequence[str]
    start: int


def read_nrrd_header(path: Path) -> RawImage:
    """Reads and checks the header of a NRRD file; the voxels are not read.

    Raises:
        ValueError: The file is no NRRD, or damaged.
        SourceError: It holds what is not read.
        GeometryError: Its place is not read, or programs read it differently.
    """
    lines = _lines(path)
    fields = lines.fields
    sizes = read_sizes("sizes", fields["sizes"], fields["dimension"])
    components = _component_axis(path, fields, len(sizes))
    n_components = 1 if components is None else sizes[components]
    spatial = [i for i in range(len(sizes)) if i != components]
    check_axes(path, len(spatial), sizes)
    geometry = _geometry(path, fields, [sizes[i] for i in spatial], spatial)
    encoding = ENCODINGS.get(fields["encoding"].lower())
    if encoding is None:
        raise SourceError(
            f"{path}: is encoded as {printable(fields['encoding'])}, which is not read; save it as raw or gzip"
        )
    detached = fields.get("data file")
    start = _start(path, fields, encoding, 0 if detached else lines.start)
    space = fields.get("space", "").lower()
    return RawImage(
        shape=(n_components, *(sizes[i] for i in spatial)),
        dtype=_dtype(path, fields),
        geometry=geometry,
        files=named_files(path, detached, lines.files) if detached else (path,),
        start=start,
        encoding=encoding,
        components_last=components not in (None, 0),
        has_place=space in PLACED,
        unit=_unit(fields),
        keys=lines.keys,
    )


def _lines(path: Path) -> NrrdLines:
    with path.open("rb") as stream:
        content = stream.read(LONGEST_HEADER)
    end = re.search(rb"\r?\n\r?\n", content)
    text = (content[: end.start()] if end else content.rstrip(b"\r\n")).decode("utf-8", "replace")
    magic, *lines = text.replace("\r\n", "\n").split("\n")
    if not MAGIC.fullmatch(magic):
        raise ValueError("it does not begin with NRRD0001 to NRRD0005")
    fields: dict[str, str] = {}
    keys: dict[str, str] = {}
    for number, line in enumerate(lines):
        if key := KEY.fullmatch(line):
            if key["key"] in keys:
                raise ValueError(f"it says '{key['key']}' twice")
            keys[key["key"]] = key["value"].replace("\\n", "\n").replace("\\\\", "\\")
        elif not line.startswith("#"):
            name, value = _field(line)
            if name in fields:
                raise ValueError(f"it says '{name}' twice")
            fields[name] = value
            if name == "data file" and value.split()[:1] == ["LIST"]:
                return NrrdLines(fields, keys, lines[number + 1 :], 0)
    missing = {"dimension", "type", "sizes", "encoding"} - fields.keys()
    if missing or (end is None and "data file" not in fields):
        raise ValueError(f"its header lacks {', '.join(sorted(missing)) or 'its end'}")
    return NrrdLines(fields, keys, (), end.end() if end else 0)


def _field(line: str) -> tuple[str, str]:
    found = LINE.fullmatch(line)
    name = found["field"].lower() if found else ""
    name = OLD_FIELDS.get(name, name)
    if found is None or name not in FIELDS:
        raise ValueError(f"{line[:60]!r} is no line of its header")
    return name, found["value"].strip()


def _component_axis(path: Path, fields: Mapping[str, str], n_axes: int) -> int | None:
    """Returns the axis along which the components of a pixel lie, by the kinds of axes; None where there is none."""
    kinds = fields["kinds"].lower().split() if "kinds" in fields else ["domain"] * n_axes
    if len(kinds) != n_axes:
        raise ValueError(f"{len(kinds)} kinds of {n_axes} axes")
    found = [i for i, kind in enumerate(kinds) if kind not in DOMAINS]
    if not found:
        return None
    kind, size = kinds[found[0]], int(fields["sizes"].split()[found[0]])
    if kind == "complex":
        bits = 16 * np.dtype(_dtype(path, fields)).itemsize
        raise SourceError(f"{path}: voxels of type complex{bits} cannot be read; store integers or floats")
    if len(found) > 1 or found[0] not in (0, n_axes - 1) or kind not in COMPONENTS:
        raise SourceError(
            f"{path}: axes of the kinds {printable(fields['kinds'])} are not read; store one list, first or last"
        )
    if COMPONENTS[kind] not in (0, size):
        raise ValueError(f"{size} components of the kind {kind}")
    return found[0]


def _dtype(path: Path, fields: Mapping[str, str]) -> np.dtype[np.generic]:
    name = DTYPES.get(fields["type"].lower())
    if name is None:
        raise SourceError(
            f"{path}: voxels of type {printable(fields['type'])} cannot be read; store integers or floats"
        )
    if name[1] == "1" or fields["encoding"].lower() in ("ascii", "text", "txt"):
        return np.dtype(name)
    if fields.get("endian", "").lower() not in ENDIANS:
        raise ValueError(f"its endian is '{fields.get('endian', '')}', not little or big")
    return np.dtype(ENDIANS[fields["endian"].lower()] + name)


def _start(path: Path, fields: Mapping[str, str], encoding: Encoding, start: int) -> int:
    lines, skip = int(fields.get("line skip", "0")), int(fields.get("byte skip", "0"))
    if lines or skip < -1 or (skip and encoding != "raw"):
        raise SourceError(f"{path}: skips lines, or bytes of compressed voxels, which is not read; save it again")
    return -1 if skip == -1 else start + skip


def _geometry(path: Path, fields: Mapping[str, str], sizes: Sequence[int], spatial: Sequence[int]) -> Geometry:
    """Returns the grid of the ``spatial`` axes, of these sizes; they may have another one after them, of time."""
    n = len(sizes)
    affine = np.eye(max(n, 3) + 1)
    if "space" in fields or "space dimension" in fields:
        flips = _flips(path, fields, n)
        vectors = _vectors(fields.get("space directions", ""), n)
        chosen = [vectors[i] for i in spatial] if len(vectors) > max(spatial) else []
        if len(chosen) != n or None in chosen:
            raise GeometryError(f"{path}: its space directions are not those of {n} axes; save it again")
        origin = _vectors(fields["space origin"], n) if "space origin" in fields else [(0.0,) * n]
        affine[:n, :n] = np.array(chosen, dtype=np.float64).T * np.array(flips)[:, None]
        affine[:n, -1] = np.array(origin[0], dtype=np.float64) * flips
    else:
        affine[:n, :n] = np.diag(_spacings(path, fields, spatial))
    if n == 4 and (affine[3, :3].any() or affine[:3, 3].any()):
        raise GeometryError(f"{path}: its fourth axis is turned in space; split it into volumes")
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = affine[:3, :3], affine[:3, -1]
    return grid_of(path, sizes, place)


def _flips(path: Path, fields: Mapping[str, str], n: int) -> tuple[int, ...]:
    """Returns what makes LPS of the space; spaces that are known by their dimension alone are taken for LPS, as ITK
    does."""
    if "space dimension" in fields:
        known = (1,) * n if int(fields["space dimension"]) == n and "space" not in fields else None
    else:
        known = SPACES.get(fields["space"].lower())
    if known is None or len(known) != n:
        name = fields.get("space") or f"of dimension {fields['space dimension']}"
        raise GeometryError(
            f"{path}: the space {printable(name)} of its {n} axes is not read; use left-posterior-superior"
        )
    return known


def _vectors(text: str, n: int) -> list[tuple[float, ...] | None]:
    """Returns the vectors of a text such as ``"none (1,0,0) (0,1,0)"``; None for an axis of components."""
    if VECTOR.sub("", text).strip():
        raise ValueError(f"'{text[:60]}' are no vectors")
    vectors = [
        None if word == "none" else tuple(float(number) for number in word[1:-1].split(","))
        for word in VECTOR.findall(text)
    ]
    if any(vector is not None and (len(vector) != n or not all(map(isfinite, vector))) for vector in vectors):
        raise ValueError(f"'{text[:60]}' are no vectors in {n} dimensions")
    return vectors


def _spacings(path: Path, fields: Mapping[str, str], spatial: Sequence[int]) -> list[float]:
    if {"axis mins", "axis maxs", "space origin", "space directions"} & fields.keys():
        raise GeometryError(
            f"{path}: gives its place without its space, which programs read differently; give it space, space "
            "directions and space origin"
        )
    if "spacings" not in fields:
        return [1.0] * len(spatial)
    every = [float(word) for word in fields["spacings"].split()]
    spacings = [every[i] for i in spatial] if len(every) > max(spatial) else []
    if not all(isfinite(spacing) and spacing > 0 for spacing in spacings) or len(spacings) != len(spatial):
        raise GeometryError(f"{path}: the spacings {printable(fields['spacings'])} are none; correct its header")
    return spacings


def _unit(fields: Mapping[str, str]) -> str:
    named = fields.get("space units", fields.get("units", ""))
    units = {unit for unit in re.findall(r'"([^"]*)"', named) if unit not in ("", "mm", "millimeter", "millimetre")}
    return ", ".join(sorted(units)) or "mm"
